"""Batches that ingest has opened to check them, kept for a moment so that consumers need not open them again."""

from collections import OrderedDict
from typing import Final

import zstandard

from schemas.batch import Batch, Block
from schemas.codec import MAX_BODY_BYTES

Place = tuple[str, int, int]
"""Topic, partition, offset."""
MAX_OPENED_ROWS: Final = 200_000
MAX_OPENED_BYTES: Final = 64 << 20


def opened_bytes(batch: Batch) -> int:
    """Give how many bytes opening a batch makes of its body; 0 for one that is refused before it is opened."""
    if not batch.body:
        return 0
    try:
        size = zstandard.frame_content_size(batch.body)
    except zstandard.ZstdError:
        return 0
    return size if 0 < size <= MAX_BODY_BYTES else 0


class OpenedBatches:
    """A memory of opened batches by their place in the log, bounded by rows and by the bytes of their bodies.

    Absence is ordinary: open the record then.
    """

    def __init__(self, max_rows: int = MAX_OPENED_ROWS, max_bytes: int = MAX_OPENED_BYTES) -> None:
        self._batches: OrderedDict[Place, tuple[Batch, list[Block], int]] = OrderedDict()
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._rows = 0
        self._bytes = 0

    def put(self, place: Place, batch: Batch, blocks: list[Block]) -> None:
        """Remember one; the oldest make room."""
        self.get(place)
        size = opened_bytes(batch)
        self._batches[place] = (batch, blocks, size)
        self._rows += batch.envelope.rows
        self._bytes += size
        while self._batches and (self._rows > self._max_rows or self._bytes > self._max_bytes):
            self.get(next(iter(self._batches)))

    def get(self, place: Place) -> tuple[Batch, list[Block]] | None:
        """Give one that is remembered, and forget it: its reader owns the blocks."""
        found = self._batches.pop(place, None)
        if found is None:
            return None
        batch, blocks, size = found
        self._rows -= batch.envelope.rows
        self._bytes -= size
        return batch, blocks
