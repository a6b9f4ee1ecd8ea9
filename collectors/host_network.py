"""Network interfaces: traffic, errors, and whether the link is up."""

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Final

from collectors._declare import Declare
from collectors._names import NameFilter
from collectors._procfs import RootedFile, integer, integers, read_integer, read_text
from collectors.host_section import HostConfig, Look
from schemas.metrics import Category, MetricSpec
from schemas.rows import Event, FieldValue, Item, Reading, Severity
from schemas.verbosity import Level

_E, _S, _D = Level.ESSENTIAL, Level.STANDARD, Level.DETAILED
_U, _X = Category.USAGE, Category.ERROR

_COLUMNS: Final = (
    ("receive_bytes_total", _S, _U, "Received."),
    ("receive_packets_total", _S, _U, "Packets received."),
    ("receive_errors_total", _S, _X, "Packets received with an error."),
    ("receive_dropped_total", _S, _X, "Packets received and dropped, for want of room or use."),
    ("receive_overruns_total", _D, _X, "Packets lost because a buffer was full."),
    ("receive_frame_errors_total", _D, _X, "Packets received with a framing error."),
    ("receive_compressed_total", Level.DEBUG, _U, "Compressed packets received."),
    ("receive_multicast_total", _D, _U, "Multicast packets received."),
    ("transmit_bytes_total", _S, _U, "Sent."),
    ("transmit_packets_total", _S, _U, "Packets sent."),
    ("transmit_errors_total", _S, _X, "Packets that could not be sent for an error."),
    ("transmit_dropped_total", _S, _X, "Packets dropped on the way out."),
    ("transmit_overruns_total", _D, _X, "Packets not sent because a buffer was in error."),
    ("transmit_collisions_total", _D, _X, "Collisions."),
    ("transmit_carrier_errors_total", _D, _X, "Losses of carrier while sending."),
    ("transmit_compressed_total", Level.DEBUG, _U, "Compressed packets sent."),
)
"""In the order of /proc/net/dev."""

_UNKNOWN_SPEED: Final = 2**32 - 1
_BYTES_PER_SECOND: Final = 125_000
"""In one Mbit/s."""


def _metrics() -> tuple[MetricSpec, ...]:
    traffic = Declare("network", "/proc/net/dev", _U, ("interface",))
    link = Declare(
        "network", "/sys/class/net/<interface>, Documentation/ABI/testing/sysfs-class-net", _U, ("interface",)
    )
    return (
        *(traffic.counter(field, meaning, level, category) for field, level, category, meaning in _COLUMNS),
        link.flag("up", "The link can carry packets; absent where the driver does not tell.", _E),
        link.counter("carrier_changes_total", "Times that the link went up or down.", category=_X),
        link.gauge("speed_bytes_per_second", "The link's rate; absent when it is down, or has none.", _S),
        link.flag("full_duplex", "Both directions at once; absent when the link does not tell.", _D),
        link.gauge("mtu_bytes", "The largest packet.", _S),
    )


class _Link:
    """What is known of one interface's link, and the files that tell it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._operstate = RootedFile(folder / "operstate")
        self._changes = RootedFile(folder / "carrier_changes")
        self.up: bool | None = None
        self.changes: int | None = None
        self.lasting: dict[str, FieldValue] = {}

    def read(self) -> bool:
        """Read anew, and say whether the interface is there."""
        state = self._operstate.read()
        self.up = None if state is None else _UP.get(state.strip())
        changes = self._changes.read()
        self.changes = None if changes is None else integer(changes.strip())
        return state is not None

    def read_lasting(self) -> None:
        """Read what asks the driver, under the lock of all interfaces: only on a change, and now and then."""
        speed = read_integer(self.folder / "speed")
        duplex = read_text(self.folder / "duplex")
        self.lasting = {
            "speed_bytes_per_second": speed * _BYTES_PER_SECOND if speed and speed < _UNKNOWN_SPEED else None,
            "full_duplex": {"full": True, "half": False}.get(duplex),
            "mtu_bytes": read_integer(self.folder / "mtu"),
        }

    def close(self) -> None:
        self._operstate.close()
        self._changes.close()


_UP: Final = {b"up": True, b"down": False, b"lowerlayerdown": False, b"notpresent": False, b"dormant": False}
"""Source: RFC 2863 ifOperStatus; `unknown` and `testing` tell nothing."""


class NetworkSection:
    """Reads `/proc/net/dev`, and the state of every wanted link. `changes` may be called from another thread."""

    METRICS: ClassVar[tuple[MetricSpec, ...]] = _metrics()

    def __init__(self, root: Path, config: HostConfig) -> None:
        self._dev = RootedFile(root / "proc/net/dev")
        self._folder = root / "sys/class/net"
        self._wanted = NameFilter(config.interfaces_include, config.interfaces_exclude)
        self._lock = threading.Lock()
        self._links: dict[str, _Link] = {}

    def start(self) -> None:
        """Take the links as they are, so that every change from now on is told."""
        self.close()
        with self._lock:
            for name, _ in self._interfaces():
                self._links[name] = self._open(name)

    def read(self, look: Look) -> Iterable[Item]:
        """Give one row an interface, and the changes of links since the last look."""
        with self._lock:
            interfaces = self._interfaces()
            events = list(self._changes([name for name, _ in interfaces]))
            if look.slow:
                for link in self._links.values():
                    link.read_lasting()
            rows = [(name, counters, self._links[name]) for name, counters in interfaces]
        yield from events
        for name, counters, link in rows:
            fields: dict[str, FieldValue] = {}
            if look.level >= Level.STANDARD:
                for (field, _, _, _), value in zip(_COLUMNS, integers(counters), strict=False):
                    fields[field] = value
                fields |= link.lasting
                fields["carrier_changes_total"] = link.changes
            fields["up"] = link.up
            yield Reading("network", fields, attributes={"interface": name})

    def changes(self) -> list[Event]:
        """Look at every link once more, and give what changed since the last look."""
        with self._lock:
            return list(self._changes([name for name, _ in self._interfaces()]))

    def close(self) -> None:
        """Close every file."""
        with self._lock:
            for link in self._links.values():
                link.close()
            self._links = {}
            self._dev.close()

    def _interfaces(self) -> list[tuple[str, list[bytes]]]:
        """Give the wanted interfaces and their counters."""
        found = []
        for line in (self._dev.read() or b"").split(b"\n"):
            head, colon, rest = line.rpartition(b":")
            if colon:
                name = head.strip().decode("utf-8", "replace")
                if name and self._wanted(name):
                    found.append((name, rest.split()))
        return found

    def _open(self, name: str) -> _Link:
        link = _Link(self._folder / name)
        link.read()
        link.read_lasting()
        return link

    def _changes(self, present: list[str]) -> Iterator[Event]:
        for name in self._links.keys() - set(present):
            self._links.pop(name).close()
            yield _event("gone", name, f"interface {name} is gone", Severity.WARNING)
        for name in present:
            link = self._links.get(name)
            if link is None:
                link = self._links[name] = self._open(name)
                yield _event("new", name, f"interface {name} appeared", Severity.NOTICE, up=link.up)
                continue
            up, changes = link.up, link.changes
            link.read()
            if link.up == up and link.changes == changes:
                continue
            link.read_lasting()
            yield from _link_events(name, up, changes, link)


def _link_events(name: str, up: bool | None, changes: int | None, link: _Link) -> Iterator[Event]:
    """Give the event of one link that changed: the way it went, or that it went and came back unseen."""
    moves = None if changes is None or link.changes is None else link.changes - changes
    speed = link.lasting.get("speed_bytes_per_second")
    if link.up is True and up is not True:
        rate = f" at {speed * 8 / 1e9:g} Gbit/s" if isinstance(speed, int) else ""
        yield _event("up", name, f"{name}: link up{rate}", Severity.NOTICE, changes=moves, speed=speed)
    elif link.up is False and up is not False:
        yield _event("down", name, f"{name}: link down", Severity.WARNING, changes=moves)
    elif link.up == up and moves is not None and moves > 1:
        message = f"{name}: link changed {moves} times within one look"
        yield _event("flapped", name, message, Severity.WARNING, changes=moves, up=link.up)


def _event(
    word: str,
    name: str,
    message: str,
    severity: Severity,
    *,
    changes: int | None = None,
    speed: FieldValue = None,
    up: bool | None = None,
) -> Event:
    facts: dict[str, FieldValue] = {
        "interface": name,
        "carrier_changes": changes,
        "speed_bytes_per_second": speed,
        "up": up,
    }
    detail = {key: value for key, value in facts.items() if value is not None}
    return Event(f"host.link.{word}", message, severity, detail=detail)
