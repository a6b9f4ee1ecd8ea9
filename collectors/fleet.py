"""A process of simulated nodes: steps each at its time, and commits what all of them say together, ten times a second.

Physics and batches are made on the thread that calls `run`; a few threads send; one waits for the control channels.
"""

import gc
import heapq
import json
import logging
import resource
import sqlite3
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from collectors.claims.checkpoint import CheckpointFile
from collectors.config import AgentConfig
from collectors.enrolment import NodeToken, authority_of
from collectors.fleet_channel import FleetChannel
from collectors.fleet_costs import PHASES, Costs
from collectors.fleet_describing import Describing
from collectors.fleet_node import FleetNode, NodeSetup
from collectors.fleet_senders import PooledSender, Senders
from collectors.fleet_socket import FaultSocket
from collectors.simulated.fleet import Fleet
from collectors.spool import Filling, Spool, commit_together, open_spools
from collectors.spool_file import SpoolFile
from collectors.transport import Transport
from schemas.errors import SpoolError
from schemas.rows import Parcel

_log = logging.getLogger("muster.fleet")
TICK_SECONDS: Final = 0.1
"""How often is committed."""
LONGEST_TICK_SECONDS: Final = 0.5
"""So much is stepped at most before what it gave is committed."""
SPREAD_SECONDS: Final = 4.0
"""The first steps of a large fleet are spread over so long, so that its batches come evenly."""
SPREAD_EACH: Final = 0.02
ROOM_PER_NODE: Final = 1 << 20
"""Every node has at least so much of the spool: its documents alone take a part of that."""
HURRY_SECONDS: Final = 0.5
"""Who watches or grants makes a node speak sooner, but not more often than this."""
MOST_THREADS: Final = 16
"""They wait for answers nearly all the time, and the aggregator's log commits for all of them at once."""
SUMMARY_SECONDS: Final = 10.0


class Report(msgspec.Struct, kw_only=True):
    """What a fleet did and what it cost. One JSON line on exit and on SIGUSR1."""

    simulated: bool = True
    nodes: int
    seconds: float
    """Since it started, by the monotonic clock."""
    steps: int
    late_steps: int
    """Steps that were left out because there was no time for them."""
    rows: int
    """Committed to the spool."""
    batches: int
    commits: int
    sent_rows: int
    quarantined_batches: int
    backlog_batches: int
    failing: int
    """Nodes whose last request failed."""
    cpu_seconds: float
    """Of the whole process."""
    cpu: dict[str, float]
    """Of those, by phase; `other` is the rest: starting, scheduling, collecting garbage."""
    max_rss_bytes: int


class FleetRun:
    """Runs the nodes of a fleet as publishers, until `stop` or for a time."""

    def __init__(
        self,
        fleet: Fleet,
        config: AgentConfig,
        folder: Path,
        *,
        interval: float,
        token: str = "",
        documents: bool = True,
        claim_speed: float = 1.0,
    ) -> None:
        """Open the fleet's spool under `folder`. Raises SpoolError and ConfigError."""
        self._started = time.monotonic()
        self._interval = interval
        self._documents = documents
        self.costs = Costs()
        authority = authority_of(config.publish, folder)

        def transport(timeout: float = config.publish.timeout_seconds) -> Transport:
            return Transport(config.addresses, authority=authority, timeout=timeout)

        self._sender = sender = PooledSender(transport)
        setup = NodeSetup(
            config.collector_levels.get("simulated", config.level),
            interval,
            sender,
            self._hurry,
            config.publish.enrolment_token,
            self._called,
            claim_speed,
        )
        spools, self.file = _open(folder, fleet, config)
        self.nodes = [
            FleetNode(node, spool, _token(folder, node.name, config, token), setup, _checkpoint(folder, node.name))
            for node, spool in zip(fleet.nodes, spools, strict=True)
        ]
        self._index = {one.node.id: index for index, one in enumerate(self.nodes)}
        self._senders = Senders(self.nodes, sender, self.costs, min(MOST_THREADS, len(self.nodes)))
        sessions = [one.session for one in self.nodes]
        silent = [one.node for one in self.nodes]
        self._channel = FleetChannel(transport(5.0), sessions, self.costs, silent=lambda index: silent[index].silent)
        self._faults = FaultSocket(folder / "control.sock", fleet)
        self._turns: list[tuple[float, int]] = []
        self._hurried: deque[str] = deque()
        self._called_for: deque[str] = deque()
        self._working: set[int] = set()
        """Nodes that have something to do for claims."""
        self._asked: deque[Callable[[], None]] = deque()
        self._describing = Describing(self.nodes, self._started)
        self._kept: list[Filling] = []
        self._retry_at = 0.0
        self._stopping = False
        self._report_wanted = False
        self._summed_at = self._started
        self._failing = self._quarantined = 0
        self._steps = self._late = self._rows = self._batches = self._commits = 0

    @property
    def standing_still(self) -> bool:
        """Whether nothing new begins to exist, because the disk takes nothing."""
        return bool(self._kept)

    def stop(self) -> None:
        """Come to an end. Safe from a signal's handler and from any thread."""
        self._stopping = True

    def ask(self, call: Callable[[], None]) -> None:
        """Have something short called by the thread that calls `run`, soon."""
        self._asked.append(call)

    def want_report(self) -> None:
        """Print a report soon. Safe from a signal's handler."""
        self._report_wanted = True

    def run(self, duration: float | None = None, linger: float = 3.0) -> None:
        """Work until `stop`, or for `duration` seconds; then send what is left for at most `linger` seconds."""
        now = time.monotonic()
        step = min(SPREAD_SECONDS / len(self.nodes), SPREAD_EACH)
        first = [index * step for index in range(len(self.nodes))]
        for index, seconds in enumerate(first):
            self._turn(index, now + seconds)
        self._senders.start(first)
        self._channel.start(first)
        self._faults.start()
        gc.collect()
        gc.freeze()  # what is there now stays: no collection need look at it again
        gc.set_threshold(50_000, 20, 50)  # rows and batches come and go in numbers, and hold no cycles
        end = now + duration if duration else float("inf")
        while not self._stopping and (now := time.monotonic()) < end:
            self.tick(now)
            while self._asked:
                self._asked.popleft()()
            if self._report_wanted:
                self._report_wanted = False
                self.print_report()
            time.sleep(max(0.0, now + TICK_SECONDS - time.monotonic()))
        self._finish(linger)

    def tick(self, now: float) -> None:
        """Do what is due now, and commit what came of it."""
        self._faults.serve()
        self._work(now)
        if self._kept and not (now >= self._retry_at and self._commit(self._kept)):
            return  # the disk takes nothing: nothing new begins to exist meanwhile
        for name in self._take_hurried():
            index = self._index[name]
            sooner = max(now, self.nodes[index].due - self._interval + HURRY_SECONDS)
            if sooner < self.nodes[index].due:
                self._turn(index, sooner)
        with self.costs.phase("physics"):
            stepped = self._step(now)
        with self.costs.phase("encoding"):
            fillings = self._gather(stepped, now)
        if fillings:
            self._commit(list(fillings.values()))
        elif now - self._summed_at >= SUMMARY_SECONDS / 10:
            self._flush()
        self._summarise(now)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _work(self, now: float) -> None:
        """Have nodes do what claims ask of them."""
        while self._called_for:
            self._working.add(self._index[self._called_for.popleft()])
        for index in list(self._working):
            one = self.nodes[index]
            more = one.work(now)
            if one.worker.has_news:
                self._senders.wake([index])
            elif not more:
                self._working.discard(index)

    def _called(self, name: str) -> None:
        self._called_for.append(name)

    def _turn(self, index: int, when: float) -> None:
        self.nodes[index].due = when
        heapq.heappush(self._turns, (when, index))

    def _step(self, now: float) -> list[tuple[FleetNode, list[Parcel]]]:
        """Step the nodes that are due; give each with what it says."""
        stepped = []
        while self._turns and self._turns[0][0] <= now:
            due, index = heapq.heappop(self._turns)
            one = self.nodes[index]
            if due != one.due:
                continue  # it was hurried
            stepped.append((one, one.step(time.time_ns())))
            behind = int((now - due) // self._interval)
            self._late += behind
            self._turn(index, due + (behind + 1) * self._interval)
            if len(stepped) % 64 == 0 and time.monotonic() - now > LONGEST_TICK_SECONDS:
                break
        self._steps += len(stepped)
        return stepped

    def _gather(self, stepped: list[tuple[FleetNode, list[Parcel]]], now: float) -> dict[str, Filling]:
        """Give what is to be committed, by node."""
        fillings: dict[str, Filling] = {}
        for one, parcels in stepped:
            one.gather(parcels, now)
            if (filling := one.flush(now)) is not None:
                fillings[one.node.id] = filling
        if self._documents:
            for one, batches in self._describing.due(now, [one for one, _ in stepped]):
                filling = fillings.setdefault(one.node.id, Filling(one.spool))
                filling.batches = [*filling.batches, *batches]
        return fillings

    def _commit(self, fillings: list[Filling]) -> bool:
        """Commit; on failure keep what could not be, and tell."""
        try:
            with self.costs.phase("spool"):
                held = commit_together(fillings)
        except SpoolError as error:
            if not self._kept:
                _log.error(
                    "fleet_commit_failed nodes=%d error=%s: nodes stand still until it works", len(fillings), error
                )
            self._kept, self._retry_at = fillings, time.monotonic() + 1.0
            self._flush()
            return False
        if self._kept:
            _log.info("fleet_commits_again")
            self._kept = []
        self._commits += 1
        self._batches += sum(map(len, held))
        self._rows += sum(batch.rows for batches in held for batch in batches)
        self._senders.wake(self._index[filling.spool.publisher] for filling in fillings)
        return True

    def _flush(self) -> None:
        """Do on disk what senders left to the next commit."""
        try:
            with self.costs.phase("spool"), self.file.lock:
                self.file.flush()
        except sqlite3.Error as error:
            _log.debug("fleet_flush_failed error=%s", error)

    def _take_hurried(self) -> set[str]:
        names = set()
        while self._hurried:
            names.add(self._hurried.popleft())
        return names

    def _hurry(self, name: str) -> None:
        self._hurried.append(name)

    def _summarise(self, now: float) -> None:
        """Say when publishing begins to fail, and when it works again: one line for all nodes."""
        if now - self._summed_at < SUMMARY_SECONDS:
            return
        self._summed_at = now
        problems = [one.problem for one in self.nodes if one.problem]
        if problems and not self._failing:
            _log.warning("fleet_publish_failed nodes=%d of=%d reason=%s", len(problems), len(self.nodes), problems[0])
        elif self._failing and not problems:
            _log.info("fleet_publishing_again nodes=%d", len(self.nodes))
        self._failing = len(problems)
        quarantined = sum(one.publisher.status.quarantined_batches for one in self.nodes)
        if quarantined > self._quarantined:
            _log.warning("fleet_quarantined batches=%d", quarantined - self._quarantined)
            self._quarantined = quarantined

    def _finish(self, linger: float) -> None:
        """Commit what was gathered, send for a while, and close."""
        self._faults.stop()
        now = time.monotonic()
        last = [filling for one in self.nodes if (filling := one.flush(now, everything=True)) is not None]
        if self._kept:
            self._commit(self._kept)
        if last and not self._kept:
            self._commit(last)
        end = now + linger
        while time.monotonic() < end and any(map(self._sends, self.nodes)):
            time.sleep(0.02)
        self._channel.stop()
        self._senders.stop()
        for one in self.nodes:
            if time.monotonic() >= end or not one.say_goodbye():
                break  # who is not there to hear one hears none of the others either
        self._sender.close()
        self._flush()
        self.print_report()
        with self.file.lock:
            self.file.close()

    @staticmethod
    def _sends(one: FleetNode) -> bool:
        return bool(len(one.spool)) and not one.problem and not one.node.silent

    # --- telling -----------------------------------------------------------------------------------------------------

    def report(self) -> Report:
        """Give what was done so far."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        total = usage.ru_utime + usage.ru_stime
        cpu = self.costs.spent()
        cpu["other"] = max(0.0, total - sum(cpu[name] for name in PHASES))
        return Report(
            nodes=len(self.nodes),
            seconds=round(time.monotonic() - self._started, 3),
            steps=self._steps,
            late_steps=self._late,
            rows=self._rows,
            batches=self._batches,
            commits=self._commits,
            sent_rows=sum(one.publisher.status.sent_rows for one in self.nodes),
            quarantined_batches=sum(one.publisher.status.quarantined_batches for one in self.nodes),
            backlog_batches=sum(len(one.spool) for one in self.nodes),
            failing=sum(1 for one in self.nodes if one.problem),
            cpu_seconds=round(total, 3),
            cpu={name: round(seconds, 3) for name, seconds in cpu.items()},
            max_rss_bytes=usage.ru_maxrss * 1024,
        )

    def print_report(self, write: Callable[[str], object] = sys.stdout.write) -> None:
        """Print the report as one JSON line."""
        write(json.dumps(msgspec.to_builtins(self.report())) + "\n")
        sys.stdout.flush()


def _open(folder: Path, fleet: Fleet, config: AgentConfig) -> tuple[list[Spool], SpoolFile]:
    path, nodes = folder / "spool.db", fleet.nodes
    room = max(ROOM_PER_NODE, config.spool.max_bytes // len(nodes))
    spools, file = open_spools(path, [(one.id, one.boot_id) for one in nodes], max_bytes=room, later=True)
    named = {one.id for one in nodes}
    left = [name for (name,) in file.db.execute("SELECT DISTINCT publisher FROM batch") if name not in named]
    if left:
        _log.warning(
            "fleet_left_behind publishers=%d first=%s: their rows wait for a fleet with them", len(left), left[0]
        )
    return spools, file


def _checkpoint(folder: Path, name: str) -> CheckpointFile:
    """Give what a node keeps of claims. A power loss may cost a simulated node the last of it."""
    return CheckpointFile(folder / "claims" / f"{name}.json", durable=False)


def _token(folder: Path, name: str, config: AgentConfig, token: str) -> NodeToken:
    """Give the token of a node: the one for all, or one of its own that it enrols for."""
    own = folder / "nodes" / name
    if config.publish.enrolment_token:
        own.mkdir(parents=True, exist_ok=True, mode=0o700)
    return NodeToken(own / "token", token or config.publish.token)
