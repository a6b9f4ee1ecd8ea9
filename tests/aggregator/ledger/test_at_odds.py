"""Two claims on what is not given side by side: a ledger that was lost, or a fact, may bring them together."""

from typing import Any

import msgspec
import pytest

from aggregator import reconcile
from aggregator.claim_work import claim_device
from aggregator.ledger import claims, cleaning, restoring
from aggregator.ledger.asks import Ask, Pick
from aggregator.ledger.model import Device
from aggregator.ledger.words import ClaimState, Lifecycle, Mode
from schemas.claims import Checkpoint, CheckpointClaim
from schemas.device import DeviceKind
from tests.aggregator.ledger.worlds import Book, begin, document

PF, VF, GPU = "0000:04:00.0", "0000:04:00.1", "0000:05:00.0"
OLD = 1
"""Generation of the ledger that was lost."""


class World(Book):
    """A port with a function, and a GPU in the port's IOMMU group; the ledger that gave of them is lost."""

    def __init__(self) -> None:
        super().__init__()
        begin(self)
        self.decide(restoring.begin_generation(self.state, 10**18, "lost"))
        self.pf = self.look(PF, DeviceKind.NIC, group=4)
        self.vf = self.look(VF, DeviceKind.VF, group=5, parent=f"pci:{PF}")
        self.gpu = self.look(GPU, DeviceKind.GPU, group=4)
        self.decide(restoring.show(self.state, ["n1"], Checkpoint(0, 0, [])))
        for device in (self.pf, self.vf, self.gpu):
            self.decide(cleaning.attest(self.state, device.id, "op", "new"))

    def look(self, address: str, kind: DeviceKind, *, group: int, parent: str = "") -> Device:
        found = self.see(document(kind, address, serial=f"S{address}", parent=parent, group=group))
        assert found is not None
        return found

    def give(self, device: Device, tenant: str, mode: Mode = Mode.PASSTHROUGH, *, told: bool = True) -> str:
        """Let a tenant have a device; `told`: its node was told to prepare it."""
        ask = Ask(tenant, "vm", [Pick(device.id, mode)])
        claim = str(self.decide(claims.grant(self.state, ask, f"c-{tenant}-{device.id}")))
        if told:
            self.decide(claims.provision(self.state, claim))
        return claim

    def keeps(self, device: Device, tenant: str = "t1", mode: Mode = Mode.PASSTHROUGH) -> CheckpointClaim:
        """Make what the node keeps for a claim of the ledger that was lost."""
        one = msgspec.structs.replace(claim_device(self.state, device), mode=mode.value)
        return CheckpointClaim("kept", tenant, "vm", OLD, 10**6, 60.0, [one])

    def bring_back(self, kept: CheckpointClaim) -> str:
        """Give the conflict that is told."""
        return str(self.decide(restoring.restore(self.state, "n1", kept)).conflict)

    def active(self, device: Device, tenant: str, mode: Mode = Mode.PASSTHROUGH) -> str:
        claim = self.give(device, tenant, mode)
        self.decide(claims.confirm(self.state, claim, self.state.claims[claim].epoch, [device.id]))
        return claim

    def related(self) -> list[tuple[str, str, str]]:
        """Give what is told of claims that are not beside each other: device, claim, and the other device."""
        found = list(reconcile.of_node(self.state, self.state.nodes["n1"]))
        assert all(one.about in one.seen and one.claim in one.ledger for one in found if one.kind == "claim.related")
        return sorted((one.device, one.claim, one.about) for one in found if one.kind == "claim.related")


@pytest.fixture
def world() -> World:
    return World()


def test_a_function_that_comes_back_under_a_port_of_another_is_told_and_kept(world: World) -> None:
    """Both have it in use by what their nodes were told: neither is taken for free."""
    other = world.give(world.pf, "t2")
    conflict = world.bring_back(world.keeps(world.vf))
    assert all(name in conflict for name in (other, world.pf.id, world.vf.id, "kept"))
    assert (Lifecycle.ASSIGNED, Lifecycle.PROVISIONING) == (world.vf.lifecycle, world.pf.lifecycle)


def test_a_port_that_comes_back_over_a_function_of_another_is_told(world: World) -> None:
    other = world.give(world.vf, "t2")
    assert other in world.bring_back(world.keeps(world.pf))


@pytest.mark.parametrize(
    ("tenant", "given", "kept", "is_told"),
    [
        ("t2", Mode.PASSTHROUGH, Mode.PASSTHROUGH, True),
        ("t2", Mode.PASSTHROUGH, Mode.DRIVER, True),
        ("t1", Mode.PASSTHROUGH, Mode.DRIVER, True),
        ("t1", Mode.PASSTHROUGH, Mode.PASSTHROUGH, False),
        ("t2", Mode.DRIVER, Mode.DRIVER, False),
    ],
)
def test_what_comes_back_into_a_group_that_another_holds_is_told(
    world: World, tenant: str, given: Mode, kept: Mode, is_told: bool
) -> None:
    other = world.give(world.pf, tenant, given)
    conflict = world.bring_back(world.keeps(world.gpu, mode=kept))
    assert is_told is (other in conflict) is bool(conflict)
    assert "" == world.bring_back(world.keeps(world.gpu, mode=kept)), "it is there already"


@pytest.mark.parametrize("name", ["pf", "gpu"])
def test_who_was_promised_what_is_related_to_what_comes_back_loses_it(world: World, name: str) -> None:
    device = world.pf if name == "pf" else world.gpu
    promised = world.give(device, "t2", told=False)
    assert "" == world.bring_back(world.keeps(world.vf if name == "pf" else world.pf))
    assert ClaimState.INVALID is world.state.claims[promised].state


def test_what_is_dirty_after_another_is_no_conflict(world: World) -> None:
    other = world.give(world.pf, "t2")
    world.decide(claims.release(world.state, other))
    world.decide(claims.undone(world.state, other, world.state.claims[other].epoch, [world.pf.id]))
    assert Lifecycle.DIRTY is world.pf.lifecycle
    assert "" == world.bring_back(world.keeps(world.vf))


# --- facts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tenant", "mode", "is_told"),
    [
        ("t2", Mode.PASSTHROUGH, True),
        ("t2", Mode.DRIVER, True),
        ("t1", Mode.PASSTHROUGH, False),
    ],
)
def test_two_claims_whose_devices_a_fact_puts_into_one_group_are_told(
    world: World, tenant: str, mode: Mode, is_told: bool
) -> None:
    one, other = world.active(world.vf, "t1"), world.active(world.gpu, tenant, mode)
    assert [] == world.related(), "each has a group of its own"
    world.look(GPU, DeviceKind.GPU, group=5)
    both = sorted([(world.vf.id, one, world.gpu.id), (world.gpu.id, other, world.vf.id)])
    assert (both if is_told else []) == world.related()
    world.look(GPU, DeviceKind.GPU, group=4)
    assert [] == world.related()


def test_a_whole_and_its_part_that_two_claims_hold_are_told(world: World) -> None:
    other = world.give(world.pf, "t2")
    world.bring_back(world.keeps(world.vf))
    both = sorted([(world.vf.id, "kept", world.pf.id), (world.pf.id, other, world.vf.id)])
    assert both == world.related()


def test_a_claim_that_no_node_was_told_of_is_no_divergence(world: World) -> None:
    """It is refused before one is told."""
    world.active(world.vf, "t1")
    promised = world.give(world.gpu, "t2", told=False)
    world.look(GPU, DeviceKind.GPU, group=5)
    assert [] == world.related()
    changed = world.decide(claims.provision(world.state, promised))
    assert ["relation.together"] == [one.reason for one in changed]


STRANGER = "0000:06:00.0"


def strange(world: World, *, group: int, **told: Any) -> Device:
    """See a function that no claim has in a group; `told` says who has it."""
    found = world.see(document(DeviceKind.GPU, STRANGER, serial="S6", group=group, **told))
    assert found is not None
    return found


def strangers(world: World) -> list[tuple[str, str, str, str]]:
    """Give what is told of neighbours of claims that are no claim's: device, claim, the neighbour, and what is seen."""
    found = list(reconcile.of_node(world.state, world.state.nodes["n1"]))
    return [(one.device, one.claim, one.about, one.seen) for one in found if one.kind == "claim.group"]


@pytest.mark.parametrize(
    ("told", "mode", "expected"),
    [
        ({"host_needs": ["root file system"]}, Mode.PASSTHROUGH, "is host, and the host's, which needs it: root file"),
        ({"in_use_by": ["qemu 4711"], "vfio_in_use": True}, Mode.PASSTHROUGH, "is foreign, and in use by qemu 4711"),
        ({"in_use_by": ["qemu 4711"], "vfio_in_use": True}, Mode.DRIVER, "is in a guest's hands (qemu 4711)"),
        ({"host_needs": ["root file system"]}, Mode.DRIVER, ""),
        ({}, Mode.PASSTHROUGH, ""),
    ],
)
def test_what_is_no_claims_and_comes_into_the_group_of_a_claim_is_told(
    world: World, told: dict[str, Any], mode: Mode, expected: str
) -> None:
    """With both views: nobody would have been given the one beside the other. What only waits to be cleaned is none."""
    claim = world.active(world.vf, "t1", mode)
    stranger = strange(world, group=9, **told)
    assert [] == strangers(world), "each has a group of its own"
    strange(world, group=5, **told)
    found = strangers(world)
    assert ([(world.vf.id, claim, stranger.id)] if expected else []) == [one[:3] for one in found]
    assert all(expected in one[3] and f"{stranger.id} at {STRANGER}, in its IOMMU group 5" in one[3] for one in found)
    strange(world, group=9, **told)
    assert [] == strangers(world)


def test_what_the_program_of_a_claim_has_open_beside_its_device_is_no_stranger(world: World) -> None:
    """Who opens a group has all of it that is off the host's drivers."""
    world.active(world.vf, "t1")
    stranger = strange(world, group=5, in_use_by=["qemu 7"], vfio_in_use=True)
    assert Lifecycle.FOREIGN is stranger.lifecycle
    assert 1 == len(strangers(world))
    serial = f"S{VF}"
    told: dict[str, Any] = {"in_use_by": ["qemu 7"], "vfio_in_use": True}
    world.see(document(DeviceKind.VF, VF, serial=serial, parent=f"pci:{PF}", group=5, **told))
    assert [] == strangers(world)


def test_no_node_was_told_of_a_promise_that_a_stranger_joins(world: World) -> None:
    world.give(world.vf, "t1", told=False)
    strange(world, group=5, host_needs=["root file system"])
    assert [] == strangers(world)
