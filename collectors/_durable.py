"""Small files that are replaced whole, and are there after a power loss: the old one or the new one, never a part."""

import contextlib
import os
from pathlib import Path


def replace_file(path: Path, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Write `data` beside `path`, and put it in its place. Raises OSError; then what was there is there still.

    `durable`: on disk when this returns; without it a power loss may leave the old file, and SIGKILL harms neither.
    """
    other = path.with_name(f"{path.name}.new")
    descriptor = os.open(other, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        if durable:
            os.fsync(descriptor)
    other.replace(path)
    if durable:
        flush(path.parent)


class SmallFile:
    """A small file that is written when what it holds changes; a power loss may bring back what it held before."""

    def __init__(self, path: Path | None, written: bytes = b"") -> None:
        """`path`: None where nothing outlives the process. `written`: what the file holds."""
        self.path = path
        self.written = written

    def write(self, data: bytes) -> bool:
        """Have the file hold `data`; False when the disk takes nothing, and then the next call tries again."""
        if self.path is None or data == self.written:
            return True
        with contextlib.suppress(OSError):
            replace_file(self.path, data, durable=False)
            self.written = data
        return data == self.written


def flush(path: Path) -> None:
    """Have what a file holds, or the names of a folder's files, on disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
