"""SIGKILL of anything, at any time: every row whose spool commit succeeded is stored once, or said to be dropped."""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.acceptance.stage import Muster, stage, until
from tests.faults.rig import Bench, chance, config, rounds, victims

__all__ = ["chance"]

AGENT_FAILPOINTS = (
    "spool.epoch.written",
    "spool.epoch.committed",
    "spool.commit.written",
    "spool.commit.committed",
    "publisher.send.begun",
    "publisher.send.answered",
    "spool.delete.written",
    "spool.delete.committed",
    "publisher.send.forgotten",
    "spool.told.written",
    "spool.told.committed",
)
AGGREGATOR_FAILPOINTS = (
    "ingest.append.begun",
    "log.commit.written",
    "log.commit.committed",
    "ingest.append.appended",
    "store.commit.begun",
    "store.commit.written",
    "store.commit.committed",
    "control.commit.written",
    "control.commit.committed",
)
WHO = ("agent", "helper", "zygote", "aggregator")


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Bench]:
    """Give an aggregator and an agent, each started by itself."""
    with stage(tmp_path, config()) as muster:
        yield Bench(muster)


def agent_dies(bench: Bench, failpoint: str, at: int) -> None:
    """Let the agent die at a failpoint, the at-th time it gets there."""
    if "agent" in bench.muster.processes:
        bench.kill("agent")
    bench.start("agent", f"{failpoint}:{at}")
    bench.dies("agent", failpoint)


def aggregator_dies(bench: Bench, failpoint: str, at: int) -> None:
    """Let the aggregator die at a failpoint, the at-th time it gets there.

    The agent dies before it: a new run is what the control database has to decide, and one that comes without the
    back-off of many failures keeps the test short.
    """
    for name in ("agent", "aggregator"):
        if name in bench.muster.processes:
            bench.kill(name)
    bench.start("aggregator", f"{failpoint}:{at}")
    bench.start("agent")
    bench.dies("aggregator", failpoint)


def once(failpoint: str) -> bool:
    """Whether a part gets there just once in its life, or when something is new."""
    return failpoint.startswith(("spool.epoch", "spool.told", "control."))


def test_agent_killed_at_each_named_failpoint_loses_and_repeats_nothing(apart: Bench, chance: random.Random) -> None:
    """Around each commit of the agent, before and after: stored ids are exactly the committed ones (R001-15)."""
    apart.start("aggregator")
    apart.start("agent")
    apart.ready()
    apart.grows()
    for failpoint in AGENT_FAILPOINTS:
        agent_dies(apart, failpoint, 1 if once(failpoint) else chance.randint(1, 20))
    apart.start("agent")
    apart.grows()
    apart.quiesce().expect_exact()


def test_aggregator_killed_at_each_named_failpoint_loses_and_repeats_nothing(
    apart: Bench, chance: random.Random
) -> None:
    """Around each commit of log, store and control: stored ids are exactly the committed ones (R001-15)."""
    for failpoint in AGGREGATOR_FAILPOINTS:
        aggregator_dies(apart, failpoint, 1 if once(failpoint) else chance.randint(1, 3))
    apart.start("aggregator")
    apart.ready()
    apart.grows()
    apart.quiesce().expect_exact()


@pytest.mark.soak
@pytest.mark.parametrize("failpoint", AGENT_FAILPOINTS + AGGREGATOR_FAILPOINTS)
def test_each_failpoint_by_itself_many_times(apart: Bench, chance: random.Random, failpoint: str) -> None:
    """The same, one failpoint at a time, so that a loss names its place."""
    of_agent = failpoint.startswith(("spool.", "publisher."))
    apart.start("aggregator")
    apart.start("agent")
    for _ in range(int(os.environ.get("SOAK_ROUNDS", "5"))):
        (agent_dies if of_agent else aggregator_dies)(apart, failpoint, 1 if once(failpoint) else chance.randint(1, 20))
    apart.start("agent" if of_agent else "aggregator")
    apart.ready()
    apart.grows()
    apart.quiesce(120).expect_exact()


def strike(bench: Bench, who: str) -> None:
    """SIGKILL one of the parts, and start again what nobody else starts."""
    muster: Muster = bench.muster
    if who in ("agent", "aggregator"):
        bench.kill(who)
        bench.start(who)
        return
    title = "muster-zygote" if who == "zygote" else "muster:oracle"
    found = until(f"a process {title}", lambda: victims(muster, "agent", lambda name: name == title))
    for process in found:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue


@pytest.mark.parametrize("number", rounds(10))
def test_any_part_killed_at_random_times_loses_and_repeats_nothing(
    apart: Bench, chance: random.Random, number: int
) -> None:
    """Agent, helper, zygote and aggregator die at random, in random order: stored ids are the committed ones."""
    apart.start("aggregator")
    apart.start("agent")
    apart.ready()
    apart.grows()
    order = [*WHO, *chance.choices(WHO, k=4)]
    chance.shuffle(order)
    for who in order:
        strike(apart, who)
        time.sleep(chance.uniform(0.0, 1.5))
    apart.ready()
    apart.grows(500)
    apart.quiesce().expect_exact()
