"""Every entry that can be written can be read, and does something; what is not known is refused and never dropped."""

from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from aggregator.ledger.apply import known_entries
from aggregator.ledger.entries import Entry, NodeRetired, Tainted, decode_entry, encode_entry
from aggregator.ledger.model import Taint
from aggregator.ledger.words import Effect
from schemas.claims import Made
from schemas.device import Part, Slot

FROM_AGENTS = {Slot, Part, Made}
"""Forms that agents write, newer ones too."""


def test_every_entry_that_can_be_read_is_applied() -> None:
    """One that a newer Muster wrote is refused as it is read, and never skipped."""
    assert frozenset(get_args(Entry)) == known_entries()
    with pytest.raises(msgspec.ValidationError):
        decode_entry(msgspec.msgpack.encode([9999]))


def structs(kind: Any) -> Iterator[type[msgspec.Struct]]:
    """Yield a struct and those that stand in it, or in what a type is made of."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
        for hint in get_type_hints(kind).values():
            yield from structs(hint)
    for inner in get_args(kind):
        yield from structs(inner)


def test_a_field_that_is_not_known_is_refused_wherever_it_stands() -> None:
    found = {struct for kind in get_args(Entry) for struct in structs(kind)}
    assert found >= FROM_AGENTS | set(get_args(Entry)) | {Taint}
    assert [] == [one.__name__ for one in found - FROM_AGENTS if not one.__struct_config__.forbid_unknown_fields]


@pytest.mark.parametrize("inside", [False, True], ids=["entry", "what stands in it"])
def test_an_entry_of_a_newer_version_is_refused_whole(inside: bool) -> None:
    """Without the field it would be another decision."""
    entry = Tainted("n1", "", Taint("hot", Effect.NO_SCHEDULE, "95 C", "op", 1))
    fields = msgspec.msgpack.decode(encode_entry(entry))
    (fields[-1] if inside else fields).append("new")
    with pytest.raises(msgspec.ValidationError, match="at most length"):
        decode_entry(msgspec.msgpack.encode(fields))


def test_an_entry_of_an_older_version_is_read_with_what_it_had() -> None:
    tag, node, *_ = msgspec.msgpack.decode(encode_entry(NodeRetired("n1")))
    assert NodeRetired("n1", retired=True, who="") == decode_entry(msgspec.msgpack.encode([tag, node]))
