"""Entries as people and programs outside see them: by words, with the nodes and devices that they are about."""

import re
from collections.abc import Callable
from enum import Enum
from functools import cache
from operator import attrgetter
from typing import Any, Final

import msgspec

from aggregator.ledger.entries import Entry
from aggregator.ledger.journal import Written
from aggregator.ledger.state import State
from aggregator.ledger.subjects import claim_of, subjects

_WORD: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_PLAIN: Final = frozenset({str, int, float, bool, type(None)})
"""Types of what is shown as it is: nearly all that entries hold."""


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
    return _kind(type(entry))


@cache
def _kind(kind: type[Entry]) -> str:
    return _WORD.sub(".", kind.__name__).lower()


def entry_view(state: State, written: Written) -> EntryView:
    """Show an entry. `state` is of any later moment: it says on which nodes devices are, and what claims hold."""
    nodes, devices = concerned(state, written.entry)
    entry = written.entry
    return EntryView(
        written.sequence, written.time_ns, kind_of(entry), nodes, devices, claim_of(entry), fields_of(entry)
    )


def concerned(state: State, entry: Entry) -> tuple[list[str], list[str]]:
    """Give the nodes and the devices that an entry is about, those of its claim among them; sorted."""
    nodes: set[str] = set()
    devices: set[str] = set()
    for name in subjects(entry):
        if (device := state.devices.get(name)) is not None:
            devices.add(name)
            nodes.add(device.node)
        elif name in state.nodes:
            nodes.add(name)
        elif (claim := state.claims.get(name)) is not None:
            for held in claim.devices:
                devices.add(held.device)
                if (device := state.devices.get(held.device)) is not None:
                    nodes.add(device.node)
            nodes.update(claim.amounts)
    return sorted(nodes), sorted(devices)


def fields_of(one: msgspec.Struct) -> dict[str, Any]:
    """Give the fields of an entry, or of what is in one, by name; those that have their defaults are left out."""
    names, values_of, defaults = _declared(type(one))
    found = {}
    for name, value, default in zip(names, values_of(one), defaults, strict=True):
        if value != default:
            found[name] = value if type(value) in _PLAIN else _plain(value)
    return found


@cache
def _declared(kind: type[msgspec.Struct]) -> tuple[tuple[str, ...], Callable[[object], tuple[Any, ...]], list[Any]]:
    """Give the names of a Struct's fields, what gives their values, and their defaults: asking for each takes longest.

    Every entry of a fleet that describes itself goes through here.
    """
    fields = msgspec.structs.fields(kind)
    names = tuple(field.name for field in fields)
    defaults = [field.default_factory() if callable(field.default_factory) else field.default for field in fields]
    if len(names) > 1:
        return names, attrgetter(*names), defaults
    return names, lambda one: tuple(getattr(one, name) for name in names), defaults


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is dict:
        return {key: one if type(one) in _PLAIN else _plain(one) for key, one in value.items()}
    if kind is list or kind is tuple:
        return [one if type(one) in _PLAIN else _plain(one) for one in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, msgspec.Struct):
        return fields_of(value)
    if isinstance(value, tuple):  # one with names
        return [_plain(one) for one in value]
    return value
