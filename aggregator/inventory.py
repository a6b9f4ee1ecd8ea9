"""The inventory consumer: reads capability documents and heartbeats from the log, and makes facts of them.

Facts and the position behind them are one transaction of the ledger. A publisher's facts apply in the order of its
runs, and within one run in the order in which it numbered its batches: what an outage or a repetition brings late
changes nothing. A node that was not heard for a while is silent, unless it is us who are behind: that is told apart by
partition, by the time at which the log took what we have not read yet.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from aggregator import inventory_progress
from aggregator.consumer import Announce, Following, Settle, settle_nothing, tell_nobody
from aggregator.control import Control, ControlError
from aggregator.cutting import cut_blocks
from aggregator.documents import Documents
from aggregator.hearing import Hearing
from aggregator.inventory_facts import (
    Said,
    begin_run,
    facts,
    follow_alert,
    left_behind,
    read_document,
    speaks,
    withdraw_held,
)
from aggregator.inventory_progress import CLASSES, Kept
from aggregator.inventory_runs import Run, Runs
from aggregator.inventory_waiting import Waiting
from aggregator.ledger.entries import Entry
from aggregator.ledger.facts import Adopt, seen_dirty
from aggregator.ledger.journal import LeadLostError
from aggregator.ledger.ledger import Ledger, LedgerBusyError
from aggregator.ledger.model import view_source
from aggregator.ledger.state import State
from aggregator.log import Log, OffsetOutOfRangeError, Record, partition_of
from aggregator.past import Standing
from aggregator.progress import Tracker, narrow, told_word
from aggregator.store import Outcome, Progress, Stream
from aggregator.store import Run as StoreRun
from schemas.alerts import decode_alert
from schemas.batch import Batch, Block, Envelope
from schemas.codec import check_batch, decode_batch
from schemas.errors import MalformedError, MusterError, WireError
from schemas.rows import CAPABILITY
from schemas.verbosity import RowClass

_log = logging.getLogger("muster.inventory")
ALERT: Final = "alert"
TOPICS: Final = ("capability", "event", ALERT)
READ_BYTES: Final = 1 << 15
"""Of a partition at once: some fifty documents. A partition that has little to say waits for so much of each other one,
a tenth of a second in all; larger pieces save little (`tests.bench.bench_inventory`)."""
SILENCE_SECONDS: Final = 30.0
"""A node that was not heard for so long is silent."""
_TOGETHER: Final = 32
"""Batches that are taken in one go; one of a document costs some tenth of a millisecond."""
_CHECK_SECONDS: Final = 1.0
_SETTLE_SECONDS: Final = 60.0
_Place = tuple[str, int, int]
"""Topic, partition, offset."""


class InventoryStatus(msgspec.Struct):
    """What the consumer can say of itself."""

    records: int = 0
    documents: int = 0
    facts: int = 0
    """Entries written."""
    stale: int = 0
    """Documents of a run that is over, which changed nothing."""
    repeated: int = 0
    """Rows and transitions that came again."""
    unreadable: int = 0
    failures: int = 0
    last_error: str = ""


class Inventory:
    """Feeds the ledger from the log until it is stopped. For one event loop."""

    name: Final = "inventory"

    def __init__(
        self,
        log: Log,
        ledger: Ledger,
        control: Control,
        *,
        adopt: Adopt = seen_dirty,
        silence_s: float = SILENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
        resend: Callable[[str], object] = lambda _publisher: None,
        announce: Announce = tell_nobody,
        settle: Settle = settle_nothing,
    ) -> None:
        """Prepare; nothing is read before `run`.

        `wall_ns` is the log's clock. `resend` asks a publisher for all of its documents; `announce` is told when the
        log is not the one that was followed.
        """
        self._log = log
        self._ledger = ledger
        self._adopt = adopt
        self._clock = clock
        self._resend = resend
        self._settle_runs = settle
        self._settled_at = clock()
        self._following = Following(log, self.name, announce, _log)
        self._runs = Runs(control)
        self._waiting = Waiting(resend, clock)
        self.hearing = Hearing(silence_s, clock, wall_ns)
        self._unread_in: frozenset[int] = frozenset()
        """Partitions where we were behind when the ledger's state was told so, and when that was."""
        self._told_unread = clock()
        self.status = InventoryStatus()
        self.known = False
        """Whether `committed` was ever read."""
        self.ready = False
        self._state: State | None = None
        """The ledger's state that facts went into; another one lacks those that are not on disk."""
        self._at: _Place | None = None
        """Of the record that is being taken."""
        self._poison: set[_Place] = set()
        """Of records that could not be taken: a defect of ours each, and left out the next time."""
        self._go_on_from(Kept(Progress(), [], {}, []))

    def _go_on_from(self, kept: Kept) -> None:
        """Be where a transaction has left off."""
        self.tracker, self.committed = Tracker(kept.progress), Tracker(kept.progress)
        """`committed` is what is on disk; `tracker` is ahead of it by what is being read."""
        self.documents = Documents(self._resend, kept.documents)
        self._alerts = kept.alerts
        self._new_alerts: dict[str, int] = {}

    def is_done_with(self, run: StoreRun) -> bool:
        """Tell whether nothing that is kept elsewhere of a run is needed here any more: it is settled, or unknown."""
        word = self.tracker.words.get(run.publisher)
        told = word is not None and any(one.epoch == run.epoch for one in word.account.epochs)
        seen = run.epoch in self.tracker.runs(run.publisher)
        return self.known and (self.tracker.is_settled(run.publisher, run.epoch) or not (told or seen))

    async def run(self) -> None:
        """Follow the log until `stop`; begin again after a failure, with back-off."""
        backoff = 0.1
        while not self._following.stopping:
            try:
                await self.open()
                backoff = 0.1
                await self._follow()
            except Exception as error:  # noqa: BLE001 - whatever it is, the log still has the facts: begin again
                if not isinstance(error, (LedgerBusyError, ControlError, LeadLostError)):
                    _log.exception("inventory_failed place=%s", self._at)
                    if self._at is not None:  # once is enough: what follows it has to be read too
                        self._poison.add(self._at)
                self._failed(error)
                await self._following.pause(backoff)
                backoff = min(5.0, backoff * 2)
        self.ready = False

    def stop(self) -> None:
        """End after what is under way."""
        self._following.stop()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _failed(self, error: Exception) -> None:
        self.ready = False
        self.status.failures += 1
        if str(error) != self.status.last_error:
            _log.warning("inventory_waits error=%s", error)
        self.status.last_error = str(error)

    async def open(self) -> None:
        """Read what was kept, and begin there. Raises ControlError or LedgerBusyError."""
        kept = await self._ledger.database.read(partial(inventory_progress.load, log_id=self._log.id))
        await self._following.is_recreated(kept.logs)
        if await self._following.is_set_back(kept.progress.positions):
            kept.progress.positions = []
        self._go_on_from(kept)
        self.known = True
        self._state = self._ledger.peek()
        self._runs.begin(self._state)
        self.hearing.begin(self._state)
        self.status.last_error = ""
        self.ready = True

    async def _follow(self) -> None:
        moment, checked = 0, self._clock()
        while not self._following.stopping:
            found = await self.read_all()
            if self._clock() - checked >= _CHECK_SECONDS:
                checked = self._clock()
                self._waiting.ask()
                await self.check_silence()
            if self._clock() - self._settled_at >= _SETTLE_SECONDS:
                self._settled_at = self._clock()
                await self._settle()
            if not found:
                moment = await self._following.wait(moment, _CHECK_SECONDS)

    async def read_all(self) -> bool:
        """Read on in every partition, once; tell whether there was anything. Facts and positions are one commit."""
        found = False
        for partition in sorted(await self._log.owned()):
            for topic in TOPICS:
                found |= await self._read(topic, partition)
        self._tell_unread()
        await self._commit()
        return found

    def _tell_unread(self) -> None:
        """Let nothing new go to nodes of which we have not read what they say, and say how far we are behind."""
        state, behind = self._ledger.peek(), self.hearing.behind
        if not behind and not state.unread:
            return
        if behind.keys() == self._unread_in and self._clock() - self._told_unread < _CHECK_SECONDS:
            return
        self._unread_in, self._told_unread = frozenset(behind), self._clock()
        publishers = {node.publisher for node in state.nodes.values() if node.publisher} if behind else ()
        places = ((publisher, partition_of(publisher, self._log.partitions)) for publisher in publishers)
        state.note_unread({publisher: behind[place] for publisher, place in places if place in behind})

    async def _settle(self) -> None:
        try:
            await self._settle_runs(self.tracker)
        except MusterError as error:
            _log.warning("not_settled consumer=%s error=%s (it is tried again)", self.name, error)
        await self._commit()

    async def _commit(self) -> None:
        """Commit what was read since the last time, with its facts. Raises what keeps it from it; then read anew."""
        if not (self.tracker.changed or self.documents.changed or self._new_alerts):
            return
        if self._ledger.peek() is not self._state:
            raise LedgerBusyError("the ledger was read from disk again: facts that were not on disk are taken anew")
        change, progress = inventory_progress.change_of(self.tracker, self._log.id)
        change.dropped, change.documents = self.documents.take_changes()
        change.alerts = self._new_alerts
        self._new_alerts = {}
        keep = partial(inventory_progress.keep, log_id=self._log.id, change=change)
        await self._ledger.decide(_nothing, beside=keep)
        self.committed.apply(progress)

    async def _read(self, topic: str, partition: int) -> bool:
        offset = self.tracker.positions.get((topic, partition))
        if offset is None:
            offset = await self._log.begin(topic, partition)
        try:
            records = await self._log.read(topic, partition, offset, READ_BYTES)
        except OffsetOutOfRangeError as error:
            _log.warning("log_skipped topic=%s partition=%d from=%d", topic, partition, offset)
            self.tracker.move(topic, partition, error.begin if offset < error.begin else error.end)
            return True
        if topic != ALERT:
            self.hearing.note_lateness(topic, partition, records)
        if not records:
            return False
        if topic == ALERT:
            for record in records:
                self._follow_alert(record)
        else:
            batches = [(record, batch) for record in records if (batch := self._opened(record)) is not None]
            await self._runs.know({(one.envelope.publisher, one.envelope.epoch) for _, one in batches}, self.tracker)
            for number, (record, batch) in enumerate(batches, 1):
                self._at = (topic, partition, record.offset)
                self._take(record, batch, partition)
                if not number % _TOGETHER:
                    await asyncio.sleep(0)  # a fleet that describes itself anew must not keep the loop to itself
            self._at = None
        self.tracker.move(topic, partition, records[-1].offset + 1)
        return True

    def _opened(self, record: Record) -> Batch | None:
        self.status.records += 1
        try:
            return decode_batch(record.value)
        except WireError as error:  # ingest lets nothing of the kind pass
            self.status.unreadable += 1
            _log.error("log_record_unreadable offset=%d error=%s", record.offset, error)
            return None

    def _take(self, record: Record, batch: Batch, partition: int) -> None:
        envelope = batch.envelope
        run = self._runs.of(envelope.publisher, envelope.epoch)
        self.hearing.hear(envelope.publisher, partition)
        if envelope.account is not None:
            told = told_word(envelope.publisher, envelope.epoch, record.appended_ns, envelope.account)
            self.tracker.recall([narrow(told, CLASSES)])
        if (
            envelope.documents
            and partition not in self.hearing.behind
            and self._runs.is_latest(envelope.publisher, run)
        ):
            self._compare(envelope)
        if not envelope.rows:
            return
        stream = Stream(envelope.publisher, envelope.epoch, envelope.row_class, envelope.level)
        standing = self.tracker.standing(stream, record.appended_ns, envelope.age_ns)
        missing = self.tracker.missing(stream, envelope.first, envelope.end) if standing is Standing.NEW else []
        if standing is Standing.FORGOTTEN:
            self.tracker.remember(StoreRun(stream.publisher, stream.epoch))
        if not missing:
            self.status.repeated += envelope.rows
            return
        outcome = Outcome.DONE
        if self._at in self._poison:
            outcome = Outcome.QUARANTINED
            self.status.unreadable += 1
            _log.error("record_left_out place=%s publisher=%s", self._at, envelope.publisher)
        elif envelope.row_class is RowClass.CAPABILITY:
            try:
                blocks = check_batch(batch)
                if missing != [(envelope.first, envelope.end)]:
                    blocks = cut_blocks(blocks, envelope.first, missing)
                self._documents_of(envelope, blocks, run)
            except WireError as error:
                outcome = Outcome.QUARANTINED  # the store consumer keeps it aside
                _log.warning("batch_unreadable publisher=%s error=%s", envelope.publisher, error)
        for first, end in missing:
            self.tracker.mark(stream, first, end, outcome)

    def _documents_of(self, envelope: Envelope, blocks: list[Block], run: Run) -> None:
        for block in blocks:
            if block.measurement != CAPABILITY:
                continue
            texts = block.strings.get("document")
            if texts is None:
                raise MalformedError(f"a block of {CAPABILITY} has no column 'document'")
            for row, said_text in zip(block.rows, texts, strict=True):
                key = block.keys[row]
                device, collector = key[0], key[1] if len(key) > 1 else ""
                text = said_text or ""
                self.status.documents += 1
                held = (envelope.publisher, collector, device)
                if not self._runs.is_latest(envelope.publisher, run) or not self.documents.take(
                    held, text, block.subject, envelope.epoch, envelope.order
                ):
                    self.status.stale += 1
                    continue
                said = Said(envelope, run, block.subject, collector, device, read_document(text))
                if not speaks(self._ledger.peek(), said):
                    self._ledger.apply_now(partial(begin_run, said=said))
                self.status.facts += self._ledger.apply_now(partial(left_behind, said=said))
                devices = len(self._ledger.peek().devices)
                self.status.facts += self._ledger.apply_now(partial(facts, said=said, adopt=self._adopt))
                self._waiting.note(said, self._ledger.peek(), new=len(self._ledger.peek().devices) > devices)

    def _compare(self, envelope: Envelope) -> None:
        """Compare a heartbeat's hash with the documents that we hold, and withdraw what is proved to be gone."""
        for held in self.documents.heard(envelope.publisher, envelope.documents, envelope.epoch, envelope.order):
            node = held.subject or held.publisher
            source = view_source(held.publisher, held.collector, held.device)
            why = "its collector does not describe it any more"
            self.status.facts += self._ledger.apply_now(partial(withdraw_held, node=node, source=source, why=why))

    def _follow_alert(self, record: Record) -> None:
        """Taint, or take off, what an alert says; each of its transitions once."""
        try:
            alert = decode_alert(record.value)
        except WireError as error:
            self.status.unreadable += 1
            _log.error("alert_unreadable offset=%d error=%s", record.offset, error)
            return
        if alert.transition <= self._alerts.get(alert.fingerprint, 0):
            self.status.repeated += 1
            return
        self._alerts[alert.fingerprint] = self._new_alerts[alert.fingerprint] = alert.transition
        self.status.facts += self._ledger.apply_now(partial(follow_alert, alert=alert))

    async def check_silence(self) -> None:
        """Record which nodes fell silent, and which speak again; of partitions where we are behind nothing is told."""
        entries = self.hearing.news(self._ledger.peek())
        if entries:
            await self._ledger.decide(lambda _: (entries, None))


def _nothing(_state: State) -> tuple[list[Entry], None]:
    return [], None
