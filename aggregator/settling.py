"""Settling: when a publisher's run is over for good, its counts stay and its row numbers are let go.

Otherwise an agent that restarts often, or a fleet over a year, would have the balance grow without bound: every run
stays in the words, in the sets of numbers seen, and in the tables of what was quarantined or expired. A run is settled
for a consumer when

1. another run speaks for the publisher and names this one not, or with nothing left: nothing of it is spooled;
2. everything in the log was appended after that, and the consumer has read as far as there: no record of it is left;
3. every number has its place for good: done, filtered, quarantined, expired or dropped. Stranded rows may come back
   with their spool for `GRACE_SECONDS`; a run with unaccounted rows is kept as evidence. Beyond `OPEN_RUNS` runs of one
   publisher the oldest are settled whatever they hold, so that no publisher makes us keep more.

Its counts join `aggregator.past.Past` in one transaction of the consumer that also lets its numbers go; what the
control database holds of it goes afterwards. A crash in between leaves what nobody reads: of a settled run only the
past counts. What comes of a settled run later is known (`aggregator.past.Standing`): what was in the log before it
ended is a repetition; anything else cannot be told from one, and is quarantined, its rows not counted a second time.
A word that tells of a run so old that it is not even remembered is believed: rather rows too many that are shown than
rows that are missing in silence.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

import msgspec
from sqlalchemy import Connection, delete, select, tuple_

from aggregator.balance import Books, by_stream, place_run
from aggregator.control import Control
from aggregator.expired import Expiry
from aggregator.log import Log, OffsetOutOfRangeError, partition_of
from aggregator.nodes import written_off
from aggregator.past import PastLine, Places
from aggregator.progress import Tracker
from aggregator.quarantine import INGEST, intervals
from aggregator.store import Ended, Run, Stream, Word
from aggregator.store_consumer import RECORD_TOPICS
from aggregator.tables import EPOCH, NODE, QUARANTINED_ROWS
from schemas.intervals import Intervals

GRACE_SECONDS: Final = 30 * 86_400.0
"""How long a spool that is gone may take to come back with the rows that are stranded in it."""
OPEN_RUNS: Final = 256
"""Runs of one publisher that are over, and still kept by number; more only while the log holds their records."""
PASS_RUNS: Final = 256
"""Settled at a time. Far fewer than are remembered: what is left of them elsewhere goes before any is forgotten."""
_AT_ONCE: Final = 200


class _Moment(msgspec.Struct):
    """What one pass looks at."""

    now_ns: int
    aside: dict[Run, dict[Stream, Intervals]]
    gone: dict[Run, dict[Stream, Intervals]]
    written_off: set[Run]


class Settling:
    """Settles runs for one consumer, the only one that counts what ingest quarantined. For one event loop."""

    def __init__(
        self,
        log: Log,
        control: Control,
        expiry: Expiry,
        consumer: str,
        *,
        wall_ns: Callable[[], int] = time.time_ns,
        elsewhere: Callable[[Run], bool] = lambda _run: True,
    ) -> None:
        """Prepare. `wall_ns` is the log's clock; `elsewhere` tells whether every other consumer settled a run as well.

        Only then goes what the control database holds of it, for it holds it for all of them.
        """
        self._log = log
        self._control = control
        self._expiry = expiry
        self._consumer = consumer
        self._wall_ns = wall_ns
        self._elsewhere = elsewhere
        self._untold: set[Run] = set()

    async def settle(self, tracker: Tracker) -> None:
        """Let go of what was settled and committed before, and settle what can be; its changes are to be committed.

        Nothing may be waiting in `tracker` for a transaction, and nobody else may change it meanwhile. Raises
        ControlError and LogReadError; calling again goes on from there.
        """
        await self._let_go(tracker)
        moment = _Moment(
            self._wall_ns(),
            _by_run(by_stream(await self._control.read(partial(intervals, stage=INGEST)))),
            _by_run(by_stream(self._expiry.intervals(self._consumer))),
            {Run(*one) for one in await self._control.read(written_off)},
        )
        self._note_untold(tracker, moment)
        room = PASS_RUNS
        owned = await self._log.owned()
        horizons: dict[int, int | None] = {}
        for word in list(tracker.words.values()):
            partition = partition_of(word.publisher, self._log.partitions)
            if partition not in owned:
                continue
            if Run(word.publisher, word.epoch) in moment.written_off:
                tracker.write_off(word.publisher)
            if not word.ended or not room:
                continue
            if partition not in horizons:
                horizons[partition] = await self._horizon(tracker, partition)
            for run, ended, lines in _settled(tracker, word, horizons[partition], moment)[:room]:
                tracker.settle(run, ended.at_ns, lines)
                room -= 1

    def _note_untold(self, tracker: Tracker, moment: _Moment) -> None:
        """End the runs that no word tells of, though their publisher speaks. Their first word gets a pass's time."""
        untold: set[Run] = set()
        for publisher, word in tracker.words.items():
            told = {word.epoch, *word.named, *word.ended, *(one.epoch for one in word.account.epochs)}
            untold.update(Run(publisher, epoch) for epoch in tracker.runs(publisher).keys() - told)
        for run in {*moment.aside, *moment.gone}:
            speaker = tracker.words.get(run.publisher)
            if speaker is None or tracker.is_settled(run.publisher, run.epoch):
                continue
            if run.epoch not in {speaker.epoch, *speaker.named, *speaker.ended}:
                untold.add(run)
        for run in untold & self._untold:
            tracker.end(run, moment.now_ns)
        self._untold = untold

    async def _horizon(self, tracker: Tracker, partition: int) -> int | None:
        """Give since when the log has what it holds of a partition; 0 when the consumer has yet to read up to there.

        None: it holds nothing.
        """
        oldest: list[int] = []
        for topic in RECORD_TOPICS:
            begin = await self._log.begin(topic, partition)
            if tracker.positions.get((topic, partition), begin) < begin:
                return 0
            try:
                records = await self._log.read(topic, partition, begin, 1)
            except OffsetOutOfRangeError:  # retention was here just now
                return 0
            if records:
                oldest.append(records[0].appended_ns)
        return min(oldest, default=None)

    async def _let_go(self, tracker: Tracker) -> None:
        """Forget what else is kept of settled runs."""
        kept = await self._control.read(_kept_runs)
        runs = [run for run in kept if tracker.is_settled(run.publisher, run.epoch) and self._elsewhere(run)]
        for at in range(0, len(runs), _AT_ONCE):
            await self._control.write(partial(_forget_runs, runs=runs[at : at + _AT_ONCE]))
        await self._expiry.forget_settled(self._consumer, tracker)


def _by_run(sets: Mapping[Stream, Intervals]) -> dict[Run, dict[Stream, Intervals]]:
    runs: dict[Run, dict[Stream, Intervals]] = {}
    for stream, rows in sets.items():
        runs.setdefault(Run(stream.publisher, stream.epoch), {})[stream] = rows
    return runs


def _settled(
    tracker: Tracker, word: Word, horizon: int | None, moment: _Moment
) -> list[tuple[Run, Ended, list[PastLine]]]:
    """Give the runs of one publisher that are settled, those that ended first before the others."""
    over = sorted(word.ended.items(), key=lambda one: (one[1].at_ns, one[0]))
    crowd = len(over) - OPEN_RUNS
    found = []
    for at, (epoch, ended) in enumerate(over):
        if horizon is not None and horizon <= ended.at_ns:
            break
        run = Run(word.publisher, epoch)
        books = Books(
            tracker,
            tracker.words,
            aside=moment.aside.get(run, {}),
            gone=moment.gone.get(run, {}),
            written_off=moment.written_off,
        )
        lines = place_run(books, run)
        if at < crowd or _is_final(lines, ended, moment.now_ns):
            found.append((run, ended, lines))
    return found


def _is_final(lines: Iterable[PastLine], ended: Ended, now_ns: int) -> bool:
    total = Places()
    for line in lines:
        total.add(line.places)
    if total.unaccounted or total.spooled or total.in_log:
        return False
    if ended.drained and not total.stranded and not total.lost:
        return True
    return now_ns - ended.at_ns >= GRACE_SECONDS * 1e9


def _kept_runs(connection: Connection) -> list[Run]:
    """Give the runs of which the control database holds rows set aside, or that it knows to be over."""
    aside = select(QUARANTINED_ROWS.c.publisher, QUARANTINED_ROWS.c.epoch).distinct()
    over = select(EPOCH.c.node, EPOCH.c.epoch).where(EPOCH.c.ended_ns.is_not(None))
    return [Run(*row) for row in (*connection.execute(aside), *connection.execute(over))]


def _forget_runs(connection: Connection, runs: list[Run]) -> None:
    """Delete what is kept of runs, but for one that is a node's current one again."""
    names = [(run.publisher, run.epoch) for run in runs]
    rows = QUARANTINED_ROWS.c
    connection.execute(delete(QUARANTINED_ROWS).where(tuple_(rows.publisher, rows.epoch).in_(names)))
    current = select(NODE.c.epoch).where(NODE.c.id == EPOCH.c.node, NODE.c.epoch.is_not(None)).scalar_subquery()
    these = (tuple_(EPOCH.c.node, EPOCH.c.epoch).in_(names), EPOCH.c.ended_ns.is_not(None))
    connection.execute(delete(EPOCH).where(*these, EPOCH.c.epoch != current))
