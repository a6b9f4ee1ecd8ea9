"""The spool: where rows begin to exist, and where they stay until the log has them.

One SQLite file, WAL, synchronous=FULL. One transaction holds the rows, their numbers, the totals of their streams and
the positions of the sources that they were read from; so after a crash or a power cut a source that can be read again
goes on exactly behind the last row that exists. Full, it gives up the least important rows first, and counts which.

The file may hold several publishers (a simulated fleet shares one); an agent has one. Not safe for several threads at
once: callers hold `lock`.
"""

import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from collectors.spool_epoch import Epoch, Stream, restore, tell
from collectors.spool_file import SpoolFile, Write, is_damage, is_full, open_spool_file
from collectors.spool_room import least_important, make_way, room_for
from collectors.spool_state import State
from collectors.spooled import Counts, Held, Key, NewBatch, Waiting
from schemas.account import Account, EpochAccount
from schemas.errors import SpoolError
from schemas.intervals import Intervals
from schemas.verbosity import Level, RowClass

__all__ = ["Counts", "Filling", "Held", "Key", "NewBatch", "Spool", "boot_id", "commit_together", "open_spools"]
_log = logging.getLogger("muster.spool")


class Spool:
    """The spool of one publisher's runs.

    Raises SpoolError from `open` when the file is of a newer version or of somebody else, and from `commit` when the
    disk takes no more; after that it can be used on.
    """

    def __init__(self, file: SpoolFile, publisher: str, boot: str, max_bytes: int, state: State | None) -> None:
        """Take up what `state` says was there. The new epoch must be in the file before its first commit."""
        self.lock = file.lock
        self.publisher = publisher
        self.boot = boot
        self.max_bytes = max_bytes
        self.epoch = os.urandom(8).hex()
        self.waiting = Waiting()
        """What is held, by class and level. Look at it under `lock`."""
        self._file = file
        state = state or State()
        self._epochs = restore(state.epochs, state.streams, state.dropped, state.held)
        self._epochs[self.epoch] = Epoch(self.epoch, boot)
        self._word = 0
        self._positions = state.positions
        for held in state.held:
            self.waiting.add(held)

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
        [spool], _ = open_spools(path, [(publisher, boot)], max_bytes=max_bytes, synchronous=synchronous)
        return spool

    # --- writing -----------------------------------------------------------------------------------------------------

    def commit(
        self,
        batches: Iterable[NewBatch] = (),
        counts: Mapping[Key, Counts] | None = None,
        positions: Mapping[tuple[str, str], str] | None = None,
    ) -> list[Held]:
        """Keep batches, counts and positions, all or nothing, on disk; give what is now held of them.

        Room within `max_bytes` is made by giving up what is less important. When the disk itself takes no more, then
        telemetry and logs of about the size of the new rows are given up for them, in the same transaction: what is
        less important than the most important of the new rows, and, where no position is given, what is as important
        and older. Raises SpoolError when there is no such thing, or that was not enough; then nothing was given up.
        """
        [held] = commit_together([Filling(self, list(batches), counts or {}, positions or {})])
        return held

    def forget(self, ids: Iterable[int]) -> None:
        """Forget batches that the log has, or that were quarantined. What is no longer here is passed over.

        Not flushed by itself: a crash before the next commit means that they are sent again, and known as repeated.
        """
        with self.lock:
            gone = self._still_held(ids)
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
            self._give_up([(held, reason) for held in self._still_held(ids)])

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
            return list(self.waiting.oldest(*RowClass))

    def __len__(self) -> int:
        return len(self.waiting)

    def body(self, held: Held) -> bytes | None:
        """Read one body; None when it is no longer here, or is damaged (then it is given up as `corrupt`).

        Raises SpoolError when it cannot be read now: the disk may answer the next time, and the batch stays.
        """
        with self.lock:
            if held.id not in self.waiting:
                return None
            try:
                body = self._file.body(held.id)
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise SpoolError(f"{self._file.path}: a batch cannot be read: {error}") from error
                body = None
            if body is None:
                self.drop([held.id], "corrupt")
            return body

    @property
    def bytes_held(self) -> int:
        """Bytes of bodies in the spool."""
        return self.waiting.size()

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
            return Account(self._word, [tell(live), *(tell(epoch) for epoch in before)])

    def acknowledge(self, account: Account) -> None:
        """The log has this word: what it said for good need not be said again. It may leave epochs out."""
        with self.lock:
            told = {epoch.epoch: epoch for epoch in account.epochs}
            settled = [
                epoch
                for epoch in self._epochs.values()
                if epoch.epoch != self.epoch
                and epoch.epoch in told
                and epoch.settled_at_word is not None
                and epoch.settled_at_word <= account.word
            ]
            try:
                for epoch in settled:
                    self._file.forget_epoch(self.publisher, epoch.epoch)
                    del self._epochs[epoch.epoch]
                for name in self._epochs.keys() & told.keys():
                    self._forget_dropped(self._epochs[name], told[name])
            except sqlite3.Error as error:
                raise SpoolError(f"{self._file.path}: {error}") from error

    # --- inside ------------------------------------------------------------------------------------------------------

    def _still_held(self, ids: Iterable[int]) -> list[Held]:
        return [held for batch_id in ids if (held := self.waiting.get(batch_id)) is not None]

    def _prepare(self, filling: "Filling") -> Write:
        """Say what a commit would write, without changing anything yet."""
        gave_up = room_for(self.waiting, filling.batches, self.max_bytes)
        plan = self._plan(filling.batches)
        return Write(self.publisher, self.epoch, plan, filling.counts, filling.positions, gave_up)

    def _committed(self, write: Write) -> list[Held]:
        """Take in what was written."""
        for held, reason in write.gave_up:
            self._mark_dropped(held, reason)
        live = self._epochs[self.epoch]
        for held, _ in write.batches:
            self._admit(live, held)
        for key, count in write.counts.items():
            stream = live.streams.setdefault(key, Stream())
            stream.filtered += count.filtered
            stream.folded += count.folded
        self._positions.update(write.positions)
        return [held for held, _ in write.batches]

    def _plan(self, new: list[NewBatch]) -> list[tuple[Held, bytes]]:
        """Number the batches without changing anything yet."""
        live = self._epochs[self.epoch]
        numbered: dict[Key, int] = {}
        boottime, wall = time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns()
        first_id = self._file.take_ids(len(new))
        plan = []
        for index, batch in enumerate(new):
            key = (batch.row_class, batch.level)
            first = numbered.get(key)
            if first is None:
                stream = live.streams.get(key)
                first = stream.numbered if stream else 0
            numbered[key] = first + batch.rows
            held = Held(
                id=first_id + index,
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

    def _admit(self, live: Epoch, held: Held) -> None:
        key = (held.row_class, held.level)
        stream = live.streams.setdefault(key, Stream())
        stream.numbered += held.rows
        stream.spooled.add(held.first, held.first + held.rows)
        live.next_order = held.order + 1
        self.waiting.add(held)

    def _release(self, held: Held) -> None:
        self.waiting.release(held)
        stream = self._epochs[held.epoch].streams[held.row_class, held.level]
        stream.spooled = stream.spooled.minus(Intervals([(held.first, held.first + held.rows)]))

    def _give_up(self, gone: Sequence[tuple[Held, str]]) -> None:
        if not gone:
            return
        try:
            self._file.drop(self.publisher, gone)
        except sqlite3.Error as error:
            raise SpoolError(f"{self._file.path}: {error}") from error
        for held, reason in gone:
            self._mark_dropped(held, reason)

    def _mark_dropped(self, held: Held, reason: str) -> None:
        self._release(held)
        stream = self._epochs[held.epoch].streams[held.row_class, held.level]
        stream.dropped.setdefault(reason, Intervals()).add(held.first, held.first + held.rows)

    def give_up(self, classes: tuple[RowClass, ...] = tuple(RowClass), size: int = 1 << 20) -> int:
        """Drop at least `size` bytes of the least important batches of `classes`; return how many bytes it was."""
        with self.lock:
            gone = least_important(self.waiting, classes, size)
            self._give_up(gone)
            return sum(held.size for held, _ in gone)

    def _forget_dropped(self, epoch: Epoch, told: EpochAccount) -> None:
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


class Filling(msgspec.Struct):
    """What is to be kept in one spool."""

    spool: Spool
    batches: list[NewBatch] = []
    counts: Mapping[Key, Counts] = {}
    positions: Mapping[tuple[str, str], str] = {}


def commit_together(fillings: Sequence[Filling]) -> list[list[Held]]:
    """Keep what several spools of one file are given, all or nothing, in one transaction; give what each now holds.

    Each spool at most once. Raises SpoolError when the disk takes no more.
    """
    if not fillings:
        return []
    file = fillings[0].spool._file  # noqa: SLF001  # this is the spools' own module
    with file.lock:
        writes = [filling.spool._prepare(filling) for filling in fillings]  # noqa: SLF001
        try:
            writes = _write(file, fillings, writes)
        except sqlite3.Error as error:
            raise SpoolError(f"{file.path}: {error}") from error
        return [filling.spool._committed(write) for filling, write in zip(fillings, writes, strict=True)]  # noqa: SLF001


def _write(file: SpoolFile, fillings: Sequence[Filling], writes: list[Write]) -> list[Write]:
    """Write it all; on a full disk in the place of what is less important. Give what was written."""
    try:
        file.commit(writes)
    except sqlite3.Error as error:
        if not is_full(error):
            raise
        instead = []
        for filling, write in zip(fillings, writes, strict=True):
            again = bool(filling.positions)
            gave_up = make_way(filling.spool.waiting, filling.batches, write.gave_up, again=again)
            if gave_up is None:
                raise
            instead.append(write._replace(gave_up=gave_up))
        if not any(write.gave_up for write in instead):
            raise
        file.commit_instead(instead)
        return instead
    return writes


def open_spools(
    path: Path,
    publishers: Sequence[tuple[str, str]],
    *,
    max_bytes: int,
    synchronous: str = "FULL",
    later: bool = False,
) -> tuple[list[Spool], SpoolFile]:
    """Open or make one file for many publishers (each with its boot id), and begin a new epoch for each.

    `max_bytes` is the room of one publisher. With `later`, what is forgotten is forgotten on disk by the next commit.
    What the file holds of publishers that are not named stays there. Raises SpoolError.
    """
    file = open_spool_file(path, synchronous)
    file.later = later
    try:
        states = file.load()
        spools = [Spool(file, name, boot, max_bytes, states.get(name)) for name, boot in publishers]
        file.begin_epochs((spool.publisher, spool.epoch, spool.boot) for spool in spools)
        _tell_of_others(path, {name: states[name] for name in states.keys() - {name for name, _ in publishers}})
    except sqlite3.Error as error:
        file.close()
        raise SpoolError(f"{path}: {error}") from error
    return spools, file


def _tell_of_others(path: Path, states: Mapping[str, State]) -> None:
    """Say whose rows stay behind: a node that was given another id may have left some under the one before."""
    for name, state in sorted(states.items()):
        if rows := sum(held.rows for held in state.held):
            _log.warning("spool_holds_others file=%s publisher=%s rows=%d: they are sent when it runs under that id",
                         path, name, rows)  # fmt: skip


def boot_id(root: Path = Path("/")) -> str:
    """Give the kernel's boot id, or a random one for this run where the kernel tells none."""
    try:
        return (root / "proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"run-{os.getpid()}-{os.urandom(4).hex()}"
