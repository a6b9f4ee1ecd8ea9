"""Logs: the kernel's, journald's, and those that programs and devices send as syslog by UDP, TCP, TLS and unix sockets.

The kernel log is on from the start. It and the journal are read without loss across restarts. Sockets are opened where
the operator says. A relayed host stays in the column `host`; rows speak about the node that received them.

Source: RFC 3164, RFC 5424, RFC 5425, RFC 6587, the kernel's `Documentation/ABI/testing/dev-kmsg`.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC
from functools import partial
from typing import Final

from collectors.contract import Context, Emit, Objection
from collectors.isolation import RECEIVERS
from collectors.log_limit import LIMITED, Limits
from collectors.log_rules.catalogue import EVENTS as KERNEL_EVENTS
from collectors.log_rules.teller import REMEMBERED as TOLD
from collectors.log_rules.teller import Teller
from collectors.log_storm import Storms
from collectors.syslog_config import SyslogConfig, each
from collectors.syslog_datagrams import DatagramListener
from collectors.syslog_journal import Journal
from collectors.syslog_journalctl import SOURCE as JOURNALD
from collectors.syslog_journalctl import Where
from collectors.syslog_kmsg import SOURCE as KMSG
from collectors.syslog_kmsg import Devices, KernelLog, open_kmsg, resume_after
from collectors.syslog_listener import METRICS, Counts, Listener
from collectors.syslog_loop import Loop
from collectors.syslog_parser import Parser
from collectors.syslog_refusals import EVENTS as STREAM_EVENTS
from collectors.syslog_rows import REMEMBERED, Rows
from collectors.syslog_sockets import open_tcp, open_udp, open_unix
from collectors.syslog_streams import StreamListener
from schemas.errors import NoDataError, PartialCollectError, StartupError
from schemas.events import EventSpec
from schemas.rows import Event, Reading, Severity

_RETRY = 30.0
"""After how many seconds a listener that could not be opened is tried again."""
_STOP = 5.0
RESUMABLE: Final = ("kmsg", "journald")
"""The sources that can be read again after a crash."""
_NOTHING: Final = "no log is configured: set kmsg = true, or an address to listen on"

_EVENTS: Final = (
    EventSpec("syslog.listener.down", "No logs come in by a listener: it failed, or could not be opened.",
              (Severity.ERROR,), ("listener",)),
    EventSpec("syslog.listener.up", "Logs come in by a listener again.", (Severity.NOTICE,)),
    *STREAM_EVENTS,
    *KERNEL_EVENTS,
    LIMITED,
    EventSpec("log.gap", "Records of the kernel log or the journal were gone before they could be read; without `lost` "
              "nobody knows how many.", (Severity.WARNING,), ("source", "lost", "after", "next")),
)  # fmt: skip

Opener = Callable[[Counts], Listener]


class SyslogCollector:
    """Receives logs by every way the configuration names, and counts what came and what was lost.

    One listener that cannot be opened does not keep the others from working: it is told by an event and by
    `syslog.listening`, and tried again every half minute.
    """

    name = "syslog"
    isolation = RECEIVERS
    METRICS = METRICS
    EVENTS = _EVENTS
    Config = SyslogConfig

    def __init__(self, config: SyslogConfig, context: Context) -> None:
        self._config = config
        self._context = context
        self._parser = Parser(time.time_ns, UTC if config.time_zone == "utc" else None)
        self._openers = self._plan()
        self._counts = {name: Counts() for name in self._openers}
        self._open: dict[str, Listener] = {}
        self._failed: dict[str, str] = {}
        self._after: int | None = None
        self._teller: Teller | None = None
        self._folded = ""
        self._cursor = ""
        self._journal = Where(context.root, config.journald_directory, config.journald_begin, kernel=not config.kmsg)
        self._retry_at = 0.0
        self._halt = threading.Event()
        self._idle = threading.Event()
        self._idle.set()

    def _plan(self) -> dict[str, Opener]:
        """Give, by the listener's name, what opens it."""
        config, plan = self._config, dict[str, Opener]()
        if config.kmsg:
            plan[KMSG] = self._open_kmsg
        if config.journald:
            plan[JOURNALD] = self._open_journal
        for address in each(config.udp):
            plan[f"udp:{address}"] = partial(self._open_udp, address)
        for address in each(config.tcp):
            plan[f"tcp:{address}"] = partial(self._open_tcp, address)
        for address in each(config.tls):
            plan[f"tls:{address}"] = partial(self._open_tls, address)
        for path in each(config.unix_datagram):
            plan[f"unix_datagram:{path}"] = partial(self._open_unix_datagram, path)
        for path in each(config.unix_stream):
            plan[f"unix_stream:{path}"] = partial(self._open_unix_stream, path)
        return plan

    def _open_kmsg(self, counts: Counts) -> KernelLog:
        root = self._context.root
        return KernelLog(open_kmsg(root / "dev/kmsg"), root, self._after, counts, teller=self._teller)

    def _open_journal(self, counts: Counts) -> Journal:
        limit, log = self._config.max_message_bytes, self._context.log
        return Journal(self._journal, self._cursor, limit, counts, log, self._teller)

    def _open_udp(self, address: str, counts: Counts) -> DatagramListener:
        sock = open_udp(address, self._config.udp_receive_buffer_bytes, self._context.log)
        return DatagramListener(sock, "udp", self._parser, self._config.max_message_bytes, counts)

    def _open_tcp(self, address: str, counts: Counts) -> StreamListener:
        return StreamListener(open_tcp(address), f"tcp:{address}", self._parser, self._config, counts)

    def _open_tls(self, address: str, counts: Counts) -> Listener:
        from collectors.syslog_tls import TlsListener  # the library is of no use to those who speak no TLS

        return TlsListener(open_tcp(address), f"tls:{address}", self._parser, self._config, counts)

    def _open_unix_datagram(self, path: str, counts: Counts) -> DatagramListener:
        sock = open_unix(path, socket.SOCK_DGRAM, self._config.unix_mode)
        return DatagramListener(sock, "unix", self._parser, self._config.max_message_bytes, counts)

    def _open_unix_stream(self, path: str, counts: Counts) -> StreamListener:
        sock = open_unix(path, socket.SOCK_STREAM, self._config.unix_mode)
        return StreamListener(sock, f"unix_stream:{path}", self._parser, self._config, counts)

    def probe(self) -> str:
        """Give "" when there is a log to read, else what is missing."""
        if not self._openers:
            return _NOTHING
        if set(self._openers) - {KMSG, JOURNALD}:
            return ""
        missing = []
        for name in self._openers:
            try:
                if name == JOURNALD:
                    self._journal.program()
                else:
                    open_kmsg(self._context.root / "dev/kmsg").close()
            except (NoDataError, StartupError) as error:
                missing.append(str(error))
            else:
                return ""
        return "; ".join(missing)

    def check_options(self, *, attempt: bool) -> Iterator[Objection]:
        """Give the addresses and paths that nothing can listen on."""
        from collectors.syslog_check import objections_to  # not in the agent, which never asks

        return objections_to(self._config, self._context.log, attempt=attempt)

    def start(self) -> None:
        """Open every listener. Raises StartupError when none can be, NoDataError when there is none to open."""
        self.stop()
        positions, root = self._context.positions, self._context.root
        self._after = resume_after(positions, root)
        self._folded = positions.get(REMEMBERED, "")
        if self._config.kernel_events:
            self._teller = Teller(Devices(root).of_name, positions.get(TOLD, ""))
        self._cursor = self._journal.resume(self._context.positions)
        self._failed.clear()
        absent: dict[str, str] = {}
        failed = self._failed
        for name in self._openers:
            try:
                self._open[name] = self._openers[name](self._counts[name])
            except NoDataError as error:
                absent[name] = str(error)
            except StartupError as error:
                failed[name] = str(error)
        if self._open:
            # Without a kernel log (most containers) is a fact; without a journal that somebody asked for, a failure.
            failed.update({name: reason for name, reason in absent.items() if name != KMSG})
            return
        if failed:
            raise StartupError("; ".join([*failed.values(), *absent.values()]))
        raise NoDataError("; ".join(absent.values()) or _NOTHING)

    def watch(self, emit: Emit, stopping: threading.Event) -> None:
        """Read all listeners until told to stop; then emit what has been received, and return."""
        limit = self._config.max_records_per_second
        limits = Limits(limit, time.monotonic) if limit else None
        rows = Rows(self._context.subject, time.time_ns, self._storms(), limits)
        loop = Loop(rows, emit, self._config.gather_seconds, self._lose)
        self._halt.clear()
        self._idle.clear()
        try:
            for name, reason in self._failed.items():
                loop.rows.add(_down(name, reason))
            for name, listener in self._open.items():
                loop.attach(name, listener)
            self._retry_at = time.monotonic() + _RETRY
            while not (stopping.is_set() or self._halt.is_set()):
                loop.turn()
                if self._failed and time.monotonic() >= self._retry_at:
                    self._retry(loop)
            loop.finish()
            if left := rows.finish():
                emit(left)
        finally:
            loop.close()
            self._idle.set()

    def _storms(self) -> Storms | None:
        """Give what folds copies; None when the operator wants every record, and nothing is left from before."""
        config = self._config
        if not config.storm_copies and not self._folded:
            return None
        return Storms(
            config.storm_copies, config.storm_seconds, time.monotonic, resumable=RESUMABLE, remembered=self._folded
        )

    def _lose(self, name: str, error: OSError, rows: Rows) -> None:
        """Close a listener that failed while it was read, to be opened anew."""
        listener = self._open.pop(name)
        if isinstance(listener, KernelLog):
            self._after = listener.last
        elif isinstance(listener, Journal):
            self._cursor = listener.last
        listener.close()
        self._failed[name] = f"{name} failed: {error.strerror or error}"
        rows.add(_down(name, self._failed[name]))

    def _retry(self, loop: Loop) -> None:
        self._retry_at = time.monotonic() + _RETRY
        for name in list(self._failed):
            try:
                listener = self._openers[name](self._counts[name])
            except (NoDataError, StartupError) as error:
                self._failed[name] = str(error)
                continue
            del self._failed[name]
            self._open[name] = listener
            loop.attach(name, listener)
            loop.rows.add(Event(type="syslog.listener.up", message=f"logs come in by {name} again"))

    def collect(self) -> Iterator[Reading]:
        """Give the counts of every listener. Raises PartialCollectError while one cannot be opened."""
        for name, listener in list(self._open.items()):
            yield Reading("syslog", {**listener.tell(), "listening": True}, attributes={"listener": name})
        failed = dict(self._failed)
        for name in failed:
            yield Reading("syslog", {"listening": False}, attributes={"listener": name})
        if failed:
            raise PartialCollectError("; ".join(failed.values()), failed=len(failed))

    def stop(self) -> None:
        """Close everything; a `watch` that still runs first emits what it has received."""
        self._halt.set()
        self._idle.wait(_STOP)
        for listener in self._open.values():
            listener.close()
        self._open.clear()


def _down(name: str, reason: str) -> Event:
    return Event(
        type="syslog.listener.down",
        message=f"no logs come in by {name}: {reason}",
        severity=Severity.ERROR,
        detail={"listener": name},
    )
