"""What the ledger said at any moment: the newest snapshot before it, and the entries after that; and one's own history.

Read and asked on a thread, from one moment of the database. The states of the last few questions are kept, for people
look at a moment more than once.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final, TypeVar

from sqlalchemy import Connection

from aggregator.ledger import journal, snapshots
from aggregator.ledger.entries import ClaimRestored, Entry, Granted, Renewed
from aggregator.ledger.journal import LedgerGoneError, Written
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.model import Held
from aggregator.ledger.shelf import Shelf
from aggregator.ledger.state import State
from aggregator.ledger.subjects import claim_of

T = TypeVar("T")
STATES: Final = 2
"""Past states that are kept; each takes as much memory as the present one, once somebody asks for all of it."""


class Past:
    """Answers for one ledger, on its event loop."""

    def __init__(self, ledger: Ledger, states: int = STATES) -> None:
        self._ledger = ledger
        self._most = states
        self._states: OrderedDict[int, Shelf] = OrderedDict()
        self._one = asyncio.Lock()

    async def ask(
        self,
        question: Callable[[State], T],
        *,
        sequence: int | None = None,
        time_ns: int | None = None,
        whole: bool = True,
    ) -> T:
        """Answer from the state as of a sequence, or of a time: what was decided until then.

        `question` runs on a thread. One that is not about `whole` tenants is answered sooner: only the devices that it
        looks at are made (`Shelf`).

        Raises LedgerGoneError for a sequence that is not written yet, and for a moment before the first entry,
        ControlError, LedgerBusyError.
        """
        self._ledger.peek()
        durable = self._ledger.durable
        if sequence is None:
            sequence = await self._ledger.database.read(partial(journal.sequence_at, time_ns=time_ns or 0))
        elif sequence > durable:
            raise LedgerGoneError(f"sequence {sequence} is not written yet, the last is {durable}")
        if sequence == 0 and durable:
            raise LedgerGoneError(await self._beginning())
        async with self._one:  # two past states at once would only take twice the memory
            state = self._states.pop(sequence, None)
            if state is None:
                state = await self._ledger.database.read(partial(snapshots.load_past, until=sequence))
            answer = await asyncio.to_thread(_answer, state, question, whole=whole)
            self._states[sequence] = state  # not when it could not be made: what is half made is worth nothing
            while len(self._states) > self._most:
                self._states.popitem(last=False)
        return answer

    async def _beginning(self) -> str:
        first = (await self._ledger.entries(0, 1))[0]
        begun = datetime.fromtimestamp(first.time_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"the ledger begins at {begun}, with sequence {first.sequence}: of before that it knows nothing"

    async def history(self, device: str, *, before: int | None = None) -> list[Written]:
        """Give every entry about a device, and about claims that held it, oldest first; renewals are left out.

        `before`: only entries of lower sequences.
        """
        return await self._ledger.database.read(partial(device_history, device=device, before=before))


def _answer(state: Shelf, question: Callable[[State], T], *, whole: bool) -> T:
    if whole:
        state.whole()
    return question(state)


def device_history(connection: Connection, device: str, before: int | None = None) -> list[Written]:
    """Give the entries about a device and about the claims that held it, oldest first."""
    found = {one.sequence: one for one in journal.about(connection, [device], before=before)}
    claims = {claim_of(one.entry) for one in found.values() if device in _held(one.entry)}
    if claims:
        more = journal.about(connection, claims, before=before)
        found |= {one.sequence: one for one in more if claim_of(one.entry) in claims}
    return [found[sequence] for sequence in sorted(found) if not isinstance(found[sequence].entry, Renewed)]


def _held(entry: Entry) -> set[str]:
    devices: list[Held] = entry.devices if isinstance(entry, (Granted, ClaimRestored)) else []
    return {held.device for held in devices}
