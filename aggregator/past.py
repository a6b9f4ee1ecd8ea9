"""What a publisher's settled runs amount to: the counts that stay when their row numbers are kept no longer.

A run is settled when nothing of it can move any more (`aggregator.settling` says when). Then its counts are added to
the line of its publisher, class and level, and of the run itself only 16 bytes are remembered: a digest of its epoch,
and when it ended. So what comes of it later is known for what it is, and is never stored twice. The oldest runs are
forgotten beyond `REMEMBERED`; an unknown run whose rows were born before those had ended may be one of them.
"""

import hashlib
from collections.abc import Iterable
from enum import Enum
from typing import Final, Self

import msgspec

from schemas.verbosity import Level, RowClass

REMEMBERED: Final = 4096
"""Settled runs of one publisher that are known by name; 64 KiB."""
_DIGEST: Final = 8
_RUN: Final = _DIGEST + 8


class Places(msgspec.Struct, kw_only=True):
    """Where rows are: produced = filtered at the source + folded + numbered, and each number is in one place."""

    produced: int = 0
    filtered_at_source: int = 0
    folded: int = 0
    """Merged into another row by the publisher: copies of a storm."""
    numbered: int = 0
    done: int = 0
    filtered: int = 0
    """By the consumer."""
    quarantined: int = 0
    expired: int = 0
    """Taken from the log by retention before the consumer had read them."""
    in_log: int = 0
    dropped: dict[str, int] = {}
    """Given up by the publisher, by reason."""
    spooled: int = 0
    """Still at the publisher: a live epoch says so."""
    stranded: int = 0
    """At the publisher by the last word of a run that no live one speaks for."""
    lost: int = 0
    """Was stranded, until somebody said that the publisher will not come back."""
    unaccounted: int = 0
    """In no place at all."""

    def add(self, more: "Places") -> None:
        """Add what `more` counts."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(more, name))
        for reason, count in more.dropped.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + count

    def written_off(self) -> "Places":
        """Give the same once nobody waits for stranded rows any more."""
        return msgspec.structs.replace(self, stranded=0, lost=self.lost + self.stranded)


_COUNTS: Final = tuple(name for name in Places.__struct_fields__ if name != "dropped")


class PastLine(msgspec.Struct, frozen=True):
    """The counts of one class and level. Nobody changes `places` after it was made."""

    row_class: RowClass
    level: Level
    places: Places


class Standing(Enum):
    """What a batch is whose stream no set knows."""

    NEW = "new"
    """Of a run that is not settled: its rows are new."""
    REPEATED = "repeated"
    """Of a settled run, appended before that had ended: every row of it has its place already."""
    SETTLED = "settled"
    """Of a settled run, appended later: whether its rows are among those that were counted cannot be told any more."""
    FORGOTTEN = "forgotten"
    """Born before the end of a settled run that is not remembered, and perhaps of that run."""

    @property
    def reason(self) -> str:
        """What to tell of a batch that is not stored for it; "" when there is nothing to tell."""
        return _REASONS.get(self, "")


_REASONS: Final = {
    Standing.SETTLED: "this run was over and its rows counted before the batch came, so that nobody can tell whether"
    " it repeats some of them (a spool was put back, or the run goes on that another one replaced: restart its agent)",
    Standing.FORGOTTEN: "its rows are older than runs that were counted so long ago that they are not known by name"
    " any more, and may be of one of them (a spool was put back)",
}


class Past(msgspec.Struct, frozen=True):
    """What the settled runs of one publisher amount to, for one consumer. Never changed; the next one replaces it."""

    publisher: str
    lines: list[PastLine] = []
    runs: bytes = b""
    """Of each remembered run, in the order of settling: the digest of its epoch, and when it ended (`ended_ns`)."""
    forgotten_ns: int | None = None
    """When the last of the runs ended that are not remembered any more; None: all are remembered."""

    def ended_ns(self, epoch: str) -> int | None:
        """Give when a settled run ended, by the log's clock; None when it is not settled, or not remembered."""
        key = _digest(epoch)
        at = self.runs.find(key)
        while at % _RUN and at >= 0:
            at = self.runs.find(key, at + 1)
        return None if at < 0 else int.from_bytes(self.runs[at + _DIGEST : at + _RUN])

    def standing(self, epoch: str, appended_ns: int, age_ns: int, *, known: bool) -> Standing:
        """Say what a batch is: appended by the log's clock, its rows `age_ns` old when it was sent.

        `known`: the publisher's last word knows the run, or rows of it were seen.
        """
        ended = self.ended_ns(epoch)
        if ended is not None:
            return Standing.REPEATED if appended_ns <= ended else Standing.SETTLED
        if known or self.forgotten_ns is None or appended_ns - age_ns > self.forgotten_ns:
            return Standing.NEW
        return Standing.FORGOTTEN

    def settle(self, epoch: str, ended_ns: int, lines: Iterable[PastLine], remember: int = REMEMBERED) -> Self:
        """Give this with one run more, and with what it amounts to."""
        sums = {(one.row_class, one.level): one.places for one in self.lines}
        for one in lines:
            places = Places()
            if (before := sums.get((one.row_class, one.level))) is not None:
                places.add(before)
            places.add(one.places)
            sums[one.row_class, one.level] = places
        runs = self.runs + _digest(epoch) + ended_ns.to_bytes(_RUN - _DIGEST)
        gone, runs = runs[: -remember * _RUN], runs[-remember * _RUN :]
        ends = [int.from_bytes(gone[at + _DIGEST : at + _RUN]) for at in range(0, len(gone), _RUN)]
        forgotten = max([*ends, *([] if self.forgotten_ns is None else [self.forgotten_ns])], default=None)
        made = [PastLine(row_class, level, places) for (row_class, level), places in sorted(sums.items())]
        return msgspec.structs.replace(self, lines=made, runs=runs, forgotten_ns=forgotten)

    def write_off(self) -> Self:
        """Give this with its stranded rows lost: the publisher will not come back."""
        lines = [PastLine(one.row_class, one.level, one.places.written_off()) for one in self.lines]
        return msgspec.structs.replace(self, lines=lines)


def _digest(epoch: str) -> bytes:
    """As wide as an epoch is random."""
    return hashlib.blake2b(epoch.encode(), digest_size=_DIGEST).digest()
