"""Resources kept for a while, small: a machine's are some MB when decoded, and many machines are walked at a time."""

import zlib
from collections.abc import Iterator
from typing import Final

import msgspec

from collectors.redfish.resource import Resource

_PIECE: Final = 64 << 10


class Trunk:
    """Resources in order, compressed."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._open: list[bytes] = []
        self._size = 0

    def add(self, resource: Resource) -> None:
        """Put one in, without what could be done to it."""
        kept = {name: value for name, value in resource.items() if name != "Actions"}
        text = msgspec.json.encode(kept)
        self._open.append(text)
        self._size += len(text)
        if self._size >= _PIECE:
            self._pieces.append(zlib.compress(b"\n".join(self._open), 1))
            self._open, self._size = [], 0

    def __iter__(self) -> Iterator[Resource]:
        for piece in self._pieces:
            for text in zlib.decompress(piece).split(b"\n"):
                yield msgspec.json.decode(text)
        for text in self._open:
            yield msgspec.json.decode(text)
