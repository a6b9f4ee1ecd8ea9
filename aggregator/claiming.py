"""What users ask about claims: each call is one decision of the ledger, answered once it is on disk.

What follows from it at the nodes is `claim_carrier`'s.
"""

import os
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from aggregator.leases import Leases
from aggregator.ledger import claims, cleaning
from aggregator.ledger.asks import Ask, NotGrantedError
from aggregator.ledger.entries import Entry, Granted, Renewed
from aggregator.ledger.ledger import Ledger, LedgerBusyError
from aggregator.ledger.model import Claim, Device
from aggregator.ledger.state import State
from aggregator.ledger.words import ClaimState
from collectors.failpoint import failpoint
from schemas.evidence import PowerReadback

T = TypeVar("T")
_ID_BYTES: Final = 5
MOST_WAITING: Final = 4096
"""Requests that wait for the disk at once; more are asked to come again."""


class Claiming:
    """Claims, and the devices that nobody claims, as users move them. For one event loop."""

    def __init__(
        self, ledger: Ledger, leases: Leases, wake: Callable[[], None], wall_ns: Callable[[], int] = time.time_ns
    ) -> None:
        """`wake` is called when a node may have to hear of something."""
        self._ledger = ledger
        self.leases = leases
        self._wake = wake
        self._wall_ns = wall_ns
        self._waiting = 0
        self._random = b""

    async def grant(self, ask: Ask) -> Claim:
        """Grant what is asked for. Raises NotGrantedError, ClaimInvalidError, ClaimError."""
        return await self.give(lambda state, name: claims.grant(state, ask, name))

    async def give(self, decision: Callable[[State, str], tuple[list[Entry], str]]) -> Claim:
        """Have a claim granted by `decision`, of the state and a new id, which gives the id of the claim that it is.

        Raises what it raises, and LedgerBusyError when too many requests wait.
        """
        if self._waiting >= MOST_WAITING:
            raise LedgerBusyError("too many requests wait for the disk: try again in a moment")
        name = f"c-{self._chance().hex()}"

        def given(state: State) -> tuple[list[Entry], str]:
            entries, found = decision(state, name)
            self._begin_terms(entries)
            return entries, found

        self._waiting += 1
        try:
            return await self._follow(await self._ledger.decide(given))
        finally:
            self._waiting -= 1

    def _chance(self) -> bytes:
        """Give what makes an id. Asking the system for it each time hands the interpreter to another thread."""
        if not self._random:
            self._random = os.urandom(_ID_BYTES * 256)
        taken, self._random = self._random[:_ID_BYTES], self._random[_ID_BYTES:]
        return taken

    async def provision(self, claim: str, version: int | None = None) -> Claim:
        """Let the nodes be told; what they confirm makes the claim active. A device that changed gives it all back."""
        changed = await self._ledger.decide(lambda state: claims.provision(state, claim, version))
        if changed:
            raise NotGrantedError(changed)
        failpoint("claiming.provision.durable")
        return await self._follow(claim)

    async def renew(self, claim: str, lease_seconds: float | None = None, version: int | None = None) -> Claim:
        """Begin the lease anew."""

        def renewed(state: State) -> tuple[list[Entry], str]:
            entries, found = claims.renew(state, claim, lease_seconds, version)
            self._begin_terms(entries)
            return entries, found.id

        return await self._follow(await self._ledger.decide(renewed))

    async def release(self, claim: str, who: str, why: str = "", version: int | None = None) -> Claim:
        """Give a claim back."""
        await self._ledger.decide(lambda state: claims.release(state, claim, who=who, why=why, version=version))
        return await self._follow(claim)

    async def clean(self, device: str, who: str) -> Device:
        """Have a device cleaned. Raises NotGrantedError, TransitionError, DeviceUnknownError."""
        return await self._changed(lambda state: cleaning.begin_clean(state, device, who=who))

    async def attest(self, device: str, who: str, statement: str, as_of: int | None = None) -> Device:
        """Take an operator's word that a device is clean, as it was at the ledger's sequence `as_of`."""
        return await self._changed(lambda state: cleaning.attest(state, device, who, statement, as_of))

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
        now = self._wall_ns()
        found = await self._changed(
            lambda state: cleaning.fence(state, node, who, now_ns=now, power=power, statement=statement)
        )
        for claim in found:
            self.leases.follow(claim)
        return found

    async def _changed(self, decision: Callable[[State], tuple[list[Entry], T]]) -> T:
        found = await self._ledger.decide(decision)
        self._wake()
        return found

    def _begin_terms(self, entries: Sequence[Entry]) -> None:
        """Let terms begin with the decision: a caller that goes away, or a slow disk, must not change when they end.

        Should the decision not be written, the ledger is read anew, and with it every claim gets a new term.
        """
        for entry in entries:
            match entry:
                case Granted(claim=claim, lease_seconds=seconds) | Renewed(claim=claim, lease_seconds=seconds):
                    self.leases.begin_term(claim, seconds)

    async def _follow(self, claim: str) -> Claim:
        """Give a claim as it is on disk, and let its nodes hear of it."""
        found = claims.find(self._ledger.peek(), claim)
        self.leases.follow(found)
        if found.state is not ClaimState.RESERVED:  # of what is only reserved no node hears
            self._wake()
        if found.version <= self._ledger.durable:
            return found
        return await self._ledger.read(lambda state: claims.find(state, claim))
