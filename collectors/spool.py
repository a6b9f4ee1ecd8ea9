"""The spool: where rows begin to exist, and where they stay until the log has them.

One SQLite file, WAL, synchronous=FULL. One transaction holds the rows, their numbers, the totals of their streams and
the positions of the sources that they were read from; so after a crash or a power cut a source that can be read again
goes on exactly behind the last row that exists. Full, it gives up the least important rows first, and counts which.

The file may hold several publishers (a simulated fleet shares one); an agent has one. Not safe for several threads at
once: callers hold `lock`.
"""

import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from collectors.spool_file import SpoolFile, open_spool_file
from schemas.account import Account, Dropped, EpochAccount, StreamAccount
from schemas.errors import SpoolError
from schemas.intervals import Intervals
from schemas.verbosity import Level, RowClass

EVENT_SHARE: Final = 8
"""Events have one part in so many of the spool to themselves; capability documents likewise."""
_SHARED: Final = (RowClass.TELEMETRY, RowClass.LOG)
Key = tuple[RowClass, Level]


class NewBatch(msgspec.Struct):
    """Rows to be kept as one batch."""

    row_class: RowClass
    level: Level
    rows: int
    body: bytes
    grant: str = ""
    document: str = ""
    """For a capability document: which device it is of. A later one supersedes it."""


class Counts(msgspec.Struct):
    """What happened to a stream's rows besides being numbered, since the last commit."""

    filtered: int = 0
    folded: int = 0


class Held(msgspec.Struct):
    """A batch in the spool, its body on disk."""

    id: int
    """Grows with time over all epochs."""
    epoch: str
    row_class: RowClass
    level: Level
    first: int
    rows: int
    order: int
    size: int
    grant: str
    document: str
    born_boottime_ns: int
    born_wall_ns: int
    boot: str

    def age_ns(self, boot: str) -> int:
        """How long ago it was committed: by the clock that no `date` can set, across a reboot by the wall clock."""
        if self.boot == boot:
            return max(0, time.clock_gettime_ns(time.CLOCK_BOOTTIME) - self.born_boottime_ns)
        return max(0, time.time_ns() - self.born_wall_ns)


class _Stream:
    """One stream of one epoch, as the last commit left it."""

    __slots__ = ("dropped", "filtered", "folded", "last_ns", "numbered", "spooled")

    def __init__(self, filtered: int = 0, folded: int = 0, numbered: int = 0) -> None:
        self.filtered = filtered
        self.folded = folded
        self.numbered = numbered
        self.spooled = Intervals()
        self.dropped: dict[str, Intervals] = {}


class _Epoch:
    """One run of a publisher, as the last commit left it."""

    __slots__ = ("boot", "epoch", "next_order", "settled_at_word", "streams")

    def __init__(self, epoch: str, boot: str, next_order: int = 0) -> None:
        self.epoch = epoch
        self.boot = boot
        self.next_order = next_order
        self.streams: dict[Key, _Stream] = {}
        self.settled_at_word: int | None = None


class Spool:
    """The spool of one publisher's runs.

    Raises SpoolError from `open` when the file is of a newer version or of somebody else, and from `commit` when the
    disk takes no more; after that it can be used on.
    """

    def __init__(self, file: SpoolFile, publisher: str, boot: str, max_bytes: int) -> None:
        self.lock = threading.RLock()
        self.publisher = publisher
        self.boot = boot
        self.max_bytes = max_bytes
        self.epoch = secrets.token_hex(8)
        self._file = file
        self._epochs: dict[str, _Epoch] = {}
        self._held: dict[int, Held] = {}
        self._bytes: dict[Key, int] = {}
        self._next_id = 1
        self._word = 0
        self._positions: dict[tuple[str, str], str] = {}
        self._load()

    @classmethod
    def open(
        cls,
        path: Path,
        publisher: str,
        boot: str,
        *,
        max_bytes: int = 256 << 20,
        synchronous: str = "FULL",
    ) -> "Spool":
        """Open or make the spool and begin a new epoch. A damaged file is salvaged: what is lost is told as dropped."""
        return cls(open_spool_file(path, synchronous), publisher, boot, max_bytes)

    # --- writing -----------------------------------------------------------------------------------------------------

    def commit(
        self,
        batches: Iterable[NewBatch] = (),
        counts: Mapping[Key, Counts] | None = None,
        positions: Mapping[tuple[str, str], str] | None = None,
    ) -> list[Held]:
        """Keep batches, counts and positions, all or nothing, on disk; give what is now held of them.

        Raises SpoolError when the disk takes no more even after giving up what is less important.
        """
        with self.lock:
            new = list(batches)
            self._make_room(new)
            plan = self._plan(new)
            try:
                self._file.commit(self.publisher, self.epoch, plan, counts or {}, positions or {})
            except sqlite3.Error as error:
                raise SpoolError(f"{self._file.path}: {error}") from error
            live = self._epochs[self.epoch]
            for held, _ in plan:
                self._admit(live, held)
            for key, count in (counts or {}).items():
                stream = live.streams.setdefault(key, _Stream())
                stream.filtered += count.filtered
                stream.folded += count.folded
            self._positions.update(positions or {})
            return [held for held, _ in plan]

    def forget(self, ids: Iterable[int]) -> None:
        """Forget batches that the log has, or that were quarantined. What is no longer here is passed over.

        Not flushed by itself: a crash before the next commit means that they are sent again, and known as repeated.
        """
        with self.lock:
            gone = [self._held[batch_id] for batch_id in ids if batch_id in self._held]
            if not gone:
                return
            try:
                self._file.delete([held.id for held in gone])
            except sqlite3.Error as error:
                raise SpoolError(f"{self._file.path}: {error}") from error
            for held in gone:
                self._release(held)

    def drop(self, ids: Iterable[int], reason: str) -> None:
        """Give batches up, for good, and remember which rows and why."""
        with self.lock:
            gone = [self._held[batch_id] for batch_id in ids if batch_id in self._held]
            if not gone:
                return
            try:
                self._file.drop(self.publisher, gone, reason)
            except sqlite3.Error as error:
                raise SpoolError(f"{self._file.path}: {error}") from error
            for held in gone:
                self._release(held)
                stream = self._epochs[held.epoch].streams[held.row_class, held.level]
                stream.dropped.setdefault(reason, Intervals()).add(held.first, held.first + held.rows)

    def close(self) -> None:
        """Write the WAL back and let go. Safe twice."""
        with self.lock:
            self._file.close()

    # --- reading -----------------------------------------------------------------------------------------------------

    def positions(self, collector: str) -> dict[str, str]:
        """Give a collector's committed positions by source."""
        with self.lock:
            return {source: value for (name, source), value in self._positions.items() if name == collector}

    def pending(self) -> list[Held]:
        """Give what is held, oldest first, without bodies."""
        with self.lock:
            return list(self._held.values())

    def __len__(self) -> int:
        return len(self._held)

    def body(self, held: Held) -> bytes | None:
        """Read one body; None when it is no longer here, or cannot be read (then it is given up as `corrupt`)."""
        with self.lock:
            if held.id not in self._held:
                return None
            try:
                body = self._file.body(held.id)
            except sqlite3.DatabaseError:
                body = None
            if body is None:
                self.drop([held.id], "corrupt")
            return body

    @property
    def bytes_held(self) -> int:
        """Bytes of bodies in the spool."""
        return sum(self._bytes.values())

    def numbered(self, row_class: RowClass, level: Level) -> int:
        """How many rows of the live epoch's stream have numbers."""
        stream = self._epochs[self.epoch].streams.get((row_class, level))
        return stream.numbered if stream else 0

    def next_order(self) -> int:
        """The order number that the live epoch's next batch will get."""
        return self._epochs[self.epoch].next_order

    def predecessors(self) -> list[str]:
        """Give the epochs before the live one that are still spoken for, newest first."""
        with self.lock:
            return [name for name in reversed(self._epochs) if name != self.epoch]

    def account(self) -> Account:
        """Give the publisher's word as of now."""
        with self.lock:
            self._word += 1
            live = self._epochs[self.epoch]
            before = [epoch for name, epoch in reversed(self._epochs.items()) if name != self.epoch]
            for epoch in before:
                if epoch.settled_at_word is None and not any(stream.spooled for stream in epoch.streams.values()):
                    epoch.settled_at_word = self._word
            return Account(self._word, [_tell(live), *(_tell(epoch) for epoch in before)])

    def acknowledge(self, account: Account) -> None:
        """The log has this word: what it said for good need not be said again."""
        with self.lock:
            settled = [
                epoch
                for epoch in self._epochs.values()
                if epoch.epoch != self.epoch
                and epoch.settled_at_word is not None
                and epoch.settled_at_word <= account.word
            ]
            told = {epoch.epoch: epoch for epoch in account.epochs}
            try:
                for epoch in settled:
                    self._file.forget_epoch(self.publisher, epoch.epoch)
                    del self._epochs[epoch.epoch]
                for name in self._epochs.keys() & told.keys():
                    self._forget_dropped(self._epochs[name], told[name])
            except sqlite3.Error as error:
                raise SpoolError(f"{self._file.path}: {error}") from error

    # --- inside ------------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        state = self._file.load(self.publisher)
        for row in state.epochs:
            self._epochs[row.epoch] = _Epoch(row.epoch, row.boot, row.next_order)
        for stream_row in state.streams:
            stream = _Stream(stream_row.filtered, stream_row.folded, stream_row.numbered)
            key = (RowClass(stream_row.row_class), Level(stream_row.level))
            self._epochs[stream_row.epoch].streams[key] = stream
        for dropped in state.dropped:
            key = (RowClass(dropped.row_class), Level(dropped.level))
            stream = self._epochs[dropped.epoch].streams[key]
            stream.dropped.setdefault(dropped.reason, Intervals()).add(dropped.first, dropped.end)
        for held in state.held:
            self._held[held.id] = held
            key = (held.row_class, held.level)
            self._bytes[key] = self._bytes.get(key, 0) + held.size
            self._epochs[held.epoch].streams[key].spooled.add(held.first, held.first + held.rows)
        self._positions = state.positions
        self._next_id = state.next_id
        self._file.begin_epoch(self.publisher, self.epoch, self.boot)
        self._epochs[self.epoch] = _Epoch(self.epoch, self.boot)

    def _plan(self, new: list[NewBatch]) -> list[tuple[Held, bytes]]:
        """Number the batches without changing anything yet."""
        live = self._epochs[self.epoch]
        numbered: dict[Key, int] = {}
        boottime, wall = time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns()
        plan = []
        for index, batch in enumerate(new):
            key = (batch.row_class, batch.level)
            first = numbered.get(key)
            if first is None:
                stream = live.streams.get(key)
                first = stream.numbered if stream else 0
            numbered[key] = first + batch.rows
            held = Held(
                id=self._next_id + index,
                epoch=self.epoch,
                row_class=batch.row_class,
                level=batch.level,
                first=first,
                rows=batch.rows,
                order=live.next_order + index,
                size=len(batch.body),
                grant=batch.grant,
                document=batch.document,
                born_boottime_ns=boottime,
                born_wall_ns=wall,
                boot=self.boot,
            )
            plan.append((held, batch.body))
        return plan

    def _admit(self, live: _Epoch, held: Held) -> None:
        key = (held.row_class, held.level)
        stream = live.streams.setdefault(key, _Stream())
        stream.numbered += held.rows
        stream.spooled.add(held.first, held.first + held.rows)
        live.next_order = held.order + 1
        self._next_id = held.id + 1
        self._held[held.id] = held
        self._bytes[key] = self._bytes.get(key, 0) + held.size

    def _release(self, held: Held) -> None:
        del self._held[held.id]
        key = (held.row_class, held.level)
        self._bytes[key] -= held.size
        stream = self._epochs[held.epoch].streams[key]
        stream.spooled = stream.spooled.minus(Intervals([(held.first, held.first + held.rows)]))

    def _make_room(self, new: list[NewBatch]) -> None:
        """Give up the least important rows until the new ones fit: each of events and documents has its own room."""
        own = self.max_bytes // EVENT_SHARE
        for classes, limit in (
            (_SHARED, self.max_bytes - 2 * own),
            ((RowClass.EVENT,), own),
            ((RowClass.CAPABILITY,), own),
        ):
            need = sum(len(batch.body) for batch in new if batch.row_class in classes)
            have = sum(size for (row_class, _), size in self._bytes.items() if row_class in classes)
            if need and have + need > limit:
                self.give_up(classes, have + need - limit)

    def give_up(self, classes: tuple[RowClass, ...] = tuple(RowClass), size: int = 1 << 20) -> int:
        """Drop at least `size` bytes of the least important batches of `classes`; return how many bytes it was."""
        chosen: list[int] = []
        found = 0
        superseded: list[int] = []
        if RowClass.CAPABILITY in classes:
            superseded = self._superseded()
            for batch_id in superseded:
                if found >= size:
                    break
                chosen.append(batch_id)
                found += self._held[batch_id].size
            self.drop(chosen, "superseded")
            chosen = []
        for level in reversed(Level):
            if found >= size:
                break
            for held in self._held.values():  # oldest first
                if held.level is level and held.row_class in classes:
                    chosen.append(held.id)
                    found += held.size
                    if found >= size:
                        break
        self.drop(chosen, "spool_full")
        return found

    def _superseded(self) -> list[int]:
        """Give the documents of which a later one of the same device is held, oldest first."""
        latest = {held.document: held.id for held in self._held.values() if held.document}
        return [held.id for held in self._held.values() if held.document and latest[held.document] != held.id]

    def _forget_dropped(self, epoch: _Epoch, told: EpochAccount) -> None:
        for account in told.streams:
            stream = epoch.streams.get((account.row_class, account.level))
            if stream is None:
                continue
            for dropped in account.dropped:
                rest = stream.dropped.get(dropped.reason, Intervals()).minus(Intervals(dropped.intervals))
                if rest:
                    stream.dropped[dropped.reason] = rest
                else:
                    stream.dropped.pop(dropped.reason, None)
                self._file.forget_dropped(
                    self.publisher, epoch.epoch, account.row_class, account.level, dropped.reason, dropped.intervals
                )


def _tell(epoch: _Epoch) -> EpochAccount:
    streams = [
        StreamAccount(
            row_class,
            level,
            stream.filtered + stream.folded + stream.numbered,
            stream.filtered,
            stream.folded,
            stream.numbered,
            stream.spooled.pairs(),
            [Dropped(reason, intervals.pairs()) for reason, intervals in stream.dropped.items()],
        )
        for (row_class, level), stream in sorted(epoch.streams.items())
    ]
    return EpochAccount(epoch.epoch, epoch.boot, streams)


def boot_id(root: Path = Path("/")) -> str:
    """Give the kernel's boot id, or a random one for this run where the kernel tells none."""
    try:
        return (root / "proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"run-{os.getpid()}-{secrets.token_hex(4)}"
