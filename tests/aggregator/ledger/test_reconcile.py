"""Two views that do not agree are told with both, and nothing is done about it."""

import pytest

from aggregator import reconcile
from aggregator.ledger import claims, cleaning, nodes, uses
from aggregator.ledger.asks import Ask, Pick
from aggregator.ledger.entries import Forgotten
from aggregator.ledger.facts import withdraw
from aggregator.ledger.model import Device
from aggregator.ledger.outside import Divergence, Use
from aggregator.ledger.words import Mode
from aggregator.reconcile import KINDS, Kept
from schemas.claims import Checkpoint, CheckpointClaim
from schemas.device import DeviceKind, Document
from tests.aggregator.ledger.worlds import Book, begin, document

GPU, VF = "0000:01:00.0", "0000:04:00.1"


class World(Book):
    """A node with a GPU and a virtual function, and one claim."""

    def __init__(self) -> None:
        super().__init__()
        begin(self)
        self.gpu = self.look(self.document_of(GPU, DeviceKind.GPU, "G1", driver="vfio-pci", vfio_in_use=True))
        self.vf = self.look(self.document_of(VF, DeviceKind.VF, "", mac="aa:bb", vlan=7))

    @staticmethod
    def document_of(address: str, kind: DeviceKind, serial: str, **own: object) -> Document:
        return document(kind, address, serial=serial, group=int(address[5:7], 16), **own)  # type: ignore[arg-type]

    def look(self, one: Document) -> Device:
        found = self.see(one)
        assert found is not None
        return found

    def claimed(self, device: Device, *, mode: Mode = Mode.PASSTHROUGH, to: str = "active") -> str:
        if device.lifecycle.value == "foreign":
            self.look(self.document_of(GPU, DeviceKind.GPU, "G1", driver="vfio-pci"))
        self.decide(cleaning.attest(self.state, device.id, "op", "new"))
        claim = str(self.decide(claims.grant(self.state, Ask("t1", "vm", [Pick(device.id, mode)]), "c-1")))
        if to != "reserved":
            self.decide(claims.provision(self.state, claim))
            self.decide(claims.confirm(self.state, claim, self.state.claims[claim].epoch, [device.id]))
        return claim

    def told(self, kept: Kept | None = None) -> list[Divergence]:
        found = list(reconcile.of_node(self.state, self.state.nodes["n1"], kept)) + list(
            reconcile.of_records(self.state)
        )
        assert {one.kind for one in found} <= KINDS.keys()
        assert all(one.ledger and one.seen for one in found), "each with both views"
        return found

    def kinds(self, kept: Kept | None = None) -> list[str]:
        return [one.kind for one in self.told(kept)]


@pytest.fixture
def world() -> World:
    return World()


def test_views_that_agree_are_not_told(world: World) -> None:
    assert [] == world.kinds()
    world.claimed(world.gpu)
    world.look(world.document_of(GPU, DeviceKind.GPU, "G1", driver="vfio-pci", vfio_in_use=True))
    assert [] == world.kinds()


@pytest.mark.parametrize(
    ("mode", "driver", "seen"),
    [
        (Mode.PASSTHROUGH, "nvidia", "the driver nvidia has it"),
        (Mode.PASSTHROUGH, "", "no driver has it"),
        (Mode.DRIVER, "vfio-pci", "the driver vfio-pci has it"),
    ],
)
def test_driver_that_is_not_one_for_the_mode(world: World, mode: Mode, driver: str, seen: str) -> None:
    claim = world.claimed(world.gpu, mode=mode)
    world.look(world.document_of(GPU, DeviceKind.GPU, "G1", driver=driver))
    (one,) = world.told()
    assert ("claim.driver", world.gpu.id, claim, seen) == (one.kind, one.device, one.claim, one.seen)
    assert "assigned for claim c-1 of t1" in one.ledger


def test_driver_that_nobody_tells_is_no_divergence(world: World) -> None:
    world.claimed(world.gpu)
    world.look(world.document_of(GPU, DeviceKind.GPU, "G1"))
    assert [] == world.kinds()


def test_nobody_has_open_what_was_passed_through(world: World) -> None:
    world.claimed(world.gpu)
    world.look(world.document_of(GPU, DeviceKind.GPU, "G1", driver="vfio-pci", vfio_in_use=False))
    assert ["claim.idle"] == world.kinds()


@pytest.mark.parametrize(("mac", "vlan", "seen"), [("AA:BB", 8, "vlan 8"), ("cc:dd", 7, "mac cc:dd")])
def test_function_with_another_network_than_when_it_was_granted(world: World, mac: str, vlan: int, seen: str) -> None:
    world.claimed(world.vf, mode=Mode.DRIVER)
    world.look(world.document_of(VF, DeviceKind.VF, "", mac=mac, vlan=vlan))
    assert [("claim.network", seen)] == [(one.kind, one.seen) for one in world.told()]


def test_record_that_names_what_a_claim_holds(world: World) -> None:
    world.claimed(world.gpu)
    world.decide(uses.take(world.state, "nova", "nova", [Use("n1", GPU, "web-1")], 1, "op"))
    assert [("claim.foreign", "in use by web-1 (recorded by nova)")] == [
        (one.kind, one.seen) for one in world.told() if one.kind == "claim.foreign"
    ]


def test_use_before_any_node_was_told(world: World) -> None:
    world.claimed(world.gpu, to="reserved")
    world.look(world.document_of(GPU, DeviceKind.GPU, "G1", in_use_by=["qemu/9"]))
    assert [] == world.told(), (
        "the claim is none any more, and the device is foreign: there is nothing to disagree about"
    )


def test_part_replaced_under_a_claim_is_told_with_both_parts(world: World) -> None:
    world.claimed(world.gpu)
    world.write(withdraw(world.state, "n1", f"n1\npci\npci:{GPU}", "pulled"))
    assert ["claim.absent"] == world.kinds()
    world.look(world.document_of(GPU, DeviceKind.GPU, "G2"))
    (one,) = world.told()
    assert ("claim.replaced", world.gpu.id) == (one.kind, one.device)
    assert "serial:Acme:G1" in one.ledger
    assert "serial:Acme:G2" in one.seen


def test_claim_on_a_node_that_was_let_go(world: World) -> None:
    world.claimed(world.gpu)
    world.decide(nodes.retire(world.state, "n1", "op"))
    assert "claim.orphaned" in world.kinds()


def test_record_of_what_is_not_there(world: World) -> None:
    told = [Use("n1", "0000:77:00.0", "web-1"), Use("gone", GPU, "web-2"), Use("gone", VF, "web-3")]
    world.decide(uses.take(world.state, "nova", "nova", told, 1, "op"))
    assert [
        ("record.device", "n1", "nova says that web-1 has 0000:77:00.0"),
        ("record.node", "", "nova names it with 2 devices"),
    ] == [(one.kind, one.node, one.seen) for one in world.told()]


def test_record_of_what_the_host_keeps(world: World) -> None:
    drive = world.look(document(DeviceKind.NVME, "0000:09:00.0", host_needs=["mount:/"]))
    world.decide(uses.take(world.state, "nova", "nova", [Use("n1", "0000:09:00.0", "web-1")], 1, "op"))
    assert [("record.host", drive.id)] == [(one.kind, one.device) for one in world.told()]


def kept(world: World, *claimed: CheckpointClaim) -> Kept:
    return Kept.of(world.state, Checkpoint(1, 9, list(claimed)))


def test_checkpoint_and_ledger(world: World) -> None:
    claim = world.state.claims[world.claimed(world.gpu)]
    world.look(world.document_of(GPU, DeviceKind.GPU, "G1", driver="vfio-pci", vfio_in_use=True))
    mine = CheckpointClaim(claim.id, "t1", "vm", claim.epoch.generation, claim.epoch.sequence, 60.0, [])
    other = CheckpointClaim("c-77", "t1", "vm", 1, 5, 60.0, [])
    stale = CheckpointClaim(claim.id, "t1", "vm", claim.epoch.generation, 1, 60.0, [])
    assert [] == world.kinds(kept(world, mine))
    assert ["checkpoint.unknown"] == world.kinds(kept(world, mine, other))
    assert ["checkpoint.unknown"] == world.kinds(kept(world, stale))
    assert ["checkpoint.missing"] == world.kinds(kept(world))


def test_checkpoint_cannot_know_what_ended_after_it_came(world: World) -> None:
    """A node shows it once a run; a claim that it kept then ends, and is forgotten in time."""
    claim = world.state.claims[world.claimed(world.gpu)]
    mine = CheckpointClaim(claim.id, "t1", "vm", claim.epoch.generation, claim.epoch.sequence, 60.0, [])
    before = kept(world, mine)
    world.decide(claims.release(world.state, claim.id))
    world.decide(claims.undone(world.state, claim.id, claim.epoch, [world.gpu.id]))
    assert [] == world.kinds(before)
    assert ["checkpoint.unknown"] == world.kinds(kept(world, mine))
    world.write([Forgotten([claim.id])])
    assert [] == world.kinds(before)
    assert ["checkpoint.unknown"] == world.kinds(kept(world, mine))


def test_checkpoint_cannot_know_what_was_confirmed_after_it_came(world: World) -> None:
    early = kept(world)
    world.claimed(world.gpu)
    assert [] == [kind for kind in world.kinds(early) if kind.startswith("checkpoint.")]


def test_one_part_in_two_places_is_told_of_both_until_one_is_gone(world: World) -> None:
    other = world.document_of("0000:09:00.0", DeviceKind.GPU, "G1")
    twin = world.look(other)
    found = [one for one in world.told() if one.kind == "part.twice"]
    assert {world.gpu.id, twin.id} == {one.device for one in found}
    for one in found:
        assert world.gpu.id in one.seen
        assert twin.id in one.seen
    source = next(iter(twin.views))
    world.write(withdraw(world.state, "n1", source, "pulled"))
    assert "part.twice" not in world.kinds()
