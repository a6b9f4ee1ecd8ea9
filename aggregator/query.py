"""Queries: what can be asked of a store, and what comes back. The same for every store.

A query names a measurement and asks in one of three ways:

- *raw*: no bucket, no aggregate, no grouping: the rows themselves, newest first;
- *aggregated*: a value for each group and, with `every`, for each bucket of time;
- *last*: the newest value of each field in each group; of logs, events and documents the newest row.

Buckets are aligned to 1970 and named by their beginning. An absent value takes no part in any aggregate, and a group
or bucket without values has no row or an absent one, never 0.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, Protocol

import msgspec

from aggregator.selector import Selector
from schemas.errors import QueryError, StoreError
from schemas.metrics import Kind, Unit, ValueType
from schemas.rows import Severity
from schemas.verbosity import Level, RowClass

SECOND: Final = 1_000_000_000
"""Nanoseconds."""
DEFAULT_RANGE: Final = 3_600 * SECOND
"""How far back a query looks that does not say."""
DEFAULT_LAST: Final = 300 * SECOND
"""How far back a query for last values looks that does not say; for documents, which are sent on change, for ever."""
DEFAULT_LIMIT: Final = 10_000
"""Rows of an answer to a query that does not say."""
MAX_LIMIT: Final = 100_000
"""Rows of any answer."""
MAX_FIELDS: Final = 256
"""Columns that one query may ask for."""


class StoreUnavailableError(StoreError):
    """The store is closed or being repaired: nothing is wrong with the question; ask again in a moment (HTTP 503)."""

    code = "store.unavailable"


class QueryTimeoutError(QueryError):
    """The question takes longer than is allowed: ask for less time, fewer series or fewer fields."""

    code = "query.timeout"


class Aggregate(Enum):
    """What to make of many values."""

    AVG = "avg"
    MIN = "min"
    MAX = "max"
    SUM = "sum"
    """Of every stored value: it depends on how often one was stored."""
    COUNT = "count"
    """How many values were reported."""
    LAST = "last"
    FIRST = "first"
    RATE = "rate"
    """Growth of a counter a second, resets taken as a start from 0; the sum over the series of a group."""
    P50 = "p50"
    P95 = "p95"
    P99 = "p99"


class Order(Enum):
    """Which rows come first, and so which ones a limit keeps."""

    OLDEST = "oldest"
    NEWEST = "newest"


class Clock(Enum):
    """Which time of a log record or an event its place in the order comes from."""

    READ = "read"
    """When Muster read it: the column `time`, strictly increasing within a stream."""
    SOURCE = "source"
    """What the source says itself, `source_time_ns`: another machine's clock, perhaps. `time` where it says none."""


class Copies(Enum):
    """What to make of the records of a storm, of which the node folded many into one with a count."""

    APART = "apart"
    """Each record as it is stored: the first ones, and those that stand for many."""
    FOLDED = "folded"
    """All that are copies of each other as one: the newest, with the sum of their counts, and when the first and the
    last came. Records of which none stands for many stay apart, however alike."""


class Asked(msgspec.Struct, frozen=True):
    """One column that a query asks for."""

    field: str
    aggregate: Aggregate | None = None
    """None: by the metric's kind (gauge avg, counter rate, state and text last); in a raw query, the value itself."""

    @property
    def column(self) -> str:
        """The column's name in the answer: as it was asked."""
        return self.field if self.aggregate is None else f"{self.field}:{self.aggregate.value}"


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """One question, times resolved. `aggregator.query_text` makes one of what people write."""

    measurement: str
    since: int
    """The first nanosecond that counts."""
    until: int | None = None
    """One more than the last nanosecond that counts; None: no end, data from the future included."""
    asked: tuple[Asked, ...] = ()
    """The columns; () for every field of the measurement."""
    where: Selector = ()
    every: int | None = None
    """The width of a bucket in nanoseconds; None: one for the whole time."""
    group: tuple[str, ...] | None = None
    """Names to group by (`node`, `device`, `publisher`, attributes); () puts all in one; None: each series apart."""
    last: bool = False
    """Ask for last values; goes with neither `every` nor aggregates."""
    limit: int = DEFAULT_LIMIT
    """Rows of the answer, 1 to MAX_LIMIT; when there were more, the answer says `truncated`."""
    order: Order | None = None
    """None: raw rows newest first, everything else oldest first."""
    by: Clock = Clock.READ
    """Which time `order` goes by; `since` and `until` always mean the time of reading. SOURCE: raw rows of `log` and
    `event` only."""
    copies: Copies = Copies.APART
    """FOLDED: raw rows of `log` only. What the other conditions leave is folded, and then `limit` counts."""
    contains: str = ""
    """Only rows whose `message` contains this, upper and lower case alike. Logs and events only."""
    matches: str = ""
    """Only rows whose `message` matches this regular expression (RE2). Logs and events only."""
    severity: Severity | None = None
    """Only rows at least as bad as this. Logs and events only."""

    @property
    def raw(self) -> bool:
        """Whether the rows themselves are asked for."""
        aggregates = any(asked.aggregate is not None for asked in self.asked)
        return not self.last and self.every is None and self.group is None and not aggregates


class Role(Enum):
    """What a column of an answer is."""

    TIME = "time"
    """Nanoseconds since 1970: of the row, of the bucket's beginning, or of the newest value."""
    LABEL = "label"
    """Whose row it is: `node`, `device`, `publisher`, an attribute; null where a series lacks the attribute."""
    VALUE = "value"


class Column(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one column of an answer holds."""

    name: str
    role: Role
    type: ValueType
    unit: str = ""
    """The unit's word (`bytes`, `bytes_per_second`); "" for counts, states, texts and what nobody declared."""
    aggregate: Aggregate | None = None


class Result(msgspec.Struct, frozen=True):
    """An answer, by columns."""

    columns: list[Column]
    data: list[list[Any]]
    """For each column its values, all lists of one length; None is absent."""
    rows: int
    truncated: bool = False
    """There were more rows than the limit, or than the store is willing to hand out at once."""

    def json(self) -> bytes:
        """Give the answer as JSON. Infinite values become null, for JSON has no word for them."""
        return msgspec.json.encode(self)


class FieldInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """One field of a measurement, as far as it is known."""

    name: str
    type: ValueType
    kind: Kind
    unit: str = ""
    level: Level | None = None
    meaning: str = ""
    declared: bool = False
    """False: no collector that is installed here declares it; type, kind and level are from what came."""


class MeasurementInfo(msgspec.Struct, frozen=True):
    """One measurement: what it has, and how much of it there is."""

    name: str
    row_class: RowClass
    fields: list[FieldInfo]
    attributes: list[str]
    series: int
    rows: int
    """About; exact to a few transactions."""


class Existing(Protocol):
    """What there is to ask for: declared, or seen."""

    def measurements(self) -> list[str]:
        """Every measurement, sorted."""

    def fields(self, measurement: str) -> Mapping[str, FieldInfo]:
        """The fields of a measurement; empty for an unknown one."""

    def attributes(self, measurement: str) -> frozenset[str]:
        """The attributes of a measurement; empty for an unknown one."""


class Queries(Protocol):
    """What answers queries. May be called from any thread."""

    def run(self, query: Query) -> Result:
        """Answer one query. Raises QueryError, QueryTimeoutError or StoreUnavailableError."""

    def describe(self, measurement: str = "") -> list[MeasurementInfo]:
        """Tell what there is to ask for, all or one. Raises QueryError when there is no such measurement."""


def unit_word(unit: Unit) -> str:
    """Give the unit as it stands in answers: "" for counts and for what has none."""
    return unit.value.strip()
