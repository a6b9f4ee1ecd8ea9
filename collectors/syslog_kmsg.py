"""The kernel log: `/dev/kmsg`, read record by record and without loss across restarts on one boot.

A record is `prefix,seq,usec,flags;text` and lines ` KEY=VALUE`. The sequence number counts every record of this boot,
so that a step above one says exactly how many were lost: overwritten before they were read.

Source: the kernel's `Documentation/ABI/testing/dev-kmsg` and `kernel/printk/printk.c`.
"""

import errno
import os
import re
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from collectors.log_rules.teller import Teller
from collectors.syslog_listener import ALWAYS, Counts, Poller
from collectors.syslog_parser import TAG
from collectors.syslog_rows import Rows
from schemas.device import pci_address
from schemas.errors import NoDataError, StartupError
from schemas.rows import Event, Position, Severity
from schemas.verbosity import level_of_severity

SOURCE: Final = "kmsg"
_RECORD = re.compile(rb"(\d{1,10}),(\d{1,19}),(\d{1,16}),[^;]*+;([^\n]*+)\n?(.*)", re.DOTALL)
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")
_BYTE = {f"{value:02x}".encode(): bytes((value,)) for value in range(256)}
_PCI_IN_PATH = re.compile(r"/([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])(?=/|\Z)")
_BUFFER = 8192
"""The largest record that the kernel hands out: CONSOLE_EXT_LOG_MAX, from 6.4 on PRINTK_MESSAGE_MAX, which is less."""
_PORTION = 500
_LARGEST = 1 << 63
_FACILITIES = 24

Clocks = tuple[Callable[[], int], Callable[[], int]]
"""Nanoseconds since 1970, and monotonic nanoseconds."""
_CLOCKS: Final = (time.time_ns, time.monotonic_ns)


class Reader(Protocol):
    """Where records come from."""

    def read(self) -> bytes:
        """Give one record. Raises BlockingIOError when there is none now, BrokenPipeError once when some were lost."""

    def fileno(self) -> int:
        """The descriptor that is readable when there is a record."""

    def close(self) -> None:
        """Give the descriptor back."""


class DeviceReader:
    """The kernel's own device. It hands out one record a read, beginning with the oldest there is."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self) -> bytes:
        """Give one record, as `Reader` says. A record above the buffer is passed over; the step in `seq` tells."""
        while True:
            try:
                return os.read(self._descriptor, _BUFFER)
            except OSError as error:
                if error.errno != errno.EINVAL:  # the kernel has moved on to the next record by then
                    raise

    def fileno(self) -> int:
        """The device's descriptor."""
        return self._descriptor

    def close(self) -> None:
        """Close the device."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class RecordedReader:
    """A recorded machine's kernel log: a regular file with the records one after the other."""

    def __init__(self, data: bytes) -> None:
        self._records = [record + b"\n" for record in re.split(rb"\n(?! )", data) if record]
        self._records.reverse()
        self._descriptor = os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC)  # readable until there is nothing left

    def read(self) -> bytes:
        """Give the next record; BlockingIOError after the last."""
        if not self._records:
            os.eventfd_read(self._descriptor)  # raises it by itself from the second time on
            raise BlockingIOError
        return self._records.pop()

    def fileno(self) -> int:
        """What is readable while there are records."""
        return self._descriptor

    def close(self) -> None:
        """Forget the records."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def open_kmsg(path: Path) -> Reader:
    """Open the kernel log, not to block. Raises NoDataError where there is none, StartupError where it is forbidden."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NoDataError(f"there is no kernel log at {path}") from None
    except PermissionError:
        raise StartupError(
            f"{path} may not be read: run as root, grant CAP_SYSLOG (systemd: AmbientCapabilities=CAP_SYSLOG), "
            "or set kmsg = false"
        ) from None
    except OSError as error:
        raise StartupError(f"{path} cannot be opened: {error.strerror}") from None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        with os.fdopen(descriptor, "rb") as file:
            return RecordedReader(file.read())
    return DeviceReader(descriptor)


class KernelLog:
    """Reads records into rows, says how far it has read, and tells how many were lost."""

    def __init__(
        self,
        reader: Reader,
        root: Path,
        after: int | None,
        counts: Counts,
        clocks: Clocks = _CLOCKS,
        teller: Teller | None = None,
    ) -> None:
        """Take up after sequence number `after`; None begins with the oldest record. `teller` makes events of lines."""
        self.counts = counts
        self.hurried = False
        self._reader = reader
        self.last = after
        """The number of the last record taken; None before the first."""
        self._boot = boot_id(root)
        self._devices = Devices(root)
        self._wall_ns, self._monotonic_ns = clocks
        self._teller = teller

    def attach(self, poller: Poller) -> None:
        """Ask to be called for records."""
        poller.add(self._reader.fileno(), self.read)

    def tick(self, now: float, rows: Rows) -> None:  # noqa: ARG002 (what is held back has a clock of its own)
        """Tell events that were held back and are due."""
        if self._teller is not None:
            self._teller.tell(rows)

    def read(self, rows: Rows) -> None:
        """Append up to a portion of what is there now, and the position after it."""
        before = self.last
        # The kernel stamps with a clock that stands still in suspend, as CLOCK_MONOTONIC does.
        started_ns = self._wall_ns() - self._monotonic_ns()
        for _ in range(_PORTION):
            if rows.full:
                break
            try:
                record = self._reader.read()
            except BlockingIOError:
                break
            except BrokenPipeError:  # overwritten; the next record's number says how many
                continue
            if not record:
                break
            self._take(record, rows, started_ns)
        if self._teller is not None:
            self._teller.tell(rows)
        if self._boot and self.last is not None and self.last != before:
            rows.add(Position(f"{SOURCE}:{self._boot}", str(self.last)))

    def _take(self, record: bytes, rows: Rows, started_ns: int) -> None:
        match = _RECORD.match(record)
        if match is None or int(match[2]) >= _LARGEST:
            self.counts.malformed_total += 1
            self._append(rows, len(record), (13, None, None, "", record.rstrip(b"\n")))
            return
        prefix, sequence, microseconds, text, properties = match.groups()
        number = int(sequence)
        last = self.last
        if last is not None:
            if number <= last:
                return
            if number > last + 1:
                self._tell_gap(rows, last, number)
        self.last = number
        device = self._devices.of_properties(properties) if properties else ""
        when = started_ns + int(microseconds) * 1000
        self._append(rows, len(record), (int(prefix), number, when if 0 <= when < _LARGEST else None, device, text))

    def _append(self, rows: Rows, size: int, fields: tuple[int, int | None, int | None, str, bytes]) -> None:
        prefix, number, when, device, data = fields
        severity, facility = prefix & 7, prefix >> 3
        text = unescape(data)
        app = process = None
        if facility == 0:  # no program can write as facility 0: this is the kernel's own word
            app = "kernel"
            if self._teller is not None:
                device = self._teller.look(text, device, when)
        elif match := TAG.match(text):
            app, process = match[1], match[2] or None
            text = text[match.end() :]
        rows.table(SOURCE)[level_of_severity(severity)].append(
            (
                rows.number,
                text,
                severity,
                facility if facility < _FACILITIES else None,
                None,
                app,
                process,
                None,
                None,
                when,
                number,
                device,
            )
        )
        rows.number += 1
        rows.bytes += size
        self.counts.messages_total += 1
        self.counts.received_bytes_total += size

    def _tell_gap(self, rows: Rows, last: int, number: int) -> None:
        lost = number - last - 1
        self.counts.lost_total += lost
        rows.add(
            Event(
                type="log.gap",
                message=f"{lost} records of the kernel log were overwritten before they could be read",
                severity=Severity.WARNING,
                detail={"source": SOURCE, "lost": lost, "after": last, "next": number},
            )
        )

    def finish(self, rows: Rows) -> None:
        """Tell events that are held back."""
        if self._teller is not None:
            self._teller.finish(rows)

    def tell(self) -> dict[str, int]:
        """Give the counts; `lost_total` is what the kernel overwrote before it was read, by its own numbers."""
        return {name: getattr(self.counts, name) for name in (*ALWAYS, "lost_total")}

    def close(self) -> None:
        """Close the reader. Safe twice."""
        self._reader.close()


class Devices:
    """Gives a device's id from what the kernel attaches to a record: `+pci:0000:83:00.0`, `b259:0`, `n3`."""

    def __init__(self, root: Path) -> None:
        self._sys = root / "sys"
        self._known: dict[bytes, str] = {}

    def of_properties(self, properties: bytes) -> str:
        """Give the id of the device that the lines ` SUBSYSTEM=` and ` DEVICE=` name; "" when they name none."""
        known = self._known.get(properties)
        if known is None:
            if len(self._known) >= 1024:
                self._known.clear()
            known = self._known[properties] = self._find(properties.decode("ascii", "backslashreplace"))
        return known

    def of_name(self, subsystem: str, name: str) -> str:
        """Give the id of a device by its name in `/sys/class/<subsystem>`: the PCI function that it sits on."""
        return self._behind(self._sys / "class" / subsystem / name, subsystem, name)

    def _find(self, properties: str) -> str:
        values = dict(line.strip().partition("=")[::2] for line in properties.splitlines())
        subsystem, device = values.get("SUBSYSTEM", ""), values.get("DEVICE", "")
        kind, rest = device[:1], device[1:]
        if kind == "+":
            bus, _, name = rest.partition(":")
            return (_pci(name) if bus == "pci" else "") or rest
        if kind in ("b", "c") and rest:
            return self._behind(self._sys / "dev" / ("block" if kind == "b" else "char") / rest, subsystem, rest)
        if kind == "n" and rest.isdigit():
            return self._behind(self._interface(rest), subsystem or "net", rest)
        return ""

    def _interface(self, index: str) -> Path:
        """Give the folder of the network interface of that index."""
        for folder in (self._sys / "class" / "net").glob("*"):
            try:
                if (folder / "ifindex").read_text().strip() == index:
                    return folder
            except OSError:  # it went away meanwhile
                continue
        return self._sys / "class" / "net" / index

    def _behind(self, link: Path, subsystem: str, number: str) -> str:
        """Give the PCI function that the device at `link` sits on, else its own name under its subsystem."""
        try:
            path = os.path.realpath(link, strict=True)
        except OSError:  # gone, or a root without /sys
            return f"{subsystem}:{number}"
        found = _PCI_IN_PATH.findall(path)
        return _pci(found[-1]) if found else f"{subsystem}:{Path(path).name}"


def _pci(name: str) -> str:
    try:
        return f"pci:{pci_address(name)}"
    except ValueError:
        return ""


def unescape(data: bytes) -> str:
    r"""Give the text of a record: the kernel writes backslash, control and non-ASCII bytes as `\xNN`."""
    if b"\\x" in data:
        data = _ESCAPE.sub(lambda match: _BYTE[match[1]], data)
    return data.decode("utf-8", "backslashreplace")


def boot_id(root: Path) -> str:
    """Give the id of this boot; "" where the kernel does not tell, and then no position is kept."""
    try:
        return (root / "proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def resume_after(positions: Mapping[str, str], root: Path) -> int | None:
    """Give the last sequence number that was taken on this boot; None when there is none."""
    value = positions.get(f"{SOURCE}:{boot_id(root)}", "")
    return int(value) if value.isascii() and value.isdigit() else None
