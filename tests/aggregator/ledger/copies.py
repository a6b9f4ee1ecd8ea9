"""States by way of a snapshot: copied, and read again, at once or as they are asked for."""

from collections.abc import Iterable

from aggregator.ledger.copying import Copy, Copying
from aggregator.ledger.journal import Written
from aggregator.ledger.shelf import Shelf
from aggregator.ledger.snapshot import Reading
from aggregator.ledger.state import State


def copied(state: State) -> Copy:
    """Copy a state in one go."""
    copying = Copying(state)
    while (copy := copying.step()) is None:
        pass
    return copy


def read(copy: Copy, *, lazy: bool = False) -> Reading:
    """Read a copy's parts."""
    reading = Reading(copy.head(0), lazy=lazy)
    for part in copy.parts():
        reading.add(part)
    return reading


def restored(copy: Copy) -> State:
    """Give the state of a copy."""
    return read(copy).state(index=True)


def shelved(copy: Copy, rest: Iterable[Written] = ()) -> Shelf:
    """Give the state of a copy and the entries after it, for questions."""
    shelf = Shelf.open(read(copy, lazy=True))
    for written in rest:
        shelf.follow(written)
    shelf.settle()
    return shelf
