# ruff: noqa: S608  # names of tables and columns have passed schemas.metrics.NAME, and are quoted
"""Positions, owners, seen rows and words in the embedded store: inserted with the rows, folded from time to time.

`_progress` has one row for each fact, and only ever grows within a transaction: updating a row that readers see keeps
checkpoints from running. So a settled run is a fact that hides what was seen of it before. Folding replaces all of it
by what it amounts to, and drops what is hidden.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from arro3.core import Array, DataType
from arro3.core import Table as ArrowTable
from duckdb import DuckDBPyConnection

from aggregator.duck_write import insert_arrow, numbers, strings
from aggregator.past import Past
from aggregator.store import Outcome, Position, Progress, Seen, Stream, Word
from schemas.intervals import Intervals
from schemas.verbosity import Level, RowClass

CREATE: Final = """
CREATE TABLE IF NOT EXISTS _progress (
    serial BIGINT NOT NULL,      -- of the transaction
    kind VARCHAR NOT NULL,       -- position, owner, seen, word, past or settled; what it does not need is NULL
    name VARCHAR NOT NULL,       -- topic, or publisher; "" of an owner: it has its partition in every topic
    scope VARCHAR NOT NULL,      -- log id, or the publisher's epoch
    part BIGINT,                 -- partition, or class
    level BIGINT,
    outcome BIGINT,
    first BIGINT,
    "end" BIGINT,                -- of a position: its offset; of an owner: its epoch
    word BLOB                    -- or past
)"""

_FOLDED: Final = """
SELECT max(serial) AS serial, kind, name, scope, part, NULL AS level, NULL AS outcome, NULL AS first,
       arg_max("end", serial) AS "end", NULL AS word
FROM _progress WHERE kind = 'position' GROUP BY kind, name, scope, part
UNION ALL
SELECT max(serial), kind, name, scope, part, level, outcome, min(first), max("end"), NULL FROM (
    SELECT *, count(*) FILTER (reach IS NULL OR first > reach)
              OVER (PARTITION BY name, scope, part, level, outcome ORDER BY first, "end", serial
                    ROWS UNBOUNDED PRECEDING) AS island
    FROM (SELECT *, max("end") OVER (PARTITION BY name, scope, part, level, outcome ORDER BY first, "end", serial
                                     ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS reach
          FROM _progress AS fact WHERE kind = 'seen' AND NOT EXISTS (
              SELECT 1 FROM _progress AS later WHERE later.kind = 'settled'
              AND later.name = fact.name AND later.scope = fact.scope AND later.serial >= fact.serial))
) GROUP BY kind, name, scope, part, level, outcome, island
UNION ALL
SELECT max(serial), kind, name, arg_max(scope, serial), NULL, NULL, NULL, NULL, NULL, arg_max(word, serial)
FROM _progress WHERE kind IN ('word', 'past') GROUP BY kind, name
UNION ALL
SELECT max(serial), kind, name, scope, part, NULL, NULL, NULL, max("end"), NULL
FROM _progress WHERE kind = 'owner' GROUP BY kind, name, scope, part
"""


def insert_progress(
    writer: DuckDBPyConnection, serial: int, progress: Progress, taken: Mapping[int, int] | None = None
) -> int:
    """Write what is new, adjacent intervals joined, inside the open transaction; give how many facts that are.

    `taken`: the partitions that have another owner from now on, with its epoch.
    """
    seen: dict[tuple[Stream, Outcome], Intervals] = {}
    for one in progress.seen:
        seen.setdefault((one.stream, one.outcome), Intervals()).add(one.first, one.end)
    words = {word.publisher: word for word in progress.words}
    facts: list[tuple[str, str, str, int | None, int | None, int | None, int | None, int | None, bytes | None]] = [
        ("position", one.topic, progress.log_id, one.partition, None, None, None, one.offset, None)
        for one in progress.positions
    ]
    facts += [("owner", "", "", partition, None, None, None, epoch, None) for partition, epoch in (taken or {}).items()]
    facts += [
        ("seen", of.publisher, of.epoch, int(of.row_class), int(of.level), int(outcome), first, end, None)
        for (of, outcome), intervals in seen.items()
        for first, end in intervals
    ]
    encode = msgspec.msgpack.encode
    facts += [
        ("word", word.publisher, word.epoch, None, None, None, None, None, encode(word)) for word in words.values()
    ]
    facts += [("past", past.publisher, "", None, None, None, None, None, encode(past)) for past in progress.pasts]
    facts += [("settled", run.publisher, run.epoch, None, None, None, None, None, None) for run in progress.settled]
    if not facts:
        return 0
    kinds, names, scopes, parts, levels, outcomes, firsts, ends, blobs = zip(*facts, strict=True)
    columns: dict[str, Any] = {
        "serial": numbers([serial] * len(facts)),
        "kind": strings(kinds),
        "name": strings(names),
        "scope": strings(scopes),
        "part": numbers(parts),
        "level": numbers(levels),
        "outcome": numbers(outcomes),
        "first": numbers(firsts),
        "end": numbers(ends),
        "word": Array(blobs, type=DataType.binary()),
    }
    insert_arrow(writer, "_progress", ArrowTable(columns))
    return len(facts)


def read_progress(writer: DuckDBPyConnection) -> tuple[Progress, int]:
    """Give what was committed, folded, for the log that was read last; and the serial of the last transaction."""
    rows = writer.execute(f"SELECT * FROM ({_FOLDED}) ORDER BY serial").fetchall()
    progress = Progress()
    last = 0
    positions: dict[str, list[Position]] = {}
    for serial, kind, name, scope, part, level, outcome, first, end, word in rows:
        last = max(last, serial)
        if kind == "position":
            positions.setdefault(scope, []).append(Position(name, part, end))
            progress.log_id = scope  # rows come in the order of their transactions
        elif kind == "seen":
            stream = Stream(name, scope, RowClass(part), Level(level))
            progress.seen.append(Seen(stream, first, end, Outcome(outcome)))
        elif kind == "owner":
            progress.owners[part] = end
        elif kind == "past":
            progress.pasts.append(msgspec.msgpack.decode(word, type=Past))
        else:
            progress.words.append(msgspec.msgpack.decode(word, type=Word))
    progress.positions = sorted(positions.get(progress.log_id, []), key=lambda one: (one.topic, one.partition))
    progress.seen.sort(key=lambda one: (one.stream, one.outcome, one.first))
    return progress, last


def fold_progress(writer: DuckDBPyConnection) -> None:
    """Replace the facts by what they amount to, inside the open transaction."""
    writer.execute(f"CREATE OR REPLACE TEMP TABLE _folded AS {_FOLDED}")
    writer.execute("DELETE FROM _progress")
    writer.execute("INSERT INTO _progress BY NAME SELECT * FROM temp._folded")
    writer.execute("DROP TABLE temp._folded")
