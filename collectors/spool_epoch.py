"""One run of a publisher as its spool knows it: how many rows each stream has, and where they are."""

from collectors.spooled import Key
from schemas.account import Dropped, EpochAccount, StreamAccount
from schemas.intervals import Intervals


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
