"""One publisher, a log, and an aggregator that may settle runs, all driven by hand: what the tests of settling play on.

The parts are the real ones but for the log (lists) and the disks (memory).
"""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar, cast

import msgspec
from sqlalchemy import Connection, create_engine, insert
from sqlalchemy.pool import StaticPool

from aggregator import nodes, quarantine
from aggregator.balance import Line, make_balance
from aggregator.expired import Expiry
from aggregator.log import Expired, Record
from aggregator.nodes import written_off
from aggregator.past import Standing
from aggregator.progress import Tracker
from aggregator.quarantine import INGEST, intervals
from aggregator.retention import Taken
from aggregator.settling import Settling
from aggregator.store import Outcome, Run, Stream, Transaction
from aggregator.tables import (
    COUNTER,
    EPOCH,
    EXPIRED_ROWS,
    EXPIRED_WORD,
    METADATA,
    NODE,
    QUARANTINE,
    QUARANTINED_ROWS,
    TOKEN,
)
from aggregator.unread import Unread
from schemas.account import Account, Dropped, EpochAccount, StreamAccount
from schemas.batch import Envelope
from schemas.codec import decode_batch
from schemas.intervals import Intervals
from schemas.verbosity import Level, RowClass
from tests.aggregator.consumer.fakes import MemoryStore, batch, heartbeat

T = TypeVar("T")
_TABLES = [COUNTER, EPOCH, EXPIRED_ROWS, EXPIRED_WORD, NODE, QUARANTINE, QUARANTINED_ROWS, TOKEN]
HOUR = 3600 * 10**9
DAY = 24 * HOUR
PUBLISHER = "n1"
CONSUMER = "store"
TOPICS = {RowClass.TELEMETRY: "telemetry", RowClass.EVENT: "event"}


def done(work: Coroutine[Any, Any, T]) -> T:
    """Run what never waits, since nothing here does."""
    try:
        work.send(None)
    except StopIteration as end:
        return cast(T, end.value)
    raise AssertionError("it waits")


class MemoryControl:
    """A control database in memory."""

    def __init__(self) -> None:
        self._engine = create_engine("sqlite://", poolclass=StaticPool)
        with self._engine.begin() as connection:
            METADATA.create_all(connection, tables=_TABLES)

    def now(self, transaction: Callable[[Connection], T]) -> T:
        """Run it at once."""
        with self._engine.begin() as connection:
            return transaction(connection)

    async def write(self, transaction: Callable[[Connection], T]) -> T:
        """See `Control`."""
        return self.now(transaction)

    read = write

    async def close(self) -> None:
        """Let go."""
        self._engine.dispose()


class ListLog:
    """A log of one partition. Everybody who reads it shares it."""

    partitions = 1
    id = "log"

    def __init__(self) -> None:
        self.records: dict[str, list[Record]] = {}
        self.begins: dict[str, int] = {}

    def append(self, topic: str, now_ns: int, value: bytes) -> None:
        """Append one."""
        records = self.records.setdefault(topic, [])
        records.append(Record(len(records), now_ns, value))

    async def begin(self, topic: str, partition: int) -> int:
        """See `Log`."""
        return self.begins.get(topic, 0)

    async def read(self, topic: str, partition: int, offset: int, max_bytes: int) -> list[Record]:
        """See `Log`: one at a time."""
        return self.records.get(topic, [])[offset : offset + 1]

    async def owned(self) -> frozenset[int]:
        """See `Log`."""
        return frozenset({0})


class _Never(Settling):
    """Looks at everything as settling does, and finds records of every run in the log for ever."""

    async def _horizon(self, tracker: Tracker, partition: int) -> int | None:
        return 0


class Aggregator:
    """The store consumer's and the control database's side. `settles`: whether runs are ever settled."""

    def __init__(self, log: ListLog, clock: Callable[[], int], *, settles: bool) -> None:
        self.log = log
        self.control = MemoryControl()
        self.store = MemoryStore()
        self.stored: list[tuple[Stream, int]] = []
        self.refused: list[Standing] = []
        self._clock = clock
        self._settles = settles
        self.restart()

    def restart(self) -> None:
        """Know what was committed, and no more."""
        progress = self.store.open()
        self.tracker = Tracker(progress)
        self.expiry = Expiry(self.control)
        done(self.expiry.load())
        made = Settling if self._settles else _Never
        self.settling = made(cast(Any, self.log), self.control, self.expiry, CONSUMER, wall_ns=self._clock)
        self.tracker.recall(self.expiry.words(CONSUMER))

    def commit(self) -> None:
        """Commit what changed."""
        self.store.commit(Transaction([], self.tracker.take_changes(self.log.id)))

    def read(self, topic: str, outcome: Outcome) -> None:
        """Deal with the next record of a topic as the store consumer does, and commit."""
        at = max(self.tracker.positions.get((topic, 0), 0), self.log.begins.get(topic, 0))
        for record in self.log.records.get(topic, [])[at : at + 1]:
            envelope = decode_batch(record.value).envelope
            if envelope.account is not None:
                self.tracker.hear(PUBLISHER, envelope.epoch, record.appended_ns, envelope.account)
            stream = _stream(envelope)
            standing = self.tracker.standing(stream, record.appended_ns, envelope.age_ns)
            if standing is not Standing.NEW:
                self.refused.append(standing)
                if standing is Standing.FORGOTTEN:
                    self.tracker.remember(Run(stream.publisher, stream.epoch))
            elif envelope.rows:
                for first, end in self.tracker.missing(stream, envelope.first, envelope.end):
                    self.tracker.mark(stream, first, end, outcome)
                    if outcome is Outcome.DONE:
                        self.stored += [(stream, number) for number in range(first, end)]
            self.tracker.move(topic, 0, record.offset + 1)
        self.commit()

    def trim(self, topic: str, before: int) -> None:
        """Count what retention is about to take; the caller trims, then the consumer skips."""
        at = max(self.tracker.positions.get((topic, 0), 0), self.log.begins.get(topic, 0))
        if at < before:
            records = self.log.records[topic][at:before]
            envelopes = [decode_batch(record.value).envelope for record in records]
            taken = Taken(Expired(topic, 0, at, before), envelopes, [record.appended_ns for record in records])
            done(self.expiry.take(CONSUMER, taken))
            self.tracker.recall(self.expiry.words(CONSUMER))
            self.tracker.move(topic, 0, before)
            self.commit()

    def set_aside(self, envelope: Envelope) -> None:
        """Quarantine a batch at ingest."""
        self.control.now(
            lambda connection: quarantine.put(
                connection, publisher=PUBLISHER, envelope=envelope, data=b"", stage=INGEST, reason="x: y", now_ns=0
            )
        )

    def settle(self) -> None:
        """Make a pass; not committed yet."""
        done(self.settling.settle(self.tracker))

    def lines(self) -> list[Line]:
        """Give the balance."""
        unread = Unread()
        for topic, records in self.log.records.items():
            at = max(self.tracker.positions.get((topic, 0), 0), self.log.begins.get(topic, 0))
            for record in records[at:]:
                unread.note(decode_batch(record.value).envelope, record.appended_ns)
        aside = self.control.now(lambda connection: intervals(connection, INGEST))
        gone = {CONSUMER: self.expiry.intervals(CONSUMER)}
        off = self.control.now(written_off)
        return make_balance({CONSUMER: self.tracker}, {CONSUMER: unread}, aside, gone, off, self._clock()).lines

    def close(self) -> None:
        """Let go of the control database."""
        done(self.control.close())


def _stream(envelope: Envelope) -> Stream:
    return Stream(envelope.publisher, envelope.epoch, envelope.row_class, envelope.level)


class World:
    """A publisher and one log that several aggregators follow, each by itself."""

    def __init__(self, *settles: bool) -> None:
        self.now_ns = DAY
        self.log = ListLog()
        self.aggregators = [Aggregator(self.log, lambda: self.now_ns, settles=one) for one in settles]
        self.runs: dict[str, dict[RowClass, StreamAccount]] = {}
        self.spool: list[Envelope] = []
        self.sent: list[bytes] = []
        self.begun = 0
        self.words = 0
        self.restart(keep=True)

    @property
    def epoch(self) -> str:
        """The current run."""
        return f"e{self.begun}"

    def restart(self, *, keep: bool) -> None:
        """Begin a new run, with the spool or without."""
        if not keep:
            self.spool, self.runs = [], {}
        self.begun += 1
        self.words = 0
        self.runs[self.epoch] = {}
        for one in self.aggregators:
            one.control.now(self._begin)

    def _begin(self, connection: Connection) -> None:
        facts = {"boot": "b", "predecessors": [], "started_ns": 0, "ended_ns": None}
        if self.begun == 1:
            connection.execute(insert(NODE).values(id=PUBLISHER, facts={}, epoch=self.epoch))
        connection.execute(EPOCH.update().values(ended_ns=1))
        connection.execute(NODE.update().values(epoch=self.epoch))
        connection.execute(insert(EPOCH).values(node=PUBLISHER, epoch=self.epoch, **facts))

    def produce(self, rows: int, filtered: int = 0, row_class: RowClass = RowClass.TELEMETRY) -> None:
        """Number rows, as one batch in the spool."""
        known = self.runs[self.epoch].get(row_class) or StreamAccount(row_class, Level.STANDARD, 0, 0, 0, 0, [], [])
        self.runs[self.epoch][row_class] = msgspec.structs.replace(
            known,
            produced=known.produced + rows + filtered,
            filtered=known.filtered + filtered,
            numbered=known.numbered + rows,
        )
        if rows:
            self.spool.append(Envelope(PUBLISHER, self.epoch, row_class, Level.STANDARD, known.numbered, rows, 0))

    def send(self, at: int = 0) -> None:
        """Send a batch of the spool."""
        one = self.spool.pop(at % len(self.spool))
        data = batch(PUBLISHER, one.first, one.rows, epoch=one.epoch, row_class=one.row_class)
        self.sent.append(data)
        self.append(data)

    def append(self, data: bytes) -> None:
        """Have the log take a batch."""
        self.now_ns += 1
        self.log.append(TOPICS[decode_batch(data).envelope.row_class], self.now_ns, data)

    def refuse(self) -> None:
        """Send the oldest batch; ingest sets it aside."""
        one = self.spool.pop(0)
        for aggregator in self.aggregators:
            aggregator.set_aside(one)

    def drop(self) -> None:
        """Give the oldest batch up."""
        one = self.spool.pop(0)
        known = self.runs[one.epoch][one.row_class]
        gone = Intervals(pair for dropped in known.dropped for pair in dropped.intervals)
        gone.add(one.first, one.end)
        dropped = [Dropped("spool_full", gone.pairs())]
        self.runs[one.epoch][one.row_class] = msgspec.structs.replace(known, dropped=dropped)

    def speak(self) -> None:
        """Give a word; what is settled for the publisher is told this once more."""
        self.words += 1
        told = [EpochAccount(name, "b", self._streams(name)) for name in reversed(self.runs)]
        self.append(heartbeat(PUBLISHER, Account(self.words, told), epoch=self.epoch))
        left = {one.epoch for one in self.spool}
        self.runs = {name: streams for name, streams in self.runs.items() if name == self.epoch or name in left}

    def _streams(self, epoch: str) -> list[StreamAccount]:
        streams = []
        for row_class, known in self.runs[epoch].items():
            held = Intervals(
                (one.first, one.end) for one in self.spool if (one.epoch, one.row_class) == (epoch, row_class)
            )
            streams.append(msgspec.structs.replace(known, spooled=held.pairs()))
        return streams

    def consume(
        self, outcomes: Sequence[Outcome] = (Outcome.DONE,), topics: Sequence[str] = ("event", "telemetry")
    ) -> None:
        """Have every aggregator read everything, in the order of topics given."""
        for topic in topics:
            for at in range(len(self.log.records.get(topic, []))):
                for one in self.aggregators:
                    one.read(topic, outcomes[at % len(outcomes)])

    def read(self, topic: str, outcome: Outcome) -> None:
        """Have every aggregator read one record."""
        for one in self.aggregators:
            one.read(topic, outcome)

    def trim(self, topic: str, records: int | None = None) -> None:
        """Have retention take records of a topic, all of them or so many."""
        here, begin = len(self.log.records.get(topic, [])), self.log.begins.get(topic, 0)
        before = here if records is None else min(here, begin + records)
        for one in self.aggregators:
            one.trim(topic, before)
        self.log.begins[topic] = before

    def pass_by(self, time_ns: int) -> None:
        """Let time pass."""
        self.now_ns += time_ns

    def settle(self) -> None:
        """Make a pass in every aggregator, and commit."""
        for one in self.aggregators:
            one.settle()
            one.commit()

    def decommission(self) -> None:
        """Give the publisher up."""
        for one in self.aggregators:
            one.control.now(lambda connection: nodes.decommission(connection, PUBLISHER, 1))

    def close(self) -> None:
        """Let go."""
        for one in self.aggregators:
            one.close()
