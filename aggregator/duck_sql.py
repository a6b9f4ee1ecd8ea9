# ruff: noqa: S608  # names of tables and columns have passed schemas.metrics.NAME, and are quoted
"""From a settled query to DuckDB's SQL. Pure: text in, text out.

Rows are chosen by `_pick`, a small Arrow table of (series, group) that the caller gives under that name, or by a list
of the groups of neighbouring series, among the parameters. Time is bucketed by whole division, for DuckDB's own time
types lose nanoseconds. A rate is worked out from each series by a window over its own order of time: growth between
neighbours, a fall taken as a restart from 0, so never negative.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from aggregator.duck_connection import quoted
from aggregator.duck_schema import STORED, Stored
from aggregator.query import SECOND, Aggregate, Clock, Order, Query
from aggregator.query_plan import SOURCE_TIME, Plan, Target
from schemas.codec import MAX_TIME
from schemas.rows import CAPABILITY, EVENT, LOG

LOOK_BACK: Final = 300 * SECOND
"""How far before the range a rate looks for the value that the first one grew from."""

_NARROW_BITS: Final = 16
_WIDE_BITS: Final = 12
"""DuckDB's own."""
_NARROW: Final = 4
"""Values of a group, beyond which most queries would spend their time on clearing the array."""
_WHOLE: Final = frozenset({EVENT, LOG, CAPABILITY})
"""Measurements whose rows arrive whole: all their fields are of one level."""
_FORMS: Final = {
    Aggregate.AVG: "avg({0})",
    Aggregate.MIN: "min({0})",
    Aggregate.MAX: "max({0})",
    Aggregate.SUM: "sum({0})",
    Aggregate.COUNT: "count({0})",
    Aggregate.LAST: "arg_max({0}, _time)",
    Aggregate.FIRST: "arg_min({0}, _time)",
    Aggregate.P50: "quantile_cont({0}, 0.5)",
    Aggregate.P95: "quantile_cont({0}, 0.95)",
    Aggregate.P99: "quantile_cont({0}, 0.99)",
}
_GATHERED: Final = frozenset({Aggregate.P50, Aggregate.P95, Aggregate.P99})
"""Of these every value is kept until the end."""


class Statement(msgspec.Struct, frozen=True):
    """SQL and its parameters. Columns: bucket, group, values (aggregated); time, series or group, values (else)."""

    text: str
    parameters: dict[str, object]
    narrow: bool = False
    """It groups by bucket and series, and each group takes little memory."""

    @property
    def setting(self) -> str:
        """What is to be set before it runs.

        Groups that the statistics bound to 2 to this power have each its own place in an array, which costs less than
        a hash table while the array is small: by a fifth over 1.7 million rows. Each thread has one.
        """
        return f"SET SESSION perfect_ht_threshold = {_NARROW_BITS if self.narrow else _WIDE_BITS}"


class Pick(msgspec.Struct, frozen=True):
    """Which series are meant and of which groups they are, as far as the SQL depends on it."""

    first: int
    last: int
    """The smallest and the largest series."""
    late: bool
    """Choose after aggregation: every group is one series, and few others lie between `first` and `last`.

    Only of buckets, not of rows or last values. Joining every row first costs more than the aggregation itself.
    """
    places: list[int | None] = []
    """The group of each series from `first` to `last`, None of those not meant; only if `late`. Empty: see `_pick`."""


class Source(msgspec.Struct, frozen=True):
    """The table asked, and how."""

    plan: Plan
    columns: Mapping[str, Stored]
    """What the table has; declared fields that never came are not in it."""
    pick: Pick | None
    """Which series, and of which group; None: every row is of group 0."""

    @property
    def query(self) -> Query:
        """The query."""
        return self.plan.query


def raw(source: Source) -> Statement:
    """Give the rows themselves: time, series, values, and whether they are to be told apart (`apart`).

    The fields of one reading arrive by level, as rows of one time: they are one row again. Where a field was reported
    twice, they were rows of two runs that read in the same nanosecond. A row in which nothing that was asked for by
    name was reported is none.
    """
    whole = source.query.measurement in _WHOLE
    where, parameters = where_raw(source)
    values = _values(source) if whole else "".join(f", {_merged(source, target)}" for target in source.plan.targets)
    counts = [f"count({name})" for name in _present(source)]
    torn = f"greatest({', '.join(counts)}) > 1" if counts and not whole else "false"
    return Statement(
        f"SELECT _time, _series{values}, {torn} AS _torn FROM {table_of(source)} WHERE {where}"
        f"{'' if whole else ' GROUP BY _time, _series'}"
        f" ORDER BY {_moment(source)} {direction(source)}, _series LIMIT {source.query.limit + 1}",
        parameters,
    )


def apart(source: Source, times: list[int]) -> Statement:
    """Give the rows of these times as they were stored, each for itself: time, series, values."""
    where, parameters = where_raw(source)
    return Statement(
        f"SELECT _time, _series{_values(source)} FROM {table_of(source)}"
        f" WHERE {where} AND _time IN (SELECT unnest($torn::BIGINT[]))"
        f" ORDER BY {_moment(source)} {direction(source)}, _series",
        parameters | {"torn": times},
    )


def where_raw(source: Source) -> tuple[str, dict[str, object]]:
    """Give the condition that rows meet which are asked for as they are, and its parameters."""
    where, parameters = _where(source, source.query.since)
    if source.query.asked:
        where += f" AND ({' OR '.join(f'{name} IS NOT NULL' for name in _present(source)) or 'false'})"
    return where, parameters


def _present(source: Source) -> list[str]:
    return [quoted(target.field) for target in source.plan.targets if target.field in source.columns]


def _values(source: Source) -> str:
    return "".join(f", {value_of(source, target)}" for target in source.plan.targets)


def _moment(source: Source) -> str:
    """Give what rows are ordered by; those of one moment of the source stay as they were read."""
    if source.query.by is Clock.READ or SOURCE_TIME not in source.columns:
        return "_time"
    down = " DESC" if source.plan.order is Order.NEWEST else ""
    return f"coalesce({quoted(SOURCE_TIME)}, _time){down}, _time"


def direction(source: Source) -> str:
    """Give the direction in which rows are ordered."""
    return "DESC" if source.plan.order is Order.NEWEST else "ASC"


def _merged(source: Source, target: Target) -> str:
    return f"any_value({quoted(target.field)})" if target.field in source.columns else _absent(target)


def last(source: Source) -> Statement:
    """Give the newest values: time of the newest of them, group, values."""
    where, parameters = _where(source, source.query.since)
    if source.query.measurement in _WHOLE:
        return _last_rows(source, where, parameters)
    present = [target for target in source.plan.targets if target.field in source.columns]
    times = [f"max(_time) FILTER (WHERE {quoted(target.field)} IS NOT NULL)" for target in present]
    values = "".join(
        f", {_FORMS[Aggregate.LAST].format(quoted(target.field)) if target in present else _absent(target)}"
        for target in source.plan.targets
    )
    newest = f"greatest({', '.join(times)})" if times else "NULL::BIGINT"
    return Statement(
        f"SELECT {newest} AS _t, {_group(source)} AS _g{values} FROM {table_of(source)} WHERE {where}"
        f" GROUP BY _g HAVING _t IS NOT NULL ORDER BY _g {direction(source)} LIMIT {source.query.limit + 1}",
        parameters,
    )


def _last_rows(source: Source, where: str, parameters: dict[str, object]) -> Statement:
    """Give the newest row of each group, for values of two log records are no record."""
    return Statement(
        f"SELECT _time AS _t, {_group(source)} AS _g{_values(source)} FROM {table_of(source)} WHERE {where}"
        f" QUALIFY row_number() OVER (PARTITION BY {_group(source)} ORDER BY _time DESC, _series) = 1"
        f" ORDER BY _g {direction(source)} LIMIT {source.query.limit + 1}",
        parameters,
    )


def aggregated(source: Source) -> Statement:
    """Give aggregates: bucket (its number from the one that `since` lies in), group, values."""
    rates = [target for target in source.plan.targets if target.aggregate is Aggregate.RATE]
    plain = [target for target in source.plan.targets if target.aggregate is not Aggregate.RATE]
    rates = [target for target in rates if target.field in source.columns]
    parts, parameters = [], dict[str, object]()
    if plain or not rates:
        parts.append(_plain(source, plain))
    if rates:
        parts.append(_rates(source, rates))
    for part in parts:
        parameters |= part.parameters
    joined = f"({parts[0].text})"
    if len(parts) > 1:
        joined += f" FULL JOIN ({parts[1].text}) USING (_b, _g)"
    values = "".join(f", {_output(source, place, target)}" for place, target in enumerate(source.plan.targets))
    down = " DESC" if source.plan.order is Order.NEWEST else ""
    return Statement(
        f"SELECT _b, _g{values} FROM {joined} ORDER BY _b{down}, _g LIMIT {source.query.limit + 1}",
        parameters,
        narrow=len(source.plan.targets) <= _NARROW and not any(t.aggregate in _GATHERED for t in source.plan.targets),
    )


def first_bucket(query: Query) -> int:
    """Give the beginning of the bucket that `since` lies in; 0 when there are no buckets."""
    return query.since // query.every * query.every if query.every is not None else 0


def _plain(source: Source, targets: list[Target]) -> Statement:
    where, parameters = _where(source, source.query.since)
    values = "".join(f", {_aggregate(source, target)} AS _v{_place(source, target)}" for target in targets)
    if source.pick is not None and source.pick.late:
        inner = (
            f"SELECT {_bucket(source.query)} AS _b, _series{values} FROM {quoted(source.query.measurement)}"
            f" WHERE {where} GROUP BY _b, _series"
        )
        own = "".join(f", _v{_place(source, target)}" for target in targets)
        return Statement(f"SELECT _b, _g{own} FROM {_chosen(source, inner)}", parameters)
    return Statement(
        f"SELECT {_bucket(source.query)} AS _b, {_group(source)} AS _g{values} FROM {table_of(source)} WHERE {where}"
        " GROUP BY _b, _g",
        parameters,
    )


def _rates(source: Source, targets: list[Target]) -> Statement:
    """Growth between neighbours of one series, by bucket and series; then the sum over the series of a group."""
    query = source.query
    where, parameters = _where(source, max(0, query.since - max(LOOK_BACK, query.every or 0)))
    steps, sums, totals = "", "", ""
    for target in targets:
        at, field = _place(source, target), quoted(target.field)
        seen = f"CASE WHEN {field} IS NOT NULL THEN _time END"
        before = f"lag({field} IGNORE NULLS) OVER own"
        steps += (
            f", CASE WHEN {field} >= {before} THEN {field} - {before}"
            f" WHEN {field} < {before} THEN greatest({field}, 0) END AS _d{at}"
            f", {seen} - lag({seen} IGNORE NULLS) OVER own AS _s{at}"
        )
        sums += f", sum(_d{at})::DOUBLE * {SECOND} / nullif(sum(_s{at}) FILTER (WHERE _d{at} IS NOT NULL), 0) AS _r{at}"
        totals += f", sum(_r{at}) AS _v{at}"
    inner = (
        f"SELECT _time, _series{steps} FROM {table_of(source)} WHERE {where}"
        " WINDOW own AS (PARTITION BY _series ORDER BY _time)"
    )
    by_series = (
        f"SELECT {_bucket(query)} AS _b, _series{sums} FROM ({inner}) WHERE _time >= {query.since} GROUP BY _b, _series"
    )
    grouped = _chosen(source, by_series)
    some = " OR ".join(f"_v{_place(source, target)} IS NOT NULL" for target in targets)
    return Statement(
        f"SELECT _b, {_group(source)} AS _g{totals} FROM {grouped} GROUP BY _b, _g HAVING {some}", parameters
    )


def _chosen(source: Source, by_series: str) -> str:
    """Leave out the series that are not meant, and give each of the others its group `_g`."""
    pick = source.pick
    if pick is None:
        return f"({by_series})"
    if not pick.places:
        return f"({by_series}) JOIN _pick USING (_series)"
    listed = f"SELECT *, ($places::INTEGER[])[_series - {pick.first - 1}] AS _g FROM ({by_series})"
    return f"({listed})" + (" WHERE _g IS NOT NULL" if None in pick.places else "")


def _where(source: Source, since: int) -> tuple[str, dict[str, object]]:
    query = source.query
    conditions, parameters = [f"_time >= {since}"], dict[str, object]()
    if query.until is not None:
        conditions.append(f"_time < {query.until}")
    if source.pick is not None:
        conditions.append(f"_series BETWEEN {source.pick.first} AND {source.pick.last}")
        if source.pick.places:
            parameters["places"] = source.pick.places
    if query.contains:
        conditions.append("contains(lower(message), lower($contains))")
        parameters["contains"] = query.contains
    if query.matches:
        conditions.append("regexp_matches(message, $matches)")
        parameters["matches"] = query.matches
    if query.severity is not None:
        conditions.append(f"severity <= {int(query.severity)}")
    return " AND ".join(conditions), parameters


def table_of(source: Source) -> str:
    """Give the table asked, joined with the series that are meant."""
    table = quoted(source.query.measurement)
    if source.pick is None or source.pick.late:
        return table
    return f"{table} JOIN _pick USING (_series)"


def _group(source: Source) -> str:
    return "_g" if source.pick is not None else "0"


def _bucket(query: Query) -> str:
    if query.every is None:
        return "0"
    bucket = f"((_time - {first_bucket(query)}) // {query.every})"
    fits = (MAX_TIME - first_bucket(query)) // query.every < 1 << 31
    return f"{bucket}::INTEGER" if fits else bucket  # hashing INTEGER is cheaper by a quarter


def _place(source: Source, target: Target) -> int:
    return source.plan.targets.index(target)


def value_of(source: Source, target: Target) -> str:
    """Give the column of a field, or NULL of its type where none ever came."""
    return quoted(target.field) if target.field in source.columns else _absent(target)


def _aggregate(source: Source, target: Target) -> str:
    if target.field not in source.columns:
        return "0" if target.aggregate is Aggregate.COUNT else _absent(target)
    return _FORMS[target.aggregate or Aggregate.LAST].format(quoted(target.field))


def _output(source: Source, place: int, target: Target) -> str:
    if target.aggregate is Aggregate.RATE and target.field not in source.columns:
        return "NULL::DOUBLE"
    return f"_v{place}"


def _absent(target: Target) -> str:
    return f"NULL::{STORED[target.type].value}"
