"""Claims are carried to their nodes: nodes are told and answer, leases run out, what was used is cleaned.

Nothing here remembers what was begun: every second, and whenever a node of theirs changes, what the ledger says is
compared with what each node was told. So a restart on either side, at any step, goes on where it was, and an undo
that was begun converges (invariant 16).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from http import HTTPStatus
from typing import Any, Final, Protocol

import msgspec
from sqlalchemy import Connection

from aggregator import claim_answers, claim_events, usage
from aggregator.claim_work import unclean, work_of
from aggregator.leases import Leases
from aggregator.ledger import claims, cleaning
from aggregator.ledger.entries import Entry, Forgotten, Provisioned
from aggregator.ledger.journal import LedgerGoneError
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.model import Device
from aggregator.ledger.state import State
from aggregator.ledger.words import LIVE_CLAIMS, ClaimState, Lifecycle, Reach
from aggregator.overdue import Overdue
from aggregator.restoring import Restoring
from collectors.failpoint import failpoint
from schemas.claims import Checkpoint, ClaimReport, ClaimStep, Step
from schemas.errors import MusterError
from schemas.rows import Event

_log = logging.getLogger("muster.claims")
TICK_SECONDS: Final = 1.0
GAP_SECONDS: Final = 0.01
"""Between two looks: what happens meanwhile is looked at together."""
CHORE_SECONDS: Final = 300.0
MOST_DEVICES: Final = 1000
"""Devices that a node is told of at once; the others when these are done."""
_DAY_NS: Final = 86_400 * 10**9


class Tell(Protocol):
    """How a node is told its work."""

    def __call__(self, publisher: str, steps: list[ClaimStep] | None) -> bool:
        """Tell it; False when it is not connected, to be told when it is. None: take back what did not arrive."""


class Policy(msgspec.Struct, frozen=True):
    """How long things may take, and what goes by itself."""

    provision_seconds: float = 300.0
    """A provision that its nodes have not confirmed by then is undone."""
    clean_seconds: float = 3600.0
    """A clean that its node has not answered by then is given up; the device is dirty again."""
    auto_clean: bool = True
    """Clean what was released by itself; else `muster clean` does."""
    remember_seconds: float = 86_400.0
    """How long a claim that is over is shown, and its Idempotency-Key gives it again."""
    remember_most: int = 100_000
    """Of more claims that are over the oldest are let go before that time."""
    usage_days: float = 400.0
    """How long the record is kept of what a claim had."""


async def _nobody(_events: list[Event]) -> None:
    return None


class ClaimCarrier:
    """What happens to claims between their users and their nodes. For one event loop."""

    def __init__(
        self,
        ledger: Ledger,
        leases: Leases,
        tell: Tell,
        policy: Policy | None = None,
        *,
        announce: Callable[[list[Event]], Awaitable[None]] = _nobody,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._ledger = ledger
        self._leases = leases
        self._tell = tell
        self._policy = policy or Policy()
        self._announce = announce
        self._clock = clock
        self._wall_ns = wall_ns
        self._touched: set[str] = set()
        self._told: dict[str, dict[str, list[ClaimStep] | None]] = {}
        """Publisher -> node that it speaks for -> the work it was last told; None: nobody knows."""
        self._spoke: dict[str, str] = {}
        """Node -> the publisher that was told of its work."""
        self._provisions: Overdue[str] = Overdue(self._policy.provision_seconds, self._is_provisioned)
        self._cleans: Overdue[tuple[str, int]] = Overdue(self._policy.clean_seconds, self._is_cleaned)
        """(device, sequence at which its clean was begun): those that a node was told of."""
        self._restoring = Restoring(ledger, leases, announce, clock=clock, wall_ns=wall_ns)
        self._announced = 0
        """Sequence of the last entry whose events were told."""
        self._looked = self._chores = float("-inf")
        self._wake = asyncio.Event()

    async def open(self) -> None:
        """Begin, before anybody else writes into the ledger. Raises MusterError when it cannot be written."""
        await self._restoring.begin(self._ledger.peek())

    def wake(self) -> None:
        """Look soon: something changed that a node may have to hear of."""
        self._wake.set()

    # --- what nodes answer --------------------------------------------------------------------------------------------

    def checkpoint(self, publisher: str, kept: Checkpoint) -> None:
        """Take what a node says at the beginning of a run that it keeps of claims; it is looked at soon."""
        nodes = self._restoring.take(publisher, kept)
        self._tell_anew(publisher, nodes)  # a new run, or one that does not know us
        self._touched.update(nodes)
        self.wake()

    def _tell_anew(self, publisher: str, nodes: Iterable[str]) -> None:
        """Have a publisher told its work whatever it is; what it was told is taken back where it did not arrive.

        For that may be over: a claim that was fenced, or that the ledger lost. Nobody may prepare anything for it.
        """
        self._tell(publisher, None)
        self._told[publisher] = dict.fromkeys((*self._told.get(publisher, ()), *nodes))

    async def report(self, publisher: str, reports: list[ClaimReport]) -> None:
        """Take a node's word on its work. What it says of other nodes' devices counts for nothing."""
        failpoint("claiming.report.begun")
        took = [
            self._ledger.decide(partial(claim_answers.taken, publisher=publisher, report=report, told=device))
            for report in reports
            for device in report.devices
        ]
        took += [
            self._ledger.decide(partial(claim_answers.kept, publisher=publisher, report=report))
            for report in reports
            if report.nodes
        ]
        for refused in await _all(took):
            if not isinstance(refused, MusterError) or getattr(refused, "status", 503) >= 500:
                raise refused  # it was not decided: the node says it again
            _log.warning("report_refused node=%s error=%s", publisher, refused)
        failpoint("claiming.report.durable")
        self.wake()

    # --- what time does -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look after claims until cancelled."""
        state: State | None = None
        while True:
            self._wake.clear()
            try:
                if self._ledger.peek() is not state:  # read from disk anew: nothing that was known of it holds
                    state = self._ledger.peek()
                    await self._begin(state)
                await self._tick(state)
            except MusterError as error:
                _log.warning("claims_wait error=%s", error)
            await asyncio.sleep(GAP_SECONDS)
            try:
                async with asyncio.timeout(TICK_SECONDS):  # `wait_for` of Python 3.11 may swallow a cancellation
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _begin(self, state: State) -> None:
        mine = set(state.nodes)
        state.listeners = [*(one for one in state.listeners if one is not self._touched), mine]
        self._touched = mine
        self._leases.begin(state.live_claims())
        self._provisions.clear()
        self._cleans.clear()
        for publisher in self._told:
            self._tell_anew(publisher, ())
        self._announced = self._ledger.durable
        self._begin_terms(claim.id for claim in state.live_claims())
        await self._restoring.begin(state)

    async def _tick(self, state: State) -> None:
        await self._expire()
        await self._restoring.restore(state)
        touched = set(self._touched)
        self._touched.clear()
        await self._ledger.settled()  # nobody is told what is not on disk
        for place, name in enumerate(sorted(touched)):
            try:
                await self._look_at(state, name)
            except MusterError:
                self._touched |= touched  # again
                raise
            if place % 32 == 31:
                await asyncio.sleep(0)
        if self._clock() - self._looked >= TICK_SECONDS:
            self._looked = self._clock()
            await self._too_long()
        await self._tell_events(state)
        if self._clock() - self._chores >= CHORE_SECONDS:
            self._chores = self._clock()
            await self._forget(state)

    async def _expire(self) -> None:
        due = [self._ledger.decide(partial(self._expired, claim=claim)) for claim in self._leases.due()]
        for refused in await _all(due):
            if not isinstance(refused, claims.ClaimUnknownError):  # over and forgotten: nothing is left to expire
                raise refused

    def _expired(self, state: State, claim: str) -> tuple[list[Entry], object]:
        """Let a lease run out that was not renewed since it was found due."""
        return ([], None) if self._leases.left(claim) is not None else claims.expire(state, claim)

    async def _look_at(self, state: State, name: str) -> None:
        node = state.nodes.get(name)
        if node is None or not node.publisher:
            return
        self._hand_over(name, node.publisher)
        if node.shown != state.generation:
            return  # what it keeps and is not told of it takes for over: it shows that first
        idle = unclean(state, name)
        if self._policy.auto_clean and node.live and idle:
            begun = [
                self._ledger.decide(partial(_clean, device=device.id))
                for device in idle
                if device.lifecycle is Lifecycle.DIRTY and device.hold is not None and _cleanable(state, device)
            ]
            for refused in await _all(begun):
                not_yet = getattr(refused, "status", None) == HTTPStatus.CONFLICT  # else it could not be written
                _log.log(logging.DEBUG if not_yet else logging.WARNING, "clean_waits node=%s error=%s", name, refused)
        work = work_of(state, name, idle, most=MOST_DEVICES)
        told = self._told.get(node.publisher, {})
        if work == told.get(name, []):
            return
        await self._ledger.settled()
        if self._ledger.peek() is not state:
            return  # it was read from disk again, and may lack what was decided: `run` looks at that anew
        failpoint("claiming.tell")
        told = {**told, name: work}
        if self._tell(node.publisher, _steps(told)):
            self._told[node.publisher] = told
            for one in (one for step in work if step.step is Step.CLEAN for one in step.devices):
                self._cleans.begin((one.device, one.clean), self._clock())
        elif work:
            self._touched.add(name)  # again, when it is connected
        else:
            self._told[node.publisher].pop(name)  # it shows what it keeps when it is, and is told then

    def _hand_over(self, name: str, publisher: str) -> None:
        """Take a node's work back from the publisher that spoke for it before another did."""
        before = self._spoke.get(name, publisher)
        self._spoke[name] = publisher
        if before != publisher and name in (told := self._told.get(before, {})):
            del told[name]
            self._tell(before, _steps(told))

    # --- what must not last -------------------------------------------------------------------------------------------

    def _begin_terms(self, names: Iterable[str]) -> None:
        """Let the terms begin of those claims that are being provisioned."""
        for name in names:
            if self._is_provisioned(name):
                self._provisions.begin(name, self._clock())

    def _is_provisioned(self, name: str) -> bool:
        claim = self._ledger.peek().claims.get(name)
        return claim is not None and claim.state is ClaimState.PROVISIONING

    def _is_cleaned(self, which: tuple[str, int]) -> bool:
        device = self._ledger.peek().devices.get(which[0])
        return device is not None and device.lifecycle is Lifecycle.CLEANING and device.cleaning == which[1]

    async def _too_long(self) -> None:
        """Undo what no node confirms, and give up cleans that no node answers."""
        now = self._clock()
        for name in self._provisions.due(now):
            if self._is_provisioned(name):  # while others were decided it may have ended
                why = f"not confirmed within {self._provisions.seconds:.0f} s"
                await self._ledger.decide(partial(claims.begin_undo, claim=name, why=why))
        for device, clean in self._cleans.due(now):
            if self._is_cleaned((device, clean)):
                await self._ledger.decide(partial(cleaning.abandon_clean, device=device, clean=clean))

    async def _tell_events(self, state: State) -> None:
        """Tell what happened, once it is on disk, and let the terms of provisions begin.

        What a crash leaves untold, the ledger's own feed still has.
        """
        while self._announced < self._ledger.durable:
            try:
                written = await self._ledger.entries(self._announced)
            except LedgerGoneError:
                self._announced = self._ledger.durable
                self._begin_terms(claim.id for claim in state.live_claims())
                return
            self._begin_terms(one.entry.claim for one in written if isinstance(one.entry, Provisioned))
            events = claim_events.events_of(state, written)
            self._announced = written[-1].sequence
            if events:
                await self._announce(events)

    async def _forget(self, state: State) -> None:
        """Let go of claims that are over for long; the ledger keeps their history, and usage what they had."""
        now = self._wall_ns()
        before = now - int(self._policy.remember_seconds * 1e9)
        over = sorted(
            (claim.ended_ns, claim.id)
            for claim in state.claims.values()
            if claim.state not in LIVE_CLAIMS and claim.ended_ns is not None
        )
        most = max(0, len(over) - self._policy.remember_most)
        old = [name for place, (ended_ns, name) in enumerate(over) if place < most or ended_ns < before]
        for at in range(0, len(old), 1000):
            await self._ledger.decide(partial(_forgotten, names=old[at : at + 1000]))
        keep = now - int(self._policy.usage_days * _DAY_NS)

        def sweep(connection: Connection) -> int:
            return usage.forget(connection, keep)

        await self._ledger.database.write(sweep)


def _steps(told: dict[str, list[ClaimStep] | None]) -> list[ClaimStep]:
    """Give the work of all nodes of a publisher as one."""
    return [step for steps in told.values() for step in steps or ()]


async def _all(these: Iterable[Coroutine[Any, Any, object]]) -> list[BaseException]:
    """Have decisions made together, in one commit; give those that were refused."""
    return [one for one in await asyncio.gather(*these, return_exceptions=True) if isinstance(one, BaseException)]


def _cleanable(state: State, device: Device) -> bool:
    return bool(device.released) and state.reach(device) is Reach.LIVE and not claims.may_be_in_use(state, device)


def _clean(state: State, device: str) -> tuple[list[Entry], Device]:
    return cleaning.begin_clean(state, device, who="ledger")


def _forgotten(state: State, names: list[str]) -> tuple[list[Entry], None]:
    gone = [name for name in names if (claim := state.claims.get(name)) is not None and claim.state not in LIVE_CLAIMS]
    return ([Forgotten(gone)] if gone else []), None
