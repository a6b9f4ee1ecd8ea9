"""What a BMC tells by itself: its stream of events, read byte by byte with limits, each event typed at once.

A stream is no log: what is sent while nobody listens is gone. So whoever has been away reads the logs, and what both
tell of one happening is one event.

Source: DSP0266 1.20, 13.5 (eventing) and 13.6 (server-sent events); WHATWG HTML, 9.2 (event streams); DMTF Event 1.11.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from collectors.redfish.alerts import Alert, alert_of
from collectors.redfish.resource import Resource, UnreadableError, canonical, decode, kind, link, member, objects

MAX_EVENT: Final = 1 << 20
"""Bytes of one event; a longer one is passed over, and counted."""
MAX_LINE: Final = MAX_EVENT
MAX_ALERTS: Final = 256
"""Alerts of one event."""
_REMEMBERED: Final = 512
_PARTS_CHANGED: Final = ("Created", "Added", "Removed", "Inserted", "UpdateSuccessful", "FirmwareActivationCompleted")
"""How names of messages end after which a machine has other parts, or other firmware."""
_NO_PARTS: Final = ("SessionService", "AccountService", "TaskService", "JobService", "EventService", "TelemetryService",
                    "CertificateService", "LogServices", "Oem")  # fmt: skip


class Told(msgspec.Struct, frozen=True):
    """One event of a stream."""

    id: str = ""
    alerts: tuple[Alert, ...] = ()
    report: Resource = {}
    """A metric report, where it is one."""
    lost: bool = False
    """The BMC says that it could not send others (EventBufferExceeded)."""


class Stream:
    """Reads a stream of server-sent events. For one thread."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._data = bytearray()
        self._id = ""
        self._passing_line = False
        self._passing_event = False
        self._after_return = False
        self.too_long = 0
        """Events that were passed over for their length."""
        self.unreadable = 0
        """Events that were no JSON, or nothing that is known."""

    def feed(self, received: bytes) -> Iterator[Told]:
        """Take what was received; yield the events that are complete with it."""
        if self._after_return and received[:1] == b"\n":
            received = received[1:]
        self._after_return = received[-1:] == b"\r" if received else self._after_return
        pieces = received.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for at, piece in enumerate(pieces):
            if not self._passing_line:
                self._line += piece
            if len(self._line) > MAX_LINE:
                self._passing_line = self._passing_event = True
                self._line.clear()
            if at < len(pieces) - 1:
                yield from self._ended()

    def _ended(self) -> Iterator[Told]:
        """A line has ended; with an empty one its event."""
        line, self._line = bytes(self._line), bytearray()
        passed, self._passing_line = self._passing_line, False
        if line:
            self._take(line)
        elif not passed:
            data, self._data = bytes(self._data), bytearray()
            if self._passing_event:
                self._passing_event = False
                self.too_long += 1
            elif data and (told := self._understood(data)) is not None:
                yield told

    def _take(self, line: bytes) -> None:
        """Take a field; comments and fields that nobody knows are passed over."""
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            if len(self._data) + len(value) > MAX_EVENT:
                self._passing_event = True
                self._data.clear()
            elif not self._passing_event:
                self._data += (b"\n" if self._data else b"") + value
        elif name == b"id" and b"\0" not in value:
            self._id = value[:128].decode("utf-8", "replace")

    def _understood(self, data: bytes) -> Told | None:
        try:
            found, _ = decode(data)
        except UnreadableError:
            self.unreadable += 1
            return None
        told = told_of(found, self._id)
        if told is None:
            self.unreadable += 1
        return told


def told_of(found: Resource, number: str = "") -> Told | None:
    """Read an event, or a metric report, as it is sent, on a stream or to a subscriber; None for what is neither."""
    if kind(found) == "MetricReport":
        return Told(number, report=found)
    records = found.get("Events")
    if not isinstance(records, list):
        return None
    alerts = []
    lost = False
    for one in list(objects(found, "Events"))[:MAX_ALERTS]:
        alert = alert_of(one)
        if alert.message_id.rpartition(".")[2] == "EventBufferExceeded":
            lost = True
        alerts.append(alert)
    return Told(number, tuple(alerts), lost=lost)


def stream_of(service: Resource) -> str:
    """Give the path of a stream of events; "" where the service has none, or is switched off."""
    if service.get("ServiceEnabled") is False:
        return ""
    return canonical(service.get("ServerSentEventUri"))


def subscriptions_of(service: Resource) -> str:
    """Give where subscriptions are made; "" for nowhere."""
    return "" if service.get("ServiceEnabled") is False else link(service, "Subscriptions")


def is_of_parts(alert: Alert) -> bool:
    """Tell whether parts of the machine, or their firmware, may be others after an alert than before."""
    name = alert.message_id.rpartition(".")[2]
    elsewhere = any(f"/{service}" in alert.origin for service in _NO_PARTS)
    return name.endswith(_PARTS_CHANGED) and not elsewhere


class Heard:
    """Remembers which alerts were told, so that a log and a stream tell of one happening once. For one BMC.

    A stream that was opened again, or a delivery whose answer was lost, tells the same once more. For any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heard: OrderedDict[tuple[str, ...], None] = OrderedDict()
        self._whole: OrderedDict[Alert, None] = OrderedDict()
        """What was heard, with all that it said."""
        self._logged: OrderedDict[tuple[str, ...], None] = OrderedDict()
        """What a log told and no stream has yet."""

    def add(self, alert: Alert) -> bool:
        """Remember one that was heard; tell whether nothing has told of it before."""
        with self._lock:
            again = alert.created_ns is not None and alert in self._whole
            logged = [key for key in _keys(alert) if self._logged.pop(key, _NEVER) is None]
            _remember(self._whole, alert)
            for key in _keys(alert):
                _remember(self._heard, key)
            return not (again or logged)

    def by_log(self, alert: Alert) -> bool:
        """Tell whether one that a log tells was heard; remember it else."""
        with self._lock:
            if any(key in self._heard for key in _keys(alert)):
                return True
            for key in _keys(alert):
                _remember(self._logged, key)
            return False

    def __contains__(self, alert: Alert) -> bool:
        with self._lock:
            return any(key in self._heard for key in _keys(alert))


_NEVER: Final = object()


def _remember(those: OrderedDict[Any, None], one: object) -> None:
    those[one] = None
    those.move_to_end(one)
    if len(those) > _REMEMBERED:
        those.popitem(last=False)


def _keys(alert: Alert) -> Iterator[tuple[str, ...]]:
    """Yield what tells an alert from others: the entry of a log that both name, and what it says and when."""
    if alert.log and alert.entry:
        yield (alert.log, alert.entry, alert.message)
    if alert.created_ns is not None:
        yield alert.key


def filtered(path: str, service: Resource) -> str:
    """Give the stream's path with a filter that keeps metric reports out, where the BMC can filter so; "" for none."""
    if not path:
        return ""
    can = member(service, "SSEFilterPropertiesSupported").get("EventFormatType") is True
    return f"{path}?$filter=EventFormatType%20eq%20Event" if can else path
