"""The balance: where every row is that a publisher ever numbered, as seen by one consumer.

For every publisher, class and level: produced = filtered at the source + folded + numbered; and each number has one
place, the first of the list that holds it. What no place holds is unaccounted: 0 after a drain, or something is wrong.
"""

import time
from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from aggregator.progress import STRANDED, Tracker, later_word
from aggregator.store import Outcome, Stream, Word
from aggregator.unread import Unread
from schemas.account import StreamAccount
from schemas.intervals import Interval, Intervals
from schemas.verbosity import Level, RowClass

_DROPPED: Final = "dropped"


class Line(msgspec.Struct, kw_only=True):
    """One line of the balance: rows of one class and level of one publisher, over all its epochs, for one consumer."""

    publisher: str
    row_class: str
    level: str
    consumer: str
    produced: int = 0
    filtered_at_source: int = 0
    folded: int = 0
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
    word_age_seconds: float | None = None
    """How old the publisher's last word is; None when it never gave one."""


class Balance(msgspec.Struct):
    """The balance of every publisher and consumer."""

    lines: list[Line]
    closed: bool
    """Nothing is unaccounted."""
    settled: bool
    """Closed, and nothing is on its way: neither spooled nor in the log."""


def make_balance(
    trackers: Mapping[str, Tracker],
    unread: Mapping[str, Unread],
    quarantined: Iterable[tuple[Stream, Interval]] = (),
    expired: Mapping[str, Iterable[tuple[Stream, Interval]]] | None = None,
    written_off: Collection[tuple[str, str]] = (),
    now_ns: int | None = None,
) -> Balance:
    """Add up. `trackers` by consumer; `unread`: what each has yet to read; `quarantined` holds for all.

    It adds up at any moment if the words are the oldest of it: `unread` reaches at least to where the log ended when
    they were taken; then comes how rows ended; then what was set aside or expired. Rows move on while the parts are
    gathered: none may leave a place before that is looked at for one that has been looked at.

    `written_off`: (publisher, epoch) of which what is stranded counts as lost.
    """
    now_ns = time.time_ns() if now_ns is None else now_ns
    aside = _by_stream(quarantined)
    lines: list[Line] = []
    for consumer, tracker in trackers.items():
        ahead = unread.get(consumer) or Unread()
        waiting = ahead.rows
        words = dict(tracker.words)
        for publisher, word in ahead.words.items():
            # rows and words travel in different topics: without it, rows that overtook their word would have gaps
            words[publisher] = later_word(words.get(publisher), word)
        gone = _by_stream((expired or {}).get(consumer, ()))
        lines.extend(_lines(consumer, tracker, words, waiting, aside, gone, written_off, now_ns))
    closed = not any(line.unaccounted for line in lines)
    return Balance(lines, closed, closed and not any(line.spooled or line.in_log for line in lines))


def _by_stream(rows: Iterable[tuple[Stream, Interval]]) -> dict[Stream, Intervals]:
    sets: dict[Stream, Intervals] = {}
    for stream, (first, end) in rows:
        sets.setdefault(stream, Intervals()).add(first, end)
    return sets


def _lines(
    consumer: str,
    tracker: Tracker,
    words: Mapping[str, Word],
    waiting: Mapping[Stream, Intervals],
    aside: dict[Stream, Intervals],
    gone: dict[Stream, Intervals],
    written_off: Collection[tuple[str, str]],
    now_ns: int,
) -> list[Line]:
    told = _told(words.values())
    streams = set(told) | set(tracker.streams()) | set(waiting) | set(aside) | set(gone)
    lines: dict[tuple[str, RowClass, Level], Line] = {}
    for stream in sorted(streams):
        key = (stream.publisher, stream.row_class, stream.level)
        line = lines.get(key)
        if line is None:
            word = words.get(stream.publisher)
            age = max(0.0, (now_ns - word.received_ns) / 1e9) if word else None
            line = lines[key] = Line(
                publisher=stream.publisher,
                row_class=stream.row_class.word,
                level=stream.level.word,
                consumer=consumer,
                word_age_seconds=age,
            )
        empty = Intervals()
        _add_stream(
            line,
            tracker,
            stream,
            told.get(stream),
            waiting.get(stream, empty),
            aside.get(stream, empty),
            gone.get(stream, empty),
            "lost" if (stream.publisher, stream.epoch) in written_off else "stranded",
            live=_is_live(words.get(stream.publisher), stream.epoch),
        )
    return list(lines.values())


def _is_live(word: Word | None, epoch: str) -> bool:
    """Whether a run is spoken for by the publisher's last word, or is so new that no word has told of it."""
    return word is None or epoch in word.named or all(one.epoch != epoch for one in word.account.epochs)


class _Told(msgspec.Struct):
    account: StreamAccount
    named: bool


def _told(words: Iterable[Word]) -> dict[Stream, _Told]:
    return {
        Stream(word.publisher, epoch.epoch, account.row_class, account.level): _Told(account, epoch.epoch in word.named)
        for word in words
        for epoch in word.account.epochs
        for account in epoch.streams
    }


def _add_stream(
    line: Line,
    tracker: Tracker,
    stream: Stream,
    told: _Told | None,
    waiting: Intervals,
    aside: Intervals,
    gone: Intervals,
    stranding: str,
    *,
    live: bool,
) -> None:
    """Put every number of one stream into the first place that holds it, and add to the line."""
    places: list[tuple[str, str, Intervals]] = [
        ("done", "", tracker.outcome(stream, Outcome.DONE)),
        ("filtered", "", tracker.outcome(stream, Outcome.FILTERED)),
        ("quarantined", "", tracker.outcome(stream, Outcome.QUARANTINED)),
        ("quarantined", "", aside),
        ("expired", "", tracker.outcome(stream, Outcome.EXPIRED)),
        ("expired", "", gone),
        ("in_log", "", waiting),
    ]  # the place, for dropped rows the reason (a word of the publisher's, which may be any), and the rows
    stranded = Intervals()
    if told is not None:
        for dropped in told.account.dropped:
            if dropped.reason == STRANDED:
                stranded.update(dropped.intervals)
            else:
                places.append((_DROPPED, dropped.reason, Intervals(dropped.intervals)))
        spooled = Intervals(told.account.spooled)
        places.append(("spooled" if told.named else stranding, "", spooled))
    places.append((stranding, "", stranded))
    numbered = max([told.account.numbered if told else 0, *(held.end for _, _, held in places)])
    if numbered > (beyond := told.account.numbered if told else 0):
        # a later row proves that these exist, and no word has told of them yet
        places.append(("spooled" if live else stranding, "", Intervals([(beyond, numbered)])))
    rest = Intervals([(0, numbered)] if numbered else [])
    for place, reason, held in places:
        if not held or not rest:
            continue
        left = rest.minus(held)
        count = rest.count - left.count
        rest = left
        if place != _DROPPED:
            setattr(line, place, getattr(line, place) + count)
        elif count:
            line.dropped[reason] = line.dropped.get(reason, 0) + count
    line.unaccounted += rest.count
    line.numbered += numbered
    if told is None:
        line.produced += numbered
        return
    account = told.account
    line.filtered_at_source += account.filtered
    line.folded += account.folded
    line.produced += account.produced + numbered - account.numbered
    # the publisher's own sum must hold as well
    line.unaccounted += abs(account.produced - account.filtered - account.folded - account.numbered)
