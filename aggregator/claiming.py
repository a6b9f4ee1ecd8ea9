"""Claims at work: users ask, nodes are told and answer, leases run out, what was used is cleaned.

Nothing here remembers what was begun: every second, and whenever a node of theirs changes, what the ledger says is
compared with what each node was told. So a restart on either side, at any step, goes on where it was, and an undo
that was begun converges (invariant 16).
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import msgspec
from sqlalchemy import Connection

from aggregator import claim_events, usage
from aggregator.claim_work import unclean, work_of
from aggregator.leases import Leases
from aggregator.ledger import claims, cleaning, evidence
from aggregator.ledger.claims import Ask, NotGrantedError
from aggregator.ledger.entries import Entry, Forgotten
from aggregator.ledger.evidence import EvidenceError
from aggregator.ledger.journal import LedgerGoneError
from aggregator.ledger.ledger import Ledger, LedgerBusyError
from aggregator.ledger.model import Claim, Device
from aggregator.ledger.state import State
from aggregator.ledger.words import LIVE_CLAIMS, ClaimState, Epoch, Lifecycle, Reach
from aggregator.restoring import Restoring
from collectors.failpoint import failpoint
from schemas.claims import Checkpoint, ClaimReport, ClaimStep, DeviceReport, Step
from schemas.errors import MusterError
from schemas.evidence import PowerReadback
from schemas.rows import Event

_log = logging.getLogger("muster.claims")
T = TypeVar("T")
TICK_SECONDS: Final = 1.0
GAP_SECONDS: Final = 0.01
"""Between two looks: what happens meanwhile is looked at together."""
MOST_WAITING: Final = 4096
"""Requests that wait for the disk at once; more are asked to come again."""
CHORE_SECONDS: Final = 300.0
MOST_DEVICES: Final = 1000
"""Devices that a node is told of at once; the others when these are done."""
_DAY_NS: Final = 86_400 * 10**9


class Tell(Protocol):
    """How a node is told its work."""

    def __call__(self, publisher: str, steps: list[ClaimStep]) -> bool:
        """Tell it; False when it is not connected, to be told when it is."""


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
    usage_days: float = 400.0
    """How long the record is kept of what a claim had."""


async def _nobody(_events: list[Event]) -> None:
    return None


class Claiming:
    """Everything that happens to claims. For one event loop."""

    def __init__(
        self,
        ledger: Ledger,
        tell: Tell,
        policy: Policy | None = None,
        *,
        announce: Callable[[list[Event]], Awaitable[None]] = _nobody,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._ledger = ledger
        self._tell = tell
        self._policy = policy or Policy()
        self._announce = announce
        self._clock = clock
        self._wall_ns = wall_ns
        self.leases = Leases(clock)
        self._touched: set[str] = set()
        self._told: dict[str, dict[str, list[ClaimStep]]] = {}
        """Publisher -> node that it speaks for -> the work it was last told."""
        self._since: dict[tuple[str, str], float] = {}
        """(claim or device, what is awaited) -> since when."""
        self._restoring = Restoring(ledger, self.leases, announce, clock=clock, wall_ns=wall_ns)
        self._announced = 0
        """Sequence of the last entry whose events were told."""
        self._looked = self._chores = float("-inf")
        self._waiting = 0
        self._wake = asyncio.Event()

    async def open(self) -> None:
        """Begin, before anybody else writes into the ledger. Raises MusterError when it cannot be written."""
        await self._restoring.begin(self._ledger.peek())

    # --- what users ask -----------------------------------------------------------------------------------------------

    async def grant(self, ask: Ask) -> Claim:
        """Grant what is asked for. Raises NotGrantedError, ClaimInvalidError, ClaimError."""
        name = f"c-{secrets.token_hex(5)}"
        if self._waiting >= MOST_WAITING:
            raise LedgerBusyError("too many requests wait for the disk: try again in a moment")
        self._waiting += 1
        try:
            found = await self._ledger.decide(lambda state: claims.grant(state, ask, name))
        finally:
            self._waiting -= 1
        return await self._follow(found)

    async def provision(self, claim: str, version: int | None = None) -> Claim:
        """Let the nodes be told; what they confirm makes the claim active. A device that changed gives it all back."""
        try:
            await self._ledger.decide(lambda state: claims.provision(state, claim, version))
        except NotGrantedError as error:
            changed = error.objections[0]
            await self._ledger.decide(lambda state: _give_back(state, changed.device, changed.message))
            raise
        failpoint("claiming.provision.durable")
        return await self._follow(claim)

    async def renew(self, claim: str, lease_seconds: float | None = None, version: int | None = None) -> Claim:
        """Begin the lease anew."""
        await self._ledger.decide(lambda state: claims.renew(state, claim, lease_seconds, version))
        return await self._follow(claim, renewed=True)

    async def release(self, claim: str, who: str, why: str = "", version: int | None = None) -> Claim:
        """Give a claim back."""
        await self._ledger.decide(lambda state: claims.release(state, claim, who=who, why=why, version=version))
        return await self._follow(claim)

    async def clean(self, device: str, who: str) -> Device:
        """Have a device cleaned. Raises NotGrantedError, TransitionError, DeviceUnknownError."""
        return await self._changed(lambda state: cleaning.begin_clean(state, device, who=who))

    async def attest(self, device: str, who: str, statement: str) -> Device:
        """Take an operator's word that a device is clean."""
        return await self._changed(lambda state: cleaning.attest(state, device, who, statement))

    async def retire(self, device: str, who: str, why: str) -> Device:
        """Take a device out for good."""
        return await self._changed(
            lambda state: (cleaning.retire(state, [device], who, why)[0], cleaning.find(state, device))
        )

    async def reinstate(self, device: str, who: str, why: str) -> Device:
        """Put a retired device back, dirty."""
        return await self._changed(
            lambda state: (cleaning.reinstate(state, [device], who, why)[0], cleaning.find(state, device))
        )

    async def fence(
        self, node: str, who: str, *, power: PowerReadback | None = None, statement: str = ""
    ) -> list[Claim]:
        """Take it as proved that nothing runs on a node."""
        found = await self._changed(lambda state: cleaning.fence(state, node, who, power=power, statement=statement))
        for claim in found:
            self.leases.follow(claim)
        return found

    async def _changed(self, decision: Callable[[State], tuple[list[Entry], T]]) -> T:
        found = await self._ledger.decide(decision)
        self._wake.set()
        return found

    async def _follow(self, claim: str, *, renewed: bool = False) -> Claim:
        found = claims.find(self._ledger.peek(), claim)
        self.leases.follow(found, renewed=renewed)
        if found.state is not ClaimState.RESERVED:  # of what is only reserved no node hears
            self._wake.set()
        return await self._ledger.read(lambda state: claims.find(state, claim))

    # --- what nodes answer --------------------------------------------------------------------------------------------

    def checkpoint(self, publisher: str, kept: Checkpoint) -> None:
        """Take what a node says at the beginning of a run that it keeps of claims; it is looked at soon."""
        self._restoring.take(publisher, kept)
        self._told.pop(publisher, None)  # a new run, or one that does not know us: tell it everything
        for node in self._ledger.peek().nodes.values():
            if node.publisher == publisher:
                self._touched.add(node.id)
        self._wake.set()

    async def report(self, publisher: str, reports: list[ClaimReport]) -> None:
        """Take a node's word on its work. What it says of other nodes' devices counts for nothing."""
        failpoint("claiming.report.begun")
        took = [
            self._ledger.decide(partial(self._taken, publisher=publisher, report=report, told=device))
            for report in reports
            for device in report.devices
        ]
        for refused in await _all(took):
            if not isinstance(refused, MusterError) or getattr(refused, "status", 503) >= 500:
                raise refused  # it was not decided: the node says it again
            _log.warning("report_refused node=%s error=%s", publisher, refused)
        failpoint("claiming.report.durable")
        self._wake.set()

    def _taken(
        self, state: State, publisher: str, report: ClaimReport, told: DeviceReport
    ) -> tuple[list[Entry], object]:
        device = cleaning.find(state, told.device)
        if state.nodes[device.node].publisher != publisher:
            raise claims.ClaimError(f"{told.device} is not a device of {publisher}")
        epoch = Epoch(report.generation, report.sequence)
        match report.step:
            case Step.PREPARE if told.done:
                return self._prepared(state, report.claim, epoch, device, told)
            case Step.PREPARE:
                if claims.find(state, report.claim).epoch != epoch:
                    raise claims.ClaimError(f"claim {report.claim} has another epoch than {epoch}")
                return claims.begin_undo(state, report.claim, f"{device.id}: {told.problem}")
            case Step.UNDO | Step.CHECK if told.done:
                return claims.undone(state, report.claim, epoch, [device.id])
            case Step.CLEAN:
                return _cleaned(state, device, told, publisher)
        return [], None

    @staticmethod
    def _prepared(
        state: State, claim: str, epoch: Epoch, device: Device, told: DeviceReport
    ) -> tuple[list[Entry], object]:
        held = next((one for one in claims.find(state, claim).devices if one.device == device.id), None)
        wrong = ""
        if held is None or told.part != held.part:
            wrong = f"{device.id}: the node found the part {told.part}"
        elif device.group is not None and told.group != device.group:
            wrong = f"{device.id}: the node found it in IOMMU group {told.group}, not {device.group}"
        if wrong:
            return claims.begin_undo(state, claim, wrong)
        return claims.confirm(state, claim, epoch, [device.id])

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
        self.leases.begin(state.live_claims())
        self._since.clear()
        self._told.clear()
        self._announced = self._ledger.durable
        await self._restoring.begin(state)

    async def _tick(self, state: State) -> None:
        for claim in self.leases.due():
            await self._ledger.decide(partial(claims.expire, claim=claim))
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
            await self._too_long(state)
        await self._tell_events(state)
        if self._clock() - self._chores >= CHORE_SECONDS:
            self._chores = self._clock()
            await self._forget(state)

    async def _look_at(self, state: State, name: str) -> None:
        node = state.nodes.get(name)
        if node is None or not node.publisher:
            return
        idle = unclean(state, name)
        if self._policy.auto_clean and node.live and idle:
            begun = [
                self._ledger.decide(partial(_clean, device=device.id))
                for device in idle
                if device.lifecycle is Lifecycle.DIRTY and device.hold is not None and _cleanable(state, device)
            ]
            for refused in await _all(begun):
                _log.debug("clean_waits node=%s error=%s", name, refused)
        work = work_of(state, name, idle, most=MOST_DEVICES)
        told = self._told.get(node.publisher, {})
        if work == told.get(name, []):
            return
        await self._ledger.settled()
        failpoint("claiming.tell")
        told = {**told, name: work}
        if self._tell(node.publisher, [step for steps in told.values() for step in steps]):
            self._told[node.publisher] = told
        else:
            self._touched.add(name)  # again, when it is connected

    # --- what must not last -------------------------------------------------------------------------------------------

    async def _too_long(self, state: State) -> None:
        """Undo what no node confirms, and give up cleans that no node answers."""
        now = self._clock()
        waiting: dict[tuple[str, str], float] = {}
        for tenant in state.tenants.values():
            for name in tenant.claims:
                if state.claims[name].state is ClaimState.PROVISIONING:
                    waiting[name, "provision"] = self._policy.provision_seconds
        for step in (step for told in self._told.values() for steps in told.values() for step in steps):
            if step.step is Step.CLEAN:
                waiting |= {(one.device, str(one.clean)): self._policy.clean_seconds for one in step.devices}
        self._since = {key: self._since.get(key, now) for key in waiting}
        for (name, what), limit in waiting.items():
            if now - self._since[name, what] < limit:
                continue
            if what == "provision":
                why = f"not confirmed within {limit:.0f} s"
                await self._ledger.decide(partial(claims.begin_undo, claim=name, why=why))
            else:
                await self._ledger.decide(partial(cleaning.abandon_clean, device=name, clean=int(what)))

    async def _tell_events(self, state: State) -> None:
        """Tell what happened, once it is on disk. What a crash leaves untold, the ledger's own feed still has."""
        while self._announced < self._ledger.durable:
            try:
                written = await self._ledger.entries(self._announced)
            except LedgerGoneError:
                self._announced = self._ledger.durable
                return
            events = claim_events.events_of(state, written)
            self._announced = written[-1].sequence
            if events:
                await self._announce(events)

    async def _forget(self, state: State) -> None:
        """Let go of claims that are over for long; the ledger keeps their history, and usage what they had."""
        now = self._wall_ns()
        before = now - int(self._policy.remember_seconds * 1e9)
        old = [
            claim.id
            for claim in state.claims.values()
            if claim.state not in LIVE_CLAIMS and claim.ended_ns is not None and claim.ended_ns < before
        ]
        for at in range(0, len(old), 1000):
            await self._ledger.decide(partial(_forgotten, names=old[at : at + 1000]))
        keep = now - int(self._policy.usage_days * _DAY_NS)

        def sweep(connection: Connection) -> int:
            return usage.forget(connection, keep)

        await self._ledger.database.write(sweep)


async def _all(these: Iterable[Coroutine[Any, Any, object]]) -> list[BaseException]:
    """Have decisions made together, in one commit; give those that were refused."""
    return [one for one in await asyncio.gather(*these, return_exceptions=True) if isinstance(one, BaseException)]


def _cleaned(state: State, device: Device, told: DeviceReport, publisher: str) -> tuple[list[Entry], object]:
    """Take the end of a clean: nothing but evidence that holds makes a device free."""
    if told.clean != device.cleaning:
        return [], None  # of an older clean, told late
    if not told.done:
        return cleaning.fail_clean(state, device.id, told.clean, told.problem, publisher)
    try:
        document = evidence.read(told.evidence)
        if document.device != device.id or document.clean != told.clean:
            raise EvidenceError(f"it is of the clean at {document.clean} of {document.device}")
    except EvidenceError as error:
        return cleaning.fail_clean(state, device.id, told.clean, f"its evidence does not hold: {error}", publisher)
    return cleaning.end_clean(state, device.id, document, publisher)


def _cleanable(state: State, device: Device) -> bool:
    return bool(device.released) and state.reach(device) is Reach.LIVE and not claims.may_be_in_use(state, device)


def _clean(state: State, device: str) -> tuple[list[Entry], Device]:
    return cleaning.begin_clean(state, device, who="ledger")


def _give_back(state: State, device: str, why: str) -> tuple[list[Entry], None]:
    found = state.devices.get(device)
    return (claims.invalidate(state, found, why) if found else []), None


def _forgotten(state: State, names: list[str]) -> tuple[list[Entry], None]:
    gone = [name for name in names if (claim := state.claims.get(name)) is not None and claim.state not in LIVE_CLAIMS]
    return ([Forgotten(gone)] if gone else []), None
