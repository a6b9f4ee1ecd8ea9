"""What `muster top` and the view of `muster up` show, fetched from an aggregator: one node whole, or the fleet by rows.

Gauges and counters come from the newest values, which the aggregator holds in memory; rates are made here, from two of
them. Only log lines and events are looked up in the store.
"""

import contextlib
import http.client
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from aggregator.cli.balance import counted_once
from aggregator.cli.client import Client, ServerError
from aggregator.cli.names import names_of
from aggregator.cli.rates import Rates, Speed
from collectors.transport import TransportError

Row = dict[str, Any]
"""One series: labels, fields, and under `<field>:rate` the growth a second of each counter; absent is left out."""

NODE_FIELDS: Final[Mapping[str, str]] = {
    "cpu": "usage_ratio,cores,frequency_hertz,user_seconds_total,nice_seconds_total,system_seconds_total,"
    "iowait_seconds_total,irq_seconds_total,softirq_seconds_total,steal_seconds_total",
    "cpu_core": "usage_ratio",
    "memory": "total_bytes,available_bytes,used_bytes,used_ratio,cached_bytes,buffers_bytes",
    "swap": "total_bytes,used_bytes,used_ratio",
    "load": "average_1m,average_5m,average_15m",
    "system": "uptime_seconds",
    "pressure": "some_10s_ratio",
    "disk": "read_bytes_total,write_bytes_total,busy_seconds_total,in_flight",
    "file_system": "size_bytes,used_bytes,available_bytes,used_ratio,read_only",
    "network": "receive_bytes_total,transmit_bytes_total,receive_errors_total,transmit_errors_total,up",
    "gpu": "utilization_ratio,memory_used_bytes,temperature_celsius,power_watts",
}
"""By measurement, the fields that the view of one node shows."""
FLEET_FIELDS: Final[Mapping[str, str]] = {
    "cpu": "usage_ratio",
    "memory": "used_ratio",
    "load": "average_1m",
    "disk": "read_bytes_total,write_bytes_total",
    "network": "receive_bytes_total,transmit_bytes_total",
    "gpu": "utilization_ratio,temperature_celsius,power_watts",
}
"""By measurement, the fields that the table of the fleet shows."""
LINES: Final = 40
"""Log lines and events, the newest of each, that one look fetches."""
GONE_NS: Final = 15 * 10**9
"""The series of a measurement are read together: one that is so much older than the newest is not there any more."""
_CATALOGUE_SECONDS: Final = 10.0


class Said(msgspec.Struct, frozen=True):
    """A log line or an event."""

    time_ns: int
    severity: int | None
    source: str
    """The program or way of a log line; the type of an event."""
    message: str
    event: bool
    source_time_ns: int | None = None
    """When the source says that it was; None when it does not say."""


class Sums(msgspec.Struct, frozen=True):
    """The balance, added up over classes and levels."""

    publishers: int = 0
    numbered: int = 0
    done: int = 0
    elsewhere: int = 0
    """Dropped, filtered, quarantined, expired or stranded: accounted for, and not in the store."""
    moving: int = 0
    """Spooled, or in the log and not yet read."""
    unaccounted: int = 0
    word_age: float | None = None
    """Seconds since the last word of the publisher that was silent longest."""
    rows_a_second: float | None = None


class NodeLook(msgspec.Struct, frozen=True):
    """One node, now."""

    id: str
    name: str
    state: str
    silent_s: float | None
    series: dict[str, list[Row]]
    """By measurement."""
    said: list[Said]
    """Newest last."""
    sums: Sums
    nodes_live: int
    """In the whole fleet."""

    def one(self, measurement: str) -> Row:
        """Give the only series of a measurement; nothing in it when there is none."""
        rows = self.series.get(measurement)
        return rows[0] if rows else {}


class FleetRow(msgspec.Struct, frozen=True):
    """One node in the table of the fleet."""

    id: str
    name: str
    state: str
    silent_s: float | None
    values: dict[str, float]
    """By column; absent is left out."""


class FleetLook(msgspec.Struct, frozen=True):
    """The fleet, now."""

    nodes: list[FleetRow]
    sums: Sums


def rows_of_answer(answer: Mapping[str, Any]) -> list[Row]:
    """Give the rows of an answer of `/v1/query` one by one, without what is absent."""
    names = [column["name"] for column in answer["columns"]]
    return [
        {name: value for name, value in zip(names, row, strict=True) if value is not None}
        for row in zip(*answer["data"], strict=True)
    ]


def sums_of(lines: Iterable[Mapping[str, Any]], rows_a_second: float | None = None) -> Sums:
    """Add up lines of the balance: every row once, but unaccounted whatever consumer misses it."""
    every = list(lines)
    chosen = counted_once(every)
    ages = [line["word_age_seconds"] for line in chosen if line["publisher"] != "aggregator"]
    known = [one for one in ages if one is not None]
    put_away = ("filtered", "quarantined", "expired", "stranded")
    return Sums(
        publishers=len({line["publisher"] for line in chosen}),
        numbered=sum(line["numbered"] for line in chosen),
        done=sum(line["done"] for line in chosen),
        elsewhere=sum(sum(line[place] for place in put_away) + sum(line["dropped"].values()) for line in chosen),
        moving=sum(line["spooled"] + line["in_log"] for line in chosen),
        unaccounted=sum(line["unaccounted"] for line in every),
        word_age=max(known, default=None),
        rows_a_second=rows_a_second,
    )


def _numbered(lines: Iterable[Mapping[str, Any]]) -> int:
    return sum(line["numbered"] for line in counted_once(lines))


class _Source:
    """Asks for newest values, and only for measurements that have any rows."""

    def __init__(self, client: Client, fields: Mapping[str, str]) -> None:
        self.client = client
        self._fields = fields
        self._rates = Rates()
        self._there: dict[str, set[str]] = {}
        self._next_catalogue = 0.0
        self._seeded: set[str] = set()

    def series(self, where: str, now: float) -> dict[str, list[Row]]:
        """Give what there is now, by measurement. Raises ServerError."""
        if now >= self._next_catalogue:
            found = self.client.get("/v1/measurements")
            self._there = {one["name"]: {field["name"] for field in one["fields"]} for one in found if one["rows"]}
            self._next_catalogue = now + (_CATALOGUE_SECONDS if "cpu" in self._there else 1.0)
        return {name: self._newest(name, fields, where) for name, fields in self._fields.items() if name in self._there}

    def has(self, measurement: str) -> bool:
        """Tell whether a measurement has rows."""
        return measurement in self._there

    def _newest(self, measurement: str, fields: str, where: str) -> list[Row]:
        asked = [field for field in fields.split(",") if field in self._there[measurement]]
        if not asked:
            return []
        counters = [field for field in asked if field.endswith("_total")]
        if counters and measurement not in self._seeded:
            self._seed(measurement, counters, where)
        answer = self.client.get("/v1/query", measurement=measurement, fields=",".join(asked), where=where, last="true")
        labels = [column["name"] for column in answer["columns"] if column["role"] == "label"]
        rows = rows_of_answer(answer)
        newest: dict[str, int] = {}
        for row in rows:
            newest[row["node"]] = max(row["time"], newest.get(row["node"], 0))
        kept = [row for row in rows if row["time"] > newest[row["node"]] - GONE_NS]
        for row in kept if counters else ():
            key = (measurement, *(row.get(label) for label in labels))
            rated = self._rates.note(key, row["time"], {field: row.get(field) for field in counters})
            row.update({f"{field}:rate": value for field, value in rated.items() if value is not None})
        return kept

    def _seed(self, measurement: str, counters: Sequence[str], where: str) -> None:
        """Have rates at the first look already, from the store."""
        self._seeded.add(measurement)
        asked = ",".join(f"{field}:rate" for field in counters)
        answer = self.client.get("/v1/query", measurement=measurement, fields=asked, where=where, since="60s")
        labels = [column["name"] for column in answer["columns"] if column["role"] == "label"]
        for row in rows_of_answer(answer):
            key = (measurement, *(row.get(label) for label in labels))
            self._rates.seed(key, {field: row.get(f"{field}:rate") for field in counters})


class NodeWatch:
    """Looks at one node."""

    def __init__(self, client: Client, id: str, *, whole_balance: bool = False) -> None:  # noqa: A002
        """`whole_balance`: add up the rows of every publisher, not of this one alone."""
        self._client = client
        self._id = id
        self._where = f'node="{id}"'
        self._source = _Source(client, NODE_FIELDS)
        self._whole = whole_balance
        self._speed = Speed()

    def look(self) -> NodeLook:
        """Fetch. Raises ServerError."""
        now = time.monotonic()
        views = self._client.get("/v1/nodes")
        view = next((view for view in views if view["node"]["id"] == self._id), None)
        lines = self._client.get("/v1/balance", publisher="" if self._whole else self._id)["lines"]
        series = self._source.series(self._where, now)
        return NodeLook(
            id=self._id,
            name=names_of(views).get(self._id, self._id),
            state=view["state"] if view else "expected",
            silent_s=view["silent_s"] if view else None,
            series=series,
            said=self._said(),
            sums=sums_of(lines, self._speed.note(now, _numbered(lines))),
            nodes_live=sum(view["state"] == "live" for view in views),
        )

    def _said(self) -> list[Said]:
        said: list[Said] = []
        for measurement, source in (("log", "app"), ("event", "type")):
            if not self._source.has(measurement):
                continue
            answer = self._client.get(
                "/v1/query",
                measurement=measurement,
                fields=f"message,severity,source_time_ns,{source}",
                where=self._where,
                since="1h",
                order="newest",
                limit=LINES,
            )
            said += [_said(row, event=measurement == "event") for row in rows_of_answer(answer)]
        return sorted(said, key=lambda one: one.time_ns)[-LINES:]


def _said(row: Row, *, event: bool) -> Said:
    source = row.get("type", "") if event else row.get("app") or row.get("source", "")
    return Said(row["time"], row.get("severity"), source, row.get("message", ""), event, row.get("source_time_ns"))


class FleetWatch:
    """Looks at every node."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._source = _Source(client, FLEET_FIELDS)
        self._speed = Speed()
        self._speeds: dict[str, Speed] = {}

    def look(self) -> FleetLook:
        """Fetch. Raises ServerError."""
        now = time.monotonic()
        views = self._client.get("/v1/nodes")
        lines = self._client.get("/v1/balance")["lines"]
        values = self._values(now)
        for id_, speed in self._rows_a_second(lines, now).items():
            values.setdefault(id_, {})["rows"] = speed
        names = names_of(views)
        nodes = [
            FleetRow(id_, names[id_], view["state"], view["silent_s"], values.get(id_, {}))
            for view in views
            for id_ in [view["node"]["id"]]
        ]
        sums = sums_of(lines, self._speed.note(now, _numbered(lines)))
        return FleetLook(nodes, sums)

    def _values(self, now: float) -> dict[str, dict[str, float]]:
        """Give each node's columns: of several (disks, interfaces, GPUs) the sum, or the worst."""
        series = self._source.series("", now)
        values: dict[str, dict[str, float]] = {}
        for measurement, field, column, fold in _COLUMNS:
            for row in series.get(measurement, ()):
                if field in row:
                    mine = values.setdefault(row["node"], {})
                    value = float(row[field])
                    mine[column] = value if column not in mine else fold(mine[column], value)
        return values

    def _rows_a_second(self, lines: Iterable[Mapping[str, Any]], now: float) -> dict[str, float]:
        numbered: dict[str, int] = {}
        for line in counted_once(lines):
            numbered[line["publisher"]] = numbered.get(line["publisher"], 0) + line["numbered"]
        speeds = {name: self._speeds.setdefault(name, Speed()).note(now, rows) for name, rows in numbered.items()}
        return {name: speed for name, speed in speeds.items() if speed is not None}


def _sum(one: float, other: float) -> float:
    return one + other


_COLUMNS: Final = (
    ("cpu", "usage_ratio", "cpu", max),
    ("memory", "used_ratio", "memory", max),
    ("load", "average_1m", "load", max),
    ("disk", "read_bytes_total:rate", "read", _sum),
    ("disk", "write_bytes_total:rate", "write", _sum),
    ("network", "receive_bytes_total:rate", "receive", _sum),
    ("network", "transmit_bytes_total:rate", "transmit", _sum),
    ("gpu", "utilization_ratio", "gpu", max),
    ("gpu", "temperature_celsius", "hottest", max),
    ("gpu", "power_watts", "power", _sum),
)


STALE_SECONDS: Final = 4.0
"""Older than this, and what is shown is told to be old."""


class Follower(threading.Thread):
    """Looks again and again, in the background, so that a slow aggregator never holds up who draws."""

    def __init__(self, watch: "NodeWatch | FleetWatch", every: float = 1.0) -> None:
        super().__init__(name="follower", daemon=True)
        self._watch = watch
        self._every = every
        self._ended = threading.Event()
        self.look: NodeLook | FleetLook | None = None
        """The newest; None before the first."""
        self._failed = ""
        self._looked = time.monotonic()

    @property
    def trouble(self) -> str:
        """Why there is nothing newer; "" while all is well. One that hangs gives no error: it gives nothing."""
        silent = time.monotonic() - self._looked
        if not self._failed and silent > STALE_SECONDS:
            return f"no answer from the aggregator for {silent:.0f} s; what is shown is from before"
        return self._failed

    def run(self) -> None:
        """Look until `stop`."""
        while not self._ended.is_set():
            begun = time.monotonic()
            try:
                self.look = self._watch.look()
                self._failed = ""
                self._looked = time.monotonic()
            except ServerError as error:
                self._failed = str(error)
            except (KeyError, TypeError, ValueError, msgspec.MsgspecError) as error:
                self._failed = f"an answer of the aggregator could not be read ({type(error).__name__}: {error})"
            # never more than half of the time: what asks must not be what loads
            self._ended.wait(max(self._every, 2 * (time.monotonic() - begun)) - (time.monotonic() - begun))

    def stop(self) -> None:
        """Have it end after the look that it is at."""
        self._ended.set()


def hold_fresh(client: Client, id: str) -> None:  # noqa: A002
    """Have a node flush within a second as long as this process lives: a watch that asks for no rows."""

    def hold() -> None:
        asked = {"node": id, "measurement": "none", "level": "essential", "class": "capability"}
        while True:
            with contextlib.suppress(ServerError, TransportError, OSError, http.client.HTTPException):
                for _ in client.stream("/v1/tap", asked):
                    pass
            time.sleep(2.0)

    threading.Thread(target=hold, name="watch", daemon=True).start()
