"""Which device a document speaks of: a device is a part in a slot, whoever sees it, and whatever it says of itself."""

import msgspec
import pytest

from aggregator.ledger import claims, cleaning
from aggregator.ledger.asks import Ask, Pick, objections
from aggregator.ledger.entries import NodeRun, Passed
from aggregator.ledger.evidence import EvidenceError
from aggregator.ledger.facts import withdraw
from aggregator.ledger.model import Device, view_source
from aggregator.ledger.words import CONFLICT, ClaimState, Lifecycle, Reach
from collectors.simulated import default_fleet
from schemas.device import DeviceKind, Document, Part, Slot, Value
from tests.aggregator.ledger.worlds import Book, begin, document, readback

ADDRESS = "0000:01:00.0"


@pytest.fixture
def book() -> Book:
    made = Book()
    begin(made)
    begin(made, "n2")
    return made


def see(book: Book, seen: Document, node: str = "n1", collector: str = "pci") -> Device:
    device = book.see(seen, node, collector=collector)
    assert device is not None
    return device


def gone(book: Book, device: Device) -> None:
    book.write(withdraw(book.state, device.node, next(iter(device.views)), "unplugged"))


def test_two_collectors_that_name_one_address_see_one_device(book: Book) -> None:
    by_bus = see(book, document(DeviceKind.PCI_FUNCTION, ADDRESS, group=1))
    told = document(DeviceKind.GPU, ADDRESS, serial="G1", model="V100", memory_bytes=1 << 34)
    by_driver = see(book, msgspec.structs.replace(told, device="gpu:G1"), collector="nvml")
    assert by_bus is by_driver
    assert (DeviceKind.GPU, "G1", 1, 1 << 34) == (
        by_bus.kind,
        by_bus.part.serial,
        by_bus.group,
        by_bus.get("memory_bytes"),
    )


def test_a_bmc_fills_what_the_nodes_own_collectors_leave_open(book: Book) -> None:
    by_node = document(DeviceKind.GPU, ADDRESS, serial="G1", model="NVIDIA H100 80GB HBM3")
    device = see(book, msgspec.structs.replace(by_node, device="gpu:G1"), collector="nvml")
    part = Part(vendor="NVIDIA Corporation", model="H100", part_number="2330-885-A1", serial="G1", firmware="96.00")
    told: dict[str, Value] = {"pci_device_id": "1db4", "health": "ok", "memory_bytes": 1}
    by_bmc = Document("gpu:b1/GPU1", DeviceKind.GPU, ["serial:G1"], "node", Slot(location="SXM1"), part, told)
    assert device is see(book, by_bmc, collector="redfish")
    see(book, msgspec.structs.replace(by_node, device="gpu:G1", capabilities={"memory_bytes": 2}), collector="nvml")
    assert ("Acme", "NVIDIA H100 80GB HBM3", "2330-885-A1", "96.00") == (
        device.part.vendor, device.part.model, device.part.part_number, device.part.firmware
    )  # fmt: skip
    assert ("SXM1", ADDRESS) == (device.slot.location, device.slot.address)
    assert (2, "ok") == (device.get("memory_bytes"), device.get("health"))


def test_another_serial_in_a_slot_is_another_device_and_the_old_one_is_absent(book: Book) -> None:
    old = see(book, document(DeviceKind.GPU, ADDRESS, serial="G1"))
    new = see(book, document(DeviceKind.GPU, ADDRESS, serial="G2"))
    assert old is not new
    assert (Reach.ABSENT, "G1", "G2") == (old.reach, old.part.serial, new.part.serial)
    [stay] = book.state.sights[old.id]
    assert stay.until is not None


def test_a_part_that_moves_to_another_slot_stays_the_device_that_it_is(book: Book) -> None:
    first = see(book, document(DeviceKind.GPU, ADDRESS, serial="G1"))
    gone(book, first)
    moved = see(book, document(DeviceKind.GPU, "0000:09:00.0", serial="G1"))
    assert (first, "0000:09:00.0", Reach.LIVE) == (moved, moved.slot.address, moved.reach)
    assert ["path/0000:01:00.0", "path/0000:09:00.0"] == [stay.path for stay in book.state.sights[first.id]]


def test_a_device_that_says_no_serial_any_more_keeps_its_identity_within_the_boot(book: Book) -> None:
    """Bound to vfio, it tells nothing of itself (R002-5)."""
    known = see(book, document(DeviceKind.GPU, ADDRESS, serial="G1"))
    bound = see(book, document(DeviceKind.GPU, ADDRESS, driver="vfio-pci"))
    assert (known, "G1", Reach.LIVE) == (bound, bound.part.serial, bound.reach)


def test_after_a_boot_it_is_unverified_until_it_says_who_it_is(book: Book) -> None:
    known = see(book, document(DeviceKind.GPU, ADDRESS, serial="G1"))
    book.write([NodeRun("n1", "n1", "epoch-2", "b2", unverified=True)])
    silent = see(book, document(DeviceKind.GPU, ADDRESS, driver="vfio-pci"))
    assert (known, Reach.UNVERIFIED) == (silent, silent.reach)
    told = see(book, document(DeviceKind.GPU, ADDRESS, serial="G1"))
    assert (known, Reach.LIVE) == (told, told.reach)


def test_what_comes_back_without_saying_who_it_is_may_be_another(book: Book) -> None:
    """Unplugged, and a card that tells no serial in its slot: nobody gets it for the one that was clean."""
    known = see(book, document(DeviceKind.GPU, ADDRESS, serial="G1"))
    book.decide(cleaning.attest(book.state, known.id, "op", "new"))
    gone(book, known)
    for _ in range(2):
        silent = see(book, document(DeviceKind.GPU, ADDRESS, driver="vfio-pci"))
        assert (known, Reach.UNVERIFIED) == (silent, silent.reach)
    ask = Ask("t1", "vm", [Pick(known.id)])
    assert ["reach.unverified"] == [one.reason for one in objections(book.state, ask)]
    told = see(book, document(DeviceKind.GPU, ADDRESS, serial="G1"))
    assert (known, Reach.LIVE, []) == (told, told.reach, list(objections(book.state, ask)))


def test_what_says_nothing_of_itself_and_was_away_is_not_known_to_be_clean(book: Book) -> None:
    """A card of the same model may be in its slot by now. A boot, or the same document again, takes nothing from it."""
    known = see(book, document(DeviceKind.GPU, ADDRESS, model="V100"))
    book.decide(cleaning.attest(book.state, known.id, "op", "new"))
    book.write([NodeRun("n1", "n1", "epoch-2", "b2", unverified=True)])
    for _ in range(2):
        assert known is see(book, document(DeviceKind.GPU, ADDRESS, model="V100"))
        assert (Lifecycle.FREE, Reach.LIVE) == (known.lifecycle, known.reach)
    gone(book, known)
    assert known is see(book, document(DeviceKind.GPU, ADDRESS, model="V100"))
    assert (Lifecycle.DIRTY, Reach.LIVE) == (known.lifecycle, known.reach)
    assert isinstance(last := book.written[-1].entry, Passed)
    assert ("doubted", "it was away, and does not say who it is") == (last.cause, last.why)


@pytest.mark.parametrize("answered", ["while it is away", "when it is back"])
def test_the_evidence_of_a_part_that_was_swapped_while_it_was_cleaned_frees_no_other(book: Book, answered: str) -> None:
    """Another of its model is in the slot: neither says who it is, and the evidence names both."""
    known = see(book, document(DeviceKind.GPU, ADDRESS, model="V100"))
    book.decide(cleaning.begin_clean(book.state, known.id))
    evidence = readback(known)
    gone(book, known)
    if answered == "while it is away":
        book.decide(cleaning.end_clean(book.state, known.id, evidence, "n1"))
    assert known is see(book, document(DeviceKind.GPU, ADDRESS, model="V100"))
    if answered == "when it is back":
        with pytest.raises(EvidenceError):
            cleaning.end_clean(book.state, known.id, evidence, "n1")
    expected = Lifecycle.DIRTY if answered == "while it is away" else Lifecycle.QUARANTINED
    assert (expected, Reach.LIVE) == (known.lifecycle, known.reach)
    book.decide(cleaning.begin_clean(book.state, known.id))
    book.decide(cleaning.end_clean(book.state, known.id, readback(known), "n1"))
    assert Lifecycle.FREE is known.lifecycle


def test_a_name_space_whose_drive_is_replaced_while_it_is_cleaned_is_another(book: Book) -> None:
    drive = see(book, document(DeviceKind.NVME, ADDRESS, serial="S1"))
    told = Document("ns:1", DeviceKind.NVME_NAMESPACE, [], f"pci:{ADDRESS}", part=Part(model="ns"))
    space = see(book, told)
    assert drive.id == space.parent
    book.decide(cleaning.begin_clean(book.state, space.id))
    evidence = readback(space, sanitize_status="", formatted=[1], namespaces=[1])
    see(book, document(DeviceKind.NVME, ADDRESS, serial="S2"))
    with pytest.raises(EvidenceError):
        cleaning.end_clean(book.state, space.id, evidence, "n1")
    assert Lifecycle.QUARANTINED is space.lifecycle


def test_what_a_claim_has_stays_its_when_it_was_away_and_says_nothing_of_itself(book: Book) -> None:
    known = see(book, document(DeviceKind.GPU, ADDRESS, model="V100"))
    book.decide(cleaning.attest(book.state, known.id, "op", "new"))
    book.decide(claims.grant(book.state, Ask("t1", "vm", [Pick(known.id)]), "c1"))
    book.decide(claims.provision(book.state, "c1"))
    gone(book, known)
    assert known is see(book, document(DeviceKind.GPU, ADDRESS, model="V100"))
    assert (Lifecycle.PROVISIONING, True) == (known.lifecycle, claims.claimed(book.state, known, "c1"))


def test_what_is_named_by_its_mac_or_its_port_comes_back_as_it_was(book: Book) -> None:
    """A driver that is loaded again makes the functions anew: of one port they are the same."""
    told = document(DeviceKind.NIC, ADDRESS)
    port = msgspec.structs.replace(told, merge_keys=["mac:02:00:00:00:00:01", *told.merge_keys])
    function = document(DeviceKind.VF, "0000:01:00.1", parent=f"pci:{ADDRESS}")
    both = [see(book, one) for one in (port, function)]
    for device in both:
        book.decide(cleaning.attest(book.state, device.id, "op", "new"))
    for away in ([both[1]], both):
        for device in away:
            gone(book, device)
        assert both == [see(book, one) for one in (port, function)]
        assert {Lifecycle.FREE} == {device.lifecycle for device in both}
    gone(book, both[1])
    gone(book, both[0])
    see(book, function)  # of which port, nobody knows yet
    assert Lifecycle.DIRTY is both[1].lifecycle


def test_card_in_the_slot_of_a_drive_that_was_pulled_is_no_drive(book: Book) -> None:
    """Whoever tells of it first need not know its vendor: that it is of another kind is enough."""
    drive = see(book, document(DeviceKind.NVME, ADDRESS, serial="S1"))
    gone(book, drive)
    slot = Slot(path=f"path/{ADDRESS}", address=ADDRESS)
    told = Document("nic:02:11", DeviceKind.NIC, ["mac:02:11", f"pci:{ADDRESS}"], "", slot, Part())
    card = see(book, told, collector="sriov")
    assert (DeviceKind.NIC, "", Reach.LIVE) == (card.kind, card.part.serial, card.reach)
    assert card is see(book, document(DeviceKind.NIC, ADDRESS))
    assert (DeviceKind.NVME, Reach.ABSENT) == (drive.kind, drive.reach)
    assert drive is see(book, document(DeviceKind.NVME, "0000:09:00.0", serial="S1"))


def test_one_identity_in_two_live_places_marks_both_with_both_views(book: Book) -> None:
    one = see(book, document(DeviceKind.GPU, ADDRESS, serial="G1"))
    other = see(book, document(DeviceKind.GPU, ADDRESS, serial="G1"), "n2")
    assert one is not other
    for device in (one, other):
        evidence = device.taints[CONFLICT].evidence
        assert one.id in evidence
        assert other.id in evidence
    gone(book, other)
    assert {} == one.taints


def test_two_documents_of_one_collector_are_two_devices_even_in_one_path(book: Book) -> None:
    first = document(DeviceKind.GPU, ADDRESS)
    second = msgspec.structs.replace(document(DeviceKind.GPU, "0000:02:00.0"), slot=first.slot)
    assert see(book, first) is not see(book, second)


@pytest.mark.parametrize("part_first", [False, True])
def test_a_part_finds_what_it_is_a_part_of_in_whatever_order_they_are_seen(book: Book, part_first: bool) -> None:
    whole = document(DeviceKind.NIC, ADDRESS, serial="N1")
    part = document(DeviceKind.VF, "0000:01:00.1", parent=f"pci:{ADDRESS}")
    for one in (part, whole) if part_first else (whole, part):
        see(book, one)
    found = {device.kind: device for device in book.state.devices.values()}
    assert found[DeviceKind.NIC].id == found[DeviceKind.VF].parent


def test_a_part_finds_what_was_known_before_by_another_collectors_word_alone(book: Book) -> None:
    """The bus tells of the drive, then its own collector of a name space, and of the drive last."""
    drive = see(book, document(DeviceKind.NVME, ADDRESS, serial="S1"))
    space = Document("nvme:S1/1", DeviceKind.NVME_NAMESPACE, ["nvme:S1/1"], "nvme:S1", part=Part(vendor="Acme"))
    part = see(book, space, collector="nvme")
    assert "" == part.parent
    see(
        book,
        msgspec.structs.replace(document(DeviceKind.NVME, ADDRESS, serial="S1"), device="nvme:S1"),
        collector="nvme",
    )
    assert drive.id == part.parent


def test_functions_of_a_port_that_was_replaced_are_the_new_ones_at_once(book: Book) -> None:
    """Nobody gets the new port whole while a claim has a function of it, whether or not that is described anew."""
    old = see(book, document(DeviceKind.NIC, ADDRESS, serial="N1"))
    functions = [see(book, document(DeviceKind.VF, f"0000:01:00.{at}", parent=f"pci:{ADDRESS}")) for at in range(1, 5)]
    for device in functions:
        book.decide(cleaning.attest(book.state, device.id, "op", "new"))
    claimed, promised, _, away = functions
    for device, claim in ((claimed, "c1"), (promised, "c2")):
        book.decide(claims.grant(book.state, Ask("t1", "vm", [Pick(device.id)]), claim))
    book.decide(claims.provision(book.state, "c1"))
    gone(book, away)
    new = see(book, document(DeviceKind.NIC, ADDRESS, serial="N2"))
    assert [new.id] * 3 + [old.id] == [device.parent for device in functions]
    lifecycles = [Lifecycle.PROVISIONING, Lifecycle.DIRTY, Lifecycle.DIRTY, Lifecycle.FREE]
    assert lifecycles == [device.lifecycle for device in functions]
    assert ClaimState.INVALID is book.state.claims["c2"].state
    book.decide(cleaning.attest(book.state, new.id, "op", "new"))
    reasons = [one.reason for one in objections(book.state, Ask("t2", "vm", [Pick(new.id)]))]
    assert ["relation.excludes"] == reasons


def test_the_same_document_again_changes_nothing(book: Book) -> None:
    see(book, document(DeviceKind.GPU, ADDRESS, serial="G1"))
    before = book.state.digest()
    see(book, document(DeviceKind.GPU, ADDRESS, serial="G1"))
    assert before == book.state.digest()


def test_a_source_that_never_described_anything_withdraws_nothing(book: Book) -> None:
    assert [] == withdraw(book.state, "n1", view_source("n1", "pci", "pci:0000:0f:00.0"), "unplugged")


def test_a_node_that_is_a_dpu_is_linked_with_its_device_and_says_its_making(book: Book) -> None:
    """R001-17: by vendor and part number a service is kept where it can run; the link leads to the host's device."""
    host, dpu = default_fleet(1, node_type="dpu-host").nodes
    for node in (host, dpu):
        for one in node.documents():
            book.see(one, node.id, collector="simulated")
    (device,) = (one for one in book.state.devices.values() if one.kind is DeviceKind.DPU)
    labels = book.state.nodes[dpu.id].labels
    assert (device.node, device.get("dpu_node")) == (labels["host_node"], dpu.id)
    assert view_source(host.id, "simulated", labels["host_device"]) in device.views
    assert "host_node" not in book.state.nodes[host.id].labels
    assert (labels["vendor"], labels["part_number"]) == ("Simulated", device.part.part_number)


def test_part_that_comes_back_elsewhere_leaves_its_old_slot_to_who_is_there_now() -> None:
    """A card is swapped and comes back in another slot: pulling its successor is noticed, of the right card."""
    book = Book()
    begin(book)
    first = book.see(document(DeviceKind.GPU, "0000:01:00.0", serial="A"))
    second = book.see(document(DeviceKind.GPU, "0000:01:00.0", serial="B"))
    assert first is not None
    assert second is not None
    assert book.see(document(DeviceKind.GPU, "0000:02:00.0", serial="A")) is first
    assert ["n1\npci\npci:0000:02:00.0"] == list(first.views)
    book.write(withdraw(book.state, "n1", "n1\npci\npci:0000:01:00.0", "unplugged"))
    assert (Reach.LIVE, Reach.ABSENT) == (first.reach, second.reach)
