"""One run of a publisher as its spool knows it: how many rows each stream has, and where they are."""

from collections.abc import Iterable

from collectors.spool_state import DroppedRow, EpochRow, StreamRow
from collectors.spooled import Held, Key
from schemas.account import Dropped, EpochAccount, StreamAccount
from schemas.intervals import Intervals
from schemas.verbosity import Level, RowClass


class Stream:
    """One stream of one epoch, as the last commit left it."""

    __slots__ = ("dropped", "filtered", "folded", "last_ns", "numbered", "spooled")

    def __init__(self, filtered: int = 0, folded: int = 0, numbered: int = 0) -> None:
        self.filtered = filtered
        self.folded = folded
        self.numbered = numbered
        self.spooled = Intervals()
        self.dropped: dict[str, Intervals] = {}


class Epoch:
    """One run of a publisher, as the last commit left it."""

    __slots__ = ("boot", "epoch", "next_order", "settled_at_word", "streams")

    def __init__(self, epoch: str, boot: str, next_order: int = 0) -> None:
        self.epoch = epoch
        self.boot = boot
        self.next_order = next_order
        self.streams: dict[Key, Stream] = {}
        self.settled_at_word: int | None = None


def tell(epoch: Epoch) -> EpochAccount:
    """Give the word on one epoch."""
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


def restore(
    epochs: Iterable[EpochRow], streams: Iterable[StreamRow], dropped: Iterable[DroppedRow], held: Iterable[Held]
) -> dict[str, Epoch]:
    """Give the epochs of a file by name, oldest first; one that only its batches or streams tell of is among them."""
    found = {row.epoch: Epoch(row.epoch, row.boot, row.next_order) for row in epochs}

    def stream_of(epoch: str, row_class: int, level: int, end: int) -> Stream:
        known = found.setdefault(epoch, Epoch(epoch, ""))
        stream = known.streams.setdefault((RowClass(row_class), Level(level)), Stream())
        stream.numbered = max(stream.numbered, end)
        return stream

    for row in streams:
        stream = stream_of(row.epoch, row.row_class, row.level, row.numbered)
        stream.filtered, stream.folded = row.filtered, row.folded
    for gone in dropped:
        stream = stream_of(gone.epoch, gone.row_class, gone.level, gone.end)
        stream.dropped.setdefault(gone.reason, Intervals()).add(gone.first, gone.end)
    for one in held:
        end = one.first + one.rows
        stream_of(one.epoch, one.row_class, one.level, end).spooled.add(one.first, end)
    return found
