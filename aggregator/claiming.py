"""Claims at work: users ask, nodes are told and answer, leases run out, what was used is cleaned.

Nothing here remembers what was begun: every second, and whenever a node of theirs changes, what the ledger says is
compared with what each node was told. So a restart on either side, at any step, goes on where it was, and an undo
that was begun converges (invariant 16).
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, Protocol

import msgspec

from aggregator.leases import Leases
from aggregator.ledger import claims, cleaning, evidence, uses
from aggregator.ledger.claims import Ask, NotGrantedError
from aggregator.ledger.entries import Entry
from aggregator.ledger.ledger import Ledger, LedgerBusyError
from aggregator.ledger.model import Claim, Device
from aggregator.ledger.relations import together
from aggregator.ledger.state import State
from aggregator.ledger.words import ClaimState, Epoch, Lifecycle, Mode, Reach
from schemas.claims import ClaimDevice, ClaimReport, ClaimStep, DeviceReport, Step
from schemas.device import Value
from schemas.errors import MusterError

_log = logging.getLogger("muster.claims")
TICK_SECONDS: Final = 1.0


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


class Claiming:
    """Everything that happens to claims. For one event loop."""

    def __init__(
        self,
        ledger: Ledger,
        tell: Tell,
        policy: Policy | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._tell = tell
        self._policy = policy or Policy()
        self._clock = clock
        self.leases = Leases(clock)
        self._touched: set[str] = set()
        self._told: dict[str, list[ClaimStep]] = {}
        """Publisher -> the work it was last told."""
        self._since: dict[tuple[str, str], float] = {}
        """(claim or device, what is awaited) -> since when."""
        self._wake = asyncio.Event()

    # --- what users ask -----------------------------------------------------------------------------------------------

    async def grant(self, ask: Ask) -> Claim:
        """Grant what is asked for. Raises NotGrantedError, ClaimInvalidError, ClaimError."""
        name = f"c-{secrets.token_hex(5)}"
        found = await self._ledger.decide(lambda state: claims.grant(state, ask, name))
        return await self._follow(found)

    async def provision(self, claim: str, version: int | None = None) -> Claim:
        """Let the nodes be told; what they confirm makes the claim active. A device that changed gives it all back."""
        try:
            await self._ledger.decide(lambda state: claims.provision(state, claim, version))
        except NotGrantedError as error:
            changed = error.objections[0]
            await self._ledger.decide(lambda state: _give_back(state, changed.device, changed.message))
            raise
        return await self._follow(claim)

    async def renew(self, claim: str, lease_seconds: float | None = None, version: int | None = None) -> Claim:
        """Begin the lease anew."""
        await self._ledger.decide(lambda state: claims.renew(state, claim, lease_seconds, version))
        return await self._follow(claim, renewed=True)

    async def release(self, claim: str, who: str, why: str = "", version: int | None = None) -> Claim:
        """Give a claim back."""
        await self._ledger.decide(lambda state: claims.release(state, claim, who=who, why=why, version=version))
        return await self._follow(claim)

    async def _follow(self, claim: str, *, renewed: bool = False) -> Claim:
        found = claims.find(self._ledger.peek(), claim)
        self.leases.follow(found, renewed=renewed)
        self._wake.set()
        return await self._ledger.read(lambda state: claims.find(state, claim))

    # --- what nodes answer --------------------------------------------------------------------------------------------

    async def report(self, publisher: str, reports: list[ClaimReport]) -> None:
        """Take a node's word on its work. What it says of other nodes' devices counts for nothing."""
        for report in reports:
            for device in report.devices:
                try:
                    await self._ledger.decide(partial(self._taken, publisher=publisher, report=report, told=device))
                except MusterError as error:
                    if isinstance(error, LedgerBusyError):
                        raise
                    _log.warning("report_refused node=%s device=%s error=%s", publisher, device.device, error)
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
                return claims.begin_undo(state, report.claim, f"{device.id}: {told.problem}")
            case Step.UNDO | Step.CHECK if told.done:
                return claims.undone(state, report.claim, epoch, [device.id])
            case Step.CLEAN if told.done:
                return cleaning.end_clean(state, device.id, evidence.read(told.evidence), publisher)
            case Step.CLEAN:
                return cleaning.fail_clean(state, device.id, device.cleaning, told.problem, publisher)
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
            try:
                if self._ledger.peek() is not state:  # read from disk anew: nothing that was known of it holds
                    state = self._ledger.peek()
                    self._begin(state)
                await self._tick(state)
            except MusterError as error:
                _log.warning("claims_wait error=%s", error)
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), TICK_SECONDS)
            except TimeoutError:
                continue

    def _begin(self, state: State) -> None:
        self._touched = set(state.nodes)
        state.listeners = [*(one for one in state.listeners if one is not self._touched), self._touched]
        self.leases.begin(state.live_claims())
        self._since.clear()
        self._told.clear()

    async def _tick(self, state: State) -> None:
        for claim in self.leases.due():
            await self._ledger.decide(partial(claims.expire, claim=claim))
        touched = set(self._touched)
        self._touched.clear()
        await self._ledger.settled()  # nobody is told what is not on disk
        for name in touched:
            await self._look_at(state, name)
        await self._too_long(state)
        for publisher, steps in list(self._told.items()):
            if steps and not self._tell(publisher, steps):
                _log.debug("node_not_connected node=%s", publisher)

    async def _look_at(self, state: State, name: str) -> None:
        node = state.nodes.get(name)
        if node is None or not node.publisher:
            return
        if self._policy.auto_clean and node.live:
            for device in list(state.devices_of(name)):
                used = device.lifecycle is Lifecycle.DIRTY and device.released and device.reach is Reach.LIVE
                if used and not claims.may_be_in_use(state, device) and not uses.recorded(state, device):
                    await self._ledger.decide(partial(_clean, device=device.id))
        work = list(work_of(state, name))
        if work != self._told.get(node.publisher, []):
            self._told[node.publisher] = work
            if not self._tell(node.publisher, work):
                self._touched.add(name)  # again, when it is connected

    async def _too_long(self, state: State) -> None:
        """Undo what no node confirms, and give up cleans that no node answers."""
        now = self._clock()
        waiting: dict[tuple[str, str], float] = {}
        for claim in state.live_claims():
            if claim.state is ClaimState.PROVISIONING:
                waiting[claim.id, "provision"] = self._policy.provision_seconds
        for steps in self._told.values():
            for step in steps:
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


def _clean(state: State, device: str) -> tuple[list[Entry], Device]:
    return cleaning.begin_clean(state, device, who="ledger")


def _give_back(state: State, device: str, why: str) -> tuple[list[Entry], None]:
    found = state.devices.get(device)
    return (claims.invalidate(state, found, why) if found else []), None


def work_of(state: State, node: str) -> Iterator[ClaimStep]:
    """Give everything that claims ask of a node now."""
    for claim in (state.claims[name] for name in state.claims_on.get(node, ())):
        step = _STEPS.get(claim.state)
        mine = [held.device for held in claim.devices if held.node == node]
        if step is None or not mine:
            continue
        done = claim.confirmed if step is Step.PREPARE else claim.undone
        devices = [name for name in mine if name not in done]
        if devices:
            told = [claim_device(state, state.devices[name]) for name in devices]
            yield ClaimStep(
                claim.id, step, claim.tenant, claim.consumer, claim.epoch.generation, claim.epoch.sequence, told
            )
    for device in state.devices_of(node):
        if device.lifecycle is Lifecycle.CLEANING:
            hold = device.hold
            epoch = hold.epoch if hold else Epoch(state.generation, device.cleaning)
            told = [claim_device(state, device)]
            yield ClaimStep(
                hold.claim if hold else "",
                Step.CLEAN,
                hold.tenant if hold else "",
                "",
                epoch.generation,
                epoch.sequence,
                told,
            )


_STEPS: Final = {
    ClaimState.PROVISIONING: Step.PREPARE,
    ClaimState.UNDOING: Step.UNDO,
    ClaimState.RELEASING: Step.UNDO,
    ClaimState.SUSPECT: Step.CHECK,
}


def claim_device(state: State, device: Device) -> ClaimDevice:
    """Give what a node has to know of a device."""
    hold = device.hold
    parent = state.devices.get(device.parent)
    members = [device, *together(state, device)]
    return ClaimDevice(
        device.id,
        device.kind.value,
        hold.part if hold else device.part_key,
        device.slot.address,
        device.slot.path,
        (hold.mode if hold else Mode.DRIVER).value,
        -1 if device.group is None else device.group,
        tuple(sorted(member.slot.address for member in members)) if device.group is not None else (),
        (parent or device).part_key,
        parent.slot.address if parent else "",
        clean=device.cleaning if device.lifecycle is Lifecycle.CLEANING else 0,
        expected=_expected(device.capabilities),
    )


def _expected(capabilities: dict[str, Value]) -> dict[str, str]:
    return {name: str(capabilities[name]) for name in ("mac", "vlan") if name in capabilities}
