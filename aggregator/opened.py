"""Batches that ingest has opened to check them, kept for a moment so that consumers need not open them again."""

from collections import OrderedDict

from schemas.batch import Batch, Block

Place = tuple[str, int, int]
"""Topic, partition, offset."""


class OpenedBatches:
    """A bounded memory of opened batches by their place in the log. Absence is ordinary: open the record then."""

    def __init__(self, max_rows: int = 200_000) -> None:
        self._batches: OrderedDict[Place, tuple[Batch, list[Block]]] = OrderedDict()
        self._max_rows = max_rows
        self._rows = 0

    def put(self, place: Place, batch: Batch, blocks: list[Block]) -> None:
        """Remember one; the oldest make room."""
        self._batches[place] = (batch, blocks)
        self._rows += batch.envelope.rows
        while self._rows > self._max_rows and self._batches:
            _, (old, _) = self._batches.popitem(last=False)
            self._rows -= old.envelope.rows

    def get(self, place: Place) -> tuple[Batch, list[Block]] | None:
        """Give one that is remembered, and forget it: its reader owns the blocks."""
        found = self._batches.pop(place, None)
        if found is not None:
            self._rows -= found[0].envelope.rows
        return found
