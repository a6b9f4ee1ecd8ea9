"""What a BMC tells of its machine's parts: it adds to what the machine describes, and makes and keeps nothing alive."""

from pathlib import Path

import msgspec
import pytest

from aggregator.ledger.words import Lifecycle, Reach
from schemas.device import DeviceKind, Document, Part, Slot, Value
from tests.aggregator.test_inventory import Node, bmc, rig
from tests.aggregator.test_inventory import gpu as bare_gpu


class Speaker(Node):
    """A publisher with several collectors."""

    def bmc_says(self, document: Document, subject: str = "") -> bytes:
        """Let the collector of BMCs tell of a device."""
        self.collector = "redfish"
        try:
            return self.document(document, subject)
        finally:
            self.collector = "nvml"

    def bmc_lets_go(self, document: Document, subject: str = "") -> bytes:
        """Let it tell of a device no more."""
        self.collector = "redfish"
        try:
            return self.gone(document.device, subject)
        finally:
            self.collector = "nvml"


def gpu(number: int) -> Document:
    """Make what the machine itself tells of a GPU."""
    told = bare_gpu(number)
    return msgspec.structs.replace(told, merge_keys=[f"serial:{told.part.serial}", *told.merge_keys])


def seen_by_bmc(number: int, **more: Value) -> Document:
    """Make what a BMC tells of the GPU of that number."""
    told: dict[str, Value] = {"health": "ok", "iommu_group": 99, "vfio_in_use": True, "driver": "x", **more}
    return Document(
        f"gpu:1/GPU{number}", DeviceKind.GPU, [f"serial:S{number}", f"pci:0000:0{number}:00.0"], "bmc:1",
        Slot(location=f"SXM{number}", path="elsewhere", address="0000:7f:00.0"),
        Part(vendor="Somebody", part_number="900-1", serial=f"S{number}", firmware="96.00"), told,
    )  # fmt: skip


def fan() -> Document:
    return Document("fan:1/Box/Fan1", DeviceKind.FAN, [], "bmc:1", Slot(location="Fan 1"))


async def test_polled_bmc_adds_to_the_parts_of_its_machine_where_they_sit_and_how_they_are(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        node, poller = Speaker("n1"), Speaker("poller", "p1")
        await one.run_of("poller", "p1", 150)
        await one.say(node.document(gpu(1)))
        state = one.ledger.peek()
        [before] = [(d.id, d.kind, d.group, d.lifecycle, d.slot.address, d.part.vendor) for d in state.devices_of("n1")]
        await one.say(poller.bmc_says(bmc("n1"), subject="bmc:1"), poller.bmc_says(seen_by_bmc(1), subject="bmc:1"))
        first, board = one.ledger.peek().devices_of("n1")
        assert before == (first.id, first.kind, first.group, first.lifecycle, first.slot.address, first.part.vendor)
        assert ("SXM1", "ok", "900-1", "96.00") == (
            first.slot.location, first.get("health"), first.part.part_number, first.part.firmware
        )  # fmt: skip
        assert ({}, None) == (first.taints, first.get("vfio_in_use"))
        assert DeviceKind.BMC is board.kind


@pytest.mark.parametrize("subject", ["", "bmc:1"])
async def test_bmc_makes_no_device_that_somebody_could_be_given(tmp_path: Path, subject: str) -> None:
    """Not for the node that it is of, nor for itself: what the machine does not see cannot be used there."""
    async with rig(tmp_path) as one:
        speaker = Speaker("poller", "p1") if subject else Speaker("n1")
        await one.run_of("poller", "p1", 150)
        await one.say(speaker.bmc_says(bmc("n9"), subject), speaker.bmc_says(seen_by_bmc(1), subject),
                      speaker.bmc_says(fan(), subject))  # fmt: skip
        found = one.ledger.peek().devices_of(subject or "n1")
        assert {(DeviceKind.BMC, Lifecycle.HOST), (DeviceKind.FAN, Lifecycle.HOST)} == {
            (device.kind, device.lifecycle) for device in found
        }


async def test_what_only_its_bmc_still_sees_is_absent(tmp_path: Path) -> None:
    """A card that fell off the bus stays in its BMC's inventory for hours."""
    async with rig(tmp_path) as one:
        node = Speaker("n1")
        await one.say(node.document(gpu(1)), node.bmc_says(seen_by_bmc(1)))
        [device] = one.ledger.peek().devices_of("n1")
        assert (2, Reach.LIVE) == (len(device.views), device.reach)
        await one.say(node.gone("gpu:1"))
        assert Reach.ABSENT is device.reach
        await one.say(node.bmc_says(seen_by_bmc(1, health="critical")))
        assert Reach.ABSENT is one.ledger.peek().devices[device.id].reach
        await one.say(node.document(gpu(1)))
        assert Reach.LIVE is one.ledger.peek().devices[device.id].reach


async def test_bmc_that_goes_takes_along_what_it_added(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        node, poller = Speaker("n1"), Speaker("poller", "p1")
        await one.run_of("poller", "p1", 150)
        await one.say(node.document(gpu(1)), poller.bmc_says(bmc("n1"), subject="bmc:1"),
                      poller.bmc_says(seen_by_bmc(1), subject="bmc:1"))  # fmt: skip
        await one.say(poller.bmc_lets_go(seen_by_bmc(1), subject="bmc:1"))
        first, _ = one.ledger.peek().devices_of("n1")
        assert (Reach.LIVE, None, 1) == (first.reach, first.get("health"), len(first.views))


async def test_bmc_of_another_machine_now_leaves_nothing_at_the_one_before(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        node, other, poller = Node("n1"), Node("n2"), Speaker("poller", "p1")
        await one.run_of("poller", "p1", 150)
        await one.run_of("n2", "e1", 150)
        await one.say(node.document(gpu(1)), other.document(gpu(2)), poller.bmc_says(bmc("n1"), subject="bmc:1"),
                      poller.bmc_says(seen_by_bmc(1), subject="bmc:1"))  # fmt: skip
        await one.say(poller.bmc_says(bmc("n2"), subject="bmc:1"))
        first = next(device for device in one.ledger.peek().devices_of("n1") if device.kind is DeviceKind.GPU)
        assert (None, 1) == (first.get("health"), len(first.views))


async def test_what_came_before_its_device_is_asked_for_again(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        node = Speaker("n1")
        await one.say(node.bmc_says(bmc("n1")), node.bmc_says(seen_by_bmc(1)))
        assert [] == one.asked
        await one.say(node.document(gpu(1)))
        one.inventory._waiting.ask()
        assert [] == one.asked, "a node describes many devices in a row"
        one.now += 6.0
        one.inventory._waiting.ask()
        assert ["n1"] == one.asked
        await one.say(node.bmc_says(seen_by_bmc(1)))
        [device] = [one for one in one.ledger.peek().devices_of("n1") if one.kind is DeviceKind.GPU]
        assert "SXM1" == device.slot.location


def test_documents_of_these_tests_are_documents() -> None:
    for one in (seen_by_bmc(1), fan()):
        assert one == msgspec.convert(msgspec.to_builtins(one), Document)
