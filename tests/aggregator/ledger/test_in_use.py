"""What somebody else has, what the host lives on, and what is being cleaned, is given to nobody: not in part either."""

from typing import Any

import pytest

from aggregator.ledger import claims, cleaning, in_use, uses
from aggregator.ledger.asks import Ask, NotGrantedError, Pick, objections
from aggregator.ledger.facts import withdraw
from aggregator.ledger.model import Device
from aggregator.ledger.outside import Use
from aggregator.ledger.words import ClaimState, Lifecycle, Mode
from aggregator.placement.layout import bits
from aggregator.placement.summary import Layouts, summarise
from schemas.device import DeviceKind
from tests.aggregator.ledger.worlds import Book, begin, document, readback

GPU, OTHER, DRIVE = "0000:01:00.0", "0000:02:00.0", "0000:05:00.0"
USES = [{"in_use_by": ["qemu/7"]}, {"vfio_in_use": True}, {"host_needs": ["mount:/data"]}]


@pytest.fixture
def book() -> Book:
    made = Book()
    begin(made)
    return made


def see(book: Book, kind: DeviceKind, address: str, parent: str = "", **more: Any) -> Device:
    more.setdefault("group", int(address[5:7]))
    serial = "" if kind is DeviceKind.VF else f"S{address}"
    device = book.see(document(kind, address, serial=serial, parent=parent, **more))
    assert device is not None
    return device


def free(book: Book, *devices: Device) -> None:
    for device in devices:
        book.decide(cleaning.attest(book.state, device.id, "op", "new"))


def grant(book: Book, *devices: Device, claim: str = "c1", mode: Mode = Mode.PASSTHROUGH) -> None:
    book.decide(claims.grant(book.state, Ask("t1", "vm", [Pick(device.id, mode) for device in devices]), claim))


def through(book: Book, device: Device) -> None:
    """Let a claim have a device, and give it back."""
    book.decide(claims.provision(book.state, "c1"))
    epoch = book.state.claims["c1"].epoch
    book.decide(claims.confirm(book.state, "c1", epoch, [device.id]))


def back(book: Book, device: Device) -> None:
    book.decide(claims.release(book.state, "c1"))
    book.decide(claims.undone(book.state, "c1", book.state.claims["c1"].epoch, [device.id]))
    book.decide(cleaning.begin_clean(book.state, device.id))
    book.decide(cleaning.end_clean(book.state, device.id, readback(device), "n1"))


def refused(book: Book, device: Device, mode: Mode = Mode.PASSTHROUGH) -> list[str]:
    """Give why a tenant cannot have a device, and make sure that placement sees it so too."""
    found = [one.reason for one in objections(book.state, Ask("t2", "vm", [Pick(device.id, mode)]))]
    summary = summarise(book.state, "n1", Layouts())
    masks = summary.masks.passthrough if mode is Mode.PASSTHROUGH else summary.masks.driver
    assert (device.id in [summary.devices[at].id for at in bits(masks)]) is not bool(found)
    return found


@pytest.mark.parametrize("told", USES)
def test_promise_is_taken_back_when_somebody_has_the_device(book: Book, told: dict[str, Any]) -> None:
    first, second = see(book, DeviceKind.GPU, GPU), see(book, DeviceKind.GPU, OTHER)
    free(book, first, second)
    grant(book, first, second)
    see(book, DeviceKind.GPU, GPU, **told)
    assert (ClaimState.INVALID, Lifecycle.FREE) == (book.state.claims["c1"].state, second.lifecycle)
    assert first.lifecycle in (Lifecycle.FOREIGN, Lifecycle.HOST)
    book.decide(claims.release(book.state, "c1"))
    assert refused(book, first)


def test_record_takes_back_the_promises_of_all_that_it_names_at_once(book: Book) -> None:
    devices = [see(book, DeviceKind.GPU, address) for address in (GPU, OTHER)]
    free(book, *devices)
    grant(book, *devices)
    book.decide(uses.take(book.state, "nova", "nova", [Use("n1", at, "web") for at in (GPU, OTHER)], 1, "op"))
    assert [Lifecycle.FOREIGN] * 2 == [device.lifecycle for device in devices]
    assert ClaimState.INVALID is book.state.claims["c1"].state


def test_use_of_a_whole_takes_back_what_was_promised_of_its_parts(book: Book) -> None:
    port = see(book, DeviceKind.NIC, "0000:04:00.0")
    function = see(book, DeviceKind.VF, "0000:04:00.1", f"pci:{port.slot.address}", group=40)
    free(book, function)
    grant(book, function)
    see(book, DeviceKind.NIC, "0000:04:00.0", in_use_by=["dpdk/9"])
    assert (ClaimState.INVALID, Lifecycle.DIRTY) == (book.state.claims["c1"].state, function.lifecycle)


@pytest.mark.parametrize("told", USES)
def test_use_that_came_while_a_claim_had_the_device_counts_after_it(book: Book, told: dict[str, Any]) -> None:
    device = see(book, DeviceKind.GPU, GPU)
    free(book, device)
    grant(book, device)
    through(book, device)
    see(book, DeviceKind.GPU, GPU, **told)
    back(book, device)
    assert Lifecycle.FREE is device.lifecycle
    assert ["device.in_use"] == refused(book, device)
    assert [] == uses.overdue(book.state, device), "its collector may not have looked since"
    book.write(uses.overdue(book.state, device, seen=True))
    assert device.lifecycle in (Lifecycle.FOREIGN, Lifecycle.HOST)


def test_provision_looks_again_at_what_is_beside(book: Book) -> None:
    """A neighbour that comes into a group after the grant, and is in use, keeps the claim from its devices."""
    device = see(book, DeviceKind.GPU, GPU)
    free(book, device)
    grant(book, device)
    see(book, DeviceKind.GPU, OTHER, group=1, host_needs=["swap"])
    [changed] = book.decide(claims.provision(book.state, "c1"))
    assert ("relation.together", ClaimState.INVALID) == (changed.reason, book.state.claims["c1"].state)


def test_use_of_a_gpu_by_who_has_its_partitions_leaves_the_rest_to_be_given(book: Book) -> None:
    gpu = see(book, DeviceKind.GPU, GPU, mig_placements=["1g:{0,1,2,3}:1"])
    free(book, gpu)
    pick = Pick(gpu.id, Mode.DRIVER, profile="1g@0:1")
    book.decide(claims.grant(book.state, Ask("t1", "vm", [pick]), "c1"))
    book.decide(claims.provision(book.state, "c1"))
    see(book, DeviceKind.GPU, GPU, mig_placements=["1g:{0,1,2,3}:1"], in_use_by=["train/8"])
    assert "" == in_use.busy(book.state, gpu)
    more = Pick(gpu.id, Mode.DRIVER, profile="1g@1:1")
    assert [] == list(objections(book.state, Ask("t2", "vm", [more])))


@pytest.mark.parametrize("mode", Mode)
def test_parts_of_what_is_being_cleaned_are_given_to_nobody(book: Book, mode: Mode) -> None:
    drive = see(book, DeviceKind.NVME, DRIVE)
    part = see(book, DeviceKind.NVME_NAMESPACE, "0000:05:00.1", f"pci:{DRIVE}", group=None)
    assert drive.id == part.parent
    free(book, part)
    assert [] == refused(book, part, mode) or mode is Mode.PASSTHROUGH
    book.decide(cleaning.begin_clean(book.state, drive.id))
    assert "relation.excludes" in refused(book, part, mode)
    book.decide(cleaning.end_clean(book.state, drive.id, readback(drive), "n1"))
    book.decide(cleaning.begin_clean(book.state, _dirty(book, part).id))
    assert "relation.excludes" in refused(book, drive, mode)


def _dirty(book: Book, device: Device) -> Device:
    see(book, device.kind, device.slot.address, f"pci:{DRIVE}", group=None, in_use_by=["x"])
    see(book, device.kind, device.slot.address, f"pci:{DRIVE}", group=None)
    return device


@pytest.mark.parametrize("told", USES)
def test_retired_device_that_is_in_use_still_keeps_its_group(book: Book, told: dict[str, Any]) -> None:
    used, mine = see(book, DeviceKind.GPU, GPU, group=1, **told), see(book, DeviceKind.GPU, OTHER, group=1)
    free(book, mine)
    book.decide(cleaning.retire(book.state, [used.id], "op", "old"))
    assert ["relation.together"] == refused(book, mine)
    see(book, DeviceKind.GPU, GPU, group=1)
    assert [] == refused(book, mine)


def test_guest_outside_muster_keeps_its_group_from_the_hosts_drivers_too(book: Book) -> None:
    """A record of nova, or an open group: a neighbour bound to a host's driver would take the group from that guest."""
    guests, mine = see(book, DeviceKind.GPU, GPU, group=1), see(book, DeviceKind.GPU, OTHER, group=1)
    free(book, mine)
    see(book, DeviceKind.GPU, GPU, group=1, in_use_by=["train/8"])
    assert [] == refused(book, mine, Mode.DRIVER), "a program of the host's shares the group with it"
    book.decide(uses.take(book.state, "nova", "nova", [Use("n1", GPU, "web")], 1, "op"))
    assert ["relation.together"] == refused(book, mine, Mode.DRIVER)
    assert Lifecycle.FOREIGN is guests.lifecycle


def space(book: Book) -> Device:
    return see(book, DeviceKind.NVME_NAMESPACE, "0000:05:00.1", f"pci:{DRIVE}", group=None)


def used(book: Book, device: Device, mode: Mode = Mode.PASSTHROUGH) -> None:
    """Let a tenant have a device, and its node confirm that it has it no more."""
    grant(book, device, mode=mode)
    through(book, device)
    book.decide(claims.release(book.state, "c1"))
    book.decide(claims.undone(book.state, "c1", book.state.claims["c1"].epoch, [device.id]))


def test_what_a_guest_outside_left_in_a_drive_is_given_with_none_of_its_name_spaces(book: Book) -> None:
    drive, part = see(book, DeviceKind.NVME, DRIVE), space(book)
    free(book, drive, part)
    see(book, DeviceKind.NVME, DRIVE, vfio_in_use=True)
    see(book, DeviceKind.NVME, DRIVE)
    assert (Lifecycle.DIRTY, Lifecycle.FREE) == (drive.lifecycle, part.lifecycle)
    assert ["relation.excludes"] == refused(book, part, Mode.DRIVER)
    free(book, drive)
    assert [] == refused(book, part, Mode.DRIVER)


@pytest.mark.parametrize("end", ["retired", "kept"])
def test_what_a_tenant_left_in_a_drive_is_given_with_none_of_its_name_spaces(book: Book, end: str) -> None:
    """Whoever takes the drive out, or lets the host have it, proves nothing; a later word on the name space does."""
    drive, part = see(book, DeviceKind.NVME, DRIVE), space(book)
    free(book, drive, part)
    used(book, drive)
    if end == "retired":
        book.decide(cleaning.retire(book.state, [drive.id], "op", "worn out"))
    else:
        see(book, DeviceKind.NVME, DRIVE, host_needs=["mount:/data"])
    assert (end == "kept", None) == (drive.lifecycle is Lifecycle.HOST, drive.hold)
    assert ["relation.excludes"] == refused(book, part, Mode.DRIVER)
    see(book, part.kind, part.slot.address, f"pci:{DRIVE}", group=None, in_use_by=["x"])
    see(book, part.kind, part.slot.address, f"pci:{DRIVE}", group=None)
    free(book, part)
    assert [] == refused(book, part, Mode.DRIVER)


def test_what_a_tenant_left_in_a_name_space_is_not_given_with_the_drive(book: Book) -> None:
    drive, part = see(book, DeviceKind.NVME, DRIVE), space(book)
    free(book, drive, part)
    used(book, part, Mode.DRIVER)
    book.decide(cleaning.retire(book.state, [part.id], "op", "too small"))
    assert ["relation.excludes"] == refused(book, drive)
    book.decide(cleaning.reinstate(book.state, [part.id], "op", "after all"))
    free(book, part)
    assert [] == refused(book, drive)


def test_port_is_given_to_nobody_while_the_host_needs_a_function_of_it(book: Book) -> None:
    """A port that the host keeps leaves its functions; who has the port takes them all."""
    port = see(book, DeviceKind.NIC, GPU)
    function = see(book, DeviceKind.VF, "0000:01:00.1", f"pci:{GPU}", host_needs=["route:default"])
    free(book, port)
    assert ["relation.excludes"] == refused(book, port)
    book.write(withdraw(book.state, "n1", "n1\npci\npci:0000:01:00.1", "no functions any more"))
    assert (Lifecycle.HOST, []) == (function.lifecycle, refused(book, port))


def test_device_that_may_be_in_use_is_not_retired(book: Book) -> None:
    """Its claim would lose it, and with it all that keeps its group and its parts from others."""
    mine, beside = see(book, DeviceKind.GPU, GPU, group=1), see(book, DeviceKind.GPU, OTHER, group=1)
    free(book, mine, beside)
    grant(book, mine)
    through(book, mine)
    book.decide(claims.release(book.state, "c1"))
    with pytest.raises(NotGrantedError, match="has not confirmed the end of claim c1"):
        cleaning.retire(book.state, [mine.id], "op", "broken")
    assert ["relation.together"] == refused(book, beside)
    book.decide(claims.undone(book.state, "c1", book.state.claims["c1"].epoch, [mine.id]))
    book.decide(cleaning.retire(book.state, [mine.id], "op", "broken"))
    assert [] == refused(book, beside)
