"""What a listener is, and what it counts."""

from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from collectors.syslog_rows import Rows
from schemas.metrics import Category, Kind, MetricSpec, Unit, ValueType
from schemas.verbosity import Level

Ready = Callable[[Rows], None]
"""Called when a descriptor is readable."""


class Counts(msgspec.Struct):
    """What came in by one listener since the collector was made; each counts what the metric of its name says."""

    messages_total: int = 0
    received_bytes_total: int = 0
    malformed_total: int = 0
    truncated_total: int = 0
    lost_total: int = 0
    connections: int = 0
    accepted_total: int = 0
    refused_total: int = 0
    idle_closed_total: int = 0
    framing_errors_total: int = 0
    tls_failures_total: int = 0
    suppressed_total: int = 0


def _metric(
    field: str,
    meaning: str,
    category: Category,
    level: Level = Level.STANDARD,
    unit: Unit = Unit.COUNT,
    kind: Kind = Kind.COUNTER,
    kind_type: ValueType = ValueType.INT,
) -> MetricSpec:
    return MetricSpec(
        name=f"syslog.{field}",
        unit=unit,
        kind=kind,
        type=kind_type,
        level=level,
        category=category,
        meaning=meaning,
        source="Muster",
        attributes=("listener",),
    )


METRICS: Final = (
    _metric("messages_total", "Log records received.", Category.USAGE),
    _metric("received_bytes_total", "Bytes received.", Category.USAGE, unit=Unit.BYTES),
    _metric("malformed_total", "Messages with no PRI or a broken format; they are kept as text.", Category.ERROR),
    _metric("truncated_total", "Messages that were cut: too long, or incomplete at the end.", Category.ERROR),
    _metric(
        "lost_total",
        "Messages that were dropped (UDP), overwritten (kernel log) or vacuumed (journal) before they were read; "
        "absent where it cannot be told.",
        Category.ERROR,
        Level.ESSENTIAL,
    ),
    _metric(
        "suppressed_total",
        "Messages that journald left out because a service wrote too many (its rate limit), as it says; journal only.",
        Category.ERROR,
        Level.ESSENTIAL,
    ),
    _metric("connections", "Connections open now; streams only.", Category.LOAD, kind=Kind.GAUGE),
    _metric("accepted_total", "Connections accepted; streams only.", Category.USAGE, Level.DETAILED),
    _metric("refused_total", "Connections closed because there were too many; streams only.", Category.ERROR),
    _metric(
        "idle_closed_total", "Connections closed because nothing came; streams only.", Category.USAGE, Level.DETAILED
    ),
    _metric("framing_errors_total", "Connections closed because a frame's length was none.", Category.ERROR),
    _metric(
        "tls_failures_total",
        "Connections closed because TLS failed; the event `syslog.client.refused` tells why.",
        Category.ERROR,
    ),
    _metric(
        "listening",
        "Whether the listener is open.",
        Category.ERROR,
        Level.ESSENTIAL,
        Unit.NONE,
        Kind.STATE,
        ValueType.BOOL,
    ),
)
"""The measurement `syslog`; its attribute `listener` is `kmsg`, `udp:127.0.0.1:5514`, `unix_stream:/run/log.sock`."""

ALWAYS: Final = ("messages_total", "received_bytes_total", "malformed_total")
"""What every listener can tell."""


class Poller(Protocol):
    """What tells a listener that there is something to read."""

    def add(self, descriptor: int, ready: Ready) -> None:
        """Call `ready` whenever the descriptor is readable."""

    def remove(self, descriptor: int) -> None:
        """Call no more."""

    def writable(self, descriptor: int, *, wanted: bool) -> None:
        """Call as well, or no more, when there is room to write."""


class Listener(Protocol):
    """One way that logs come in. All but `tell` is called by the one thread that reads."""

    hurried: bool
    """The kernel holds so little for it that senders would wait while messages gather."""

    def attach(self, poller: Poller) -> None:
        """Ask to be called when there is something to read."""

    def tick(self, now: float, rows: Rows) -> None:
        """Do what is due by time; called about once a second with monotonic seconds."""

    def finish(self, rows: Rows) -> None:
        """Give what was read and is not complete: nothing will follow."""

    def tell(self) -> dict[str, int]:
        """Give the counts that this listener can tell, as of now. Any thread may ask."""

    def close(self) -> None:
        """Close everything. Safe twice."""
