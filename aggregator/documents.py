"""Which documents each publisher holds, compared with what its heartbeats say: the periodic resync of the inventory.

A heartbeat carries the hash of its publisher's whole set. When it differs from ours twice in a row, we ask for all of
them; when it differs still, and what did not come again makes the difference exactly, that is withdrawn: its collector
went, or described it no more while nobody listened.
"""

from collections.abc import Callable, Iterable
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
        self._held: dict[str, dict[Key, Held]] = {}
        for one in held:
            self._held.setdefault(one.publisher, {})[one.publisher, one.collector, one.device] = one
        self._doubts: dict[str, _Doubt] = {}
        self._changed: dict[Key, Held | None] = {}
        self.asked = 0
        """How often documents were asked for again."""
        self.withdrawn = 0

    def take(self, key: Key, text: str, subject: str, epoch: str, order: int) -> bool:
        """Note a document, or with "" that it is gone. False when a later batch of the same run told of it."""
        known = self._held.get(key[0], {}).get(key)
        if known is not None and known.epoch == epoch and known.order > order:
            return False
        held = Held(*key, subject, document_digest(text), epoch, order) if text else None
        self._put(key, held)
        return True

    def heard(self, publisher: str, told: str, epoch: str, order: int) -> list[Held]:
        """Compare a heartbeat's hash with what we hold; give what is to be withdrawn, and hold it no more."""
        mine = self._held.get(publisher, {})
        if told == digests_hash(one.digest for one in mine.values()):
            self._doubts.pop(publisher, None)
            return []
        doubt = self._doubts.setdefault(publisher, _Doubt())
        doubt.differed += 1
        if doubt.differed < PATIENCE:
            return []
        doubt.differed = 0
        if doubt.asked is not None:
            asked_epoch, asked_order = doubt.asked
            old = {
                key: one for key, one in mine.items() if (one.epoch, one.order >= asked_order) != (asked_epoch, True)
            }
            left = (one.digest for key, one in mine.items() if key not in old)
            if epoch == asked_epoch and old and told == digests_hash(left):
                for key in old:
                    self._put(key, None)
                del self._doubts[publisher]
                self.withdrawn += len(old)
                return list(old.values())
        doubt.asked = (epoch, order)
        self.asked += 1
        self._resend(publisher)
        return []

    def take_changes(self) -> dict[Key, Held | None]:
        """Give what changed since the last call, for the next transaction."""
        changed, self._changed = self._changed, {}
        return changed

    @property
    def changed(self) -> bool:
        """Whether there is anything for a next transaction."""
        return bool(self._changed)

    def _put(self, key: Key, held: Held | None) -> None:
        mine = self._held.setdefault(key[0], {})
        if held is None:
            mine.pop(key, None)
        else:
            mine[key] = held
        self._changed[key] = held
