"""What the leader looks after: divergences begin and end with an event each, drains end, maintenance runs out."""

from collections.abc import Sequence
from typing import Any

import pytest

from aggregator.caretaker import SETTLE_SECONDS, USE_SECONDS, Caretaker, leave
from aggregator.ledger import claims, cleaning, nodes, uses
from aggregator.ledger.entries import Entry, NodeReached, NodeRetired
from aggregator.ledger.model import Device
from aggregator.ledger.outside import Use
from aggregator.ledger.words import CONFLICT
from schemas.claims import Checkpoint
from schemas.device import DeviceKind
from schemas.events import AGGREGATOR_EVENTS, check_events
from schemas.rows import Event
from tests.aggregator.ledger.test_reconcile import GPU, World
from tests.aggregator.ledger.worlds import begin, readback

DECLARED = check_events(AGGREGATOR_EVENTS)


class Rig:
    """A caretaker over a ledger in memory, with a clock of its own."""

    def __init__(self) -> None:
        self.world = World()
        self.now = 100.0
        self.told: list[Event] = []
        self.caretaker = self.another()

    def another(self) -> Caretaker:
        return Caretaker(
            self,  # type: ignore[arg-type]  # peek, decide, settled: all that it asks of a ledger
            self.announce,
            clock=lambda: self.now,
            wall_ns=lambda: int(self.now * 1e9),
        )

    async def announce(self, events: list[Event]) -> None:
        self.told += events
        for event in events:
            assert event.severity in DECLARED[event.type].severities
            assert set(event.detail) <= set(DECLARED[event.type].detail)

    def peek(self) -> Any:
        return self.world.state

    async def settled(self) -> None: ...

    async def decide(self, decision: Any) -> Any:
        decided: tuple[Sequence[Entry], Any] = decision(self.world.state)
        return self.world.decide(decided)

    async def seconds(self, count: float) -> list[str]:
        """Let time pass, a second at a time; give the types of the events that came."""
        before = len(self.told)
        for _ in range(int(count)):
            await self.caretaker.tick()
            self.now += 1.0
        return [event.type for event in self.told[before:]]

    def driver(self, driver: str) -> Device:
        one = self.world.document_of(GPU, DeviceKind.GPU, "G1", driver=driver, vfio_in_use=True)
        return self.world.look(one)


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_divergence_is_told_when_it_lasts_and_when_it_ends(rig: Rig) -> None:
    rig.world.claimed(rig.world.gpu)
    rig.driver("nvidia")
    settle = int(SETTLE_SECONDS["claim.driver"])
    assert [] == await rig.seconds(settle)
    assert ["divergence.began"] == await rig.seconds(5)
    (one,) = rig.world.state.divergences.values()
    assert ("claim.driver", rig.world.gpu.id) == (one.kind, one.device)
    event = rig.told[-1]
    assert (rig.world.gpu.id, "n1", one.ledger, one.seen) == (
        event.device,
        event.subject,
        event.detail["ledger"],
        event.detail["seen"],
    )
    assert [] == await rig.seconds(120), "once"
    rig.driver("vfio-pci")
    assert ["divergence.ended"] == await rig.seconds(2)
    assert {} == rig.world.state.divergences
    assert "assigned" == rig.world.gpu.lifecycle.value, "nothing was done about it"


async def test_divergence_that_passes_is_not_told(rig: Rig) -> None:
    rig.world.claimed(rig.world.gpu)
    for _ in range(4):
        rig.driver("nvidia")
        assert [] == await rig.seconds(10)
        rig.driver("vfio-pci")
        assert [] == await rig.seconds(10)


async def test_who_takes_over_does_not_tell_again_and_tells_the_end(rig: Rig) -> None:
    rig.world.claimed(rig.world.gpu)
    rig.driver("nvidia")
    await rig.seconds(60)
    rig.caretaker = rig.another()
    assert [] == await rig.seconds(60)
    rig.driver("vfio-pci")
    assert ["divergence.ended"] == await rig.seconds(2)


async def test_checkpoint_divergence_lasts_until_the_node_says_otherwise(rig: Rig) -> None:
    rig.world.claimed(rig.world.gpu)
    rig.driver("vfio-pci")
    rig.caretaker.checkpoint("n1", Checkpoint(1, 1, []))
    assert ["divergence.began"] == await rig.seconds(10)
    rig.caretaker = rig.another()  # it was not told of any checkpoint
    assert [] == await rig.seconds(120)
    rig.caretaker.checkpoint("n1", Checkpoint(1, 0, []))
    rig.world.decide(claims.release(rig.world.state, "c-1"))
    rig.world.decide(claims.undone(rig.world.state, "c-1", rig.world.state.claims["c-1"].epoch, [rig.world.gpu.id]))
    assert ["divergence.ended"] == await rig.seconds(2)


async def test_record_of_an_unknown_node_is_told_and_ends_with_the_record(rig: Rig) -> None:
    rig.world.decide(uses.take(rig.world.state, "nova", "nova", [Use("gone", GPU, "web-2")], 1, "op"))
    assert ["divergence.began"] == await rig.seconds(30)
    rig.world.decide(uses.drop(rig.world.state, "nova", "op"))
    assert ["divergence.ended"] == await rig.seconds(15)


async def test_consumers_are_told_to_leave_and_the_end_of_the_drain_is_told(rig: Rig) -> None:
    claim = rig.world.claimed(rig.world.gpu)
    rig.driver("vfio-pci")
    await rig.seconds(2)
    rig.world.decide(nodes.drain(rig.world.state, "n1", "new kernel", "op"))
    assert ["claim.must_leave"] == await rig.seconds(5)
    detail = rig.told[-1].detail
    assert (claim, "t1", "vm") == (detail["claim"], detail["tenant"], detail["consumer"])
    assert "new kernel" in leave(rig.world.state, rig.world.state.claims[claim])
    rig.world.decide(claims.release(rig.world.state, claim))
    assert [] == await rig.seconds(5), "the node has not confirmed: it is still there"
    epoch = rig.world.state.claims[claim].epoch
    rig.world.decide(claims.undone(rig.world.state, claim, epoch, [rig.world.gpu.id]))
    assert ["node.drained"] == await rig.seconds(5)


async def test_maintenance_runs_out_by_itself_and_that_is_recorded(rig: Rig) -> None:
    begin = int(rig.now * 1e9)
    rig.world.state.time_ns = begin
    rig.world.decide(nodes.maintain(rig.world.state, "n1", begin + 20 * 10**9, "new fans", "op"))
    assert ["node.maintenance_began"] == await rig.seconds(10)
    assert nodes.silenced(rig.world.state, "n1")
    assert ["node.maintenance_ended"] == await rig.seconds(15)
    assert "" == nodes.silenced(rig.world.state, "n1")
    assert "ledger" == getattr(rig.world.written[-1].entry, "who", "")


async def test_record_that_came_during_a_claim_counts_when_that_is_over(rig: Rig) -> None:
    claim = rig.world.claimed(rig.world.gpu)
    rig.driver("vfio-pci")
    rig.world.decide(uses.take(rig.world.state, "nova", "nova", [Use("n1", GPU, "web-1")], 1, "op"))
    await rig.seconds(3)
    assert "assigned" == rig.world.gpu.lifecycle.value
    rig.world.decide(claims.release(rig.world.state, claim))
    epoch = rig.world.state.claims[claim].epoch
    rig.world.decide(claims.undone(rig.world.state, claim, epoch, [rig.world.gpu.id]))
    await rig.seconds(2)
    assert ["foreign"] == [rig.world.gpu.lifecycle.value]


async def test_free_device_that_is_seen_in_use_for_a_while_is_foreign(rig: Rig) -> None:
    """What a claim had is told for a moment after its clean; what is told for longer than that is somebody else's."""
    device = rig.world.gpu
    rig.world.claimed(device)
    rig.world.look(rig.world.document_of(GPU, DeviceKind.GPU, "G1", in_use_by=["train/9"]))
    rig.world.decide(claims.release(rig.world.state, "c-1"))
    rig.world.decide(claims.undone(rig.world.state, "c-1", rig.world.state.claims["c-1"].epoch, [device.id]))
    rig.world.decide(cleaning.begin_clean(rig.world.state, device.id))
    rig.world.decide(cleaning.end_clean(rig.world.state, device.id, readback(device), "n1"))
    await rig.seconds(USE_SECONDS)
    assert "free" == device.lifecycle.value
    await rig.seconds(2)
    assert "foreign" == device.lifecycle.value


async def test_conflict_ends_with_the_node_of_the_other_device(rig: Rig) -> None:
    begin(rig.world, "n9")
    twin = rig.world.see(rig.world.document_of(GPU, DeviceKind.GPU, "G1"), "n9")
    assert twin is not None
    assert [True, True] == [CONFLICT in one.taints for one in (rig.world.gpu, twin)]
    rig.world.write([NodeReached("n9", live=False), NodeRetired("n9")])
    await rig.seconds(2)
    assert CONFLICT not in rig.world.gpu.taints
