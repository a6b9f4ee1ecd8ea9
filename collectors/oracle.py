"""`oracle`: rows that are numbered, so that a test can tell which are missing and which came twice.

Every row carries its own number, from 0 without gaps over the life of the state folder, however often the process
dies: a unit of rows goes out with the `Position` that continues after it, the two are committed together, and nothing
but the committed position says where the next start resumes. Rows that were emitted and not committed are emitted
again under the same numbers. With every number goes a check derived from it, so that a damaged row shows.
"""

import threading
import time
from collections.abc import Callable, Iterable
from typing import ClassVar, Final

import msgspec

from collectors.contract import Context, Emit
from schemas.batch import Block
from schemas.errors import StartupError
from schemas.metrics import Category, Kind, MetricSpec, Stability, Unit, ValueType
from schemas.rows import Item, Parcel, Position
from schemas.verbosity import Level, RowClass, class_of, level_of

SOURCE: Final = "oracle"
"""The source of the positions."""
UNIT_SECONDS: Final = 0.02
"""How often a unit of rows is due."""
MAX_UNIT: Final = 4096
"""Rows of the largest unit."""
MAX_DEBT_SECONDS: Final = 1.0
"""What could not be emitted for longer than this is not made up for: the rows were never made."""


def check_of(number: int) -> int:
    """Give the check that goes with a row's number: 32 bits, so that SQL can compute it in 64.

    It is `(number * 2654435761 + 12345) modulo 2**32` (Knuth's multiplicative hash), exact for numbers below 2**31.
    """
    return (number * 2_654_435_761 + 12_345) & 0xFFFF_FFFF


def _metric(field: str, kind: Kind, value_type: ValueType, meaning: str) -> MetricSpec:
    return MetricSpec(
        name=f"oracle.{field}",
        unit=Unit.NONE if value_type is ValueType.STR else Unit.COUNT,
        kind=kind,
        type=value_type,
        level=Level.ESSENTIAL,
        category=Category.USAGE,
        meaning=meaning,
        source="collectors.oracle",
        stability=Stability.BETA,
    )


class OracleConfig(msgspec.Struct, frozen=True):
    """How many rows, and of which kind."""

    rate: float = 1000.0
    """Rows a second."""
    row_class: str = "telemetry"
    """Class of the rows: telemetry, log or event."""
    row_level: str = "essential"
    """Level of the rows: essential, standard, detailed or debug; of telemetry essential only, as it is declared."""
    payload_bytes: int = 0
    """Length of a text in each row; 0 for none."""
    burst_rows: int = 0
    """Rows that come at once, beside the steady rate, every `burst_every_seconds`."""
    burst_every_seconds: float = 10.0
    """Seconds from burst to burst."""
    limit: int = 0
    """Stop after the row before this number; 0 for never."""

    def __post_init__(self) -> None:
        """Check ranges. Raises ValueError, which becomes an error of configuration."""
        if class_of(self.row_class) is RowClass.CAPABILITY:
            raise ValueError("row_class: capabilities are documents, not rows; use telemetry, log or event")
        level = level_of(self.row_level)
        if class_of(self.row_class) is RowClass.TELEMETRY and level is not Level.ESSENTIAL:
            raise ValueError(
                f"row_level: telemetry of the oracle is declared essential, not {level.word}; use another class"
            )
        if not 0 <= self.rate <= 1_000_000:
            raise ValueError("rate: rows a second, 0 to 1,000,000")
        if not 0 <= self.payload_bytes <= 65_536:
            raise ValueError("payload_bytes: 0 to 65,536")
        if self.burst_rows < 0 or self.limit < 0 or self.burst_every_seconds <= 0:
            raise ValueError("burst_rows and limit are at least 0, burst_every_seconds above 0")


class OracleCollector:
    """The test source. It watches only: `collect` has nothing to say."""

    name: ClassVar[str] = "oracle"
    METRICS: ClassVar[tuple[MetricSpec, ...]] = (
        _metric(
            "sequence_total",
            Kind.COUNTER,
            ValueType.INT,
            "The row's own number, from 0 without gaps over the life of the state folder.",
        ),
        _metric("check", Kind.GAUGE, ValueType.INT, "Derived from the number: (number * 2654435761 + 12345) mod 2^32."),
        _metric("payload", Kind.TEXT, ValueType.STR, "A text of the configured length; absent when that is 0."),
    )
    Config: ClassVar[type[OracleConfig]] = OracleConfig

    def __init__(
        self,
        config: OracleConfig,
        context: Context,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._config = config
        self._context = context
        self._monotonic = monotonic
        self._wall_ns = wall_ns
        self._row_class = class_of(config.row_class)
        self._level = level_of(config.row_level)
        self._payload = _text(config.payload_bytes)
        self._next = 0

    def start(self) -> None:
        """Read where to resume. Raises StartupError, not to be tried again, when the position is no row number."""
        value = self._context.positions.get(SOURCE, "0")
        if not (value.isascii() and value.isdigit()):
            raise StartupError(f"the position {value!r} of the oracle is not a row number", retry=False)
        self._next = int(value)

    def collect(self) -> Iterable[Item]:
        """Give nothing: all rows come from `watch`."""
        return ()

    def stop(self) -> None:
        """Nothing is open."""

    def watch(self, emit: Emit, stopping: threading.Event) -> None:
        """Emit units of rows as they fall due, until `stopping` is set. What blocks for long is not made up for."""
        config = self._config
        paid = burst_at = self._monotonic()
        while not stopping.wait(UNIT_SECONDS):
            now = self._monotonic()
            paid = max(paid, now - MAX_DEBT_SECONDS)
            due = int((now - paid) * config.rate)
            if due:
                paid += due / config.rate
            if config.burst_rows and now - burst_at >= config.burst_every_seconds:
                burst_at, due = now, due + config.burst_rows
            if config.limit:
                due = min(due, config.limit - self._next)
            while due > 0 and not stopping.is_set():
                rows = min(due, MAX_UNIT)
                emit(self.unit(rows))
                due -= rows

    def unit(self, rows: int) -> list[Item]:
        """Give the next `rows` rows, at least 1, and the position after them: what is committed together."""
        first, self._next = self._next, self._next + rows
        numbers = range(first, self._next)
        block = Block(
            "oracle",
            self._context.subject,
            [],
            [[""]],
            [0] * rows,
            self._wall_ns(),
            [0] + [1] * (rows - 1),
            ints={
                "sequence_total": list(numbers),
                "check": [(number * 2_654_435_761 + 12_345) & 0xFFFF_FFFF for number in numbers],
            },
            strings={"payload": [self._payload] * rows} if self._payload else {},
        )
        return [Parcel(self._row_class, self._level, block), Position(SOURCE, str(self._next))]


def _text(length: int) -> str:
    """Give a text of `length` characters that does not repeat within a few hundred."""
    parts = [f"{check_of(number):08x}" for number in range((length + 7) // 8)]
    return "".join(parts)[:length]
