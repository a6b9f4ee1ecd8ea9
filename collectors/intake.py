"""The intake: what collectors deliver is filtered by level, stamped, gathered into batches and handed to the spool.

Gathering happens in memory, so that rows of five seconds travel together; a row begins to exist with its spool commit.
A delivery that carries a position is committed whole or not at all: were part of it committed without the position, a
crash would make the source yield that part twice.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from collectors.delivery import Delivery
from collectors.gathering import bodies_of
from collectors.joining import Joining
from collectors.own_rows import document_block, event_parcel
from collectors.piles import Flush, Piles
from collectors.spool import Counts, Key, NewBatch, Spool
from collectors.verbosity import LevelPolicy
from schemas.batch import Block, family
from schemas.device import decode_document, documents_hash
from schemas.errors import SpoolError
from schemas.rows import Parcel, Severity
from schemas.verbosity import Level, RowClass

_log = logging.getLogger("muster.intake")
FLUSH_SECONDS: Final = 5.0
WATCHED_SECONDS: Final = 1.0
MAX_WAITING_ROWS: Final = 20_000
"""Gathered or waiting for the disk: beyond this the intake is not ready and sources that can wait do."""
_CLOCK_STEP_NS: Final = 1_000_000_000


class _Blocked(msgspec.Struct):
    """A time in which the disk took nothing."""

    since: float
    failures: int = 0
    reason: str = ""


class Intake:
    """Takes deliveries on the scheduler's thread and commits them on its own.

    `committed` is called after every commit, from the committing thread: the publisher has something to send.
    """

    def __init__(
        self,
        spool: Spool,
        policy: LevelPolicy,
        subject: str,
        *,
        committed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._spool = spool
        self._policy = policy
        self._subject = subject
        self._committed = committed
        self._clock = clock
        self._wall_ns = wall_ns
        self._lock = threading.Condition()
        self._piles = Piles(lambda key: not spool.numbered(*key))
        self._counts: dict[Key, Counts] = {}
        self._joining = Joining()
        self._positions: dict[tuple[str, str], str] = {}
        self._last_ns: dict[Key, int] = {}
        self._documents: dict[tuple[str, str], dict[str, str]] = {}
        """By collector and subject, "" for the node itself: the text of each device's document."""
        self._documents_hash: str | None = None
        """None: to be computed when it is asked for."""
        self._new_documents: list[tuple[str, Block]] = []
        self._waiting_rows = 0
        self._asked: list[Callable[[], None]] = []
        self._urgent = False
        self._stopping = False
        self._committing = False
        self._looks_at = -math.inf
        """When the committing thread looks by itself at what is due."""
        self._told_unspooled = 0
        self._clock_offset = self._offset_ns()
        self.unspooled = 0
        """Rows given up before they existed, since the disk took nothing for so long that memory had to be bounded, or
        since a value cannot travel. An event tells how many, when the disk takes it."""
        self.commit_failures = 0
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)

    # --- the scheduler's side ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to commit."""
        self._thread.start()

    def level(self, collector: str) -> Level:
        """Give the level in force for a collector."""
        return self._policy.in_force(collector)

    def positions(self, collector: str) -> dict[str, str]:
        """Give the latest positions that were taken: rows still in memory are not to be read again while we live."""
        with self._lock:
            taken = {source: value for (name, source), value in self._positions.items() if name == collector}
        return self._spool.positions(collector) | taken

    def ready(self) -> bool:
        """Tell whether more may be delivered now."""
        return self._waiting_rows < MAX_WAITING_ROWS

    def take(self, collector: str, delivery: Delivery) -> None:
        """Filter, stamp and gather one delivery."""
        with self._lock:
            self._watch_clock()
            if delivery.documents is not None:
                self._take_documents(collector, "", delivery.documents)
            for told in delivery.told:
                self._take_documents(collector, told.subject, told.documents, whole=told.whole)
            for tally in delivery.tallies:
                counts = self._counts.setdefault((tally.row_class, tally.level), Counts())
                counts.folded += tally.folded
                counts.filtered += tally.filtered
            if self._waiting_rows >= 2 * MAX_WAITING_ROWS and not delivery.positions:
                self.unspooled += sum(len(parcel.block.rows) for parcel in delivery.parcels)
            else:
                gathered = [self._gather(collector, parcel, apart=delivery.apart) for parcel in delivery.parcels]
                keys = {key for key in gathered if key is not None}
                if delivery.positions:
                    positions = {(collector, each.source): each.value for each in delivery.positions}
                    self._positions.update(positions)
                    self._piles.tie(keys, positions, self._clock())
            if self._due_at() < self._looks_at:
                self._lock.notify()

    def when_committed(self, call: Callable[[], None]) -> None:
        """Commit all that was taken so far at once, and then call; on the committing thread. Not after `stop`."""
        with self._lock:
            self._asked.append(call)
            self._urgent = True
            self._lock.notify()

    def wake(self) -> None:
        """Look again at what is due: somebody began to watch this node."""
        with self._lock:
            self._lock.notify()

    def documents_hash(self) -> str:
        """Give the hash of the node's whole set of capability documents."""
        with self._lock:
            if self._documents_hash is None:
                every = [text for texts in self._documents.values() for text in texts.values()]
                self._documents_hash = documents_hash(every)
            return self._documents_hash

    def describing(self, addresses: Iterable[str]) -> set[str]:
        """Give the collectors that describe something of the node itself at PCI addresses."""
        told = [f'"address":"{address}"' for address in addresses if address]
        with self._lock:
            return {
                collector
                for (collector, subject), texts in self._documents.items()
                if not subject and any(one in text for text in texts.values() for one in told)
            }

    def resend_documents(self) -> None:
        """Send every document again: the aggregator's set differs from ours."""
        with self._lock:
            for (collector, subject), texts in list(self._documents.items()):
                self._documents[collector, subject] = {}
                self._take_documents(collector, subject, list(texts.values()))
            self._lock.notify()

    def drain(self, timeout: float = 10.0) -> bool:
        """Commit everything that was taken; tell whether all of it is on disk."""
        deadline = self._clock() + timeout
        with self._lock:
            self._urgent = True
            self._lock.notify()
            while self._committing or self._piles or self._new_documents or self._counts:
                if self._clock() >= deadline or not self._thread.is_alive():
                    return False
                self._urgent = True
                self._lock.notify()
                self._lock.wait(0.05)
        return True

    def stop(self) -> None:
        """Commit what was taken and end. Safe twice."""
        self.drain()
        with self._lock:
            self._stopping = True
            self._lock.notify_all()
        if self._thread.is_alive():
            self._thread.join(10.0)

    # --- gathering ---------------------------------------------------------------------------------------------------

    def _gather(self, collector: str, parcel: Parcel, *, apart: bool = False) -> Key | None:
        """Put a parcel on its pile; None when nothing of it goes on. `apart`: see `Delivery`."""
        level = parcel.level
        if parcel.row_class in (RowClass.EVENT, RowClass.CAPABILITY):
            level = Level.ESSENTIAL  # whatever a collector says
        key = (parcel.row_class, level)
        if parcel.row_class is RowClass.EVENT and (known := self._joining.sift(collector, parcel.block)):
            self._counts.setdefault(key, Counts()).folded += known
            if known == len(parcel.block.rows):
                return None
        rows = len(parcel.block.rows)
        grant = self._policy.admit(collector, parcel.row_class, level)
        if grant is None:
            self._counts.setdefault(key, Counts()).filtered += rows
            return None
        self._stamp(key, parcel.block)
        apart = apart and parcel.row_class is RowClass.TELEMETRY
        whose = "" if parcel.block.subject == self._subject else family(parcel.block.subject)
        self._piles.add(key, grant, parcel.block, self._clock(), apart=apart, whose=whose)
        self._waiting_rows += rows
        return key

    def _stamp(self, key: Key, block: Block) -> None:
        """Keep time strictly increasing within the stream, and never ahead of the wall clock by more than a step.

        Rows that were stamped before a step back and come after it, or that waited while others overtook them, get the
        next time that is free. Only a step back, which an event tells, makes a stream begin again at a lower time.
        """
        now = self._wall_ns()
        if block.start > now + _CLOCK_STEP_NS:
            block.start = now
        last = self._last_ns.get(key, 0)
        if block.start <= last:
            block.start = last + 1
        self._last_ns[key] = block.end

    def _offset_ns(self) -> int:
        return self._wall_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def _watch_clock(self) -> None:
        offset = self._offset_ns()
        step = offset - self._clock_offset
        self._clock_offset = offset  # a clock that is slewed drifts away bit by bit: no step
        if abs(step) < _CLOCK_STEP_NS:
            return
        if step < 0:
            self._last_ns.clear()
        seconds = step / 1e9
        word = "forward" if step > 0 else "back"
        self._tell_event("clock.step", f"The wall clock went {word} by {abs(seconds):.3f} s",
                         {"step_seconds": round(seconds, 3)})  # fmt: skip

    def _tell_event(
        self, event_type: str, message: str, detail: Mapping[str, object], *, severity: Severity = Severity.NOTICE
    ) -> None:
        event = event_parcel(self._subject, self._wall_ns(), event_type, message, detail, severity=severity)
        self._gather("agent", event)

    def _take_documents(self, collector: str, subject: str, texts: list[str], *, whole: bool = True) -> None:
        """Send what is new or changed, and say what is gone. `subject`: "" for the node itself."""
        before = self._documents.get((collector, subject), {})
        after, found = ({} if whole else dict(before)), []
        for text in texts:
            try:
                found.append(decode_document(text))
                after[found[-1].device] = text
            except (msgspec.MsgspecError, RecursionError) as error:  # a helper's word is not to be relied on
                _log.warning("document_refused collector=%s error=%s", collector, error)
        self._joining.described(collector, found, subject, whole=whole)
        self._documents[collector, subject] = after
        if subject and not after:
            del self._documents[collector, subject]
        self._documents_hash = None
        gone = dict.fromkeys(sorted(before.keys() - after.keys()), "")
        for device, text in (gone | after).items():  # a device that changes its name is never told under two at once
            if before.get(device) != text:
                block = document_block(subject or self._subject, device, text, self._wall_ns(), collector)
                self._new_documents.append((device, block))

    # --- committing --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        backoff = 0.1
        flush: Flush | None = None
        blocked: _Blocked | None = None
        while True:
            with self._lock:
                if flush is None:
                    flush = self._due()
                    self._committing = flush is not None
                if flush is None:
                    if self._stopping:
                        return
                    self._looks_at = min(self._due_at(), self._clock() + FLUSH_SECONDS)
                    self._lock.wait(max(0.001, self._looks_at - self._clock()))
                    self._looks_at = -math.inf
                    continue
            try:
                self._commit(flush)
            except SpoolError as error:
                self.commit_failures += 1
                blocked = blocked or _Blocked(self._clock())
                blocked.failures, blocked.reason = blocked.failures + 1, str(error)
                if self._stopping:
                    _log.error("spool_commit_failed rows=%d error=%s (given up: stopping)", flush.rows, error)
                    return
                _log.error("spool_commit_failed rows=%d retry_seconds=%.1f error=%s", flush.rows, backoff, error)
                time.sleep(backoff)
                backoff = min(5.0, backoff * 2)
                continue
            backoff = 0.1
            with self._lock:
                self._waiting_rows -= flush.rows
                self._committing = False
                self._tell_unspooled()
                if blocked is not None:
                    self._tell_blocked(blocked)
                self._lock.notify_all()
            for call in flush.asked:
                call()
            flush, blocked = None, None
            self._committed()

    def _tell_unspooled(self) -> None:
        """The disk takes rows again: say how many it cost that it did not."""
        count = self.unspooled - self._told_unspooled
        if count and not self._stopping:
            self._told_unspooled += count
            self._tell_event("rows.given_up", f"{count} rows were given up before they could be kept",
                             {"rows": count})  # fmt: skip

    def _tell_blocked(self, blocked: "_Blocked") -> None:
        if self._stopping:
            return
        seconds = self._clock() - blocked.since
        _log.warning("spool_commits_again blocked_seconds=%.1f failures=%d", seconds, blocked.failures)
        self._tell_event("spool.blocked", f"For {seconds:.1f} s the disk took no rows: {blocked.reason}",
                         {"blocked_seconds": round(seconds, 3), "failures": blocked.failures,
                          "reason": blocked.reason}, severity=Severity.WARNING)  # fmt: skip

    @property
    def _limit(self) -> float:
        return WATCHED_SECONDS if self._policy.watched else FLUSH_SECONDS

    def _due_at(self) -> float:
        return -math.inf if self._urgent or self._new_documents else self._piles.due_at(self._limit)

    def _due(self) -> Flush | None:
        """Give what is to be committed now, or None."""
        now = self._clock()
        if self._due_at() > now:
            return None
        flush = self._piles.take(now, self._limit, everything=self._urgent)
        flush.counts, self._counts = self._counts, {}
        flush.documents, self._new_documents = self._new_documents, []
        flush.asked, self._asked = self._asked, []
        self._urgent = False
        return flush if flush.piles or flush.counts or flush.positions or flush.documents or flush.asked else None

    def _commit(self, flush: Flush) -> None:
        batches = []
        refused = 0
        for (row_class, level), grant, blocks in flush.piles:
            for rows, body, why in bodies_of(blocks):
                if body is None:
                    refused += rows
                    _log.error("rows_refused rows=%d measurement=%s error=%s", rows, blocks[0].measurement, why)
                else:
                    batches.append(NewBatch(row_class, level, rows, body, grant))
        for device, block in flush.documents:
            name = f"{block.subject}/{device}/{block.keys[0][1]}"
            for rows, body, why in bodies_of([block]):
                if body is None:
                    _log.error("document_refused device=%s error=%s", device, why)
                else:
                    batches.append(NewBatch(RowClass.CAPABILITY, Level.ESSENTIAL, rows, body, "", name))
        self._spool.commit(batches, flush.counts, flush.positions)
        self.unspooled += refused
