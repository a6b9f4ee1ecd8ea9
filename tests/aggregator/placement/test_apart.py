"""A part whose whole nobody has described yet is given to nobody: who has the whole, and what for, is not known."""

from typing import Any

import pytest

from aggregator.ledger import claims
from aggregator.ledger.asks import Ask, NotGrantedError, Pick
from aggregator.ledger.facts import Sighting, observe, seen_free
from aggregator.ledger.model import Device
from aggregator.ledger.words import Lifecycle, Mode
from aggregator.placement.edits import DeviceSeen
from aggregator.placement.placing import NotPlacedError, Placer
from aggregator.placement.request import Need, Request
from aggregator.placement.whatif import what_if
from schemas.device import DeviceKind, Document, Part
from tests.aggregator.ledger.worlds import Book, begin, document
from tests.aggregator.placement.worlds import asked

DRIVE = "0000:05:00.0"
SPACE = Need(where="device.kind == 'nvme-namespace'", mode=Mode.DRIVER)


def seen(book: Book, told: Document) -> Device:
    """Take a document under the policy that whatever arrives is clean."""
    book.write(observe(book.state, Sighting("n1", "n1", "nvme", told, "b1"), seen_free))
    name = book.state.found.by_source.get(("n1", f"n1\nnvme\n{told.device}"))
    assert name is not None
    return book.state.devices[name]


def drive(**more: Any) -> Document:
    return document(DeviceKind.NVME, DRIVE, serial="S1", group=7, **more)


@pytest.fixture
def book() -> Book:
    """A name space that is free by policy, and whose drive is yet to be described."""
    made = Book()
    begin(made)
    told = Document("ns:1", DeviceKind.NVME_NAMESPACE, ["nguid:1"], f"pci:{DRIVE}", part=Part(uuid="1"))
    assert Lifecycle.FREE is seen(made, told).lifecycle
    return made


def refused(book: Book, request: Request) -> list[tuple[str, object]]:
    """Give the blockers of a request, which their edits end."""
    placer = Placer()
    with pytest.raises(NotPlacedError) as error:
        placer.place(book.state, request)
    blockers = placer.explain(book.state, request, error.value.refusal) or []
    told = what_if(placer, book.state, [one.edit for one in blockers], request)
    assert told.after.refusal is None
    return [(one.reason, one.edit) for one in blockers]


def test_a_name_space_waits_for_its_drive(book: Book) -> None:
    (space,) = book.state.devices.values()
    ask = Ask("t1", "vm", [Pick(space.id, Mode.DRIVER)])
    with pytest.raises(NotGrantedError, match=f"a part of pci:{DRIVE}, which nobody has described yet"):
        claims.grant(book.state, ask, "c1")
    assert [("reach.unverified", DeviceSeen(space.id))] == refused(book, asked(SPACE))
    seen(book, drive())
    assert [space.node] == [one.node for one in Placer().place(book.state, asked(SPACE)).instances]
    book.decide(claims.grant(book.state, ask, "c1"))


def test_a_name_space_of_a_drive_that_turns_out_to_be_in_use_is_not_given(book: Book) -> None:
    placer = Placer()
    with pytest.raises(NotPlacedError):
        placer.place(book.state, asked(SPACE))
    seen(book, drive(in_use_by="a guest"))
    with pytest.raises(NotPlacedError):
        placer.place(book.state, asked(SPACE))
    (space,) = (one for one in book.state.devices.values() if one.parent)
    with pytest.raises(NotGrantedError) as error:
        claims.grant(book.state, Ask("t1", "vm", [Pick(space.id, Mode.DRIVER)]), "c1")
    assert ["relation.excludes"] == [one.reason for one in error.value.objections]


def test_a_part_that_names_no_whole_waits_for_none() -> None:
    """A guest sees a function that was passed through to it, and nothing of its port."""
    book = Book()
    begin(book)
    function = seen(book, document(DeviceKind.VF, "0000:01:00.1"))
    book.decide(claims.grant(book.state, Ask("t1", "vm", [Pick(function.id)]), "c1"))


@pytest.mark.parametrize("kind", [DeviceKind.NIC, DeviceKind.NVME, DeviceKind.GPU])
def test_whatever_makes_a_function_is_not_given_whole_while_a_claim_has_that(kind: DeviceKind) -> None:
    """A drive and a GPU have virtual functions as a port has; the ledger and placement agree."""
    book = Book()
    begin(book)
    whole = seen(book, document(kind, DRIVE, serial="S1", group=7))
    function = seen(book, document(DeviceKind.VF, "0000:05:00.1", parent=f"pci:{DRIVE}", group=8))
    book.decide(claims.grant(book.state, Ask("t1", "vm", [Pick(function.id)]), "c1"))
    with pytest.raises(NotGrantedError) as error:
        claims.grant(book.state, Ask("t1", "vm", [Pick(whole.id)]), "c2")
    assert ["relation.excludes"] == [one.reason for one in error.value.objections]
    need = Need(where=f"device.kind == '{kind.value}'")
    with pytest.raises(NotPlacedError):
        Placer().place(book.state, asked(need))
