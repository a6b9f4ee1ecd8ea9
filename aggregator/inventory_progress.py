"""What the inventory consumer keeps in the ledger's database, in the transaction of the facts.

How far it is, which rows it has seen, the last words of publishers, which documents they hold, and which alerts it has
followed.
"""

from typing import Final

import msgspec
from sqlalchemy import Connection, bindparam, delete, insert, select

from aggregator.ledger.journal import move, positions
from aggregator.ledger.tables import LEDGER_ALERT, LEDGER_DOCUMENT, LEDGER_SEEN, LEDGER_WORD
from aggregator.past import Past
from aggregator.progress import Tracker
from aggregator.store import Outcome, Position, Progress, Run, Seen, Stream, Word
from schemas.verbosity import Level, RowClass

CLASSES: Final = frozenset({RowClass.CAPABILITY, RowClass.EVENT})
"""The classes that the consumer reads: of others it has no balance."""


class Held(msgspec.Struct, frozen=True, gc=False):
    """A document that a publisher holds, as far as we were told."""

    publisher: str
    collector: str
    device: str
    subject: str
    digest: bytes
    """Of its text."""
    epoch: str
    order: int
    """Of the batch that brought it."""


class Kept(msgspec.Struct):
    """What was kept."""

    progress: Progress
    documents: list[Held]
    alerts: dict[str, int]
    """By fingerprint, the last transition that was followed."""
    logs: list[str]
    """Ids of the logs that were read."""


class Change(msgspec.Struct):
    """What a transaction changes."""

    positions: dict[tuple[str, int], int] = {}
    seen: dict[Stream, dict[Outcome, list[tuple[int, int]]]] = {}
    """Of each stream of which rows were dealt with, all that were, by outcome."""
    words: list[Word] = []
    pasts: list[Past] = []
    settled: list[Run] = []
    dropped: list[tuple[str, str, str]] = []
    """Publisher, collector and device of documents that were held, and are no more or are held anew."""
    documents: list[Held] = []
    """New ones, and those in the place of others."""
    alerts: dict[str, int] = {}


def change_of(tracker: Tracker, log_id: str) -> tuple[Change, Progress]:
    """Give what changed in a tracker since it was last asked: for the database, and for a tracker that follows it."""
    made = tracker.take_changes(log_id)
    made.seen = _joined(made.seen)
    streams = {one.stream for one in made.seen}
    change = Change(
        {(one.topic, one.partition): one.offset for one in made.positions},
        {
            stream: {outcome: tracker.outcome(stream, outcome).pairs() for outcome in Outcome}
            for stream in streams
            if not tracker.is_settled(stream.publisher, stream.epoch)
        },
        made.words,
        made.pasts,
        made.settled,
    )
    return change, made


def _joined(seen: list[Seen]) -> list[Seen]:
    """Give the same with what follows one another in one: a document is a batch of its own, and they come in order."""
    joined: list[Seen] = []
    for one in seen:
        last = joined[-1] if joined else None
        if last is not None and (last.end, last.outcome) == (one.first, one.outcome) and last.stream == one.stream:
            joined[-1] = Seen(one.stream, last.first, one.end, one.outcome)
        else:
            joined.append(one)
    return joined


def load(connection: Connection, log_id: str) -> Kept:
    """Read what was kept; positions are those in one log."""
    found = positions(connection)
    mine = found.get(log_id, {})
    progress = Progress(log_id, [Position(topic, part, offset) for (topic, part), offset in mine.items()])
    for row in connection.execute(select(LEDGER_SEEN)):
        stream = Stream(row.publisher, row.epoch, RowClass(row.row_class), Level(row.level))
        progress.seen.append(Seen(stream, row.first, row.end, Outcome(row.outcome)))
    for row in connection.execute(select(LEDGER_WORD)):
        if row.word is not None:
            progress.words.append(msgspec.msgpack.decode(row.word, type=Word))
        if row.past is not None:
            progress.pasts.append(msgspec.msgpack.decode(row.past, type=Past))
    documents = [Held(*row) for row in connection.execute(select(*(LEDGER_DOCUMENT.c[name] for name in _HELD)))]
    alerts = {row.fingerprint: row.transition for row in connection.execute(select(LEDGER_ALERT))}
    return Kept(progress, documents, alerts, sorted(found))


_HELD: Final = Held.__struct_fields__
_FORGET: Final = delete(LEDGER_DOCUMENT).where(
    LEDGER_DOCUMENT.c.publisher == bindparam("one"),
    LEDGER_DOCUMENT.c.collector == bindparam("its"),
    LEDGER_DOCUMENT.c.device == bindparam("this"),
)


def keep(connection: Connection, log_id: str, change: Change) -> None:
    """Write a change; in the transaction of the facts that belong to it."""
    move(connection, log_id, change.positions)
    seen = LEDGER_SEEN.c
    for run in change.settled:
        connection.execute(delete(LEDGER_SEEN).where(seen.publisher == run.publisher, seen.epoch == run.epoch))
    rows = []
    for stream, outcomes in change.seen.items():
        names = {
            "publisher": stream.publisher,
            "epoch": stream.epoch,
            "row_class": int(stream.row_class),
            "level": int(stream.level),
        }
        connection.execute(delete(LEDGER_SEEN).where(*(seen[name] == value for name, value in names.items())))
        rows += [
            {**names, "outcome": int(outcome), "first": first, "end": end}
            for outcome, pairs in outcomes.items()
            for first, end in pairs
        ]
    if rows:
        connection.execute(insert(LEDGER_SEEN), rows)
    _keep_words(connection, change)
    if change.dropped:
        connection.execute(_FORGET, [dict(zip(("one", "its", "this"), key, strict=True)) for key in change.dropped])
    if change.documents:
        connection.execute(insert(LEDGER_DOCUMENT), [msgspec.structs.asdict(held) for held in change.documents])
    if change.alerts:
        connection.execute(delete(LEDGER_ALERT).where(LEDGER_ALERT.c.fingerprint.in_(list(change.alerts))))
        connection.execute(
            insert(LEDGER_ALERT), [{"fingerprint": name, "transition": last} for name, last in change.alerts.items()]
        )


def _keep_words(connection: Connection, change: Change) -> None:
    changed: dict[str, dict[str, bytes]] = {}
    for word in change.words:
        changed.setdefault(word.publisher, {})["word"] = msgspec.msgpack.encode(word)
    for past in change.pasts:
        changed.setdefault(past.publisher, {})["past"] = msgspec.msgpack.encode(past)
    if not changed:
        return
    table = LEDGER_WORD.c
    these = table.publisher.in_(list(changed))
    before = {row.publisher: row for row in connection.execute(select(LEDGER_WORD).where(these))}
    connection.execute(delete(LEDGER_WORD).where(these))
    rows = []
    for publisher, values in changed.items():
        known = before.get(publisher)
        kept = {"word": known.word, "past": known.past} if known else {"word": None, "past": None}
        rows.append({"publisher": publisher, **kept, **values})
    connection.execute(insert(LEDGER_WORD), rows)
