"""Read what the kernel writes for people: `/proc` and `/sys` below a root, as bytes, cheaply and again and again."""

import os
from pathlib import Path
from typing import Final

_CHUNK: Final = 32768
_LARGEST: Final = 2**64


class RootedFile:
    """A file that is read at every collection: opened once, then read with pread.

    A file that is missing, or whose device went away, reads as None and is looked for again at the next read.
    """

    __slots__ = ("_fd", "path")

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._fd = -1

    def read(self) -> bytes | None:
        """Give the whole content as of now, or None when it cannot be read."""
        try:
            if self._fd < 0:
                self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            fd = self._fd
            more = data = os.pread(fd, _CHUNK, 0)
            while more:  # seq files give a page at a time, whatever is asked for
                more = os.pread(fd, _CHUNK, len(data))
                data += more
            return data
        except OSError:
            self.close()
            return None

    @property
    def fd(self) -> int:
        """The open descriptor, or -1."""
        return self._fd

    def close(self) -> None:
        """Close; safe twice. The next `read` opens it again."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def read_bytes(path: Path | str) -> bytes | None:
    """Give a small file's content, or None when it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        more = data = os.read(fd, _CHUNK)
        while more:
            more = os.read(fd, _CHUNK)
            data += more
        return data
    except OSError:
        return None
    finally:
        os.close(fd)


def read_text(path: Path | str) -> str:
    """Give a small file's content without the white space around it; "" when it cannot be read or is empty."""
    data = read_bytes(path)
    return data.decode("utf-8", "replace").strip(" \t\r\n\0") if data else ""


def read_integer(path: Path | str) -> int | None:
    """Give the whole number that a file holds, 0 to 2**64 - 1; None when it holds none."""
    data = read_bytes(path)
    return integer(data.strip()) if data else None


def names(path: Path | str) -> list[str]:
    """Give the names in a folder, sorted; empty when it cannot be read."""
    try:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries)
    except OSError:
        return []


def link(path: Path | str) -> str:
    """Give what a symbolic link says, as it stands; "" when it cannot be read, or is none."""
    try:
        return os.readlink(path)  # noqa: PTH115 - hundreds are read at a time, and a Path costs more than the call
    except OSError:
        return ""


def integer(word: bytes) -> int | None:
    """Give the whole number that the word is, 0 to 2**64 - 1, or None: garbage is absent, never 0."""
    if not word.isdigit() or len(word) > 20:
        return None
    number = int(word)
    return number if number < _LARGEST else None


def integers(words: list[bytes]) -> list[int | None]:
    """Give the whole number of each word, None for a word that is none."""
    return [int(word) if word.isdigit() and len(word) < 20 else integer(word) for word in words]


def decimal(word: bytes) -> float | None:
    """Give a number such as `12.34`; None for anything else, `nan` and `inf` among it."""
    whole, _, part = word.partition(b".")
    if not whole.isdigit() or not (part.isdigit() or not part) or len(word) > 24:
        return None
    return float(word)


def number_after(data: bytes, key: bytes) -> int | None:
    r"""Give the whole number that follows `key` (say `b"\nctxt "`) in `data`, or None."""
    at = data.find(key)
    if at < 0:
        return None
    at += len(key)
    words = data[at : at + 32].split(None, 1)
    return integer(words[0]) if words else None


def scaled(value: int | None, factor: int) -> int | None:
    """Give `value` times `factor`, or None for None and for what no column holds."""
    if value is None:
        return None
    product = value * factor
    return product if product < _LARGEST else None


def seconds(value: int | None, per_second: float) -> float | None:
    """Give ticks, of which there are `per_second`, as seconds; None for None."""
    return None if value is None else value / per_second


def ratio(part: float | None, whole: float | None) -> float | None:
    """Give part of whole, held to 0 to 1; None when either is absent or the whole is 0."""
    if part is None or not whole:
        return None
    return min(1.0, max(0.0, part / whole))
