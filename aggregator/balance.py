"""The balance: where every row is that a publisher ever numbered, as seen by one consumer.

For every publisher, class and level: produced = filtered at the source + folded + numbered; and each number has one
place, the first of the list that holds it. What no place holds is unaccounted: 0 after a drain, or something is wrong.
"""

import time
from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from aggregator.past import PastLine, Places
from aggregator.progress import STRANDED, Tracker, later_word
from aggregator.store import Outcome, Run, Stream, Word
from aggregator.unread import Unread
from schemas.account import StreamAccount
from schemas.intervals import Interval, Intervals
from schemas.verbosity import Level, RowClass

_DROPPED: Final = "dropped"


class Line(Places, kw_only=True):
    """One line of the balance: rows of one class and level of one publisher, over all its epochs, for one consumer."""

    publisher: str
    row_class: str
    level: str
    consumer: str
    word_age_seconds: float | None = None
    """How old the publisher's last word is; None when it never gave one."""


class Balance(msgspec.Struct):
    """The balance of every publisher and consumer."""

    lines: list[Line]
    closed: bool
    """Nothing is unaccounted."""
    settled: bool
    """Closed, and nothing is on its way: neither spooled nor in the log."""
    word_ages_seconds: dict[str, float] = {}
    """By publisher, how old the last word is that every consumer has heard of or has ahead; none of one that never
    gave any."""

    def of(self, publisher: str = "", consumer: str = "") -> "Balance":
        """Give the balance of one publisher, of one consumer, or of both; "" is every one."""
        if not publisher and not consumer:
            return self
        lines = [
            line
            for line in self.lines
            if (not publisher or line.publisher == publisher) and (not consumer or line.consumer == consumer)
        ]
        ages = {name: age for name, age in self.word_ages_seconds.items() if not publisher or name == publisher}
        return _balance(lines, ages)


def _balance(lines: list[Line], ages: dict[str, float]) -> Balance:
    closed = not any(line.unaccounted for line in lines)
    return Balance(lines, closed, closed and not any(line.spooled or line.in_log for line in lines), ages)


class Books(msgspec.Struct):
    """What is known of the rows of one consumer."""

    tracker: Tracker
    words: Mapping[str, Word]
    """Without what they tell of settled runs."""
    waiting: Mapping[Stream, Intervals] = {}
    """In the log, unread."""
    aside: Mapping[Stream, Intervals] = {}
    """Quarantined before the log."""
    gone: Mapping[Stream, Intervals] = {}
    """Expired in the log, unread."""
    written_off: Collection[Run] = ()


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
    aside = by_stream(quarantined)
    off = {Run(*one) for one in written_off}
    lines: list[Line] = []
    ages: dict[str, float] = {}
    for consumer, tracker in trackers.items():
        ahead = unread.get(consumer) or Unread()
        words = dict(tracker.words)
        for publisher, word in ahead.words.items():
            # rows and words travel in different topics: without it, rows that overtook their word would have gaps
            words[publisher] = later_word(words.get(publisher), word)
        words = {publisher: tracker.unsettled(word) for publisher, word in words.items()}
        gone = by_stream((expired or {}).get(consumer, ()))
        lines.extend(_lines(consumer, Books(tracker, words, ahead.rows, aside, gone, off), now_ns))
        for publisher, word in words.items():
            ages[publisher] = max(ages.get(publisher, 0.0), _age(word, now_ns))
    return _balance(lines, ages)


def join_balances(balances: Iterable[Balance]) -> Balance:
    """Give one balance of several consumers'."""
    lines: list[Line] = []
    ages: dict[str, float] = {}
    for one in balances:
        lines += one.lines
        for publisher, age in one.word_ages_seconds.items():
            ages[publisher] = max(ages.get(publisher, 0.0), age)
    return _balance(lines, ages)


def by_stream(rows: Iterable[tuple[Stream, Interval]]) -> dict[Stream, Intervals]:
    """Give rows as sets."""
    sets: dict[Stream, Intervals] = {}
    for stream, (first, end) in rows:
        sets.setdefault(stream, Intervals()).add(first, end)
    return sets


def _age(word: Word, now_ns: int) -> float:
    return max(0.0, (now_ns - word.received_ns) / 1e9)


def _lines(consumer: str, books: Books, now_ns: int) -> list[Line]:
    tracker, words = books.tracker, books.words
    told = _told(words.values())
    streams = {*told, *tracker.streams()}
    streams |= {
        stream
        for stream in {*books.waiting, *books.aside, *books.gone} - streams
        if not tracker.is_settled(stream.publisher, stream.epoch)
    }
    lines: dict[tuple[str, RowClass, Level], Line] = {}

    def line_of(publisher: str, row_class: RowClass, level: Level) -> Line:
        line = lines.get((publisher, row_class, level))
        if line is None:
            word = words.get(publisher)
            line = lines[publisher, row_class, level] = Line(
                publisher=publisher,
                row_class=row_class.word,
                level=level.word,
                consumer=consumer,
                word_age_seconds=_age(word, now_ns) if word else None,
            )
        return line

    for publisher, past in tracker.pasts.items():
        word = words.get(publisher)
        lost = word is not None and Run(publisher, word.epoch) in books.written_off
        for one in past.lines:
            line_of(publisher, one.row_class, one.level).add(one.places.written_off() if lost else one.places)
    for stream in streams:
        _add_stream(line_of(stream.publisher, stream.row_class, stream.level), books, stream, told.get(stream))
    return [lines[key] for key in sorted(lines)]


def place_run(books: Books, run: Run) -> list[PastLine]:
    """Give where the rows of one run are, by class and level: what they count in the balance."""
    word = books.words.get(run.publisher)
    told = {stream: one for stream, one in _told([word] if word else []).items() if stream.epoch == run.epoch}
    streams = {*told, *books.tracker.runs(run.publisher).get(run.epoch, ())}
    streams |= {
        stream
        for sets in (books.waiting, books.aside, books.gone)
        for stream in sets
        if (stream.publisher, stream.epoch) == (run.publisher, run.epoch)
    }
    lines = []
    for stream in sorted(streams):
        places = Places()
        _add_stream(places, books, stream, told.get(stream))
        lines.append(PastLine(stream.row_class, stream.level, places))
    return lines


def _is_live(books: Books, run: Run) -> bool:
    """Whether a run is spoken for by the publisher's last word, or is so new that no word has told of it.

    Nobody speaks any more for a publisher that was given up with the run that gave its last word.
    """
    word, epoch = books.words.get(run.publisher), run.epoch
    if run in books.written_off and (word is None or Run(run.publisher, word.epoch) in books.written_off):
        return False
    if word is None or epoch in word.named:
        return True
    return epoch not in word.ended and all(one.epoch != epoch for one in word.account.epochs)


def _told(words: Iterable[Word]) -> dict[Stream, StreamAccount]:
    return {
        Stream(word.publisher, epoch.epoch, account.row_class, account.level): account
        for word in words
        for epoch in word.account.epochs
        for account in epoch.streams
    }


def _add_stream(line: Places, books: Books, stream: Stream, told: StreamAccount | None) -> None:
    """Put every number of one stream into the first place that holds it, and add to the line."""
    tracker, empty = books.tracker, Intervals()
    run = Run(stream.publisher, stream.epoch)
    live = _is_live(books, run)
    stranding = "lost" if run in books.written_off else "stranded"
    places: list[tuple[str, str, Intervals]] = [
        ("done", "", tracker.outcome(stream, Outcome.DONE)),
        ("filtered", "", tracker.outcome(stream, Outcome.FILTERED)),
        ("quarantined", "", tracker.outcome(stream, Outcome.QUARANTINED)),
        ("quarantined", "", books.aside.get(stream, empty)),
        ("expired", "", books.gone.get(stream, empty)),
        ("in_log", "", books.waiting.get(stream, empty)),
    ]  # the place, for dropped rows the reason (a word of the publisher's, which may be any), and the rows
    stranded = Intervals()
    if told is not None:
        for dropped in told.dropped:
            if dropped.reason == STRANDED:
                stranded.update(dropped.intervals)
            else:
                places.append((_DROPPED, dropped.reason, Intervals(dropped.intervals)))
        spooled = Intervals(told.spooled)
        places.append(("spooled" if live else stranding, "", spooled))
    places.append((stranding, "", stranded))
    numbered = max([told.numbered if told else 0, *(held.end for _, _, held in places)])
    if numbered > (beyond := told.numbered if told else 0):
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
    line.filtered_at_source += told.filtered
    line.folded += told.folded
    line.produced += told.produced + numbered - told.numbered
    # the publisher's own sum must hold as well
    line.unaccounted += abs(told.produced - told.filtered - told.folded - told.numbered)
