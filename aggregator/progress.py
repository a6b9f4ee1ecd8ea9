"""What a consumer has dealt with, in memory: interval sets for every stream, and the latest word of every publisher.

Repetitions die here: a row is new to a consumer when no set of its stream holds its number.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from aggregator.past import Past, PastLine, Standing
from aggregator.store import Ended, Outcome, Position, Progress, Run, Seen, Stream, Word
from schemas.account import Account, Dropped, EpochAccount, StreamAccount
from schemas.intervals import Interval, Intervals
from schemas.verbosity import RowClass

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
        self._lent: set[Stream] = set()
        """Streams whose outcomes a frozen copy has too: to be copied before they are changed."""
        self._runs: dict[str, dict[str, list[Stream]]] = {}
        self.pasts = {past.publisher: past for past in progress.pasts}
        """Of the publishers that have settled runs, what these amount to."""
        for seen in progress.seen:
            self._note(seen)
        self._changes = Progress()
        self._moved: set[tuple[str, int]] = set()
        self._spoke: set[str] = set()
        self._settled: list[Run] = []
        self._passed: set[str] = set()

    def missing(self, stream: Stream, first: int, end: int) -> list[Interval]:
        """Give the rows of `[first, end)` that are new."""
        known = self._known.get(stream)
        return [(first, end)] if known is None else known.missing(first, end)

    def mark(self, stream: Stream, first: int, end: int, outcome: Outcome) -> None:
        """Note that rows were dealt with."""
        seen = Seen(stream, first, end, outcome)
        self._note(seen)
        self._changes.seen.append(seen)

    def correct(self, stream: Stream, parts: Iterable[Interval], outcome: Outcome) -> None:
        """Say of rows that were marked that they ended otherwise; who takes the changes has changed them already."""
        moved = Intervals(parts)
        outcomes = {one: rows.minus(moved) for one, rows in self._outcomes.get(stream, {}).items()}
        outcomes.setdefault(outcome, Intervals()).update(moved)
        self._outcomes[stream] = outcomes

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

    def standing(self, stream: Stream, appended_ns: int, age_ns: int) -> Standing:
        """Say what a batch is: when the log took it, and how old its rows were when it was sent."""
        past = self.pasts.get(stream.publisher)
        if past is None or stream in self._known:
            return Standing.NEW
        return past.standing(stream.epoch, appended_ns, age_ns, known=self._knows(stream.publisher, stream.epoch))

    def is_settled(self, publisher: str, epoch: str) -> bool:
        """Whether a run is settled, and remembered so: `pasts` counts its rows, and nothing else may."""
        past = self.pasts.get(publisher)
        return past is not None and past.ended_ns(epoch) is not None

    def settle(self, run: Run, ended_ns: int, lines: Iterable[PastLine]) -> None:
        """Count a run as `lines` from here on, and keep nothing else of it. Everything before must be committed."""
        past = self.pasts.get(run.publisher, Past(run.publisher))
        self.pasts[run.publisher] = past.settle(run.epoch, ended_ns, lines)
        self._settled.append(run)
        self._passed.add(run.publisher)
        self._forget(run)
        word = self.words.get(run.publisher)
        if word is not None and word is not (left := self.unsettled(word)):
            self.words[run.publisher] = left
            self._spoke.add(run.publisher)

    def write_off(self, publisher: str) -> None:
        """Count the stranded rows of settled runs as lost: the publisher was given up."""
        past = self.pasts.get(publisher)
        if past is not None and any(one.places.stranded for one in past.lines):
            self.pasts[publisher] = past.write_off()
            self._passed.add(publisher)

    def remember(self, run: Run) -> None:
        """Take a run for one of those that were settled and forgotten: nothing more is counted of it."""
        past = self.pasts[run.publisher]
        self.settle(run, past.forgotten_ns or 0, ())

    def end(self, run: Run, at_ns: int) -> None:
        """Note that a run is over of which no word ever told: another run speaks."""
        word = self.words[run.publisher]
        ended = {**word.ended, run.epoch: Ended(at_ns, drained=False)}
        self.words[run.publisher] = msgspec.structs.replace(word, ended=ended)
        self._spoke.add(run.publisher)

    def unsettled(self, word: Word) -> Word:
        """Give a word without what it tells of settled runs."""
        epochs = [one for one in word.account.epochs if not self.is_settled(word.publisher, one.epoch)]
        ended = {epoch: one for epoch, one in word.ended.items() if not self.is_settled(word.publisher, epoch)}
        if len(epochs) == len(word.account.epochs) and len(ended) == len(word.ended):
            return word
        return msgspec.structs.replace(word, account=Account(word.account.word, epochs), ended=ended)

    def runs(self, publisher: str) -> dict[str, list[Stream]]:
        """Give the streams of which rows were seen, by epoch."""
        return self._runs.get(publisher, {})

    def frozen(self, words: Mapping[str, Word]) -> "Tracker":
        """Give a copy, for another thread, of how rows ended, with `words` instead of what was heard meanwhile.

        The rows of a stream are copied when they change next: of thousands of streams, all at once would hold up the
        event loop.
        """
        twin = Tracker()
        twin.words = dict(words)
        twin._outcomes = self._outcomes.copy()
        self._lent = set(self._outcomes)
        twin._lent = self._lent.copy()
        twin.pasts = dict(self.pasts)
        return twin

    def take_changes(self, log_id: str) -> Progress:
        """Give what changed since the last call, for the next transaction."""
        changes = self._changes
        changes.log_id = log_id
        changes.positions = [Position(topic, part, self.positions[topic, part]) for topic, part in sorted(self._moved)]
        changes.words = [self.words[publisher] for publisher in sorted(self._spoke)]
        changes.pasts = [self.pasts[publisher] for publisher in sorted(self._passed)]
        changes.settled = self._settled
        self._changes = Progress()
        self._moved = set()
        self._spoke = set()
        self._settled = []
        self._passed = set()
        return changes

    def apply(self, progress: Progress) -> None:
        """Take in what another tracker gave for a transaction that is now committed."""
        for seen in progress.seen:
            self._note(seen)
        for one in progress.positions:
            self.positions[one.topic, one.partition] = one.offset
        for word in progress.words:
            self.words[word.publisher] = word
        for past in progress.pasts:
            self.pasts[past.publisher] = past
        for run in progress.settled:
            self._forget(run)

    @property
    def changed(self) -> bool:
        """Whether there is anything for a next transaction."""
        return bool(self._moved or self._spoke or self._passed or self._changes.seen)

    def streams(self) -> list[Stream]:
        """Give every stream of which rows were seen."""
        return sorted(self._outcomes)

    def outcome(self, stream: Stream, outcome: Outcome) -> Intervals:
        """Give the rows of a stream that ended so."""
        return self._outcomes.get(stream, {}).get(outcome, Intervals())

    def _take(self, told: Word) -> None:
        known = self.words.get(told.publisher)
        word = later_word(known, self.unsettled(told))
        if word is not known:
            self.words[told.publisher] = word
            self._spoke.add(told.publisher)

    def _knows(self, publisher: str, epoch: str) -> bool:
        """Whether anything was heard or seen of a run that is not settled."""
        word = self.words.get(publisher)
        told = word is not None and (epoch in word.named or any(one.epoch == epoch for one in word.account.epochs))
        return told or epoch in self.runs(publisher)

    def _forget(self, run: Run) -> None:
        for stream in self._runs.get(run.publisher, {}).pop(run.epoch, ()):
            self._known.pop(stream, None)
            self._outcomes.pop(stream, None)

    def _note(self, seen: Seen) -> None:
        known = self._known.get(seen.stream)
        if known is None:
            known = self._known[seen.stream] = Intervals()
            runs = self._runs.setdefault(seen.stream.publisher, {})
            runs.setdefault(seen.stream.epoch, []).append(seen.stream)
        fresh = known.missing(seen.first, seen.end)
        if not fresh:
            return
        known.add(seen.first, seen.end)
        outcomes = self._outcomes.setdefault(seen.stream, {})
        if seen.stream in self._lent:
            self._lent.discard(seen.stream)
            outcomes = self._outcomes[seen.stream] = {one: rows.copy() for one, rows in outcomes.items()}
        outcomes.setdefault(seen.outcome, Intervals()).update(fresh)


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


def narrow(word: Word, classes: Collection[RowClass]) -> Word:
    """Give a word as far as it is about some classes."""
    epochs = [
        EpochAccount(one.epoch, one.boot, [stream for stream in one.streams if stream.row_class in classes])
        for one in word.account.epochs
    ]
    return msgspec.structs.replace(word, account=Account(word.account.word, epochs))


def later_word(known: Word | None, told: Word) -> Word:
    """Give what is known of a publisher once it has told `told`: `known` itself when that was the later one.

    `told` may itself be several words that were merged so.
    """
    if known is not None and not _is_newer(known, told):
        return known
    merged = merge_accounts(known.account if known else None, told.account)
    return msgspec.structs.replace(told, account=merged, ended=_ended(known, told, merged))


def _ended(known: Word | None, told: Word, merged: Account) -> dict[str, Ended]:
    """Give the runs that are over once `told` was heard, each since when that is so."""
    before = {**told.ended, **(known.ended if known else {})}
    before |= {epoch: one for epoch, one in told.ended.items() if one.drained and not before[epoch].drained}
    left = {one.epoch: any(stream.spooled for stream in one.streams) for one in merged.epochs}
    ended = {}
    for epoch in {**left, **before}:
        named = epoch in told.named
        if epoch == told.epoch or (named and left.get(epoch, True)):
            continue
        was = before.get(epoch)
        drained = named or (was is not None and was.drained)
        ended[epoch] = was if was is not None and was.drained == drained else Ended(told.received_ns, drained)
    return ended


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
