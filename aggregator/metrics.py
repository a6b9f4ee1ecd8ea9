"""Muster's own metrics, as Prometheus text: ingest, log, store, control and the balance.

Names follow the OpenMetrics rules (base units, `_total` for counters); promtool checks them in the tests.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from schemas import __version__
from schemas.errors import MusterError

if TYPE_CHECKING:
    from aggregator.balance import Balance
    from aggregator.service import Service

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
MAX_AGE_SECONDS: Final = 2.0
_PLACES: Final = ("done", "filtered", "quarantined", "expired", "in_log", "spooled", "stranded", "lost", "unaccounted")


async def render(service: "Service") -> bytes:
    """Give every metric now; the balance as of at most two seconds ago, and absent while it cannot be made."""
    balance = None  # what is not known is absent: the rest says why
    with contextlib.suppress(MusterError):
        balance = await service.balance(MAX_AGE_SECONDS)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(service, balance))
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, service: "Service", balance: "Balance | None") -> None:
        self._service = service
        self._balance = balance

    def collect(self) -> Iterator[Metric]:
        """Give the families, in the order in which a row passes."""
        info = GaugeMetricFamily("muster_build_info", "1, with the version.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        yield from self._ingest()
        yield from self._log()
        yield from self._store()
        if self._balance is not None:
            yield from self._rows(self._balance)

    def _ingest(self) -> Iterator[Metric]:
        status = self._service.ingest.status
        yield _counter("muster_ingest_requests", "Publish requests answered.", status.requests)
        yield _counter("muster_ingest_batches", "Batches appended to the log.", status.batches)
        yield _counter("muster_ingest_rows", "Rows appended to the log, repetitions included.", status.rows)
        yield _counter("muster_ingest_bytes", "Bytes of publish requests.", status.bytes)
        yield _counter("muster_ingest_heartbeats", "Heartbeats appended to the log.", status.heartbeats)
        yield _counter("muster_ingest_busy", "Requests that were asked to come again.", status.busy)
        yield _counter("muster_ingest_quarantined_batches", "Batches set aside by ingest.", status.quarantined_batches)
        yield _counter("muster_ingest_quarantined_rows", "Rows of those, by envelope.", status.quarantined_rows)

    def _log(self) -> Iterator[Metric]:
        log = self._service.log
        yield GaugeMetricFamily("muster_log_size_bytes", "Size of the log on disk.", value=log.size_bytes())
        records = GaugeMetricFamily("muster_log_records", "Records in the log.", labels=["topic"])
        totals: dict[str, int] = {}
        for standing in log.standings():
            totals[standing.topic] = totals.get(standing.topic, 0) + standing.records
        for topic, count in totals.items():
            records.add_metric([topic], count)
        yield records
        yield _counter("muster_log_failures", "Appends and trims that failed.", log.failures)

    def _store(self) -> Iterator[Metric]:
        consumer = self._service.consumer
        status, name = consumer.status, [consumer.name]
        for metric, meaning, value in (
            ("muster_consumer_records", "Records read from the log.", status.records),
            ("muster_consumer_rows_done", "Rows committed.", status.rows_done),
            ("muster_consumer_rows_filtered", "Rows above the level that is kept.", status.rows_filtered),
            ("muster_consumer_rows_quarantined", "Rows that the consumer could never take.", status.rows_quarantined),
            ("muster_consumer_rows_repeated", "Rows that came again and were known.", status.rows_repeated),
            ("muster_consumer_commits", "Transactions.", status.commits),
            ("muster_consumer_failures", "Times that it had to open its sink again.", status.failures),
        ):
            family = CounterMetricFamily(metric, meaning, labels=["consumer"])
            family.add_metric(name, value)
            yield family
        for metric, meaning, gauge in (
            ("muster_consumer_ready", "1 while it follows the log.", float(consumer.ready)),
            ("muster_consumer_lateness_seconds", "Of the newest record: age at sending and time in the log.",
             status.lateness_seconds),
        ):  # fmt: skip
            shown = GaugeMetricFamily(metric, meaning, labels=["consumer"])
            shown.add_metric(name, gauge)
            yield shown

    def _rows(self, balance: "Balance") -> Iterator[Metric]:
        rows = GaugeMetricFamily(
            "muster_balance_rows",
            "Where the rows are that publishers numbered, by class and level.",
            labels=["consumer", "class", "level", "place"],
        )
        sums: dict[tuple[str, str, str, str], int] = {}
        for line in balance.lines:
            key = (line.consumer, line.row_class, line.level)
            for place in _PLACES:
                sums[*key, place] = sums.get((*key, place), 0) + getattr(line, place)
            sums[*key, "dropped"] = sums.get((*key, "dropped"), 0) + sum(line.dropped.values())
        for labels, count in sums.items():
            rows.add_metric(list(labels), count)
        yield rows


def _counter(name: str, meaning: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, meaning, value=value)
