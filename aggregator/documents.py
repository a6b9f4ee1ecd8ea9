"""Which documents each publisher holds, compared with what its heartbeats say: the periodic resync of the inventory.

A heartbeat carries the hash of its publisher's whole set. When it differs from ours twice in a row, we ask for all of
them; when it differs still, and what did not come again makes the difference exactly, that is withdrawn: its collector
went, or described it no more while nobody listened.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from aggregator.inventory_progress import Held
from schemas.device import digests_hash, document_digest

PATIENCE: Final = 2
"""Heartbeats in a row that may differ, before we ask and again before we withdraw: rows overtake one another."""
Key = tuple[str, str, str]
"""Publisher, collector, and the publisher's name of the device."""


class _Doubt(msgspec.Struct):
    differed: int = 0
    asked: tuple[str, int] | None = None
    """Epoch of the heartbeat after which we asked, and its order number: the next batch's."""


class Documents:
    """The documents of all publishers. For one event loop."""

    def __init__(self, resend: Callable[[str], object], held: Iterable[Held] = ()) -> None:
        """`resend` asks a publisher for all of its documents again."""
        self._resend = resend
        self._held: dict[str, dict[str, dict[str, Held]]] = {}
        """By publisher, collector and name of the device: no key is kept that is in the document as well."""
        self._hashes: dict[str, str] = {}
        """Publisher -> hash of what it holds, as long as that is known."""
        for one in held:
            self._hold(_shared(one))
        self._doubts: dict[str, _Doubt] = {}
        self._changed: dict[Key, bool] = {}
        """What changed since the last transaction, and whether it was held before."""
        self.asked = 0
        """How often documents were asked for again."""
        self.withdrawn = 0

    def take(self, key: Key, text: str, subject: str, epoch: str, order: int) -> bool:
        """Note a document, or with "" that it is gone. False when a later batch of the same run told of it."""
        known = self._get(key)
        if known is not None and known.epoch == epoch and known.order > order:
            return False
        self._put(key, _shared(Held(*key, subject, document_digest(text), epoch, order)) if text else None)
        return True

    def heard(self, publisher: str, told: str, epoch: str, order: int) -> list[Held]:
        """Compare a heartbeat's hash with what we hold; give what is to be withdrawn, and hold it no more."""
        if told == self._hash(publisher):
            self._doubts.pop(publisher, None)
            return []
        doubt = self._doubts.setdefault(publisher, _Doubt())
        doubt.differed += 1
        if doubt.differed < PATIENCE:
            return []
        doubt.differed = 0
        if doubt.asked is not None:
            asked_epoch, asked_order = doubt.asked
            old: list[Held] = []
            left: list[Held] = []
            for one in self._of(publisher):
                came = (one.epoch, one.order >= asked_order) == (asked_epoch, True)
                (left if came else old).append(one)
            if epoch == asked_epoch and old and told == digests_hash(one.digest for one in left):
                for one in old:
                    self._put((one.publisher, one.collector, one.device), None)
                del self._doubts[publisher]
                self.withdrawn += len(old)
                return old
        doubt.asked = (epoch, order)
        self.asked += 1
        self._resend(publisher)
        return []

    def take_changes(self) -> tuple[list[Key], list[Held]]:
        """Give what changed since the last call, for the next transaction: what was held, and what is held now."""
        changed, self._changed = self._changed, {}
        held = [self._get(key) for key in changed]
        return [key for key, before in changed.items() if before], [one for one in held if one is not None]

    @property
    def changed(self) -> bool:
        """Whether there is anything for a next transaction."""
        return bool(self._changed)

    def _of(self, publisher: str) -> Iterator[Held]:
        for collector in self._held.get(publisher, {}).values():
            yield from collector.values()

    def _hash(self, publisher: str) -> str:
        known = self._hashes.get(publisher)
        if known is None:
            known = self._hashes[publisher] = digests_hash(one.digest for one in self._of(publisher))
        return known

    def _get(self, key: Key) -> Held | None:
        publisher, collector, device = key
        return self._held.get(publisher, {}).get(collector, {}).get(device)

    def _hold(self, held: Held) -> None:
        self._held.setdefault(held.publisher, {}).setdefault(held.collector, {})[held.device] = held

    def _put(self, key: Key, held: Held | None) -> None:
        publisher, collector, device = key
        self._changed.setdefault(key, self._get(key) is not None)
        if held is None:
            self._held.get(publisher, {}).get(collector, {}).pop(device, None)
        else:
            self._hold(held)
        self._hashes.pop(publisher, None)


def _shared(held: Held) -> Held:
    """Give the same, of names that others have as well: of a large fleet these are most of the memory."""
    publisher = sys.intern(held.publisher)
    return Held(
        publisher,
        sys.intern(held.collector),
        sys.intern(held.device),
        publisher if held.subject == publisher else sys.intern(held.subject),
        held.digest,
        sys.intern(held.epoch),
        held.order,
    )
