"""The ledger at work: one leader decides, makes it durable, then shows it.

Everything runs on one event loop. A decision is a plain function of the state: it looks, and gives entries, or refuses
by raising. Its entries are applied at once, so that the next decision sees them, and are written with those of all
decisions that wait, in one commit. Nobody hears of a result, and nobody is shown a state, before what it rests on is on
disk: a reader that saw entries under way waits for them.

When a commit fails, nobody was told anything: the state is built again from what is on disk.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

import msgspec
from sqlalchemy import Connection

from aggregator.control import Control, ControlError
from aggregator.ledger import journal, snapshots
from aggregator.ledger.apply import apply
from aggregator.ledger.entries import Entry
from aggregator.ledger.journal import Lead, LeadLostError, LedgerGoneError, Written
from aggregator.ledger.state import State
from schemas.errors import MusterError

_log = logging.getLogger("muster.ledger")
T = TypeVar("T")
_NOTHING_KEPT: Final = "the ledger had to be read from disk again; nothing was kept"
RECENT: Final = 20_000
"""Entries that are kept in memory for those who watch; older ones are read from disk."""

Decision = Callable[[State], tuple[Sequence[Entry], T]]
"""Looks at the state, changes nothing, and gives what to write and what to answer; refuses by raising a MusterError."""
Beside = Callable[[Connection], None]
"""What else belongs into the transaction that writes a decision's entries."""


Note = Callable[[State, Written], Beside | None]
"""Gives what an entry writes beside itself; None for nothing. It changes nothing."""


class LedgerBusyError(MusterError):
    """The ledger cannot decide now: it is being read from disk, or its database fails. Try again."""

    code = "ledger.busy"
    status = 503
    retry_after = 1.0


Load = Callable[[Connection], State]
"""How a state is read from disk; `snapshots.load` but in tests."""


class LedgerStatus(msgspec.Struct, frozen=True):
    """How the ledger fares."""

    id: str
    ready: bool
    sequence: int
    generation: int
    failures: int
    last_error: str


class Ledger:
    """The one that leads. `open` before anything else."""

    def __init__(
        self,
        control: Control,
        holder: str,
        *,
        load: Load = snapshots.load,
        clock: Callable[[], int] = time.time_ns,
        note: Note | None = None,
    ) -> None:
        """`note` gives what belongs into the transaction of an entry, and sees the state just after it."""
        self._note = note
        self._control = control
        self._holder = holder
        self._load = load
        self._clock = clock
        self._lead: Lead | None = None
        self._state = State()
        self._ready = False
        self._pending: list[Written] = []
        self._beside: list[Beside] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._committing: asyncio.Task[None] | None = None
        self._repairing: asyncio.Task[None] | None = None
        self._durable = 0
        self._recent: deque[Written] = deque(maxlen=RECENT)
        self._moved = asyncio.Event()
        self.failures = 0
        self.last_error = ""

    async def open(self, *, force: bool = True) -> bool:
        """Take the lead and read the ledger; False when another leads. Raises ControlError or LedgerDamagedError."""
        self._lead = await self._control.write(
            lambda connection: journal.take_lead(connection, self._holder, force=force)
        )
        if self._lead is None:
            return False
        await self._reload()
        return True

    async def close(self) -> None:
        """Finish what was begun, and let the next one lead. Safe twice."""
        if self._committing is not None:
            await asyncio.gather(self._committing, return_exceptions=True)
        self._ready = False
        lead, self._lead = self._lead, None
        if lead is not None:
            await self._control.write(lambda connection: journal.give_up_lead(connection, lead))

    @property
    def database(self) -> Control:
        """Where the ledger is kept."""
        return self._control

    @property
    def ready(self) -> bool:
        """Whether decisions can be made."""
        return self._ready

    @property
    def status(self) -> LedgerStatus:
        """How it fares."""
        return LedgerStatus(self.id, self._ready, self._durable, self._state.generation, self.failures, self.last_error)

    @property
    def durable(self) -> int:
        """Sequence of the last entry that is on disk."""
        return self._durable

    @property
    def id(self) -> str:
        """The ledger's own id; "" before `open`."""
        return self._lead.ledger if self._lead else ""

    async def decide(self, decision: Decision[T], *, beside: Beside | None = None) -> T:
        """Make a decision and give its answer once it is on disk.

        Raises what the decision raises (nothing is changed), LedgerBusyError, LeadLostError, or ControlError when it
        could not be written (nothing was).
        """
        state = self._at_work()
        try:
            entries, result = decision(state)
        except MusterError:
            await self.settled()  # a refusal, too, may rest on what is under way
            raise
        try:
            self._apply(state, entries)
        except BaseException:  # a defect: the state is half changed, and so is what waits to be written
            self._ready = False
            await self._repair()
            raise
        if beside is not None:
            self._beside.append(beside)
        if entries or beside is not None:
            await self._written()
        else:
            await self.settled()
        return result

    def apply_now(self, decision: Decision[T]) -> T:
        """Make a decision and have it written soon: for facts, whose source is read again when they are lost.

        Raises what the decision raises (nothing is changed), and LedgerBusyError. Call `decide` or `settled` after the
        last of several: without an `await` in between they are one transaction.
        """
        state = self._at_work()
        entries, result = decision(state)
        try:
            self._apply(state, entries)
        except BaseException:
            self._ready = False
            self._repairing = asyncio.get_running_loop().create_task(self._repair())
            raise
        return result

    async def _repair(self) -> None:
        if self._committing is not None:  # what it writes must not be missed by who reads
            await asyncio.wait({self._committing})
        await self._build_again()

    def _apply(self, state: State, entries: Sequence[Entry]) -> None:
        now = max(self._clock(), state.time_ns)  # the wall clock may step back; the ledger's order does not
        pending, beside_them = len(self._pending), len(self._beside)
        try:
            for entry in entries:
                sequence = state.sequence + 1
                apply(state, sequence, now, entry)
                written = Written(sequence, now, entry)
                self._pending.append(written)
                if self._note is not None and (beside := self._note(state, written)) is not None:
                    self._beside.append(beside)
        except BaseException:  # a commit under way takes what waits: all of a decision or nothing
            del self._pending[pending:], self._beside[beside_them:]
            raise

    async def read(self, question: Callable[[State], T]) -> T:
        """Answer from the state, once everything that it rests on is on disk. `question` must not keep the state."""
        answer = question(self._at_work())
        await self.settled()
        return answer

    def peek(self) -> State:
        """Give the state as it is, entries under way included: for what changes nothing and tells nobody."""
        return self._at_work()

    async def settled(self) -> None:
        """Wait until every entry that was applied is on disk. Raises what kept it from it."""
        state = self._state
        if self._durable < state.sequence:
            await self._written()
            if self._state is not state:
                raise LedgerBusyError(_NOTHING_KEPT)

    async def wait(self, after: int, seconds: float) -> bool:
        """Wait until an entry after this sequence is on disk; False when the time is up first."""
        deadline = time.monotonic() + seconds
        while self._durable <= after:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            moved = self._moved
            try:
                async with asyncio.timeout(left):  # `wait_for` of Python 3.11 may swallow a cancellation
                    await moved.wait()
            except TimeoutError:
                return False
        return True

    async def entries(self, after: int, most: int = 1000) -> list[Written]:
        """Give the durable entries after a sequence, at most so many. Raises LedgerGoneError when they are not kept."""
        if after > self._durable:
            raise LedgerGoneError(
                f"sequence {after} is not written yet, the last is {self._durable}: another ledger's?"
            )
        oldest = self._recent[0].sequence if self._recent else self._durable + 1
        if after + 1 >= oldest:
            skip = after + 1 - oldest
            return [self._recent[index] for index in range(skip, min(len(self._recent), skip + most))]
        found = await self._control.read(lambda connection: list(journal.read(connection, after, most))[:most])
        if not found or found[0].sequence != after + 1:
            raise LedgerGoneError(f"what was written after sequence {after} is not kept any more: list again")
        return found

    async def maintain(self, work: Callable[[Connection, Lead], T]) -> T:
        """Write beside the entries, as who leads: `work` checks that. Raises LeadLostError or ControlError."""
        lead = self._lead
        if lead is None:
            raise LeadLostError("this instance does not lead the ledger")
        return await self._control.write(lambda connection: work(connection, lead))

    async def keep_lead(self) -> None:
        """Renew the lease until another leads, or the ledger is closed."""
        while (lead := self._lead) is not None:
            try:
                await self._control.write(partial(journal.renew_lead, lead=lead))
            except LeadLostError as error:
                self._stop_leading(error)
            except ControlError as error:
                _log.warning("lead_not_renewed error=%s", error)
            await asyncio.sleep(journal.LEASE_SECONDS / 3)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _at_work(self) -> State:
        if not self._ready:
            raise LedgerBusyError(f"the ledger cannot answer now: {self.last_error or 'it is being read'}")
        return self._state

    def _written(self) -> "asyncio.Future[None]":
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        if self._committing is None:
            self._committing = asyncio.get_running_loop().create_task(self._commit_all(), name="ledger-commit")
        return future

    async def _commit_all(self) -> None:
        """Commit until nothing waits; while one commit is under way the next fills by itself."""
        try:
            while self._waiting:
                pending, self._pending = self._pending, []
                beside, self._beside = self._beside, []
                waiting, self._waiting = self._waiting, []
                try:
                    await self._commit(pending, beside)
                except Exception as error:  # noqa: BLE001 - whoever waits hears of it
                    await self._failed(error, waiting)
                    return
                self._shown(pending)
                for future in waiting:
                    if not future.done():
                        future.set_result(None)
        finally:
            self._committing = None
            if self._waiting:
                self._committing = asyncio.get_running_loop().create_task(self._commit_all(), name="ledger-commit")

    async def _commit(self, pending: list[Written], beside: list[Beside]) -> None:
        lead = self._lead
        if lead is None:
            raise LeadLostError("this instance does not lead the ledger")

        def transaction(connection: Connection) -> None:
            if pending:
                journal.append(connection, lead, pending)
            else:
                journal.renew_lead(connection, lead)
            for one in beside:
                one(connection)

        await self._control.write(transaction)

    def _shown(self, written: list[Written]) -> None:
        if written:
            self._durable = written[-1].sequence
            self._recent.extend(written)
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def _failed(self, error: Exception, waiting: list["asyncio.Future[None]"]) -> None:
        """Tell everybody whose decision is not on disk, and build the state again."""
        self._ready = False
        self.failures += 1
        self.last_error = str(error)
        waiting = waiting + self._waiting
        self._waiting, self._pending, self._beside = [], [], []
        for future in waiting:
            if not future.done():
                future.set_exception(_copy(error))
        if isinstance(error, LeadLostError):
            self._stop_leading(error)
            return
        _log.error("ledger_not_written decisions=%d error=%s", len(waiting), error)
        await self._build_again()

    async def _build_again(self) -> None:
        self._ready = False
        waiting, self._waiting, self._pending, self._beside = self._waiting, [], [], []
        for future in waiting:
            if not future.done():
                future.set_exception(LedgerBusyError(_NOTHING_KEPT))
        backoff = 0.05
        while self._lead is not None and not self._ready:
            try:
                await self._reload()
            except ControlError as error:
                self.last_error = str(error)
                await asyncio.sleep(backoff)
                backoff = min(5.0, backoff * 2)

    async def _reload(self) -> None:
        listeners = self._state.listeners
        state = await self._control.read(self._load_whole)
        for listener in listeners:
            listener.update(state.nodes)
        state.listeners = listeners
        self._state = state
        self._durable = state.sequence
        self._recent.clear()
        self._ready = True
        self.last_error = ""

    def _load_whole(self, connection: Connection) -> State:
        state, last = self._load(connection), journal.head(connection)
        if state.sequence != last:
            raise journal.LedgerDamagedError(
                f"the ledger's last entry is {last}, and there are {state.sequence}: restore a backup"
            )
        return state

    def _stop_leading(self, error: LeadLostError) -> None:
        if self._lead is not None:
            _log.critical("lead_lost error=%s", error)
        self._lead, self._ready, self.last_error = None, False, str(error)


def _copy(error: Exception) -> Exception:
    """Give an error of its own to each who waits: a traceback grows where it is raised."""
    try:
        return type(error)(*error.args)
    except TypeError:
        return LedgerBusyError(str(error))
