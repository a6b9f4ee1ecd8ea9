"""Which run of a node is current (DESIGN part 3, "node")."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from aggregator.access import ScopeError
from aggregator.control_sqlite import SqliteControl
from aggregator.nodes import Epoch, list_epochs
from aggregator.succession import ACCEPTED, SILENCE_S, Decision, Hello, Holder, RefusedError, Succession, Verdict, judge
from schemas.rows import Severity
from tests.aggregator.control.conftest import Time


def hello(epoch: str, *predecessors: str, boot: str = "b1", publisher: str = "n1") -> Hello:
    return Hello(publisher, epoch, boot, predecessors, "host-1")


@pytest.fixture
async def succession(control: SqliteControl, time: Time) -> Succession:
    succession = Succession(control, clock=time.clock, wall_ns=time.wall_ns)
    await succession.load()
    return succession


def kinds(decision: Decision) -> list[str]:
    return [event.type for event in decision.events]


@pytest.mark.parametrize(
    ("holder", "asks", "silent", "expected"),
    [
        (None, hello("e1"), 0.0, Verdict.FIRST),
        (Holder("e1", "b1"), hello("e1"), 99.0, Verdict.CURRENT),
        (Holder("e1", "b1"), hello("e1", boot="b2"), 0.0, Verdict.CURRENT),
        (Holder("e1", "b1"), hello("e2", "e1"), 0.0, Verdict.HANDOVER),
        (Holder("e1", "b1"), hello("e3", "e2", "e1"), 0.0, Verdict.HANDOVER),
        (Holder("e1", "b1"), hello("e2", "e1", boot="b2"), 29.9, Verdict.REFUSED),
        (Holder("e1", "b1"), hello("e2", "e1", boot="b2"), 30.0, Verdict.TAKEOVER),
        (Holder("e1", "b1"), hello("e2"), 29.9, Verdict.REFUSED),
        (Holder("e1", "b1"), hello("e2"), 30.0, Verdict.TAKEOVER),
        (Holder("e1", ""), hello("e2", "e1", boot=""), 0.0, Verdict.REFUSED),
        (Holder("e1", "b1", True), hello("e1"), 0.0, Verdict.CURRENT),
        (Holder("e1", "b1", True), hello("e2", "e1"), 0.0, Verdict.HANDOVER),
        (Holder("e1", "b1", True), hello("e2"), 0.0, Verdict.GOODBYE),
        (Holder("e1", "b1", True), hello("e2", boot="b2"), 0.0, Verdict.GOODBYE),
    ],
)
def test_the_rule(holder: Holder | None, asks: Hello, silent: float, expected: Verdict) -> None:
    assert expected is judge(holder, asks, silent)


@given(
    silent=st.floats(0, SILENCE_S, exclude_max=True),
    boot=st.sampled_from(["b1", "b2", ""]),
    predecessors=st.lists(st.sampled_from(["e0", "e1"])),
)
def test_while_the_current_run_speaks_only_its_heir_on_the_same_boot_takes_over(
    silent: float, boot: str, predecessors: list[str]
) -> None:
    verdict = judge(Holder("e1", "b1"), hello("e2", *predecessors, boot=boot), silent)
    assert (boot == "b1" and "e1" in predecessors) == (verdict is Verdict.HANDOVER)
    assert verdict in (Verdict.HANDOVER, Verdict.REFUSED)


async def test_the_first_is_taken_with_an_event_and_the_next_requests_without(succession: Succession) -> None:
    assert ["node.new"] == kinds(await succession.decide(hello("e1")))
    assert ACCEPTED is await succession.decide(hello("e1"))


async def test_the_ordinary_request_does_not_touch_the_database(succession: Succession, control: SqliteControl) -> None:
    await succession.decide(hello("e1"))
    asked: list[str] = []
    for engine in (control._reading, control._writing):
        event.listen(engine, "before_cursor_execute", lambda *call: asked.append(call[2]))
    for _ in range(100):
        await succession.decide(hello("e1"))
        assert not (await succession.decide(hello("e9"))).accepted
    assert [] == asked


async def test_an_ordinary_restart_takes_over_at_once_and_nothing_is_unverified(succession: Succession) -> None:
    await succession.decide(hello("e1"))
    decision = await succession.decide(hello("e2", "e1"))
    assert (True, False, ["node.handover"]) == (decision.accepted, decision.unverified, kinds(decision))
    assert "e2" == succession.current("n1")


async def test_a_second_agent_is_refused_while_the_first_speaks_and_takes_over_once_it_is_silent(
    succession: Succession, time: Time
) -> None:
    await succession.decide(hello("e1"))
    for _ in range(4):
        time.pass_(20)
        await succession.decide(hello("e1"))
        refused = await succession.decide(hello("x1", boot="b9"))
        assert (False, "node.contested", 30.0) == (refused.accepted, refused.code, refused.retry_after_s)
    time.pass_(29.5)
    assert 1.0 == (await succession.decide(hello("x1", boot="b9"))).retry_after_s
    time.pass_(0.5)
    taken = await succession.decide(hello("x1", boot="b9"))
    assert (True, True, ["node.takeover"]) == (taken.accepted, taken.unverified, kinds(taken))
    assert {"before": "e1", "named_predecessor": False, "silent_seconds": 30.0}.items() <= taken.events[
        0
    ].detail.items()
    back = await succession.decide(hello("e1"))
    assert (False, "node.contested") == (back.accepted, back.code)


async def test_a_contest_is_told_once_for_each_run_that_tries(succession: Succession) -> None:
    await succession.decide(hello("e1"))
    told = [kinds(await succession.decide(hello(epoch))) for epoch in ("x1", "x1", "x2", "x1")]
    assert [["node.contested"], [], ["node.contested"], []] == told


async def test_a_reboot_waits_out_the_silence_and_leaves_the_devices_unverified(
    succession: Succession, time: Time
) -> None:
    """A clone of the disk says the same words, so they cannot be enough."""
    await succession.decide(hello("e1"))
    time.pass_(12)
    refused = await succession.decide(hello("e2", "e1", boot="b2"))
    assert (False, 18.0) == (refused.accepted, refused.retry_after_s)
    time.pass_(18)
    taken = await succession.decide(hello("e2", "e1", boot="b2"))
    assert (True, True, "booted again") == (taken.accepted, taken.unverified, taken.events[0].message[7:19])


async def test_after_a_goodbye_the_same_machine_goes_on_at_once_though_its_spool_was_lost(
    succession: Succession, control: SqliteControl, time: Time
) -> None:
    await succession.decide(hello("e1"))
    time.pass_(5)
    left = time.wall_ns()
    await succession.leave(hello("e1"))
    time.pass_(1)
    taken = await succession.decide(hello("e2"))
    assert (True, False, ["node.takeover"]) == (taken.accepted, taken.unverified, kinds(taken))
    assert "ended in order and started again" in taken.events[0].message
    assert Severity.NOTICE is taken.events[0].severity
    first, _ = await control.read(list_epochs)
    assert (left, "goodbye") == (first.ended_ns, first.end_reason)


async def test_after_a_goodbye_a_reboot_need_not_wait_and_another_machine_is_told_apart(succession: Succession) -> None:
    await succession.decide(hello("e1"))
    await succession.leave(hello("e1"))
    rebooted = await succession.decide(hello("e2", "e1", boot="b2"))
    assert (True, True, "booted again") == (rebooted.accepted, rebooted.unverified, rebooted.events[0].message[7:19])
    await succession.leave(hello("e2", boot="b2"))
    other = await succession.decide(hello("x1", boot="b9"))
    assert (True, True, Severity.WARNING) == (other.accepted, other.unverified, other.events[0].severity)


async def test_a_goodbye_outlives_the_aggregator(succession: Succession, control: SqliteControl, time: Time) -> None:
    await succession.decide(hello("e1"))
    await succession.leave(hello("e1"))
    again = Succession(control, clock=time.clock, wall_ns=time.wall_ns)
    await again.load()
    assert (await again.decide(hello("e2"))).accepted


async def test_a_run_that_speaks_after_its_goodbye_is_there_again(
    succession: Succession, control: SqliteControl, time: Time
) -> None:
    """A request of its that was slow on the way."""
    await succession.decide(hello("e1"))
    await succession.leave(hello("e1"))
    assert ACCEPTED is await succession.decide(hello("e1"))
    assert not (await succession.decide(hello("x1"))).accepted
    again = Succession(control, clock=time.clock, wall_ns=time.wall_ns)
    await again.load()
    assert not (await again.decide(hello("x1"))).accepted


async def test_the_goodbye_of_a_run_that_is_not_current_counts_for_nothing(succession: Succession) -> None:
    await succession.decide(hello("e1"))
    await succession.leave(hello("x1"))
    assert not (await succession.decide(hello("x2"))).accepted


@pytest.mark.parametrize(
    ("asks", "told", "severity"),
    [
        (hello("e2"), "its spool was lost, or two agents run here", Severity.NOTICE),
        (hello("e2", "e1", boot="b2"), "crashed and booted again, or its disk was cloned", Severity.NOTICE),
        (hello("x1", boot="b9"), "If two machines share this id", Severity.WARNING),
    ],
)
async def test_who_is_refused_is_told_what_it_may_be(
    succession: Succession, asks: Hello, told: str, severity: Severity
) -> None:
    await succession.decide(hello("e1"))
    refused = await succession.decide(asks)
    assert told in refused.message
    assert (told in refused.events[0].message, severity) == (True, refused.events[0].severity)


async def test_what_was_decided_outlives_the_aggregator_and_silence_begins_anew(
    succession: Succession, control: SqliteControl, time: Time
) -> None:
    await succession.decide(hello("e1"))
    time.pass_(3600)
    again = Succession(control, clock=time.clock, wall_ns=time.wall_ns)
    await again.load()
    assert "e1" == again.current("n1")
    assert not (await again.decide(hello("x1"))).accepted
    time.pass_(SILENCE_S)
    assert (await again.decide(hello("x1"))).accepted


async def test_every_run_keeps_its_record(succession: Succession, control: SqliteControl, time: Time) -> None:
    started = time.wall_ns()
    await succession.decide(hello("e1"))
    time.pass_(5)
    await succession.decide(hello("e2", "e1"))
    second = time.wall_ns()
    time.pass_(SILENCE_S)
    await succession.decide(hello("x1", boot="b2"))
    third = time.wall_ns()
    assert [
        Epoch("n1", "e1", "b1", (), started, second, "handover", None),
        Epoch("n1", "e2", "b1", ("e1",), second, third, "takeover", None),
        Epoch("n1", "x1", "b2", (), third, None, None, None),
    ] == await control.read(list_epochs)


async def test_a_run_that_was_replaced_may_come_back_after_silence(
    succession: Succession, control: SqliteControl, time: Time
) -> None:
    await succession.decide(hello("e1"))
    time.pass_(SILENCE_S)
    await succession.decide(hello("x1", boot="b2"))
    time.pass_(SILENCE_S)
    assert (await succession.decide(hello("e1"))).accepted
    ended = {epoch.epoch: epoch.end_reason for epoch in await control.read(list_epochs)}
    assert {"e1": None, "x1": "takeover"} == ended


async def test_of_two_starts_at_once_one_wins(succession: Succession) -> None:
    told = await asyncio.gather(*(succession.decide(hello(f"e{n}")) for n in range(8)))
    winners = [n for n, decision in enumerate(told) if decision.accepted]
    assert 1 == len(winners)
    assert f"e{winners[0]}" == succession.current("n1")
    assert {"node.contested"} == {decision.code for decision in told if not decision.accepted}


async def test_two_aggregators_on_one_database_agree(tmp_path: Path, time: Time) -> None:
    first_db, second_db = SqliteControl(tmp_path / "c.db"), SqliteControl(tmp_path / "c.db")
    first_db.open()
    second_db.open()
    first = Succession(first_db, clock=time.clock, wall_ns=time.wall_ns)
    second = Succession(second_db, clock=time.clock, wall_ns=time.wall_ns)
    assert (await first.decide(hello("e1"))).accepted
    assert not (await second.decide(hello("x1"))).accepted  # it finds e1, and has not heard it silent for 30 s
    assert (await second.decide(hello("e2", "e1"))).accepted
    assert ACCEPTED is await first.decide(hello("e1"))  # not told yet: at worst one more request of the old run
    assert (await first.decide(hello("e3", "e2", "e1"))).accepted
    assert "e3" == first.current("n1")
    await first_db.close()
    await second_db.close()


async def test_publishers_do_not_disturb_each_other(succession: Succession, time: Time) -> None:
    await succession.decide(hello("e1", publisher="n1"))
    time.pass_(20)
    await succession.decide(hello("e1", publisher="n2"))
    time.pass_(10)
    assert {"n1": 30.0, "n2": 10.0} == succession.heard()
    assert (await succession.decide(hello("x", publisher="n1"))).accepted
    assert not (await succession.decide(hello("x", publisher="n2"))).accepted


async def test_admit_raises_what_a_409_needs(succession: Succession) -> None:
    await succession.admit(hello("e1"))
    with pytest.raises(RefusedError, match="another run of n1 is current") as refused:
        await succession.admit(hello("x1"))
    assert ("node.refused", "node.contested", 30.0) == (
        refused.value.code, refused.value.reason, refused.value.retry_after,
    )  # fmt: skip


async def test_a_publisher_with_a_pattern_for_a_name_is_not_registered(succession: Succession) -> None:
    with pytest.raises(ScopeError):
        await succession.decide(hello("e1", publisher="*"))
