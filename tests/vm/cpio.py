"""Writing initramfs archives: the `newc` format of cpio, as the Linux kernel unpacks it.

Source: Documentation/driver-api/early-userspace/buffer-format.rst of Linux.
"""

import stat
from pathlib import Path
from types import TracebackType
from typing import IO, Self


class Archive:
    """A `newc` archive under construction; archives may simply follow one another in one file."""

    def __init__(self, path: Path) -> None:
        self._file: IO[bytes] = path.open("wb")
        self._inode = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._add("TRAILER!!!", 0, b"")
        self._file.close()

    def folder(self, name: str) -> None:
        """Add an empty folder; every folder comes before what is in it."""
        self._add(name, stat.S_IFDIR | 0o755, b"")

    def file(self, name: str, content: bytes, mode: int = 0o644) -> None:
        """Add a file."""
        self._add(name, stat.S_IFREG | mode, content)

    def tree(self, source: Path, name: str) -> None:
        """Add a folder with everything in it; symbolic links stay links."""
        self.folder(name)
        for path in sorted(source.iterdir()):
            inside = f"{name}/{path.name}" if name else path.name
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                self._add(inside, mode, bytes(path.readlink()))
            elif stat.S_ISDIR(mode):
                self.tree(path, inside)
            elif stat.S_ISREG(mode):
                self._add(inside, mode, path.read_bytes())

    def _add(self, name: str, mode: int, content: bytes) -> None:
        if not name:
            return  # the root is there already
        self._inode += 1
        encoded = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
        self._pad(b"070701" + b"".join(b"%08X" % field for field in fields) + encoded)
        self._pad(content)

    def _pad(self, data: bytes) -> None:
        self._file.write(data + bytes(-len(data) % 4))
