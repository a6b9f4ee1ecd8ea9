"""The intake: what collectors deliver is filtered by level, stamped, gathered into batches and handed to the spool.

Gathering happens in memory, so that rows of five seconds travel together; a row begins to exist with its spool commit.
A delivery that carries a position is committed whole or not at all: were part of it committed without the position, a
crash would make the source yield that part twice.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

import msgspec

from collectors.delivery import Delivery
from collectors.spool import Counts, Key, NewBatch, Spool
from collectors.verbosity import LevelPolicy
from schemas.batch import Block
from schemas.codec import encode_body
from schemas.device import decode_document, documents_hash
from schemas.errors import SpoolError
from schemas.rows import CAPABILITY, Parcel
from schemas.verbosity import Level, RowClass

_log = logging.getLogger("muster.intake")
FLUSH_ROWS: Final = 80
FLUSH_SECONDS: Final = 5.0
WATCHED_SECONDS: Final = 1.0
MAX_ROWS: Final = 4096
"""Rows of one batch, so that no batch comes near the limits of the codec."""
MAX_WAITING_ROWS: Final = 20_000
"""Gathered or waiting for the disk: beyond this the intake is not ready and sources that can wait do."""
_CLOCK_STEP_NS: Final = 1_000_000_000
T = TypeVar("T")


class _Pile:
    """Rows of one stream under one grant that wait for their flush."""

    __slots__ = ("blocks", "rows", "since")

    def __init__(self, now: float) -> None:
        self.blocks: dict[tuple[str, str, tuple[str, ...]], list[Block]] = {}
        self.rows = 0
        self.since = now

    def all_blocks(self) -> list[Block]:
        """Give the blocks, each table's together."""
        return [block for blocks in self.blocks.values() for block in blocks]


class _Ticket(msgspec.Struct):
    """A delivery with a position: its streams are flushed together."""

    keys: set[Key]
    positions: dict[tuple[str, str], str]


class Flush(msgspec.Struct):
    """What is committed to the spool together."""

    piles: list[tuple[Key, str, list[Block]]]
    counts: dict[Key, Counts]
    positions: dict[tuple[str, str], str]
    documents: list[tuple[str, Block]] = []
    rows: int = 0


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
        self._piles: dict[tuple[Key, str], _Pile] = {}
        self._counts: dict[Key, Counts] = {}
        self._tickets: list[_Ticket] = []
        self._positions: dict[tuple[str, str], str] = {}
        self._last_ns: dict[Key, int] = {}
        self._documents: dict[str, dict[str, str]] = {}
        self._new_documents: list[tuple[str, Block]] = []
        self._waiting_rows = 0
        self._urgent = False
        self._stopping = False
        self._clock_offset = self._offset_ns()
        self.unspooled = 0
        """Rows given up before they existed: the disk took nothing for so long that memory had to be bounded."""
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
            if self._waiting_rows >= 2 * MAX_WAITING_ROWS and not delivery.positions:
                self.unspooled += sum(len(parcel.block.rows) for parcel in delivery.parcels)
                return
            keys = {key for parcel in delivery.parcels if (key := self._gather(collector, parcel)) is not None}
            if delivery.documents is not None:
                self._take_documents(collector, delivery.documents)
            if delivery.positions:
                positions = {(collector, position.source): position.value for position in delivery.positions}
                self._positions.update(positions)
                self._tickets.append(_Ticket(keys, positions))
                if not keys:
                    self._urgent = True
            self._lock.notify()

    def wake(self) -> None:
        """Look again at what is due: somebody began to watch this node."""
        with self._lock:
            self._lock.notify()

    def documents_hash(self) -> str:
        """Give the hash of the node's whole set of capability documents."""
        with self._lock:
            return documents_hash([text for texts in self._documents.values() for text in texts.values()])

    def resend_documents(self) -> None:
        """Send every document again: the aggregator's set differs from ours."""
        with self._lock:
            for collector, texts in self._documents.items():
                self._documents[collector] = {}
                self._take_documents(collector, list(texts.values()))
            self._lock.notify()

    def drain(self, timeout: float = 10.0) -> bool:
        """Commit everything that was taken; tell whether all of it is on disk."""
        deadline = self._clock() + timeout
        with self._lock:
            self._urgent = True
            self._lock.notify()
            while self._waiting_rows or self._tickets or self._new_documents or self._counts:
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

    def _gather(self, collector: str, parcel: Parcel) -> Key | None:
        """Put a parcel on its pile; None when it was filtered."""
        key = (parcel.row_class, parcel.level)
        rows = len(parcel.block.rows)
        grant = self._policy.admit(collector, parcel.row_class, parcel.level)
        if parcel.row_class in (RowClass.EVENT, RowClass.CAPABILITY):
            grant = ""  # always essential, whatever a collector says
        if grant is None:
            self._counts.setdefault(key, Counts()).filtered += rows
            return None
        self._stamp(key, parcel.block)
        now = self._clock()
        pile = self._piles.get((key, grant))
        if pile is None:
            pile = self._piles[key, grant] = _Pile(now)
        name = (parcel.block.measurement, parcel.block.subject, tuple(parcel.block.attributes))
        blocks = pile.blocks.setdefault(name, [])
        if not blocks or not merge_block(blocks[-1], parcel.block):
            blocks.append(parcel.block)
        pile.rows += rows
        self._waiting_rows += rows
        return key

    def _stamp(self, key: Key, block: Block) -> None:
        """Keep time strictly increasing within the stream, but follow the wall clock over a step."""
        last = self._last_ns.get(key, 0)
        if last - _CLOCK_STEP_NS < block.start <= last:
            block.start = last + 1
        self._last_ns[key] = block.end

    def _offset_ns(self) -> int:
        return self._wall_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def _watch_clock(self) -> None:
        offset = self._offset_ns()
        step = offset - self._clock_offset
        if abs(step) < _CLOCK_STEP_NS:
            return
        self._clock_offset = offset
        seconds = step / 1e9
        word = "forward" if step > 0 else "back"
        self._gather("agent", event_parcel(
            self._subject,
            self._wall_ns(),
            "clock.step",
            f"The wall clock went {word} by {abs(seconds):.3f} s",
            {"step_seconds": round(seconds, 3)},
        ))

    def _take_documents(self, collector: str, texts: list[str]) -> None:
        """Send what is new or changed, and say what is gone."""
        before = self._documents.get(collector, {})
        after = {decode_document(text).device: text for text in texts}
        self._documents[collector] = after
        now = self._wall_ns()
        for device, text in after.items():
            if before.get(device) != text:
                self._new_documents.append((device, document_block(self._subject, device, text, now, collector)))
        for device in before.keys() - after.keys():
            self._new_documents.append((device, document_block(self._subject, device, "", now, collector)))

    # --- committing --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        backoff = 0.1
        flush: Flush | None = None
        while True:
            with self._lock:
                if flush is None:
                    flush = self._due()
                if flush is None:
                    if self._stopping:
                        return
                    self._lock.wait(self._until_due())
                    continue
            try:
                self._commit(flush)
            except SpoolError as error:
                self.commit_failures += 1
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
                self._lock.notify_all()
            flush = None
            self._committed()

    def _until_due(self) -> float:
        if not self._piles:
            return FLUSH_SECONDS
        limit = WATCHED_SECONDS if self._policy.watched else FLUSH_SECONDS
        oldest = min(pile.since for pile in self._piles.values())
        return max(0.001, oldest + limit - self._clock())

    def _due(self) -> Flush | None:
        """Give what is to be committed now, or None."""
        now = self._clock()
        limit = WATCHED_SECONDS if self._policy.watched else FLUSH_SECONDS
        due = {
            key
            for (key, _), pile in self._piles.items()
            if self._urgent
            or pile.rows >= FLUSH_ROWS
            or now - pile.since >= limit
            or key[0] is RowClass.EVENT
            or (not self._last_flushed(key))
        }
        if not due and not self._urgent and not self._new_documents:
            return None
        return self._collect_flush(due)

    def _last_flushed(self, key: Key) -> bool:
        """Whether the stream ever had a batch: its first one goes at once."""
        return self._spool.numbered(*key) > 0

    def _collect_flush(self, due: set[Key]) -> Flush | None:
        """Widen `due` to every stream that a ticket ties to it, and take all of that out of the piles."""
        if self._urgent:
            due = {key for key, _ in self._piles} | {key for ticket in self._tickets for key in ticket.keys}
        grown = True
        while grown:
            grown = False
            for ticket in self._tickets:
                if ticket.keys & due and not ticket.keys <= due:
                    due |= ticket.keys
                    grown = True
        positions: dict[tuple[str, str], str] = {}
        waiting: list[_Ticket] = []
        for ticket in self._tickets:
            if ticket.keys <= due:
                positions.update(ticket.positions)
            else:
                waiting.append(ticket)
        self._tickets = waiting
        piles = [(key, grant, pile) for (key, grant), pile in self._piles.items() if key in due]
        for key, grant, _ in piles:
            del self._piles[key, grant]
        counts, self._counts = self._counts, {}
        documents, self._new_documents = self._new_documents, []
        self._urgent = False
        if not (piles or counts or positions or documents):
            return None
        return Flush(
            [(key, grant, pile.all_blocks()) for key, grant, pile in piles],
            counts,
            positions,
            documents,
            sum(pile.rows for _, _, pile in piles),
        )

    def _commit(self, flush: Flush) -> None:
        batches = []
        for (row_class, level), grant, blocks in flush.piles:
            for part in _parts(blocks):
                rows = sum(len(block.rows) for block in part)
                batches.append(NewBatch(row_class, level, rows, encode_body(part), grant))
        for device, block in flush.documents:
            body = encode_body([block])
            name = f"{block.subject}/{device}/{block.keys[0][1]}"
            batches.append(NewBatch(RowClass.CAPABILITY, Level.ESSENTIAL, 1, body, "", name))
        self._spool.commit(batches, flush.counts, flush.positions)


def merge_block(into: Block, block: Block) -> bool:
    """Append `block`'s rows to `into` in place when that is the same table going on in time; tell whether it was."""
    gap = block.start - into.end
    if gap < 1 or len(into.rows) + len(block.rows) > MAX_ROWS:
        return False
    index = {tuple(key): number for number, key in enumerate(into.keys)}
    moved = []
    for key in block.keys:
        number = index.setdefault(tuple(key), len(into.keys))
        if number == len(into.keys):
            into.keys.append(key)
        moved.append(number)
    had, more = len(into.rows), len(block.rows)
    into.rows.extend(moved[row] for row in block.rows)
    into.steps.append(gap)
    into.steps.extend(block.steps[1:])
    _merge_columns(into.floats, block.floats, had, more)
    _merge_columns(into.ints, block.ints, had, more)
    _merge_columns(into.bools, block.bools, had, more)
    _merge_columns(into.strings, block.strings, had, more)
    return True


def _merge_columns(into: dict[str, list[T | None]], more: Mapping[str, list[T | None]], had: int, count: int) -> None:
    for name, column in more.items():
        if name not in into:
            into[name] = [None] * had
        into[name].extend(column)
    for name, column in into.items():
        if name not in more:
            column.extend([None] * count)


def _parts(blocks: list[Block]) -> list[list[Block]]:
    """Divide blocks so that no batch has more than MAX_ROWS rows (a single larger block stays whole)."""
    parts: list[list[Block]] = []
    rows = MAX_ROWS + 1
    for block in blocks:
        if rows + len(block.rows) > MAX_ROWS:
            parts.append([])
            rows = 0
        parts[-1].append(block)
        rows += len(block.rows)
    return parts


def document_block(subject: str, device: str, text: str, time_ns: int, collector: str) -> Block:
    """Give the block of one capability document; "" as its text says that the device is no longer described."""
    key = [device, collector]
    return Block(CAPABILITY, subject, ["collector"], [key], [0], time_ns, [0], strings={"document": [text]})


def event_parcel(
    subject: str, time_ns: int, event_type: str, message: str, detail: Mapping[str, object], *, severity: int = 5
) -> Parcel:
    """Give the parcel of an event that the agent itself has to tell."""
    text = msgspec.json.encode(detail).decode()
    block = Block(
        "event",
        subject,
        [],
        [[""]],
        [0],
        time_ns,
        [0],
        ints={"severity": [severity]},
        strings={"type": [event_type], "message": [message], "detail": [text]},
    )
    return Parcel(RowClass.EVENT, Level.ESSENTIAL, block)
