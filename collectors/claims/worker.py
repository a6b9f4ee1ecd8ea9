"""What a node has to do for claims, and how far it is: compared with what it is told, again and again.

The aggregator sends all of a node's work whenever it changes. What is new is done, once; what is over is forgotten;
what is done is reported until it is no longer among the work. A step runs in other hands (`crew`, or a simulation):
here is only what may run, what it waits for, and what came of it. Safe from any thread.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Final

import msgspec

from collectors.claims.checkpoint import CheckpointError, CheckpointFile, EpochError, exclusive
from collectors.claims.order import Order, order_of, wrong_with
from collectors.failpoint import failpoint
from schemas.claims import Checkpoint, ClaimDevice, ClaimReport, ClaimStep, DeviceReport, Step

_log = logging.getLogger("muster.claims")
RETRY_SECONDS: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
"""After how long a device is looked at again that is still in use, or whose undo failed; the last one for good."""
MAX_REPORTS: Final = 256
"""Devices of one request."""
_FINAL: Final = frozenset({Step.PREPARE, Step.CLEAN})
"""Steps whose failure the ledger decides about; the others are tried again here."""

Key = tuple[str, Step, str, int, int, int]


class JobState(Enum):
    """How far a step of a device is."""

    READY = "ready"
    WAITING = "waiting"
    """Somebody on the node does it, and has not confirmed it yet."""
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    """And it is not tried again by itself."""


class Job(msgspec.Struct):
    """One step for one device."""

    work: ClaimStep
    device: ClaimDevice
    state: JobState
    report: DeviceReport | None = None
    """What is told of it; None while there is nothing."""
    told: bool = False
    """Whether a request carried the report and was answered."""
    carried: bool = False
    """Whether a request is under way that carries it."""
    tries: int = 0
    not_before: float = 0.0
    """By the monotonic clock."""

    @property
    def order(self) -> Order:
        """What is to be done."""
        return order_of(self.work, self.device)


class _Keeping(msgspec.Struct):
    """A step without devices, once it is kept."""

    work: ClaimStep
    told: bool = False
    carried: bool = False
    """As of a `Job`."""


class Worker:
    """One node's work."""

    def __init__(
        self,
        checkpoint: CheckpointFile,
        boot: str,
        *,
        by_hand: Callable[[Step, ClaimDevice], bool] = lambda _step, _device: False,
        changed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`by_hand`: tells which steps somebody on the node confirms. `changed`: there is something to do or to say."""
        self._checkpoint = checkpoint
        self._boot = boot
        self._by_hand = by_hand
        self._changed = changed
        self._clock = clock
        self._lock = threading.Lock()
        self._jobs: dict[Key, Job] = {}
        self._busy: set[str] = set()
        self._amounts: list[ClaimStep] | None = None
        """Steps without devices that are yet to be kept."""
        self._keeping: dict[tuple[str, str], _Keeping] = {}
        """(claim, node) -> what the aggregator waits to hear of, that it is kept."""

    # --- the control channel ------------------------------------------------------------------------------------------

    def set_work(self, steps: list[ClaimStep]) -> None:
        """Take all of the node's work. What runs and is not among it any more ends by itself, and is not told."""
        with self._lock:
            wanted: dict[Key, Job] = {}
            for step in steps:
                for device in step.devices:
                    key = _key(step, device)
                    job = self._jobs.get(key)
                    if job is None:
                        hand = step.step is not Step.CHECK and self._by_hand(step.step, device)
                        job = Job(step, device, JobState.WAITING if hand else JobState.READY)
                    job.told = False  # it was not taken: or it is told once too often, which changes nothing
                    wanted[key] = job
            self._jobs = wanted
            self._amounts = [step for step in steps if not step.devices]
            self._keeping = {
                (step.claim, node): _Keeping(step) for step in self._amounts if step.confirm for node in step.amounts
            }
            self._hold()
        self._changed()

    def _hold(self) -> None:
        """Keep what claims hold that have no devices here. What cannot be written is tried again."""
        if self._amounts is None:
            return
        try:
            self._checkpoint.hold(self._amounts)
        except CheckpointError as error:
            _log.warning("amounts_not_kept claims=%d error=%s (it is tried again)", len(self._amounts), error)
        else:
            self._amounts = None

    def reports(self) -> list[ClaimReport] | None:
        """Give what was not told yet; None when there is nothing. `heard` or `unheard` says what became of it."""
        with self._lock:
            told: dict[tuple[str, Step, int, int], ClaimReport] = {}
            count = 0
            for job in self._jobs.values():
                if job.report is None or job.told or job.carried or count == MAX_REPORTS:
                    continue
                job.carried = True
                count += 1
                step = job.work
                key = (step.claim, step.step, step.generation, step.sequence)
                report = told.setdefault(key, ClaimReport(*key, []))
                report.devices.append(job.report)
            return [*told.values(), *self._kept(MAX_REPORTS - count)] or None

    def _kept(self, most: int) -> Iterator[ClaimReport]:
        for (claim, node), one in self._keeping.items() if self._amounts is None else ():
            if one.told or one.carried or most <= 0:
                continue
            one.carried = True
            most -= 1
            yield ClaimReport(claim, Step.PREPARE, one.work.generation, one.work.sequence, [], [node])

    def _told(self) -> "Iterator[Job | _Keeping]":
        yield from self._jobs.values()
        yield from self._keeping.values()

    def heard(self) -> None:
        """The request that carried the reports was answered."""
        with self._lock:
            for one in self._told():
                one.told, one.carried = one.told or one.carried, False

    def unheard(self) -> None:
        """Nobody answered: who answers next is told everything."""
        with self._lock:
            for one in self._told():
                one.told = one.carried = False

    @property
    def has_news(self) -> bool:
        """Whether there is something to report that no request carries yet."""
        with self._lock:
            kept = self._keeping.values() if self._amounts is None else ()
            return any(not (one.told or one.carried) for one in kept) or any(
                job.report is not None and not (job.told or job.carried) for job in self._jobs.values()
            )

    def checkpoint(self) -> Checkpoint:
        """Give what is kept of claims."""
        with self._lock:
            return self._checkpoint.message()

    # --- who does the steps -------------------------------------------------------------------------------------------

    def take(self) -> tuple[Job, Order] | None:
        """Give a step that may run now, its epoch kept on disk; None when there is none. Call `finish` with it.

        The order's hook is left out where the device was confirmed in this boot already: it is only read again.
        """
        now = self._clock()
        with self._lock:
            self._hold()
            for job in self._jobs.values():
                if job.state is not JobState.READY or job.not_before > now or exclusive(job.device) & self._busy:
                    continue
                problem = self._admit(job)
                if problem:
                    self._end(job, DeviceReport(job.device.device, done=False, problem=problem))
                    continue
                job.state = JobState.RUNNING
                self._busy |= exclusive(job.device)
                return job, job.order
        return None

    def confirmed_before(self, job: Job) -> bool:
        """Tell whether a device was prepared for this claim in this boot: its hook need not run again."""
        with self._lock:
            kept = self._checkpoint.kept(job.work, job.device.device)
            return job.work.step is Step.PREPARE and kept is not None and kept.boot == self._boot

    def has_beside(self, job: Job) -> bool:
        """Tell whether the tenant has another member of a device's IOMMU group in this boot."""
        with self._lock:
            return self._checkpoint.beside(job.work, job.device, self._boot)

    def _admit(self, job: Job) -> str:
        """Say why a step must not run; "" when it may. Its epoch is on disk then."""
        wrong = wrong_with(job.order)
        if wrong:
            return f"refused: {wrong}"
        try:
            self._checkpoint.refuse_older(job.work, job.device)
            if job.work.step in (Step.PREPARE, Step.CLEAN):
                self._checkpoint.raise_fences(job.work, job.device)
        except (EpochError, CheckpointError) as error:
            return f"{error.code}: {error}"
        failpoint(f"claims.{job.work.step.value}.begun")
        return ""

    def finish(self, job: Job, report: DeviceReport) -> None:
        """Take what became of a step. Success is told once it is on disk."""
        failpoint(f"claims.{job.work.step.value}.done")
        with self._lock:
            self._busy -= exclusive(job.device)
            if report.done:
                report = self._keep(job, report)
            self._end(job, report)
        failpoint(f"claims.{job.work.step.value}.kept")
        self._changed()

    def _keep(self, job: Job, report: DeviceReport) -> DeviceReport:
        try:
            if job.work.step is Step.PREPARE:
                self._checkpoint.confirm(job.work, job.device, self._boot)
            elif job.work.step is not Step.CHECK:  # after which its holder may still come back
                self._checkpoint.forget(job.device.device)
        except CheckpointError as error:
            return DeviceReport(job.device.device, done=False, problem=f"{error.code}: {error}")
        return report

    def _end(self, job: Job, report: DeviceReport) -> None:
        report = msgspec.structs.replace(report, clean=job.device.clean)
        news = job.report is None or job.report.done != report.done or job.report.problem != report.problem
        job.report = report
        if news:
            job.told = job.carried = False
        if report.done:
            job.state = JobState.DONE
        elif job.work.step in _FINAL:
            job.state = JobState.FAILED
        else:
            job.state = JobState.READY
            job.not_before = self._clock() + RETRY_SECONDS[min(job.tries, len(RETRY_SECONDS) - 1)]
            job.tries += 1

    def wait_seconds(self) -> float | None:
        """Give the seconds until a step is to be tried again; None when none waits for that."""
        with self._lock:
            now = self._clock()
            times = [job.not_before for job in self._jobs.values() if job.state is JobState.READY]
            if self._amounts is not None:
                times.append(now + RETRY_SECONDS[1])
            return max(0.0, min(times) - now) if times else None

    # --- who does steps by hand ---------------------------------------------------------------------------------------

    def word(self, claim: str, devices: list[str], problem: str = "") -> list[str]:
        """Take the word of who does steps by hand: done, or why not. Give the devices that waited for it."""
        with self._lock:
            found = [job for job in self._of(claim, devices) if job.state is JobState.WAITING]
            for job in found:
                if problem:
                    self._end(job, DeviceReport(job.device.device, done=False, problem=problem))
                    if job.state is JobState.READY:  # it is tried again when it is confirmed again
                        job.state = JobState.WAITING
                else:
                    job.state = JobState.READY
        self._changed()
        return [job.device.device for job in found]

    def jobs(self) -> list[Job]:
        """Give copies of all steps, for people."""
        with self._lock:
            return [msgspec.structs.replace(job) for job in self._jobs.values()]

    def _of(self, claim: str, devices: list[str]) -> Iterator[Job]:
        for job in self._jobs.values():
            if job.work.claim == claim and (not devices or job.device.device in devices):
                yield job


def _key(step: ClaimStep, device: ClaimDevice) -> Key:
    return (step.claim, step.step, device.device, step.generation, step.sequence, device.clean)
