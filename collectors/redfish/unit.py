"""One BMC with all that is read and remembered of it: what a poller has many of."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from collectors._names import NameFilter
from collectors.expected import Expected
from collectors.http_client import Response
from collectors.metrics_bmc import BMC_FAN_METRICS, BMC_METRICS, BMC_PSU_METRICS
from collectors.ration import Ration
from collectors.redfish.access import Access, word
from collectors.redfish.alerts import Alert, event_of
from collectors.redfish.changes import changes
from collectors.redfish.client import Client
from collectors.redfish.config import Bmc, RedfishConfig
from collectors.redfish.connection import TimedSocket
from collectors.redfish.errors import BmcError, BmcUnreachableError
from collectors.redfish.events import Heard, Told, is_of_parts
from collectors.redfish.keeping import Keeping
from collectors.redfish.logs import LogReader, log_of
from collectors.redfish.naming import bmc_id, part_id
from collectors.redfish.power import PowerWatch
from collectors.redfish.reader import Reader
from collectors.redfish.resource import Resource, canonical
from collectors.redfish.subscriptions import subscribe, subscribed
from schemas.device import DeviceKind, Document, Value
from schemas.digest import blake2b
from schemas.rows import Described, Event, Item, LogRecord, Reading

if TYPE_CHECKING:
    from collectors.redfish.callbacks import Callbacks

_REST: Final = 0.1
"""A BMC that takes longer over a reading than there is between two rests for this share of what it took."""
_LOGS_SHARE: Final = 0.25
"""Logs have this share of `sweep_seconds` at least, however long sensors took."""
_HURRY_SECONDS: Final = 5.0
"""An event has a BMC read again so long after the last reading began, at the soonest."""
_STREAM_AGAIN: Final = 300.0
"""Seconds between two attempts to open a stream of events: BMCs have few, and forget slowly who had one."""
_LOOK_SECONDS: Final = 60.0
"""Events have parts looked at no more often than that: a walk is long."""
_EVENTS_A_SECOND: Final = 2.0
EVENTS_AT_ONCE: Final = 512
"""A rack that loses power has much to tell at once; a BMC that goes on like that is mad, and others have events too."""
_BY_KIND: Final = {
    DeviceKind.BMC: BMC_METRICS,
    DeviceKind.FAN: BMC_FAN_METRICS,
    DeviceKind.PSU: BMC_PSU_METRICS,
}
"""What one row of each of these may have."""
_WHOLE: Final = frozenset(specs[0].measurement for specs in _BY_KIND.values())
_PARTS: Final = (
    DeviceKind.PSU,
    DeviceKind.FAN,
    DeviceKind.GPU,
    DeviceKind.NVME,
    DeviceKind.NIC,
    DeviceKind.CPU,
    DeviceKind.MEMORY_MODULE,
)


EXPECTED: Final = (
    DeviceKind.BMC,
    DeviceKind.PSU,
    DeviceKind.FAN,
    DeviceKind.CPU,
    DeviceKind.MEMORY_MODULE,
    DeviceKind.GPU,
)
"""What is held against the operator's expectations; drives and network functions are by the node's own collectors."""


class Unit:
    """One BMC. One thread at a time reads it; only `hurry` is for any."""

    def __init__(
        self,
        client: Client,
        config: RedfishConfig,
        *,
        keeping: Keeping | None = None,
        positions: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
        log: logging.Logger | None = None,
    ) -> None:
        """Prepare; nothing is asked yet. `positions`: how far logs were read, and what was seen of the power."""
        self.bmc: Bmc = client.bmc
        self.client = client
        self.heard = Heard()
        self._config, self._keeping = config, keeping
        self._clock, self._wall_ns = clock, wall_ns
        self._log = log or logging.getLogger("muster.collector.redfish")
        label, subject, known = self.bmc.label, self.bmc.subject, positions or {}
        self._board = bmc_id(label)
        self.access = Access(label, self.bmc.url, subject)
        self._reader = Reader(client, config, clock)
        self._power = PowerWatch(label, self._board, subject, known.get(f"{label} power"), clock)
        mine = [(source, value) for source, value in known.items() if source.startswith(f"{label} ")]
        self._logs = LogReader(label, mine, subject, self._board)
        self._wanted = NameFilter(exclude=config.logs_exclude)
        self._logs_due = float("-inf")
        self._logs_read: set[str] = set()
        """Logs that were read since all of them were due."""
        self._devices: frozenset[str] = frozenset()
        self._expected = Expected("redfish", config.expectations, EXPECTED)
        self._described_last, self._described_whole = b"", False
        self._words: dict[str, Value] = {}
        self.documents: list[Document] = []
        """Of this machine's own BMC, which are the node's to describe; [] for others."""
        self.began = float("-inf")
        self.due = float("-inf")
        """When to read it next, by the clock."""
        self.listened = False
        """Whether somebody listens to its stream of events."""
        self.removed = False
        """Whether it is no longer in the list."""
        self._stream_due = float("-inf")
        self._subscription = ""
        self._look_due = float("-inf")
        self._ration = Ration(_EVENTS_A_SECOND, EVENTS_AT_ONCE, clock)

    def remembered(self) -> Iterator[Item]:
        """Yield what was described when it was read last, before a restart."""
        documents = self._known()
        if documents:
            yield from self._described(documents, whole=True)

    def open_stream(self) -> tuple[Response, TimedSocket] | None:
        """Give its stream of events, to be listened to; None when it has none, or gives none now. Raises nothing."""
        path, now = self._reader.stream, self._clock()
        if not path or not self._config.events or self.listened or now < self._stream_due or self.access.reason:
            return None
        self._stream_due = now + _STREAM_AGAIN
        try:
            response, timed = self.client.open_stream(path)
        except (BmcError, OSError, ValueError) as error:
            self.client.faults.add("stream", str(error))
            return None
        if response.status != 200 or "event-stream" not in response.headers.get("content-type", ""):
            response.close()
            self.client.faults.add("stream", f"{path}: status {response.status}, no stream of events")
            return None
        self.listened = True
        self._logs_due = float("-inf")  # what was sent while nobody listened stands in the logs alone
        return response, timed

    def subscribe(self, callbacks: "Callbacks") -> None:
        """Have it deliver its events where it streams none; see now and then that it still does. Raises nothing."""
        path, now = self._reader.subscriptions, self._clock()
        if not path or self._reader.stream or now < self._stream_due or self.access.reason:
            return
        self._stream_due = now + _STREAM_AGAIN
        if self._subscription and subscribed(self.client, self._subscription):
            return
        try:
            self._subscription = subscribe(self.client, path, callbacks.destination(self))
        except BmcError as error:
            self.client.faults.add("subscription", str(error))
            return
        self._logs_due = float("-inf")  # what happened before stands in the logs alone

    def part(self) -> None:
        """Leave nothing behind there, neither a subscription nor a session: it is read no more. Raises nothing."""
        self.client.take_up()
        subscription, self._subscription = self._subscription, ""
        if subscription and not subscription.endswith("/Subscriptions"):  # it did not say which one is ours
            try:
                self.client.delete(subscription)
            except BmcError as error:
                self.client.faults.add("subscription", str(error))
        self.client.log_out()

    def part_from(self, other: "Unit") -> None:
        """Leave to another unit of the same BMC what that goes on with: its session. Raises nothing."""
        if self.client.token != other.client.token:  # it logged in anew while the other one was made
            self.client.log_out()

    def tell(self, told: Told) -> Iterator[Item]:
        """Yield what an event, or a metric report, tells; one of parts has them looked at with the next reading.

        Of a flood only some is told, and the rest is counted: it is not heard, so that the logs may tell it still.
        """
        for row in self._reader.hear(told.report) if told.report else ():
            yield self._about(row)
        for alert in told.alerts:
            if is_of_parts(alert) and self._clock() >= self._look_due:
                self._look_due = self._clock() + _LOOK_SECONDS
                self._reader.look_again()
            event = event_of(alert, self.device_of(alert), self.bmc.subject)
            if event is not None and not self._ration.take():
                self.client.faults.add("flood", "it sent more events than one BMC may")
            elif self.heard.add(alert) and event is not None:
                yield event

    def nothing_there(self) -> Item:
        """Give what says that nothing of it is described any more."""
        return Described(self.bmc.subject or self._board, ())

    def read(self) -> Iterator[Item]:
        """Read once and say when to read next. Raises nothing on account of the BMC."""
        self.began = self._clock()
        if self.access.lost:
            self._reader.restarted()
        try:
            for item in self._all():
                yield self._about(item)
        except BmcError as error:
            yield from self._failed(error)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError, OverflowError) as error:
            # something that it sent was not looked at with enough suspicion: that is ours, and this BMC's alone
            self._log.exception("reading_failed bmc=%s", self.bmc.label)
            self.client.faults.add("unexpected", f"{type(error).__name__}: {error}")
            yield from self._failed(BmcUnreachableError(f"what it sent was not understood: {type(error).__name__}"))
        else:
            yield from self.access.worked(list(self.client.denied))
            took = self._clock() - self.began
            self.due = max(self.began + self._config.every_seconds, self._clock() + _REST * took)

    def hurry(self, now: float) -> float:
        """Give when to read it for an event that came `now`, and have its logs read then."""
        self._logs_due = float("-inf")
        return max(now, self.began + _HURRY_SECONDS)

    def device_of(self, alert: Alert) -> str:
        """Give the device that an alert is about: a part that was described, else the BMC."""
        path = canonical(alert.origin)
        while path.count("/") > 3:
            if near := self._reader.near.get(path):
                return near
            for kind in _PARTS:
                device = part_id(kind, self.bmc.label, path)
                if device in self._devices:
                    return device
            path = path.rpartition("/")[0]
        return self._board

    def _all(self) -> Iterator[Item]:
        said: dict[str, set[str]] = {}
        for row in self._reader.read():
            if row.measurement in _WHOLE:
                said.setdefault(row.device, set()).update(row.fields)
            yield row
        system, manager = self._reader.machine
        if system:
            for item in self._power.look(system, manager, self._wall_ns()):
                if isinstance(item, Event) and item.type == "redfish.bmc.reset":
                    self._reader.restarted()
                yield item
        if self._config.logs and self._clock() >= self._logs_due:
            yield from self._read_logs()
        found, self._reader.found = self._reader.found, None
        if found is not None:
            found = lacking(found, said, on=self._power.words.get("power_state") == "on")
            yield from self._described(self._with_power(found), whole=self._reader.complete)
        elif self._described_last and (self._words != self._power.words or self._expected.stale):
            known = self._known()
            if known:
                yield from self._described(self._with_power(_unmarked(known)), whole=True)
            else:
                self._reader.look_again()

    def _read_logs(self) -> Iterator[Item]:
        """Yield what is new in the logs; those that the time did not suffice for come first the next time."""
        end = max(self.began + self._config.sweep_seconds, self._clock() + _LOGS_SHARE * self._config.sweep_seconds)

        def over() -> bool:
            return self._clock() >= end

        for collection in self._reader.logs:
            for service in self.client.members(collection):
                log = log_of(service, self._wanted)
                if log is None or log.path in self._logs_read:
                    continue
                if over():
                    self.client.faults.add("slow", "not all logs could be read in the time that there is")
                    return
                self._logs_read.add(log.path)
                yield from self._logs.read(log, self._get, self.device_of, self.heard.by_log, over)
        self._logs_read.clear()
        self._logs_due = self._clock() + self._config.logs_every_seconds

    def _get(self, path: str) -> Resource | None:
        return self.client.get(path)

    def _known(self) -> list[Document]:
        """Give what was described last, as far as it was kept."""
        return self.documents or ([] if self._keeping is None else self._keeping.load_documents(self.bmc))

    def _with_power(self, documents: list[Document]) -> list[Document]:
        """Add what is known of the machine's power to the BMC's own document."""
        words = self._words = self._power.words
        return [
            msgspec.structs.replace(one, capabilities={**one.capabilities, **words})
            if one.device == self._board
            else one
            for one in documents
        ]

    def _described(self, documents: list[Document], *, whole: bool) -> Iterator[Item]:
        """Yield the documents where they are others than before; those of an own BMC are kept for `describe`."""
        documents, events = self._expected.check(documents, self.bmc.subject)
        said = blake2b(msgspec.json.encode(documents), digest_size=16).digest()
        self._devices = frozenset(one.device for one in documents) | (frozenset() if whole else self._devices)
        if said == self._described_last and (self._described_whole or not whole):
            return
        yield from changes(self._known(), documents, whole=whole, subject=self.bmc.subject)
        yield from events
        self._described_last, self._described_whole = said, whole
        if self._keeping is not None and whole:
            self._keeping.save_documents(self.bmc, documents)
        if self.bmc.own:
            there = {one.device for one in documents}
            left = [] if whole else [one for one in self._known() if one.device not in there]
            self.documents = [*documents, *left]
        else:
            yield Described(self.bmc.subject, tuple(documents), whole)

    def _failed(self, error: BmcError) -> Iterator[Item]:
        self.client.close()
        yield from self.access.failed(error)
        yield self._about(self._reader.account(word(error)))
        self.due = self._clock() + self.access.pause(error, self._config.every_seconds)

    def _about(self, item: Item) -> Item:
        if isinstance(item, Reading | Event | LogRecord) and item.subject != self.bmc.subject:
            return msgspec.structs.replace(item, subject=self.bmc.subject)
        return item


def lacking(documents: list[Document], said: Mapping[str, set[str]], *, on: bool) -> list[Document]:
    """Give documents with what their devices do not report, though the machine is on.

    `said`: by device, the fields of the row that a BMC, a fan or a power supply has.
    """
    if not on:
        return documents
    return [
        msgspec.structs.replace(
            one, unsupported=[spec.name for spec in _BY_KIND[one.kind] if spec.field not in said[one.device]]
        )
        if one.kind in _BY_KIND and one.device in said
        else one
        for one in documents
    ]


def _unmarked(documents: list[Document]) -> list[Document]:
    """Give documents without what was said of their drift."""
    return [
        msgspec.structs.replace(
            one, capabilities={name: value for name, value in one.capabilities.items() if name != "drift"}
        )
        for one in documents
    ]
