"""What a consumer has dealt with, in memory: interval sets for every stream, and the latest word of every publisher.

Repetitions die here: a row is new to a consumer when no set of its stream holds its number.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from aggregator.store import Outcome, Position, Progress, Seen, Stream, Word
from schemas.account import Account, Dropped, EpochAccount, StreamAccount
from schemas.intervals import Interval, Intervals

STRANDED: Final = "stranded"
"""The reason under which rows stand that a publisher once had and, its spool being lost or set back, has no more.

Only we give it: a publisher that says so of rows that it dropped is heard as saying `SAID_STRANDED`.
"""
SAID_STRANDED: Final = "said_stranded"


class Tracker:
    """The progress of one consumer. Changes are noted until `take_changes`, and belong into its next transaction."""

    def __init__(self, progress: Progress | None = None) -> None:
        progress = progress or Progress()
        self.positions = {(one.topic, one.partition): one.offset for one in progress.positions}
        self.words = {word.publisher: word for word in progress.words}
        self._known: dict[Stream, Intervals] = {}
        self._outcomes: dict[Stream, dict[Outcome, Intervals]] = {}
        for seen in progress.seen:
            self._note(seen)
        self._changes = Progress()
        self._moved: set[tuple[str, int]] = set()
        self._spoke: set[str] = set()

    def missing(self, stream: Stream, first: int, end: int) -> list[Interval]:
        """Give the rows of `[first, end)` that are new."""
        known = self._known.get(stream)
        return [(first, end)] if known is None else known.missing(first, end)

    def mark(self, stream: Stream, first: int, end: int, outcome: Outcome) -> None:
        """Note that rows were dealt with."""
        seen = Seen(stream, first, end, outcome)
        self._note(seen)
        self._changes.seen.append(seen)

    def move(self, topic: str, partition: int, offset: int) -> None:
        """Note how far a partition was read."""
        self.positions[topic, partition] = offset
        self._moved.add((topic, partition))

    def hear(self, publisher: str, epoch: str, received_ns: int, account: Account) -> None:
        """Take a publisher's word, unless a later one was heard."""
        self._take(told_word(publisher, epoch, received_ns, account))

    def recall(self, words: Iterable[Word]) -> None:
        """Take words that were kept elsewhere, perhaps for long, where they are later than what was heard."""
        for word in words:
            self._take(word)

    def frozen(self, words: Mapping[str, Word]) -> "Tracker":
        """Give a copy, for another thread, of how rows ended, with `words` instead of what was heard meanwhile."""
        twin = Tracker()
        twin.words = dict(words)
        twin._outcomes = {
            stream: {outcome: rows.copy() for outcome, rows in outcomes.items()}
            for stream, outcomes in self._outcomes.items()
        }
        return twin

    def take_changes(self, log_id: str) -> Progress:
        """Give what changed since the last call, for the next transaction."""
        changes = self._changes
        changes.log_id = log_id
        changes.positions = [Position(topic, part, self.positions[topic, part]) for topic, part in sorted(self._moved)]
        changes.words = [self.words[publisher] for publisher in sorted(self._spoke)]
        self._changes = Progress()
        self._moved = set()
        self._spoke = set()
        return changes

    def apply(self, progress: Progress) -> None:
        """Take in what another tracker gave for a transaction that is now committed."""
        for seen in progress.seen:
            self._note(seen)
        for one in progress.positions:
            self.positions[one.topic, one.partition] = one.offset
        for word in progress.words:
            self.words[word.publisher] = word

    @property
    def changed(self) -> bool:
        """Whether there is anything for a next transaction."""
        return bool(self._moved or self._spoke or self._changes.seen)

    def streams(self) -> list[Stream]:
        """Give every stream of which rows were seen."""
        return sorted(self._outcomes)

    def outcome(self, stream: Stream, outcome: Outcome) -> Intervals:
        """Give the rows of a stream that ended so."""
        return self._outcomes.get(stream, {}).get(outcome, Intervals())

    def _take(self, told: Word) -> None:
        known = self.words.get(told.publisher)
        word = later_word(known, told)
        if word is not known:
            self.words[told.publisher] = word
            self._spoke.add(told.publisher)

    def _note(self, seen: Seen) -> None:
        known = self._known.setdefault(seen.stream, Intervals())
        fresh = known.missing(seen.first, seen.end)
        if not fresh:
            return
        known.add(seen.first, seen.end)
        outcome = self._outcomes.setdefault(seen.stream, {}).setdefault(seen.outcome, Intervals())
        outcome.update(fresh)


def told_word(publisher: str, epoch: str, received_ns: int, account: Account) -> Word:
    """Give what a publisher said, as it is merged with what it had said before."""
    if any(one.reason == STRANDED for epoch in account.epochs for stream in epoch.streams for one in stream.dropped):
        account = Account(account.word, [_not_stranded(epoch) for epoch in account.epochs])
    return Word(publisher, epoch, received_ns, account, [one.epoch for one in account.epochs])


def _not_stranded(epoch: EpochAccount) -> EpochAccount:
    streams = [
        msgspec.structs.replace(
            stream,
            dropped=[
                Dropped(SAID_STRANDED, one.intervals) if one.reason == STRANDED else one for one in stream.dropped
            ],
        )
        for stream in epoch.streams
    ]
    return EpochAccount(epoch.epoch, epoch.boot, streams)


def later_word(known: Word | None, told: Word) -> Word:
    """Give what is known of a publisher once it has told `told`: `known` itself when that was the later one.

    `told` may itself be several words that were merged so.
    """
    if known is not None and not _is_newer(known, told):
        return known
    merged = merge_accounts(known.account if known else None, told.account)
    return msgspec.structs.replace(told, account=merged)


def _is_newer(known: Word, told: Word) -> bool:
    if known.epoch == told.epoch:
        return told.account.word > known.account.word
    # another run: it is newer when it names the known one, and older when the known one names it
    if any(one.epoch == known.epoch for one in told.account.epochs):
        return True
    return told.epoch not in known.named and told.received_ns >= known.received_ns


def merge_accounts(known: Account | None, told: Account) -> Account:
    """Give `told` with what was told before and need not be said twice: settled epochs and dropped rows.

    Where the publisher knows less than it once did (its spool was restored from an older copy), the rows between are
    noted as stranded.
    """
    before = {one.epoch: one for one in known.epochs} if known else {}
    epochs = [_merge_epoch(before.pop(one.epoch, None), one) for one in told.epochs]
    return Account(told.word, [*epochs, *before.values()])


def _merge_epoch(known: EpochAccount | None, told: EpochAccount) -> EpochAccount:
    if known is None:
        return told
    before = {(one.row_class, one.level): one for one in known.streams}
    streams = [_merge_stream(before.pop((one.row_class, one.level), None), one) for one in told.streams]
    return EpochAccount(told.epoch, told.boot or known.boot, [*streams, *before.values()])


def _merge_stream(known: StreamAccount | None, told: StreamAccount) -> StreamAccount:
    if known is None:
        return told
    dropped: dict[str, Intervals] = {}
    for one in (*known.dropped, *told.dropped):
        dropped.setdefault(one.reason, Intervals()).update(one.intervals)
    if told.numbered < known.numbered:
        dropped.setdefault(STRANDED, Intervals()).add(told.numbered, known.numbered)
        told = msgspec.structs.replace(
            told,
            numbered=known.numbered,
            produced=max(known.produced, told.produced),
            filtered=max(known.filtered, told.filtered),
            folded=max(known.folded, told.folded),
        )
    merged = [Dropped(reason, intervals.pairs()) for reason, intervals in dropped.items()]
    return msgspec.structs.replace(told, dropped=merged)
