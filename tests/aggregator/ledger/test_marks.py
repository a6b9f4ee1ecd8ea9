"""Marks are decisions: by whom, why and until when is recorded, and so is their end."""

from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from aggregator.ledger import journal, snapshots
from aggregator.ledger.asks import Ask, ClaimInvalidError, Pick, objections
from aggregator.ledger.cleaning import DeviceUnknownError, attest
from aggregator.ledger.entries import Tainted, Untainted
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.marks import TaintUnknownError, Target, device_target, node_target, told_target
from aggregator.ledger.model import Taint
from aggregator.ledger.nodes import NodeUnknownError
from aggregator.ledger.words import CONFLICT, Effect
from aggregator.marking import Marking
from tests.aggregator.ledger.rig import opened, settle, write

SECOND = 1_000_000_000
T = TypeVar("T")


async def written(ledger: Ledger, kind: type[T]) -> list[T]:
    every = await ledger.database.read(lambda connection: list(journal.read(connection, 0)))
    return [one.entry for one in every if isinstance(one.entry, kind)]


class Clock:
    """The leader's."""

    def __init__(self) -> None:
        self.ns = 1000 * SECOND

    def __call__(self) -> int:
        return self.ns


async def test_marked_device_is_not_given_until_the_mark_is_off(tmp_path: Path) -> None:
    async with opened(tmp_path / "ledger.db") as ledger:
        device = (await settle(ledger))[0]
        await ledger.decide(partial(attest, device=device, who="op", statement="new"))
        marking, ask = Marking(ledger), Ask("t", "job", [Pick(device)])
        assert [] == list(objections(ledger.peek(), ask))
        await marking.taint(lambda s: device_target(s, device), "flaky", Effect.NO_SCHEDULE, "falls off", "token:ann")
        assert ["taint.flaky"] == [one.reason for one in objections(ledger.peek(), ask)]
        await marking.untaint(lambda s: device_target(s, device), "flaky", "reseated")
        assert [] == list(objections(ledger.peek(), ask))
        ends = await written(ledger, Untainted)
        assert ("flaky", "reseated") == (ends[0].rule, ends[0].why)


async def test_mark_of_a_node_is_on_all_of_it(tmp_path: Path) -> None:
    async with opened(tmp_path / "ledger.db") as ledger:
        device = (await settle(ledger))[0]
        await ledger.decide(partial(attest, device=device, who="op", statement="new"))
        await Marking(ledger).taint(lambda s: node_target(s, "host-n0"), "fan", Effect.DRAIN, "", "op")
        assert ["taint.fan"] == [one.reason for one in objections(ledger.peek(), Ask("t", "job", [Pick(device)]))]


async def test_end_of_a_mark_is_recorded_when_its_time_is_up(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path / "ledger.db", clock=clock) as ledger:
        device = (await settle(ledger))[0]
        marking = Marking(ledger, clock=clock)
        await marking.taint(lambda s: device_target(s, device), "a", Effect.DRAIN, "", "op", seconds=10)
        await marking.taint(lambda s: node_target(s, "n1"), "b", Effect.DRAIN, "", "op", seconds=20)
        await marking.taint(lambda s: node_target(s, "n1"), "c", Effect.DRAIN, "", "op")
        for seconds, left in ((9, {"a", "b", "c"}), (1, {"b", "c"}), (9, {"b", "c"}), (1, {"c"}), (10**6, {"c"})):
            clock.ns += seconds * SECOND
            await marking.tick()
            state = ledger.peek()
            assert left == {*state.devices[device].taints, *state.nodes["n1"].taints}
        state = await ledger.database.read(snapshots.load)
        assert state.digest() == ledger.peek().digest()


async def test_marks_that_expired_while_nobody_led_end_with_the_next_leader(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path / "ledger.db", clock=clock) as ledger:
        await settle(ledger)
        await Marking(ledger, clock=clock).taint(
            lambda s: node_target(s, "n1"), "b", Effect.DRAIN, "", "op", seconds=20
        )
    clock.ns += 60 * SECOND
    async with opened(tmp_path / "ledger.db", clock=clock) as ledger:
        await Marking(ledger, clock=clock).tick()
        assert {} == ledger.peek().nodes["n1"].taints


async def test_same_mark_again_is_nothing_new(tmp_path: Path) -> None:
    async with opened(tmp_path / "ledger.db") as ledger:
        await settle(ledger)
        marking = Marking(ledger)
        for _ in range(3):
            await marking.taint(lambda s: node_target(s, "n1"), "b", Effect.DRAIN, "why", "op")
        assert 1 == len(await written(ledger, Tainted))
        await marking.taint(lambda s: node_target(s, "n1"), "b", Effect.NO_SCHEDULE, "why", "op")
        assert Effect.NO_SCHEDULE is ledger.peek().nodes["n1"].taints["b"].effect


async def test_what_cannot_be_marked_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path / "ledger.db") as ledger:
        device = (await settle(ledger))[0]
        marking, before = Marking(ledger), ledger.peek().digest()
        with pytest.raises(DeviceUnknownError):
            await marking.taint(lambda s: device_target(s, "gpu-x"), "a", Effect.DRAIN, "", "op")
        with pytest.raises(NodeUnknownError, match=r"Did you mean .*'n1'"):
            await marking.taint(lambda s: node_target(s, "n11"), "a", Effect.DRAIN, "", "op")
        for seconds in (1e13, 1e300):
            with pytest.raises(ClaimInvalidError, match="100 years"):
                await marking.taint(lambda s: node_target(s, "n1"), "a", Effect.DRAIN, "", "op", seconds=seconds)
        for rule in ("", " ", CONFLICT, "x" * 121):
            with pytest.raises(ClaimInvalidError):
                await marking.taint(lambda s: device_target(s, device), rule, Effect.DRAIN, "", "op")
        with pytest.raises(TaintUnknownError):
            await marking.untaint(lambda s: device_target(s, device), "a", "")
        assert before == ledger.peek().digest()


async def test_by_hand_all_marks_of_a_rule_come_off_and_each_end_is_recorded(tmp_path: Path) -> None:
    async with opened(tmp_path / "ledger.db") as ledger:
        device = (await settle(ledger))[0]
        for alert in ("", "f1", "f2"):
            mark = Taint("xid", Effect.NO_SCHEDULE, "", f"rule:{alert}", 1, None, alert)
            await write(ledger, Tainted("n0", device, mark))
        await Marking(ledger).untaint(lambda s: device_target(s, device), "xid", "reseated")
        assert {} == ledger.peek().devices[device].taints
        assert ["", "f1", "f2"] == [one.alert for one in await written(ledger, Untainted)]


async def test_mark_that_there_is_not_is_refused_with_its_like(tmp_path: Path) -> None:
    async with opened(tmp_path / "ledger.db") as ledger:
        device, marking = (await settle(ledger))[0], Marking(ledger)
        await marking.taint(lambda s: device_target(s, device), "flaky", Effect.NO_SCHEDULE, "", "op")
        with pytest.raises(TaintUnknownError, match=r"has no taint 'flakey'\. Did you mean 'flaky'"):
            await marking.untaint(lambda s: device_target(s, device), "flakey", "")


async def test_conflict_is_not_taken_off_by_hand(tmp_path: Path) -> None:
    async with opened(tmp_path / "ledger.db") as ledger:
        device = (await settle(ledger))[0]
        await write(ledger, Tainted("n0", device, Taint(CONFLICT, Effect.NO_SCHEDULE, "two", "ledger", 1)))
        with pytest.raises(ClaimInvalidError):
            await Marking(ledger).untaint(lambda s: device_target(s, device), CONFLICT, "")


async def test_rows_names_are_found(tmp_path: Path) -> None:
    async with opened(tmp_path / "ledger.db") as ledger:
        device = (await settle(ledger))[0]
        state = ledger.peek()
        for subject, name, target in (
            ("n0", "", Target("n0")),
            ("n0", device, Target("n0", device)),
            ("n0", "pci:0000:01:00.0", Target("n0", device)),
            ("n0", "serial:n0-1", Target("n0", device)),
            ("n0", "gpu-nowhere", None),
            ("n7", "", None),
        ):
            assert target == told_target(state, subject, name), name
