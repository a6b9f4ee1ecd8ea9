# ruff: noqa: S608  # names of tables and columns have passed schemas.metrics.NAME, and are quoted
"""Storms as one row for each text, for a query that asks so. Pure: text in, text out.

Nodes fold copies of log records, but not the first ones, and of a long storm they tell the count now and again. Here
all of them are one row: those that are copies of a record that stands for many. What are copies of each other is
decided as the node does it, by `collectors.log_storm`: same series, severity, host, program, unit and peer, and the
same text once numbers are masked. Masking costs most, so only rows are masked of which all the rest is that of a storm.
"""

from typing import Final

from aggregator.duck_connection import quoted
from aggregator.duck_sql import Source, Statement, direction, table_of, value_of, where_raw
from aggregator.query import Clock
from aggregator.query_plan import SOURCE_TIME, Target
from collectors.log_storm import LONGEST_MASK, NUMBER

COPIES: Final = "copies"
NEEDED: Final = frozenset({"message", COPIES})
"""A table without these columns has no storm in it."""
_FIRST: Final = "first_time_ns"
_LAST: Final = "last_time_ns"
_ALIKE: Final = ("severity", "host", "app", "unit", "peer")
"""What copies have in common, besides series and masked text."""


def folded(source: Source) -> Statement:
    """Give rows as `duck_sql.raw` does, but the copies of a storm as one. The table has the columns `NEEDED`.

    Of a storm: the time and the values of its newest row, for how many records all its rows stand, and when the first
    and the last of these came.
    """
    where, parameters = where_raw(source)
    rows = f"FROM {table_of(source)} WHERE {where}"
    rest = ", ".join(("_series", *(quoted(name) for name in _ALIKE if name in source.columns)))
    text = f"regexp_replace(left(coalesce(message, ''), {LONGEST_MASK}), '{NUMBER}', '#', 'g')"
    moment = _moment(source)
    targets = source.plan.targets
    alone = "".join(f", {value_of(source, target)}" for target in targets)
    together = "".join(f", {_of_all(source, target)}" for target in targets)
    down = direction(source)
    return Statement(
        f"WITH storm AS MATERIALIZED (SELECT DISTINCT hash({rest}) AS likely, hash({rest}, {text}) AS certain {rows}"
        f" AND {COPIES} IS NOT NULL),"
        f" own AS NOT MATERIALIZED (SELECT *, CASE WHEN hash({rest}) IN (SELECT likely FROM storm)"
        f" THEN hash({rest}, {text}) END AS _hash {rows}),"
        " line AS NOT MATERIALIZED (SELECT *, coalesce(_hash IN (SELECT certain FROM storm), false) AS _copy FROM own)"
        f" SELECT * EXCLUDE (_moment) FROM ("
        f"(SELECT _time, _series{alone}, false AS _torn, {moment} AS _moment FROM line WHERE NOT _copy"
        f" ORDER BY _moment {down}, _time {down}, _series LIMIT {source.query.limit + 1})"
        f" UNION ALL (SELECT max(_time), _series{together}, false, max({moment}) FROM line WHERE _copy"
        " GROUP BY _series, _hash)"
        f") ORDER BY _moment {down}, _time {down}, _series LIMIT {source.query.limit + 1}",
        parameters,
    )


def _moment(source: Source) -> str:
    if source.query.by is Clock.READ or SOURCE_TIME not in source.columns:
        return "_time"
    return f"coalesce({quoted(SOURCE_TIME)}, _time)"


def _of_all(source: Source, target: Target) -> str:
    """Give a field of a row that stands for all copies: of the newest, absent where that one has none."""
    name = target.field
    if name not in source.columns:
        return value_of(source, target)
    if name == COPIES:
        return f"sum(coalesce({COPIES}, 1))::BIGINT"
    if name == _FIRST:
        return f"min(coalesce({_FIRST}, _time))"
    if name == _LAST:
        return f"max(coalesce({_LAST}, _time))"
    return f"arg_max_null({quoted(name)}, _time)"
