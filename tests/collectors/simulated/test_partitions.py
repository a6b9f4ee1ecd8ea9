"""Simulated GPUs are divided as claims ask for it, from grant to evidence; the real ledger is the other side."""

from pathlib import Path

import msgspec
import pytest

from aggregator.claim_answers import taken
from aggregator.claim_work import work_of
from aggregator.ledger import claims, cleaning
from aggregator.ledger.entries import NodeRun, NodeSeen, VariantSet
from aggregator.ledger.facts import Sighting, observe, withdraw
from aggregator.ledger.model import Claim
from aggregator.ledger.words import ClaimState, Lifecycle
from aggregator.placement.placing import Placer
from aggregator.placement.request import Need
from collectors.claims.checkpoint import CheckpointFile
from collectors.claims.order import order_of
from collectors.simulated import default_fleet
from collectors.simulated.claims import SimulatedClaims
from collectors.simulated.spec import Fault
from schemas.claims import ClaimReport, Step
from schemas.device import DeviceKind
from tests.aggregator.ledger.worlds import Book
from tests.aggregator.placement.worlds import SIMULATED_VARIANTS, asked


class Machine:
    """A simulated node, its checkpoint, and a ledger that hears of it at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.node = default_fleet(1, node_type="hgx-h100").nodes[0]
        self.claims = SimulatedClaims(self.node)
        self.book = Book()
        self.placer = Placer()
        self.told: dict[str, object] = {}
        self.book.write([VariantSet(one) for one in SIMULATED_VARIANTS])
        self.book.write([NodeSeen(self.node.id, "n"), NodeRun(self.node.id, self.node.id, "e", "b1")])
        self.look()

    def look(self) -> None:
        """Take what its collector says now."""
        state, name = self.book.state, self.node.id
        now = {one.device: one for one in self.node.documents()}
        for gone in self.told.keys() - now.keys():
            self.book.write(withdraw(state, name, f"{name}\nsimulated\n{gone}", "gone"))
        for one in now.values():
            self.book.write(observe(state, Sighting(name, name, "simulated", one, "b1"), lambda *_: "attested"))
        self.told = dict(now)

    def work(self, step: Step) -> None:
        """Do what the ledger asks for, and report it."""
        checkpoint = CheckpointFile(self.path, durable=False)
        for one in work_of(self.book.state, self.node.id):
            assert step is one.step
            for device in one.devices:
                checkpoint.refuse_older(one, device)
                checkpoint.raise_fences(one, device)
                report = msgspec.structs.replace(self.claims.perform(order_of(one, device)), clean=device.clean)
                if report.done and step is Step.PREPARE:
                    checkpoint.confirm(one, device, "b1")
                sent = ClaimReport(one.claim, one.step, one.generation, one.sequence, [report])
                self.book.decide(taken(self.book.state, self.node.id, sent, report))

    def grant(self, claim: str, *needs: Need, tenant: str = "t1") -> Claim:
        self.book.decide(self.placer.grant(self.book.state, asked(*needs, tenant=tenant), claim))
        self.book.decide(claims.provision(self.book.state, claim))
        return self.book.state.claims[claim]

    def partitions(self) -> list[str]:
        """Give the UUIDs of the partitions that its collector describes."""
        return [one.part.uuid for one in self.node.documents() if one.kind is DeviceKind.GPU_PARTITION]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "claims.json")


def test_from_the_request_to_the_clean_in_the_words_of_all_parts(machine: Machine) -> None:
    state = machine.book.state
    before = len(state.devices)
    one = machine.grant("c1", Need("H100", profile="3g.40gb"), Need("H100", profile="1g.10gb", count=2))
    two = machine.grant("c2", Need("H100", profile="2g.20gb"), tenant="t2")
    machine.work(Step.PREPARE)
    machine.look()
    assert (ClaimState.ACTIVE, ClaimState.ACTIVE) == (one.state, two.state)
    assert 4 == len(machine.partitions()) == len(state.devices) - before
    assert 1 == len({held.parent for claim in (one, two) for held in claim.devices}), "all of them fit on one GPU"
    for claim in (one, two):
        for held in claim.devices:
            device = state.devices[held.device]
            assert device.part.uuid in machine.partitions()
            assert device.capabilities["mig_placement"] == held.profile.partition("@")[2]
    gpu = state.devices[one.devices[0].parent]
    assert "enabled" == gpu.capabilities["mig_mode"]
    machine.book.decide(claims.release(state, "c1"))
    machine.work(Step.UNDO)
    for held in one.devices:
        machine.book.decide(cleaning.begin_clean(state, held.device))
    machine.work(Step.CLEAN)
    machine.look()
    assert 1 == len(machine.partitions()) == len(state.devices) - before
    assert ClaimState.RELEASED is one.state
    again = machine.grant("c3", Need("H100", profile="3g.40gb"))
    assert gpu.id == again.devices[0].parent
    machine.work(Step.PREPARE)
    machine.look()
    assert ClaimState.ACTIVE is again.state
    assert 2 == len(set(machine.partitions())), "made anew in the same place, it is another one"


def test_a_node_process_that_starts_again_has_the_partitions_that_it_had(machine: Machine) -> None:
    machine.grant("c1", Need("H100", profile="3g.40gb", count=2))
    machine.work(Step.PREPARE)
    before = machine.partitions()
    again = default_fleet(1, node_type="hgx-h100").nodes[0]
    SimulatedClaims(again).restore(CheckpointFile(machine.path, durable=False).message())
    assert before == [one.part.uuid for one in again.documents() if one.kind is DeviceKind.GPU_PARTITION]


def test_what_the_driver_refuses_is_undone(machine: Machine) -> None:
    claim = machine.grant("c1", Need("H100", profile="3g.40gb"))
    gpu = machine.book.state.devices[claim.devices[0].parent]
    index = machine.node.hardware.gpu_uuids.index(gpu.part.uuid)
    assert not isinstance(machine.node.divide(index, "1g.10gb@5:1", 1), str)
    machine.work(Step.PREPARE)
    assert "Insufficient Resources" in claim.reason
    machine.work(Step.UNDO)
    assert ClaimState.FAILED is claim.state
    assert "no such profile" in str(machine.node.divide(0, "3g.40gb@2:4", 1))


@pytest.mark.parametrize(("fault", "ends"), [("evidence_bad", Lifecycle.QUARANTINED), ("", None)])
def test_a_partition_that_stays_frees_nothing(machine: Machine, fault: str, ends: Lifecycle | None) -> None:
    claim = machine.grant("c1", Need("H100", profile="7g.80gb"))
    machine.work(Step.PREPARE)
    machine.look()
    name = claim.devices[0].device
    machine.book.decide(claims.release(machine.book.state, "c1"))
    machine.work(Step.UNDO)
    if fault:
        machine.node.inject(Fault(fault=fault))
        machine.node.step(10**18)
    machine.book.decide(cleaning.begin_clean(machine.book.state, name))
    machine.work(Step.CLEAN)
    machine.look()
    found = machine.book.state.devices.get(name)
    assert ends is (None if found is None else found.lifecycle)
    assert bool(fault) is bool(machine.partitions())
