"""Resources kept for a while, small: a machine's are some MB when decoded, and many machines are walked at a time."""

import zlib
from collections.abc import Iterator
from typing import Final

import msgspec

from collectors.redfish.resource import Resource

_PIECE: Final = 64 << 10
MOST: Final = 48 << 20
"""Bytes of all resources together, before they are compressed; the largest machine known has 9 MB."""


class Trunk:
    """Resources in order, compressed."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._open: list[bytes] = []
        self._size = 0
        self._total = 0

    def add(self, resource: Resource) -> bool:
        """Put one in, without what could be done to it; False when there is no room for it."""
        kept = {name: value for name, value in resource.items() if name != "Actions"}
        text = msgspec.json.encode(kept)
        self._total += len(text)
        if self._total > MOST:
            return False
        self._open.append(text)
        self._size += len(text)
        if self._size >= _PIECE:
            self._pieces.append(zlib.compress(b"\n".join(self._open), 1))
            self._open, self._size = [], 0
        return True

    def __iter__(self) -> Iterator[Resource]:
        for piece in self._pieces:
            for text in zlib.decompress(piece).split(b"\n"):
                yield msgspec.json.decode(text)
        for text in self._open:
            yield msgspec.json.decode(text)
