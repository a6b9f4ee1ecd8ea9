"""Use outside Muster, as collectors see it and as other schedulers' records say: who says so last lets a device go."""

import pytest

from aggregator.ledger import claims, cleaning, in_use, nodes, uses
from aggregator.ledger.asks import Ask, NotGrantedError, Pick
from aggregator.ledger.entries import NodeRetired, NodeSeen
from aggregator.ledger.facts import withdraw
from aggregator.ledger.model import Device
from aggregator.ledger.outside import Use
from aggregator.ledger.state import State, decode_kept, encode_kept
from aggregator.ledger.uses import RecordInvalidError, RecordUnknownError
from aggregator.ledger.words import Lifecycle
from schemas.device import DeviceKind
from tests.aggregator.ledger.worlds import Book, begin, document

GPU = "0000:a3:00.0"


def seen(book: Book, **own: object) -> Device:
    device = book.see(document(DeviceKind.GPU, GPU, serial="G1", group=75, **own))  # type: ignore[arg-type]
    assert device is not None
    return device


def lifecycle(device: Device) -> str:
    return device.lifecycle.value


def told(book: Book, *users: Use, source: str = "nova", as_of: int = 1) -> None:
    book.decide(uses.take(book.state, source, "nova", users, as_of, "op"))


def replayed(book: Book) -> State:
    return State.of(decode_kept(encode_kept(book.state.keep())))


@pytest.fixture
def book() -> Book:
    made = Book()
    begin(made)
    return made


def test_device_that_a_record_names_is_foreign_and_says_who(book: Book) -> None:
    device = seen(book)
    told(book, Use("n1", GPU, "nova:web-1"))
    assert Lifecycle.FOREIGN.value == lifecycle(device)
    assert "nova:web-1 (recorded by nova)" == in_use.outside(book.state, device)


def test_node_may_be_named_by_its_host_name(book: Book) -> None:
    device = seen(book)
    told(book, Use("host-n1", GPU, "web-1"))
    assert Lifecycle.FOREIGN.value == lifecycle(device)


def test_the_same_record_again_changes_nothing_but_its_time(book: Book) -> None:
    device = seen(book)
    told(book, Use("n1", GPU, "web-1"))
    before = book.state.sequence
    told(book, Use("n1", GPU, "web-1"), as_of=2)
    assert before + 1 == book.state.sequence
    assert (2, Lifecycle.FOREIGN) == (book.state.records["nova"].as_of_ns, device.lifecycle)


def test_device_named_no_more_is_dirty_never_free(book: Book) -> None:
    device = seen(book)
    told(book, Use("n1", GPU, "web-1"))
    told(book, as_of=2)
    assert Lifecycle.DIRTY.value == lifecycle(device)
    assert {} == book.state.recorded


def test_older_record_than_the_one_taken_is_refused(book: Book) -> None:
    told(book, as_of=5)
    with pytest.raises(RecordInvalidError):
        uses.take(book.state, "nova", "nova", [], 4, "op")


def test_two_records_of_one_device_let_it_go_with_the_last(book: Book) -> None:
    device = seen(book)
    told(book, Use("n1", GPU, "web-1"), source="nova")
    told(book, Use("n1", GPU, "dom-1"), source="libvirt:n1")
    book.decide(uses.drop(book.state, "nova", "op"))
    assert Lifecycle.FOREIGN.value == lifecycle(device)
    book.decide(uses.drop(book.state, "libvirt:n1", "op"))
    assert Lifecycle.DIRTY.value == lifecycle(device)
    with pytest.raises(RecordUnknownError):
        uses.drop(book.state, "nova", "op")


def test_collector_that_falls_silent_about_use_does_not_undo_a_record(book: Book) -> None:
    device = seen(book, vfio_in_use=True)
    told(book, Use("n1", GPU, "web-1"))
    seen(book, vfio_in_use=False)
    assert Lifecycle.FOREIGN.value == lifecycle(device)
    told(book, as_of=2)
    assert Lifecycle.DIRTY.value == lifecycle(device)


def test_record_that_falls_silent_does_not_undo_what_a_collector_sees(book: Book) -> None:
    device = seen(book, in_use_by=["qemu/900"])
    told(book, Use("n1", GPU, "web-1"))
    told(book, as_of=2)
    assert Lifecycle.FOREIGN.value == lifecycle(device)
    seen(book)
    assert Lifecycle.DIRTY.value == lifecycle(device)


def test_of_two_collectors_the_last_to_see_use_ends_it(book: Book) -> None:
    device = seen(book, vfio_in_use=True)
    gpu = document(DeviceKind.GPU, GPU, serial="G1", group=75, in_use_by=["train/7"])
    assert device is book.see(gpu, collector="nvml")
    seen(book)
    assert Lifecycle.FOREIGN.value == lifecycle(device)
    book.see(document(DeviceKind.GPU, GPU, serial="G1", group=75), collector="nvml")
    assert Lifecycle.DIRTY.value == lifecycle(device)


def test_record_comes_before_the_node_and_holds_at_first_sight() -> None:
    book = Book()
    told(book, Use("host-n1", GPU, "web-1"))
    begin(book)
    device = seen(book)
    assert Lifecycle.FOREIGN.value == lifecycle(device)
    assert {} == book.state.awaited
    told(book, Use("host-n1", GPU, "web-1"), as_of=2)  # the same words: it means the same device
    assert Lifecycle.FOREIGN.value == lifecycle(device)
    told(book, as_of=3)
    assert Lifecycle.DIRTY.value == lifecycle(device)


def test_another_part_in_the_slot_is_not_the_one_that_the_record_named(book: Book) -> None:
    old = seen(book)
    told(book, Use("n1", GPU, "web-1"))
    book.write(withdraw(book.state, "n1", f"n1\npci\npci:{GPU}", "pulled"))
    new = book.see(document(DeviceKind.GPU, GPU, serial="G2", group=75))
    assert new is not None
    assert new.id != old.id
    assert Lifecycle.DIRTY.value == lifecycle(new)
    told(book, Use("n1", GPU, "web-1"), as_of=2)
    assert Lifecycle.FOREIGN.value == lifecycle(new)


def test_device_of_a_claim_stays_the_claims_and_is_foreign_when_that_ends(book: Book) -> None:
    device = seen(book)
    book.decide(cleaning.attest(book.state, device.id, "op", "new"))
    claim = book.decide(claims.grant(book.state, Ask("t1", "vm", [Pick(device.id)]), "c-1"))
    book.decide(claims.provision(book.state, claim))
    told(book, Use("n1", GPU, "web-1"))
    assert Lifecycle.PROVISIONING.value == lifecycle(device)
    assert [] == uses.overdue(book.state, device)
    book.decide(claims.release(book.state, claim))
    book.decide(claims.undone(book.state, claim, book.state.claims[claim].epoch, [device.id]))
    assert Lifecycle.DIRTY.value == lifecycle(device)
    with pytest.raises(NotGrantedError, match="web-1"):
        cleaning.begin_clean(book.state, device.id)
    book.write(uses.overdue(book.state, device))
    assert Lifecycle.FOREIGN.value == lifecycle(device)


def test_nobody_vouches_for_what_is_in_use(book: Book) -> None:
    device = seen(book)
    book.decide(cleaning.attest(book.state, device.id, "op", "new"))
    book.decide(claims.grant(book.state, Ask("t1", "vm", [Pick(device.id)]), "c-1"))
    book.decide(claims.provision(book.state, "c-1"))
    told(book, Use("n1", GPU, "web-1"))
    book.decide(claims.release(book.state, "c-1"))
    book.decide(claims.undone(book.state, "c-1", book.state.claims["c-1"].epoch, [device.id]))
    with pytest.raises(NotGrantedError, match="web-1"):
        cleaning.attest(book.state, device.id, "op", "looks fine")


def test_records_outlive_a_snapshot(book: Book) -> None:
    seen(book)
    told(book, Use("n1", GPU, "web-1"), Use("n9", GPU, "web-2"))
    again = replayed(book)
    assert book.state.digest() == again.digest()
    assert (book.state.recorded, book.state.awaited) == (again.recorded, again.awaited)


def test_names_of_all_nodes_at_once_are_those_asked_for_one_by_one() -> None:
    """By host name or by the operator's; who shares a name is called so by nobody, who is retired not at all."""
    book = Book()
    for node, name in (("n1", "gpu-1"), ("n2", "gpu-2"), ("n3", "gpu-2"), ("n4", "gpu-4"), ("n5", "")):
        book.write([NodeSeen(node, name)])
    book.write([NodeRetired("n4")])
    called = nodes.called(book.state)
    for name in ("gpu-1", "gpu-2", "gpu-4", "gpu-5"):
        assert nodes.node_of(book.state, name) is called.get(name)
    assert called["gpu-1"] is book.state.nodes["n1"]
    assert called["gpu-2"] is None
