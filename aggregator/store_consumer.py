"""The store consumer: reads every topic, opens each batch once, and commits rows together with what it has dealt with.

A transaction every half second or some thousand rows over all streams (`aggregator.gathering`). When the store fails,
everything since the last commit is read from the log again; what was committed is known, so no row is lost and none is
stored twice.
"""

import asyncio
import concurrent.futures
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

import msgspec

from aggregator.consumer import (
    Announce,
    ConsumerStatus,
    Counts,
    Following,
    Own,
    Quarantine,
    Settle,
    own_nothing,
    settle_nothing,
    tell_nobody,
)
from aggregator.cutting import cut_blocks
from aggregator.gathering import Gathered, Taken
from aggregator.log import TOPICS, Log, OffsetOutOfRangeError, Record
from aggregator.opened import OpenedBatches
from aggregator.past import Standing
from aggregator.progress import Tracker
from aggregator.store import Bad, Outcome, Progress, Rows, Run, Store, Stream, Transaction, Word
from schemas.batch import Batch, Block, Envelope
from schemas.codec import check_batch, decode_batch
from schemas.errors import MusterError, WireError
from schemas.intervals import Interval
from schemas.verbosity import Level

_log = logging.getLogger("muster.store")
T = TypeVar("T")
COMMIT_SECONDS: Final = 0.5
READ_BYTES: Final = 1 << 20
MAINTAIN_SECONDS: Final = 60.0
RECORD_TOPICS: Final = TOPICS[:4]
"""The topics whose records are batches."""


class StoreConsumer:
    """Feeds a store from the log until it is stopped."""

    name: Final = "store"

    def __init__(
        self,
        log: Log,
        store: Store,
        quarantine: Quarantine,
        *,
        keep: Level = Level.DEBUG,
        opened: OpenedBatches | None = None,
        announce: Announce = tell_nobody,
        expired_words: Callable[[], Iterable[Word]] = tuple,
        settle: Settle = settle_nothing,
        own: Own = own_nothing,
    ) -> None:
        """Prepare; nothing is read before `run`.

        `announce` is told when the log is not the one that was followed. `expired_words` gives the words of publishers
        that retention took from the log before we read them. `own` takes our partitions before anything of them is
        read; what it raises is tried again.
        """
        self._log = log
        self._store = store
        self._quarantine = quarantine
        self._keep = keep
        self._opened = opened or OpenedBatches()
        self._expired_words = expired_words
        self._settle_runs = settle
        self._own = own
        self._owned: frozenset[int] = frozenset()
        self._epochs: Mapping[int, int] = {}
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="store")
        self._following = Following(log, self.name, announce, _log)
        self._gathered = Gathered()
        self._counting = Counts()
        self._committed_at = 0.0
        self._maintained = time.monotonic()
        self.tracker = Tracker()
        self.committed = Tracker()
        """What is on disk; `tracker` is ahead of it by the transaction that is being gathered."""
        self.known = False
        """Whether `committed` was ever read from the store."""
        self.ready = False
        """Whether the store is open and follows the log."""
        self.status = ConsumerStatus()

    async def run(self) -> None:
        """Follow the log until `stop`; reopen the store after a failure, with back-off."""
        backoff = 0.1
        while not self._following.stopping:
            commits = self.status.commits
            try:
                await self._open()
                await self._follow()
            except Exception as error:  # noqa: BLE001 - whatever it is, the log still has the rows: begin again
                self.ready = False
                self.status.failures += 1
                if str(error) != self.status.last_error:
                    known = isinstance(error, MusterError)
                    _log.error("store_failed retry_seconds=%.1f error=%s", backoff, error, exc_info=not known)
                self.status.last_error = str(error)
                await self._let_go()
                if self.status.commits > commits:  # it worked in between
                    backoff = 0.1
                await self._following.pause(backoff)
                backoff = min(10.0, backoff * 2)
        await self._close()

    def stop(self) -> None:
        """Commit what was read and end."""
        self._following.stop()

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        progress = await self._take_over()
        self.tracker = await self._follow_on(progress)
        self.committed = Tracker(progress)
        self.known = True
        self._counting = Counts()
        self._gathered = Gathered()
        self.ready = True
        if self.status.last_error:
            _log.info("store_again")
        self.status.last_error = ""

    async def _take_over(self) -> Progress:
        """Open the store, and let nobody who had our partitions before us write any more; give what they committed."""
        progress = await self._call(self._store.open)
        self._owned = await self._log.owned()
        self._epochs = await self._own(progress.owners)
        if any(progress.owners.get(partition) != epoch for partition, epoch in self._epochs.items()):
            taking = Transaction([], Progress(owners=dict(self._epochs)))
            await self._call(lambda: self._store.commit(taking))
            progress = await self._call(self._store.open)  # until that commit a late owner could still write
        return progress

    async def _follow_on(self, progress: Progress) -> Tracker:
        """Give a tracker that goes on from `progress`: from the log's beginning where its positions mean nothing now.

        What is then read again is known, so that no row is stored twice.
        """
        if await self._following.is_recreated([progress.log_id] if progress.log_id else []):
            progress.positions = []
        tracker = Tracker(progress)
        tracker.recall(self._expired_words())
        if await self._following.is_set_back(progress.positions):
            for one in progress.positions:
                tracker.move(one.topic, one.partition, await self._log.begin(one.topic, one.partition))
        return tracker

    async def _follow(self) -> None:
        moment = 0
        while not self._following.stopping:
            if await self._log.owned() != self._owned:
                return  # partitions came or went: take those that are ours, and go on from what is committed of them
            read = await self._read_all()
            if self._due():
                await self._commit()
            if time.monotonic() - self._maintained >= MAINTAIN_SECONDS:
                self._maintained = time.monotonic()
                await self._settle()
                await self._call(lambda: self._store.maintain(time.time_ns()))
            if not read:
                left = self._committed_at + COMMIT_SECONDS - time.monotonic() if self.tracker.changed else 30.0
                moment = await self._following.wait(moment, min(max(0.001, left), MAINTAIN_SECONDS))

    async def _settle(self) -> None:
        if self.tracker.changed:
            await self._commit()
        try:
            await self._settle_runs(self.tracker)
        except MusterError as error:  # of another part than the store; what was settled before it stands
            _log.warning("not_settled consumer=%s error=%s (it is tried again)", self.name, error)
        if self.tracker.changed:
            await self._commit()

    def _due(self) -> bool:
        return self.tracker.changed and (
            self._gathered.enough or time.monotonic() - self._committed_at >= COMMIT_SECONDS
        )

    async def _read_all(self) -> bool:
        """Read on in every partition that we own; tell whether there was anything."""
        found = False
        for partition in sorted(self._owned):
            for topic in RECORD_TOPICS:
                found |= await self._read(topic, partition)
                if self._gathered.full:
                    await self._commit()
        return found

    async def _read(self, topic: str, partition: int) -> bool:
        offset = self.tracker.positions.get((topic, partition))
        if offset is None:
            offset = await self._log.begin(topic, partition)
        try:
            records = await self._log.read(topic, partition, offset, READ_BYTES)
        except OffsetOutOfRangeError as error:
            # retention took what we had not read, and has counted it; or the log lost its tail
            _log.warning("log_skipped topic=%s partition=%d from=%d to=%d", topic, partition, offset, error.begin)
            self.tracker.recall(self._expired_words())
            self.tracker.move(topic, partition, error.begin if offset < error.begin else error.end)
            return True
        if not records:
            return False
        for record in records:
            await self._take(record, self._opened.get((topic, partition, record.offset)))
        self.tracker.move(topic, partition, records[-1].offset + 1)
        return True

    async def _take(self, record: Record, opened: tuple[Batch, list[Block]] | None) -> None:
        self._counting.records += 1
        try:
            batch, blocks = opened or (decode_batch(record.value), None)
        except WireError as error:  # ingest lets nothing of the kind pass; another writer may have
            _log.error("log_record_unreadable offset=%d error=%s", record.offset, error)
            return
        envelope = batch.envelope
        if envelope.account is not None:
            self.tracker.hear(envelope.publisher, envelope.epoch, record.appended_ns, envelope.account)
        if not envelope.rows:
            return
        self.status.lateness_seconds = (envelope.age_ns + max(0, time.time_ns() - record.appended_ns)) / 1e9
        stream = Stream(envelope.publisher, envelope.epoch, envelope.row_class, envelope.level)
        if (standing := self.tracker.standing(stream, record.appended_ns, envelope.age_ns)) is not Standing.NEW:
            await self._come_late(record, envelope, stream, standing)
            return
        missing = self.tracker.missing(stream, envelope.first, envelope.end)
        fresh = sum(end - first for first, end in missing)
        self._counting.rows_repeated += envelope.rows - fresh
        if not fresh:
            return
        if envelope.level > self._keep and not envelope.grant:
            self._mark(stream, missing, Outcome.FILTERED)
            self._counting.rows_filtered += fresh
            return
        await self._add(record, batch, blocks, stream, missing)

    async def _come_late(self, record: Record, envelope: Envelope, stream: Stream, standing: Standing) -> None:
        """Deal with a batch of a run that is settled, or may be: its rows are counted, and never stored again."""
        if standing is Standing.REPEATED:
            self._counting.rows_repeated += envelope.rows
            return
        reason = f"balance.{standing.value}_run: {standing.reason}; nothing of this batch is stored"
        await self._quarantine(envelope, record.value, self.name, reason)
        self._counting.rows_quarantined += envelope.rows
        if standing is Standing.FORGOTTEN:
            self.tracker.remember(Run(stream.publisher, stream.epoch))

    async def _add(
        self, record: Record, batch: Batch, blocks: list[Block] | None, stream: Stream, missing: list[Interval]
    ) -> None:
        envelope = batch.envelope
        try:
            blocks = check_batch(batch) if blocks is None else blocks
        except WireError as error:
            await self._set_aside(record, envelope, stream, missing, f"{error.code}: {error}")
            return
        if missing != [(envelope.first, envelope.end)]:
            blocks = cut_blocks(blocks, envelope.first, missing)
        rows = Rows(envelope.publisher, envelope.row_class, envelope.level, blocks)
        self._gathered.add(Taken(rows, stream, missing, record, envelope))
        self._mark(stream, missing, Outcome.DONE)

    def _mark(self, stream: Stream, parts: list[Interval], outcome: Outcome) -> None:
        for first, end in parts:
            self.tracker.mark(stream, first, end, outcome)

    async def _set_aside(
        self, record: Record, envelope: Envelope, stream: Stream, missing: list[Interval], reason: str
    ) -> None:
        await self._quarantine(envelope, record.value, self.name, reason)
        self._mark(stream, missing, Outcome.QUARANTINED)
        self._counting.rows_quarantined += sum(end - first for first, end in missing)

    async def _commit(self) -> None:
        """Commit what was read since the last commit. Raises StoreError or FencedError; then nothing of it was kept."""
        taken, self._gathered = self._gathered.batches, Gathered()
        counts, self._counting = self._counting, Counts()
        rows = [one.rows for one in taken]
        bad = {one.index: one for one in await self._call(lambda: self._store.check(rows))} if rows else {}
        progress = self.tracker.take_changes(self._log.id)
        progress.owners = dict(self._epochs)
        if bad:
            counts.rows_quarantined += await self._remove_bad(taken, bad)
            rows = [one for index, one in enumerate(rows) if index not in bad]
            refused = {(taken[index].stream, *part) for index in bad for part in taken[index].missing}
            progress.seen = [
                msgspec.structs.replace(seen, outcome=Outcome.QUARANTINED)
                if (seen.stream, seen.first, seen.end) in refused
                else seen
                for seen in progress.seen
            ]
        await self._call(lambda: self._store.commit(Transaction(rows, progress)))
        self.committed.apply(progress)
        self._committed_at = time.monotonic()
        self.status.commits += 1
        self.status.records += counts.records
        self.status.rows_done += sum(len(block.rows) for one in rows for block in one.blocks)
        self.status.rows_filtered += counts.rows_filtered
        self.status.rows_quarantined += counts.rows_quarantined
        self.status.rows_repeated += counts.rows_repeated
        self.status.last_commit_ns = time.time_ns()

    async def _remove_bad(self, taken: list[Taken], bad: dict[int, Bad]) -> int:
        """Set aside what the store can never take; give how many rows that are."""
        rows = 0
        for index, one in bad.items():
            batch = taken[index]
            await self._quarantine(batch.envelope, batch.record.value, self.name, f"store.unstorable: {one.reason}")
            self.tracker.correct(batch.stream, batch.missing, Outcome.QUARANTINED)  # settling counts by working sets
            rows += batch.fresh
        return rows

    async def _call(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    async def _close(self) -> None:
        """Commit and let go of the store. Whatever fails is logged: the log still has the rows, and others must end."""
        try:
            if self.ready and self.tracker.changed:
                await self._commit()
        except Exception as error:  # noqa: BLE001 - see above
            _log.error("store_failed_at_stop error=%s (the log still has the rows)", error)
        self.ready = False
        await self._let_go()
        self._thread.shutdown()

    async def _let_go(self) -> None:
        try:
            await self._call(self._store.close)
        except Exception as error:  # noqa: BLE001 - opening says what is wrong, if it still is
            _log.error("store_not_closed error=%s", error)
