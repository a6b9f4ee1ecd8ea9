"""What a consumer has dealt with, in memory: interval sets for every stream, and the latest word of every publisher.

Repetitions die here: a row is new to a consumer when no set of its stream holds its number.
"""

import msgspec

from aggregator.store import Outcome, Position, Progress, Seen, Stream, Word
from schemas.account import Account, Dropped, EpochAccount, StreamAccount
from schemas.intervals import Interval, Intervals

STRANDED = "stranded"
"""The reason under which rows stand that a publisher once had and, its spool being lost or set back, has no more."""


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
        known = self.words.get(publisher)
        word = later_word(known, Word(publisher, epoch, received_ns, account))
        if word is not known:
            self.words[publisher] = word
            self._spoke.add(publisher)

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
        return sorted(self._known)

    def outcome(self, stream: Stream, outcome: Outcome) -> Intervals:
        """Give the rows of a stream that ended so."""
        return self._outcomes.get(stream, {}).get(outcome, Intervals())

    def _note(self, seen: Seen) -> None:
        known = self._known.setdefault(seen.stream, Intervals())
        fresh = known.missing(seen.first, seen.end)
        if not fresh:
            return
        known.add(seen.first, seen.end)
        outcome = self._outcomes.setdefault(seen.stream, {}).setdefault(seen.outcome, Intervals())
        outcome.update(fresh)


def later_word(known: Word | None, told: Word) -> Word:
    """Give what is known of a publisher once it has told `told`: `known` itself when that was the later one."""
    if known is not None and not _is_newer(known, told.epoch, told.account):
        return known
    merged = merge_accounts(known.account if known else None, told.account)
    return msgspec.structs.replace(told, account=merged, named=[one.epoch for one in told.account.epochs])


def _is_newer(known: Word, epoch: str, account: Account) -> bool:
    if known.epoch == epoch:
        return account.word > known.account.word
    # another run: it is newer when it names the known one, and older when the known one names it
    if any(one.epoch == known.epoch for one in account.epochs):
        return True
    return epoch not in known.named


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
