"""What other views of the fleet do to the state: other schedulers' records, and where two views do not agree."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from aggregator.ledger.entries import Agreed, Diverged, RecordDropped, UsesRecorded
from aggregator.ledger.outside import Use, UseRecord
from aggregator.ledger.state import State


def _uses_recorded(state: State, entry: UsesRecorded) -> None:
    record = state.records.get(entry.source)
    if record is None:
        record = state.records[entry.source] = UseRecord(entry.source, entry.kind, 0, 0, "")
    record.kind, record.as_of_ns, record.taken_ns, record.who = entry.kind, entry.as_of_ns, state.time_ns, entry.who
    for place in entry.unsaid:
        _unsay(state, record, place)
    for use in entry.said:
        _unsay(state, record, use.place)
        record.uses[use.place] = use
        state.record(record.source, use)
        _touch(state, use)


def _unsay(state: State, record: UseRecord, place: str) -> None:
    use = record.uses.pop(place, None)
    if use is not None:
        state.record(record.source, use, -1)
        _touch(state, use)


def _touch(state: State, use: Use) -> None:
    device = state.devices.get(use.device)
    if device is not None:
        state.touch(device)


def _record_dropped(state: State, entry: RecordDropped) -> None:
    record = state.records.pop(entry.source)
    for place in list(record.uses):
        _unsay(state, record, place)


def _diverged(state: State, entry: Diverged) -> None:
    before = state.divergences.get(entry.divergence.id)
    since = state.time_ns if before is None else before.since_ns
    state.divergences[entry.divergence.id] = msgspec.structs.replace(entry.divergence, since_ns=since)


def _agreed(state: State, entry: Agreed) -> None:
    state.divergences.pop(entry.divergence, None)


VIEWS: Final[dict[type[Any], Callable[[State, Any], None]]] = {
    UsesRecorded: _uses_recorded,
    RecordDropped: _record_dropped,
    Diverged: _diverged,
    Agreed: _agreed,
}
"""What each entry of these does."""
