"""A part is in one place: two devices that state one identity are given to nobody, however they came to state it."""

import msgspec
import pytest

from aggregator.ledger import claims, cleaning, conflicts, restoring
from aggregator.ledger.asks import Ask, Pick, objections
from aggregator.ledger.entries import NodeReached, NodeRetired, Untainted
from aggregator.ledger.facts import withdraw
from aggregator.ledger.model import Device
from aggregator.ledger.words import CONFLICT, Lifecycle
from schemas.claims import Checkpoint
from schemas.device import DeviceKind, Document
from tests.aggregator.ledger.worlds import Book, begin, document

FIRST, SECOND = "0000:01:00.0", "0000:02:00.0"


@pytest.fixture
def book() -> Book:
    made = Book()
    for node in ("n1", "n2"):
        begin(made, node)
    return made


def gpu(address: str = FIRST, serial: str = "G1") -> Document:
    return document(DeviceKind.GPU, address, serial=serial)


def see(book: Book, seen: Document, node: str = "n1", collector: str = "pci") -> Device:
    device = book.see(seen, node, collector=collector)
    assert device is not None
    return device


def speaks(book: Book, node: str, *, live: bool) -> None:
    """Let a node fall silent, or speak again as the inventory records it."""
    book.write([NodeReached(node, live)])
    if live:
        book.write(list(conflicts.of_nodes(book.state, [node])))


def hold(book: Book, device: Device) -> None:
    book.decide(cleaning.attest(book.state, device.id, "op", "new"))
    book.decide(claims.grant(book.state, Ask("t1", "vm", [Pick(device.id)]), "c1"))
    book.decide(claims.provision(book.state, "c1"))


def marked(*devices: Device) -> list[bool]:
    return [CONFLICT in device.taints for device in devices]


def test_identity_that_a_second_collector_brings_is_compared(book: Book) -> None:
    """The bus showed both functions before the driver's collector knew who they are."""
    one, other = (see(book, document(DeviceKind.PCI_FUNCTION, FIRST), node) for node in ("n1", "n2"))
    for node in ("n1", "n2"):
        see(book, msgspec.structs.replace(gpu(), device="gpu:G1"), node, collector="nvml")
    assert [True, True] == marked(one, other)
    assert all(name in one.taints[CONFLICT].evidence for name in (one.id, other.id))


def test_part_that_comes_back_while_it_is_seen_elsewhere_is_a_conflict(book: Book) -> None:
    one = see(book, gpu())
    book.write(withdraw(book.state, "n1", next(iter(one.views)), "unplugged"))
    other = see(book, gpu(), "n2")
    assert [False, False] == marked(one, other)
    assert one is see(book, gpu())
    assert [True, True] == marked(one, other)
    book.write(withdraw(book.state, "n1", next(iter(one.views)), "unplugged"))
    assert [False, False] == marked(one, other)


def test_part_that_a_claim_has_on_a_silent_node_is_given_to_nobody_elsewhere(book: Book) -> None:
    one = see(book, gpu())
    hold(book, one)
    speaks(book, "n1", live=False)
    assert [True, True] == marked(see(book, gpu(), "n2"), one)


def test_node_that_speaks_again_is_compared_with_what_was_seen_meanwhile(book: Book) -> None:
    """A machine that was switched off may have given its card to another: a conflict only once it shows it itself."""
    one = see(book, gpu())
    speaks(book, "n1", live=False)
    other = see(book, gpu(), "n2")
    assert [False, False] == marked(one, other)
    speaks(book, "n1", live=True)
    assert [True, True] == marked(one, other)


def test_nobody_may_put_up_with_a_conflict(book: Book) -> None:
    one, other = see(book, gpu()), see(book, gpu(), "n2")
    for device in (one, other):
        book.decide(cleaning.attest(book.state, device.id, "op", "new"))
        assert Lifecycle.FREE is device.lifecycle
        found = objections(book.state, Ask("t1", "vm", [Pick(device.id)], tolerations=[CONFLICT]))
        assert [f"taint.{CONFLICT}"] == [objection.reason for objection in found]


def test_functions_of_one_card_share_its_serial(book: Book) -> None:
    ports = [see(book, document(DeviceKind.NIC, f"0000:04:00.{number}", serial="N1")) for number in (0, 1)]
    assert 2 == len({port.id for port in ports})
    assert [False, False] == marked(*ports)
    elsewhere = see(book, document(DeviceKind.NIC, "0000:05:00.0", serial="N1"))
    assert [True, True, True] == marked(*ports, elsewhere)


def test_functions_of_one_card_are_rid_of_their_marks_together(book: Book) -> None:
    """They share a number with one another for good, and that keeps none of them marked."""
    ports = [see(book, document(DeviceKind.NIC, f"0000:04:00.{number}", serial="N1")) for number in (0, 1)]
    elsewhere = see(book, document(DeviceKind.NIC, "0000:05:00.0", serial="N1"), "n2")
    assert [True, True, True] == marked(*ports, elsewhere)
    book.write([NodeReached("n2", live=False), NodeRetired("n2")])
    for port in ports:
        book.write(conflicts.over(book.state, port))
    assert [False, False] == marked(*ports)
    book.write(
        [NodeRetired("n2", retired=False), NodeReached("n2", live=True), *conflicts.of_nodes(book.state, ["n2"])]
    )
    assert [True, True, True] == marked(*ports, elsewhere)
    book.write(withdraw(book.state, "n2", next(iter(elsewhere.views)), "unplugged"))
    assert [False, False, False] == marked(*ports, elsewhere)


# --- every identity counts --------------------------------------------------------------------------------------------


def told(address: str = FIRST, uuid: str = "", serial: str = "", kind: DeviceKind = DeviceKind.GPU) -> Document:
    """Give the document of what states a UUID, a serial number, both or none."""
    seen = document(kind, address, serial=serial)
    return msgspec.structs.replace(seen, part=msgspec.structs.replace(seen.part, uuid=uuid))


@pytest.mark.parametrize("bare_first", [True, False])
def test_a_number_that_one_of_two_states_beside_a_stronger_identity_is_compared(
    book: Book, *, bare_first: bool
) -> None:
    """Its driver tells of one who it is, of the other, bound to vfio, only the board's number is known."""
    documents = [("n1", told(uuid="GPU-1", serial="S1")), ("n2", told(serial="S1"))]
    one, other = [see(book, seen, node) for node, seen in (reversed(documents) if bare_first else documents)]
    assert [True, True] == marked(one, other)
    book.write([Untainted(device.node, device.id, CONFLICT) for device in (one, other)])
    speaks(book, "n1", live=False)
    speaks(book, "n1", live=True)
    assert [True, True] == marked(one, other)
    assert [] == conflicts.over(book.state, one)
    book.write(withdraw(book.state, "n1", next(iter(one.views if one.node == "n1" else other.views)), "unplugged"))
    assert [False, False] == marked(one, other)


def test_parts_of_nodes_that_speak_again_at_once_are_compared_with_one_another(book: Book) -> None:
    for node in ("n1", "n2"):
        speaks(book, node, live=False)
    one, other = see(book, gpu()), see(book, gpu(), "n2")
    twin = see(book, gpu(SECOND))
    book.write([Untainted(device.node, device.id, CONFLICT) for device in (one, other, twin)])
    both = ["n1", "n2"]
    book.write([*(NodeReached(node, live=True) for node in both), *conflicts.of_nodes(book.state, both)])
    assert [True, True, True] == marked(one, other, twin)


def test_parts_of_nodes_that_show_their_checkpoints_are_compared(book: Book) -> None:
    """Until then nothing is known of them, and nothing contradicts them."""
    book.decide(restoring.begin_generation(book.state, 10**18, "restored"))
    one, other = see(book, gpu()), see(book, gpu(), "n2")
    for node in ("n1", "n2"):
        book.decide(restoring.show(book.state, [node], Checkpoint(0, 0, [])))
    assert [True, True] == marked(one, other)


def test_boards_of_two_share_a_number_and_are_two(book: Book) -> None:
    one, other = see(book, told(uuid="GPU-1", serial="S1")), see(book, told(SECOND, uuid="GPU-2", serial="S1"))
    assert [False, False] == marked(one, other)
    stranger = see(book, told(serial="S1"), "n2")
    assert [True, True, True] == marked(one, other, stranger)
    book.write(withdraw(book.state, "n2", next(iter(stranger.views)), "unplugged"))
    assert [False, False, False] == marked(one, other, stranger)


def test_one_uuid_in_two_places_is_a_conflict_whatever_the_numbers(book: Book) -> None:
    assert [True, True] == marked(see(book, told(uuid="GPU-1", serial="S1")), see(book, told(uuid="GPU-1"), "n2"))


def test_another_makers_part_of_the_same_number_is_another(book: Book) -> None:
    other = told(serial="S1")
    other = msgspec.structs.replace(other, part=msgspec.structs.replace(other.part, vendor="Other"))
    assert [False, False] == marked(see(book, told(uuid="GPU-1", serial="S1")), see(book, other, "n2"))


def test_partitions_of_different_gpus_have_the_same_numbers(book: Book) -> None:
    kind = DeviceKind.GPU_PARTITION
    parts = [see(book, told(address, f"MIG-{node}-{address}", "gi1/ci0/1", kind), node) for node, address in
             (("n1", FIRST), ("n2", FIRST), ("n1", SECOND))]  # fmt: skip
    assert [False] * 3 == marked(*parts)


def test_what_a_bmc_tells_of_the_parts_of_its_machine_are_no_others(book: Book) -> None:
    """It is a subject of its own, and sees them from outside."""
    begin(book, "bmc:1")
    module = msgspec.structs.replace(told(serial="S1"), kind=DeviceKind.MEMORY_MODULE)
    assert [False, False] == marked(see(book, module), see(book, module, "bmc:1"))


def test_mark_goes_once_the_other_node_is_gone_for_good(book: Book) -> None:
    one, other = see(book, gpu()), see(book, gpu(), "n2")
    assert [] == conflicts.over(book.state, other)
    book.write([NodeReached("n1", live=False), NodeRetired("n1")])
    book.write(conflicts.over(book.state, other))
    assert [True, False] == marked(one, other)


def test_mark_stays_while_a_claim_may_have_the_part_on_a_node_that_is_gone(book: Book) -> None:
    one = see(book, gpu())
    hold(book, one)
    other = see(book, gpu(), "n2")
    book.write([NodeReached("n1", live=False), NodeRetired("n1")])
    assert [] == conflicts.over(book.state, other)
    book.decide(cleaning.fence(book.state, "n1", "op", now_ns=0, statement="scrapped"))
    book.write(conflicts.over(book.state, other))
    assert [True, False] == marked(one, other)


def test_mark_stays_while_another_collector_still_sees_the_part(book: Book) -> None:
    one, other = see(book, gpu()), see(book, gpu(), "n2")
    see(book, msgspec.structs.replace(gpu(), device="gpu:G1"), collector="nvml")
    sources = list(one.views)
    book.write(withdraw(book.state, "n1", sources[0], "its driver went"))
    assert [True, True] == marked(one, other)
    book.write(withdraw(book.state, "n1", sources[1], "unplugged"))
    assert [False, False] == marked(one, other)


def test_kind_that_the_strongest_word_tells_is_compared_whoever_spoke_last(book: Book) -> None:
    """The bus takes for a function of a port what a driver knows to be a drive: its number is a drive's."""
    drive = see(book, document(DeviceKind.NVME, FIRST, serial="D1"))
    other = see(book, document(DeviceKind.NVME, SECOND), "n2", collector="driver")
    see(book, document(DeviceKind.VF, SECOND, serial="D1"), "n2")
    assert (DeviceKind.NVME, "D1") == (other.kind, other.part.serial)
    assert [True, True] == marked(drive, other)
