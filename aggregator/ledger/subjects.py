"""What an entry is about: the devices, nodes and claims that it names. History and watches find entries by it."""

from collections.abc import Iterable
from typing import Any, Final

from aggregator.ledger.entries import Confirmed, Diverged, Entry, UsesRecorded
from aggregator.ledger.model import Held

_NAMES: Final = ("device", "claim", "node", "successor")
_LISTS: Final = ("devices", "claims")
_MORE: Final = frozenset({Confirmed, Diverged, UsesRecorded})
"""Entries that name something by what is in them, too."""


def subjects(entry: Entry) -> set[str]:
    """Give the ids of everything that an entry names."""
    kind = type(entry)
    names, lists = _fields(kind)
    found = {getattr(entry, name) for name in names}
    for name in lists:
        found.update(_ids(getattr(entry, name)))
    if kind not in _MORE:
        pass
    elif isinstance(entry, Confirmed):
        found.update(entry.ids.values())
    elif isinstance(entry, Diverged):
        found |= {entry.divergence.node, entry.divergence.device, entry.divergence.claim}
    elif isinstance(entry, UsesRecorded):
        found.update(use.device for use in entry.said)
    found.discard("")
    return found


def claim_of(entry: Entry) -> str:
    """Give the claim that an entry is about; "" for none."""
    return str(getattr(entry, "claim", ""))


def _ids(those: Iterable[Any]) -> Iterable[str]:
    return (one.device if isinstance(one, Held) else one for one in those)


_known: Final[dict[type[Any], tuple[list[str], list[str]]]] = {}


def _fields(kind: type[Any]) -> tuple[list[str], list[str]]:
    known = _known.get(kind)
    if known is None:
        fields = kind.__struct_fields__
        known = _known[kind] = ([name for name in _NAMES if name in fields], [n for n in _LISTS if n in fields])
    return known
