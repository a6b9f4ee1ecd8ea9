"""Which rows go when there is no room for others: the least important first (promise 4)."""

from collections.abc import Sequence
from typing import Final

from collectors.spooled import Held, NewBatch, Waiting
from schemas.verbosity import Level, RowClass

EVENT_SHARE: Final = 8
"""Events have one part in so many of the spool to themselves; capability documents likewise."""
_SHARED: Final = (RowClass.TELEMETRY, RowClass.LOG)
_PAGE: Final = 4096
"""SQLite's; what a batch takes on disk besides its body, at most."""
GaveUp = tuple[Held, str]
"""A batch that goes, and the reason."""


def room_for(waiting: Waiting, new: Sequence[NewBatch], max_bytes: int) -> list[GaveUp]:
    """Choose the least important rows so that the new ones fit: events and documents have room of their own."""
    own = max_bytes // EVENT_SHARE
    chosen: list[GaveUp] = []
    for classes, limit in (
        (_SHARED, max_bytes - 2 * own),
        ((RowClass.EVENT,), own),
        ((RowClass.CAPABILITY,), own),
    ):
        need = sum(len(batch.body) for batch in new if batch.row_class in classes)
        excess = waiting.size(*classes) + need - limit if need else 0
        if excess > 0:
            chosen += least_important(waiting, classes, excess)
    return chosen


def least_important(waiting: Waiting, classes: tuple[RowClass, ...], size: int) -> list[GaveUp]:
    """Choose batches of at least `size` bytes: superseded documents, then the highest level first, oldest first."""
    chosen: dict[int, GaveUp] = {}
    superseded = waiting.superseded() if RowClass.CAPABILITY in classes else iter(())
    order = [("superseded", superseded)]
    order += [("spool_full", waiting.oldest(*classes, level=level)) for level in reversed(Level)]
    for reason, candidates in order:
        for held in candidates:
            if size <= 0:
                return list(chosen.values())
            if held.id not in chosen:
                chosen[held.id] = held, reason
                size -= held.size
    return list(chosen.values())


def make_way(
    waiting: Waiting, new: Sequence[NewBatch], gone: Sequence[GaveUp], *, again: bool
) -> Sequence[GaveUp] | None:
    """Choose what goes on a full disk so that the new rows can be written where it was; `gone` goes already.

    Telemetry and logs, the least important first, oldest first, as large as the new rows. `again`: whether those can
    be read again at their source, and so wait for what is as important. None when there is too little to give up.
    """
    if not new:
        return gone
    most = min(batch.level for batch in new)
    chosen = {held.id: (held, reason) for held, reason in gone}
    need = sum(len(batch.body) + _PAGE for batch in new) - sum(held.size for held, _ in gone)
    for level in reversed(Level):
        if level < most or (again and level == most):
            break
        for held in waiting.oldest(*_SHARED, level=level):
            if need <= 0:
                break
            if held.id not in chosen:
                chosen[held.id] = held, "spool_full"
                need -= held.size
    return list(chosen.values()) if need <= 0 else None
