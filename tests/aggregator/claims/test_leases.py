"""Leases end by the leader's monotonic clock: no sooner, whatever happens meanwhile, and none is forgotten."""

import asyncio
import contextlib
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from aggregator.claim_carrier import Policy
from aggregator.leases import Leases
from aggregator.ledger.asks import Ask, Pick
from aggregator.ledger.words import ClaimState, Lifecycle
from tests.aggregator.claims.rig import World, gpus, world


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["begin", "over", "wait", "look"]), st.sampled_from("abc"), st.integers(1, 20).map(float)
        ),
        max_size=40,
    )
)
def test_a_lease_is_due_once_at_the_end_of_its_last_term(steps: list[tuple[str, str, float]]) -> None:
    """Whatever is begun, renewed, ended and waited for; the model keeps nothing but the end of each one's last term."""
    now = 0.0
    leases, ends = Leases(lambda: now), dict[str, float]()
    for step, name, seconds in steps:
        match step:
            case "begin":
                leases.begin_term(name, seconds)
                ends[name] = now + seconds
            case "over":
                leases.end(name)
                ends.pop(name, None)
            case "wait":
                now += seconds
            case _:
                due = {one for one, end in ends.items() if end <= now}
                found = leases.due()
                assert sorted(due) == sorted(found)
                ends = {one: end for one, end in ends.items() if one not in due}
        assert {one: max(0.0, end - now) for one, end in ends.items()} == {
            one: left for one in "abc" if (left := leases.left(one)) is not None
        }


async def slow_disk(it: World, seconds: float) -> "asyncio.Task[None]":
    """Let the next commits wait: the writer of the ledger's file has something else to do."""

    def busy(_: Connection) -> None:
        time.sleep(seconds)

    task = asyncio.create_task(it.database.write(busy))
    await asyncio.sleep(0.02)
    return task


async def test_a_renewal_that_is_on_its_way_to_the_disk_keeps_the_lease(tmp_path: Path) -> None:
    """Decided in time, told late: the answer must not be a claim that ran out meanwhile."""
    async with world(tmp_path) as it:
        (gpu,) = await it.add("n1", *gpus(1))
        claim = await it.claim(gpu, lease_seconds=5.0)
        it.now = 4.9
        disk = await slow_disk(it, 0.3)
        renewal = asyncio.create_task(it.claiming.renew(claim.id))
        await asyncio.sleep(0.01)
        it.now = 5.2  # the old term is over
        it.carrier.wake()
        assert (await renewal).state is ClaimState.RESERVED
        await disk
        for _ in range(3):
            it.carrier.wake()
            await asyncio.sleep(0.02)
        assert ClaimState.RESERVED is it.claim_of(claim.id).state
        assert it.claiming.leases.left(claim.id) == pytest.approx(4.7)
        it.now = 9.95
        it.carrier.wake()
        await it.until(lambda: it.claim_of(claim.id).state is ClaimState.EXPIRED)
        assert [Lifecycle.FREE] == it.lifecycles(gpu)


async def test_a_caller_that_goes_away_leaves_a_claim_that_ends(tmp_path: Path) -> None:
    """The decision was made, and nobody waited for the answer: its lease runs all the same."""
    async with world(tmp_path) as it:
        (gpu,) = await it.add("n1", *gpus(1))
        disk = await slow_disk(it, 0.2)
        asking = asyncio.create_task(it.claiming.grant(Ask("t", "job", [Pick(gpu)], lease_seconds=5.0)))
        await asyncio.sleep(0.02)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        await disk
        assert [Lifecycle.RESERVED] == it.lifecycles(gpu)
        it.now = 6.0
        it.carrier.wake()
        await it.until(lambda: it.lifecycles(gpu) == [Lifecycle.FREE])


async def test_a_claim_that_is_forgotten_keeps_no_other_from_running_out(tmp_path: Path) -> None:
    """Its node undid it long ago; its lease would have gone on for longer than it is remembered."""
    async with world(tmp_path, Policy(remember_seconds=0.0)) as it:
        one, two = await it.add("n1", *gpus(2))
        gone = await it.active(one, lease_seconds=2000.0)
        await it.claiming.release(gone.id, "t")
        await it.until(lambda: it.claim_of(gone.id).state is ClaimState.RELEASED)
        it.claiming.leases.begin_term(gone.id, 1000.0)  # as if nobody had told the leases that it is over
        it.now += 400.0
        it.carrier.wake()
        await it.until(lambda: gone.id not in it.ledger.peek().claims)
        left = await it.claim(two, lease_seconds=600.0)
        it.now += 700.0
        it.carrier.wake()
        await it.until(lambda: it.lifecycles(two) == [Lifecycle.FREE])
        it.now += 400.0  # it may have run out right after the last look at what is to be forgotten
        it.carrier.wake()
        await it.until(lambda: left.id not in it.ledger.peek().claims)


async def test_many_that_run_out_at_once_are_one_commit(tmp_path: Path) -> None:
    """Five hundred jobs of one length: the loop that tells nodes their work must not stand still for each."""
    async with world(tmp_path) as it:
        await it.add("n1", vcpus=1000)
        ask = Ask("t", "job", [], {"n1": {"vcpus": 1}}, lease_seconds=5.0)
        granted = await asyncio.gather(*(it.claiming.grant(ask) for _ in range(500)))
        commits = 0
        write = it.database.write

        def counted(work: object) -> object:
            nonlocal commits
            commits += 1
            return write(work)  # type: ignore[arg-type]

        it.database.write = counted  # type: ignore[method-assign, assignment]
        it.now = 6.0
        it.carrier.wake()
        await it.until(lambda: all(it.claim_of(one.id).state is ClaimState.EXPIRED for one in granted))
        assert commits <= 5
        assert it.ledger.peek().nodes["n1"].used.get("vcpus", 0) == 0


async def test_who_takes_over_gives_each_claim_a_new_term(tmp_path: Path) -> None:
    """Nobody knows how much of the old one was left, nor how long nobody led."""
    async with world(tmp_path) as it:
        one, two = await it.add("n1", *gpus(2))
        reserved = await it.claim(one, lease_seconds=5.0)
        active = await it.active(two, lease_seconds=50.0)
        it.now = 4.9
    async with world(tmp_path) as it:  # another process, and another clock: it begins at 0
        await it.until(lambda: it.claiming.leases.left(active.id) is not None)
        assert ClaimState.RESERVED is it.claim_of(reserved.id).state
        it.now = 4.0
        it.carrier.wake()
        await asyncio.sleep(0.05)
        assert ClaimState.RESERVED is it.claim_of(reserved.id).state
        assert it.claiming.leases.left(active.id) == pytest.approx(46.0)


def test_terms_that_end_before_their_time_are_not_kept() -> None:
    """A thousand claims a second with a term of an hour that each live for a moment add up to nothing."""
    now = 0.0
    leases = Leases(lambda: now)
    leases.begin_term("c-lasting", 50.0)
    for number in range(50_000):
        now = number / 1000
        leases.begin_term(f"c{number}", 3600.0)
        leases.end(f"c{number}")
    assert leases.kept < 2000
    now = 51.0
    assert ["c-lasting"] == leases.due()
