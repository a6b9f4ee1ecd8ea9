"""A real small file system, and a weight that fills it."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.needs import unmet

MIB = 1 << 20


@contextmanager
def small_disk(image: Path, mount: Path, size: int = 16 * MIB) -> Iterator[Path]:
    """Mount an ext4 file system of 16 MB at `mount`, and take it away afterwards."""
    if os.geteuid():
        unmet("mounting a file system needs root")
    with image.open("wb") as file:
        file.truncate(size)
    mount.mkdir(parents=True, exist_ok=True)
    # SQLite takes room for what it maps one byte a page of 4 KiB: with smaller blocks the rest of the page are holes,
    # and whoever writes there on a full disk gets SIGBUS, this process of tests too
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-b", "4096", image], check=True)
    mounted = subprocess.run(["mount", "-o", "loop", image, mount], check=False, capture_output=True, text=True)
    if mounted.returncode:
        unmet(f"no loop mounts here: {mounted.stderr.strip()}")
    try:
        yield mount
    finally:
        subprocess.run(["umount", "--lazy", mount], check=True)


class Ballast:
    """A file that takes room away from others."""

    def __init__(self, disk: Path) -> None:
        self._file = disk / "ballast"

    def fill(self) -> None:
        """Take all of it, whoever else takes some meanwhile."""
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            for size in (1 << 16, 1 << 12):
                with contextlib.suppress(OSError):  # ENOSPC: what is left is smaller
                    while os.write(descriptor, bytes(size)):
                        pass
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def free(self) -> None:
        """Give it back."""
        self._file.unlink(missing_ok=True)
