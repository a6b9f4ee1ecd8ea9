"""A sweep over BMCs by one poller (DESIGN part 9): `python -m tests.bench.bench_redfish [--bmcs 1000] [--seconds 30]`.

Simulated BMCs, each at an address of its own, each working on one request at a time and so slowly that reading all of
it takes 30 s, are read by a real agent with its default settings, which publishes to a sink that takes everything; once
when all of them live, once with 5 % dead (by turns: the port refuses, or takes the connection and says nothing). When
a BMC was asked and how long is told by the BMCs themselves, not by who asks.

Two sweeps are measured each time: the first, in which everything that a BMC has is looked at, and a later one, which
reads sensors; before each, the pace is set so that one BMC takes 30 s over it. What a BMC took is counted from the
start of the sweep, waiting for its turn included.

`--bmcs 100 --seconds 5` is the small one: threads, patience and pauses are in the same proportion.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from collectors.redfish.config import RedfishConfig
from tests.acceptance.stage import FailedError, stage
from tests.bench.measuring import ROOT, Line, cpu_seconds, pss, show, sink
from tests.fakes.redfish import Options

SWEEP_BAR_SECONDS = 300.0
BAR_BMC_SECONDS = 30.0
DEAD = 0.05
EVERY_SECONDS = 60.0
"""The default: a sweep takes longer, so that a poller of a thousand slow BMCs never rests."""
MOST = 0.9
"""Of the requests that were counted before make a whole round: whether a log has grown, say, is a matter of moments."""
AGENT = """
[agent]
only = ["redfish"]

[publish]
aggregators = ["{address}"]

[collectors.redfish]
file = "{file}"
user = "{user}"
password = "{password}"
every_seconds = {every}
{more}
"""


def tell(line: str) -> None:
    """Print a line now."""
    print(line, flush=True)


class Sweep(msgspec.Struct):
    """One sweep over all BMCs that live."""

    at: list[float]
    """When each was done, in order, seconds from the start of the sweep."""
    took: list[float]
    """How long each was at it, in order."""
    cores: float
    pss: float
    """The most, in MB, of all processes of the agent together."""

    def p99(self) -> float:
        """Give when 99 of 100 BMCs were done."""
        return self.at[int(len(self.at) * 0.99) - 1]


class Fleet:
    """Simulated BMCs in a process of their own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.bmcs: list[dict[str, str]] = self._answer()

    def pace(self, seconds: float) -> None:
        """Set what each answer takes."""
        self._say(f"pace {seconds}")

    def mark(self) -> float:
        """Forget what was asked, and give the time."""
        self._say("mark")
        now: float = self._answer()
        return now

    def rounds(self) -> dict[str, list[tuple[float, float, int]]]:
        """Give, by BMC, when it was first asked and last answered in each round, and how often."""
        self._say("tell")
        found: dict[str, list[tuple[float, float, int]]] = self._answer()
        return found

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@contextmanager
def fleet(count: int, dead: float, gap: float) -> Iterator[Fleet]:
    """Run simulated BMCs."""
    command = [
        sys.executable,
        "-m",
        "tests.fakes.redfish",
        "--count",
        str(count),
        "--dead",
        str(dead),
        "--gap",
        str(gap),
    ]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Fleet(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(60)


class Watch:
    """The most memory that an agent took, looked at from beside."""

    def __init__(self, pid: int) -> None:
        self.most = 0.0
        self._pid, self._end = pid, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._end.wait(2.0):
            self.most = max(self.most, pss(self._pid))

    def end(self) -> float:
        """Give it, and look no more."""
        self._end.set()
        self._thread.join()
        return self.most


def measure(
    folder: Path,
    bmcs: Fleet,
    needs: tuple[int, int],
    seconds: float,
    more: str = "",
    say: Callable[[str], None] = tell,
) -> tuple[Sweep, Sweep]:
    """Measure the first sweep and a later one.

    Args:
        folder: For the agent.
        bmcs: Whom to read.
        needs: How many requests a BMC gets in the first sweep, and in a later one.
        seconds: What one BMC takes over a sweep.
        more: Lines of the agent's section `redfish`.
        say: Tells how it goes.
    """
    living = [one["name"] for one in bmcs.bmcs if not one["dead"]]
    every = EVERY_SECONDS * seconds / BAR_BMC_SECONDS
    bmcs.pace(seconds / needs[0])
    with sink() as where, stage(folder, config(folder, bmcs, where.address, every, more), QUIET) as muster:
        began = bmcs.mark()
        agent = muster.start("agent")
        first = _sweep(bmcs, living, agent.pid, began, needs[0], seconds, say)
        bmcs.pace(seconds / needs[1])
        later = _sweep(bmcs, living, agent.pid, bmcs.mark(), needs[1], seconds, say)
        return first, later


QUIET = {"MUSTER_LOG_LEVEL": "ERROR"}


def config(folder: Path, bmcs: Fleet, address: str, every: float, more: str = "") -> str:
    """Give the configuration of an agent that reads BMCs."""
    file = folder.with_suffix(".toml")
    file.write_text("".join(f'[[bmcs]]\naddress = "{one["url"]}"\nname = "{one["name"]}"\n' for one in bmcs.bmcs))
    who = Options()
    return AGENT.format(address=address, file=file, user=who.user, password=who.password, every=every, more=more)


def _sweep(
    bmcs: Fleet, living: list[str], pid: int, began: float, need: int, seconds: float, say: Callable[[str], None]
) -> Sweep:
    """Wait until every BMC that lives has had a whole round that began since then."""
    watch, cpu = Watch(pid), cpu_seconds(pid)
    limit = 4 * SWEEP_BAR_SECONDS * seconds / BAR_BMC_SECONDS + 60.0
    done: dict[str, tuple[float, float]] = {}
    try:
        while len(done) < len(living):
            time.sleep(2.0)
            for name, rounds in bmcs.rounds().items():
                whole = next(((first, last) for first, last, count in rounds if count >= MOST * need), None)
                if name not in done and whole is not None:
                    done[name] = whole
            passed = time.monotonic() - began
            say(
                f"    {passed:6.0f} s: {len(done)} of {len(living)} BMCs, {(cpu_seconds(pid) - cpu) / passed:.2f} cores"
            )
            if passed > limit:
                raise FailedError(f"after {passed:.0f} s only {len(done)} of {len(living)} BMCs were read")
    finally:
        most = watch.end()
    wall = max(last for _, last in done.values()) - began
    return Sweep(
        sorted(last - began for _, last in done.values()),
        sorted(last - first for first, last in done.values()),
        (cpu_seconds(pid) - cpu) / max(wall, time.monotonic() - began),
        most,
    )


def needed(folder: Path) -> tuple[int, int]:
    """Count the requests of the first reading of one quick BMC, and of a later one."""
    with fleet(1, 0.0, 1.0) as bmcs, sink() as where:
        with stage(folder, config(folder, bmcs, where.address, 4.0), QUIET) as muster:
            muster.start("agent")
            deadline = time.monotonic() + 60.0
            while True:
                time.sleep(0.5)
                rounds = bmcs.rounds()["bmc-0000"]
                if len(rounds) > 3:
                    return rounds[0][2], min(count for _, _, count in rounds[1:-1])
                if time.monotonic() > deadline:
                    raise FailedError(f"a BMC was read {len(rounds)} times in 60 s, not every 4 s: {rounds}")


def lines(count: int = 1000, seconds: float = BAR_BMC_SECONDS, say: Callable[[str], None] = tell) -> list[Line]:
    """Measure; at the full size about ten minutes."""
    # the share of threads and the patience stay what they are for a thousand
    usual, scale = RedfishConfig(), seconds / BAR_BMC_SECONDS
    more = (
        f"at_once = {max(1, usual.at_once * min(count, 1000) // 1000)}\nanswer_seconds = {usual.answer_seconds * scale}"
    )
    gap = min(5.0, seconds / 2)
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as name:
        needs = needed(Path(name) / "one")
        say(f"    one BMC: {needs[0]} requests at first, {needs[1]} later")
        found = {}
        for share in (0.0, DEAD):
            say(f"    {count} BMCs, {share:.0%} dead")
            with fleet(count, share, gap) as bmcs:
                found[share] = measure(Path(name) / f"dead{share:g}", bmcs, needs, seconds, more, say)
    result = []
    for index, what in enumerate(("first sweep", "later sweep")):
        all_live, some_dead = found[0.0][index], found[DEAD][index]
        note = f"each BMC {some_dead.took[len(some_dead.took) // 2]:.1f} s"
        result += [
            Line(f"Redfish, {what}, {count} BMCs", all_live.at[-1], "s", SWEEP_BAR_SECONDS * scale, note="all live"),
            Line(f"  {DEAD:.0%} dead", some_dead.at[-1], "s", SWEEP_BAR_SECONDS * scale, note=note),
            Line(
                f"  p99 of the healthy, {DEAD:.0%} dead",
                some_dead.p99() / all_live.p99(),
                "x without",
                1.1,
                note=f"{some_dead.p99():.1f} s, without {all_live.p99():.1f} s",
            ),
            Line("  agent cost", max(all_live.cores, some_dead.cores), "cores", 1.0),
            Line("  agent memory", max(all_live.pss, some_dead.pss), "MB PSS", 400),
        ]
    return result


def main() -> int:
    """Run it; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bmcs", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=BAR_BMC_SECONDS, help="what one BMC takes over a sweep")
    options = parser.parse_args()
    found = lines(options.bmcs, options.seconds)
    show(found)
    return 1 if any(line.verdict == "MISSED" for line in found) else 0


if __name__ == "__main__":
    sys.exit(main())
