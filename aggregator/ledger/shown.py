"""Entries as people and programs outside see them: by words, with the nodes and devices that they are about."""

import re
from enum import Enum
from functools import cache
from typing import Any, Final

import msgspec

from aggregator.ledger.entries import Entry
from aggregator.ledger.journal import Written
from aggregator.ledger.state import State
from aggregator.ledger.subjects import claim_of, subjects

_WORD: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


class EntryView(msgspec.Struct, frozen=True):
    """An entry of the ledger, as answers show it."""

    sequence: int
    time_ns: int
    kind: str
    """A word, stable once released: `device.seen`, `view.changed`, `granted`."""
    nodes: list[str]
    devices: list[str]
    claim: str
    data: dict[str, Any]
    """The entry's fields; one that has its default is left out."""


def kind_of(entry: Entry) -> str:
    """Give the word for what an entry is."""
    return _WORD.sub(".", type(entry).__name__).lower()


def entry_view(state: State, written: Written) -> EntryView:
    """Show an entry. `state` is of any later moment: it says on which nodes devices are, and what claims hold."""
    nodes, devices = concerned(state, written.entry)
    entry = written.entry
    return EntryView(written.sequence, written.time_ns, kind_of(entry), nodes, devices, claim_of(entry), _fields(entry))


def concerned(state: State, entry: Entry) -> tuple[list[str], list[str]]:
    """Give the nodes and the devices that an entry is about, those of its claim among them; sorted."""
    nodes: set[str] = set()
    devices: set[str] = set()
    for name in subjects(entry):
        claim = state.claims.get(name)
        if name in state.devices:
            devices.add(name)
        elif name in state.nodes:
            nodes.add(name)
        elif claim is not None:
            devices.update(held.device for held in claim.devices)
            nodes.update(claim.amounts)
    nodes.update(state.devices[name].node for name in devices if name in state.devices)
    return sorted(nodes), sorted(devices)


def _fields(one: msgspec.Struct) -> dict[str, Any]:
    found = {}
    for name, default in _declared(type(one)):
        value = getattr(one, name)
        if value != default:
            found[name] = _plain(value)
    return found


@cache
def _declared(kind: type[msgspec.Struct]) -> tuple[tuple[str, Any], ...]:
    """Give the fields of a Struct with their defaults: asking msgspec takes longer than all the rest."""
    return tuple(
        (field.name, field.default_factory() if callable(field.default_factory) else field.default)
        for field in msgspec.structs.fields(kind)
    )


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return _fields(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value
