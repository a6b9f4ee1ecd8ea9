"""NVMe drives, as the host drives them: found, read in tiers, described, watched.

Asking a drive can hang in the kernel for as long as the drive hangs, so this source has a helper of its own, and says
in a file which drive it asks: when it had to be ended, the next one leaves that drive alone for a while, and reads the
rest.
"""

import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, ClassVar, Final

import msgspec
from msgspec import Meta

from collectors._uevents import Uevents
from collectors._untold import Untold
from collectors.contract import Context, Emit, Objection
from collectors.expected import Expected, drift_events, objections
from collectors.metrics_nvme import NVME_DRIVE_METRICS, NVME_METRICS, NVME_OCP_METRICS, NVME_SENSOR_METRICS
from collectors.nvme import logs, ocp, readings
from collectors.nvme.admin import Admin, KernelAdmin
from collectors.nvme.changes import Changes
from collectors.nvme.documents import Describer, Space, spaces_of
from collectors.nvme.events import EVENTS, event
from collectors.nvme.keeping import Keep
from collectors.nvme.sysfs import CLASS, read_drives, temperatures
from collectors.nvme.units import Open, Unit, make_units, namespaces_of
from collectors.nvme.virtualization import read_division
from collectors.nvme.watch import Notice, notice_of, parse_async
from collectors.pci import Ear
from collectors.pci_names import PciNames
from schemas.device import DeviceKind, Document
from schemas.errors import NoDataError, PartialCollectError
from schemas.events import EventSpec
from schemas.metrics import MetricSpec
from schemas.rows import Event, FieldValue, Item, Reading, Severity

_LOOK_S: Final = 0.5
"""The longest wait before `stopping` is looked at."""
_MOST_ERRORS: Final = 64
"""Entries of the error log that are read."""

Seconds = Annotated[float, Meta(gt=0)]


class NvmeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often what of the drives is read."""

    health_every_seconds: Seconds = 15.0
    """How often the SMART log is read; events have it read at once. Sleeping drives are not woken for it."""
    logs_every_seconds: Seconds = 300.0
    """How often the logs of errors, self-tests, sanitize, firmware and OCP are read."""
    expectations: str = ""
    """Path of a file that says how drives and name spaces must be: sector sizes, formats, mounts, firmware; what
    differs is told as drift. Empty: no file."""


class NvmeCollector:
    """Reads NVMe drives on the PCI bus, and what is on them. Without rights, what the kernel shows to anybody."""

    name: ClassVar[str] = "nvme"
    METRICS: ClassVar[tuple[MetricSpec, ...]] = (
        *NVME_METRICS,
        *NVME_DRIVE_METRICS,
        *NVME_SENSOR_METRICS,
        *NVME_OCP_METRICS,
    )
    EVENTS: ClassVar[tuple[EventSpec, ...]] = (*EVENTS, *drift_events("nvme", "Drives or name spaces"))
    Config: ClassVar[type[NvmeConfig]] = NvmeConfig

    def __init__(
        self,
        config: NvmeConfig,
        context: Context,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
        open_: Open = KernelAdmin,
        listen: Callable[[], Ear] | None = None,
    ) -> None:
        """Prepare. `open_` opens a controller's device, `listen` what uevents come from (None: the kernel)."""
        self._config = config
        self._context = context
        self._clock = clock
        self._wall_ns = wall_ns
        self._open = open_
        self._listen = listen or (Uevents if context.root == Path("/") else None)
        self._names = PciNames(context.root)
        self._units: list[Unit] = []
        self._keep: Keep | None = None
        self._changes: Changes | None = None
        self._expected = Expected("nvme", config.expectations, (DeviceKind.NVME, DeviceKind.NVME_NAMESPACE))
        self._found = Untold(context.state_dir, wall_ns)
        self._health_due = self._logs_due = float("-inf")

    def check_options(self, *, attempt: bool) -> Iterator[Objection]:  # noqa: ARG002 - reading a file leaves no trace
        """Give what cannot work as configured."""
        yield from objections(self._config.expectations)

    def probe(self) -> str:
        """Give "" where there is an NVMe drive, else what is missing."""
        if read_drives(self._context.root):
            return ""
        return f"{self._context.root / CLASS} shows no drive: none is here, or others than the driver nvme have them."

    def start(self) -> None:
        """Find the drives. Raises NoDataError when there are none."""
        missing = self.probe()
        if missing:
            raise NoDataError(missing)
        self.stop()
        self._found.load()
        self._keep = Keep(self._context.state_dir, self._context.root, self._found)
        self._changes = Changes(self._keep)
        self._health_due = self._logs_due = float("-inf")
        blamed = self._keep.blame(self._wall_ns())
        self._look()
        if blamed is not None:
            device, hung, seconds = blamed
            nobody: dict[str, FieldValue] = {"address": "", "serial": ""}
            who = next((_who(unit) for unit in self._units if unit.device == device), nobody)
            detail: dict[str, FieldValue] = {"times": hung.times, "seconds": seconds}
            text = f"hung its reader, and is left alone for {seconds} s"
            self._found.append(event("nvme.drive.hung", device, who, text, Severity.CRITICAL, detail))
        self._keep.save()  # before any is asked: who is blamed must be of this boot

    def collect(self) -> Iterator[Item]:
        """Read what is due of every drive that answers, and everything of one that something happened to.

        Raises PartialCollectError when some gave nothing, NoDataError when no drive is left.
        """
        now = self._clock()
        health, slow = now >= self._health_due, now >= self._logs_due
        if health:
            self._health_due = now + self._config.health_every_seconds
        if slow:
            self._logs_due = now + self._config.logs_every_seconds
        if not (health or slow or any(unit.urgent for unit in self._units)):
            return
        self._look()
        silent = []
        for unit in self._units:
            urgent, unit.urgent = unit.urgent, False
            if health or urgent:
                yield from self._of(unit, slow=slow or urgent)
                if unit.problem:
                    silent.append(f"{unit.drive.words}: {unit.problem}")
        self._kept().save()
        if not self._units:
            yield from self._found.take()  # the watch ends with this
            raise NoDataError("all drives are gone")
        if silent:
            raise PartialCollectError("; ".join(silent[:8]), failed=len(silent))

    def describe(self) -> Iterator[Document]:
        """Give a document for every drive and name space; of those that may not be asked, what the kernel knows.

        Raises PartialCollectError at the end when rights are lacking, or the file of expectations cannot be read.
        """
        self._look()
        spaces: list[Space] = []
        for unit in self._units:
            spaces += self._spaces(unit)
        describer = Describer(self._context.root, self._names, self._units, spaces)
        documents, events = self._expected.check(one for unit in self._units for one in describer.drive(unit))
        self._found.extend(events)
        yield from documents
        self._kept().save()
        problems = [unit.denied for unit in self._units if unit.denied]
        problems += [self._expected.problem] if self._expected.problem else []
        if problems:
            raise PartialCollectError(problems[0], failed=len(problems))

    def watch(self, emit: Emit, stopping: threading.Event) -> None:
        """Hear of drives from the kernel, and hand on what readings found: events have drives described again."""
        ear = self._ear()
        try:
            poller = select.poll()
            if ear is not None:
                poller.register(ear.fileno(), select.POLLIN)
            while not stopping.is_set():
                if ear is None:
                    stopping.wait(_LOOK_S)
                elif poller.poll(_LOOK_S * 1000):
                    self._found.extend(one for uevent in ear.take() for one in self._heard(notice_of(uevent)))
                self._found.hand_on(emit)
            self._found.hand_on(emit)
        finally:
            if ear is not None:
                ear.close()

    def stop(self) -> None:
        """Close what is open; nothing of a drive is."""
        keep, self._keep = self._keep, None
        self._changes, self._units = None, []
        if keep is not None:
            keep.asking("")
            keep.save()
            keep.close()

    # --- what there is ------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Take the drives that there are now."""
        self._units = make_units(read_drives(self._context.root), self._units)
        self._found.extend(self._changed().units(self._units))

    def _spaces(self, unit: Unit) -> list[Space]:
        """Ask a drive for what it is and for its name spaces; what it cannot say, the kernel may."""
        told = None
        with self._asking(unit, fresh=True) as admin:
            if admin is not None:
                told = namespaces_of(admin)
                self._firmware(unit, admin)
                if unit.controller is not None and unit.controller.can_virtualize and not unit.drive.physical:
                    unit.division = read_division(admin)
        found = spaces_of(unit, told)
        if told is not None:
            now = {str(one.nsid): (one.sectors or 0, one.format) for one in found if one.told is not None}
            self._found.extend(self._changed().namespaces(unit, now))
        return found

    # --- one drive ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _asking(self, unit: Unit, *, fresh: bool) -> Iterator[Admin | None]:
        """Have a drive open, unless it cannot answer now, and say so in the file of who is asked."""
        keep = self._kept()
        if keep.left_alone(unit.device, self._wall_ns()):
            unit.problem = "it hung, and is left alone for a while"
            yield None
        elif not unit.may_ask:
            unit.problem = "" if unit.drive.live else f"it is {unit.drive.state}"
            yield None
        else:
            keep.asking(unit.device)
            with unit.asked(self._context.root, self._open, fresh=fresh) as admin:
                yield admin
            keep.asking("")

    def _of(self, unit: Unit, *, slow: bool) -> Iterator[Item]:
        """Give the rows of a drive, and take note of what changed."""
        fields: dict[str, FieldValue] = {"state": unit.drive.state or None}
        rows: list[Reading] = []
        with self._asking(unit, fresh=slow) as admin:
            if admin is not None:
                rows += self._health(unit, admin, fields)
                if slow:
                    rows += self._logs(unit, admin, fields)
        if unit.denied:
            yield from readings.kernel_rows(unit.device, unit.drive.state, temperatures(unit.drive))
            return
        yield Reading("nvme", fields, unit.device)
        yield from rows

    def _health(self, unit: Unit, admin: Admin, fields: dict[str, FieldValue]) -> Iterator[Reading]:
        page = unit.page(admin, logs.SMART, logs.SMART_BYTES)
        smart = None if page is None else logs.parse_smart(page)
        if smart is not None:
            fields |= readings.smart_fields(smart)
            self._found.extend(self._changed().smart(unit, smart))
            yield from readings.sensor_rows(unit.device, smart)

    def _logs(self, unit: Unit, admin: Admin, fields: dict[str, FieldValue]) -> Iterator[Reading]:
        """Read what changes seldom. A log that this drive does not have is asked for once."""
        changes, controller = self._changed(), unit.controller
        entries = min(_MOST_ERRORS, controller.error_log_entries if controller else 1)
        page = unit.page(admin, logs.ERRORS, entries * logs.ERROR_BYTES)
        if page is not None:
            self._found.extend(changes.errors(unit, logs.parse_errors(page)))
        page = unit.page(admin, logs.SELF_TEST, logs.SELF_TEST_BYTES)
        if page is not None and (test := logs.parse_self_test(page)) is not None:
            fields |= readings.self_test_fields(test)
            self._found.extend(changes.self_test(unit, test))
        page = unit.page(admin, logs.SANITIZE, logs.SANITIZE_BYTES)
        if page is not None and (sanitize := logs.parse_sanitize(page)) is not None:
            fields |= readings.sanitize_fields(sanitize)
            self._found.extend(changes.sanitize(unit, sanitize))
        self._firmware(unit, admin)
        fields["firmware_slot"] = unit.firmware.active or None if unit.firmware else None
        page = unit.page(admin, ocp.PAGE, ocp.BYTES)
        row = None if page is None else readings.ocp_row(unit.device, page)
        if row is not None:
            yield row
        elif page is not None:  # the page is another maker's own, and stays so
            unit.unsupported.add(ocp.PAGE)

    @staticmethod
    def _firmware(unit: Unit, admin: Admin) -> None:
        page = unit.page(admin, logs.FIRMWARE, logs.FIRMWARE_BYTES)
        unit.firmware = None if page is None else logs.parse_firmware(page)

    # --- what the kernel tells ----------------------------------------------------------------------------------------

    def _ear(self) -> Ear | None:
        if self._listen is None:
            return None
        try:
            return self._listen()
        except OSError as error:
            self._context.log.warning("no uevents, drives are looked at when they are read: %s", error)
            return None

    def _heard(self, notice: Notice | None) -> Iterator[Event]:
        """Have everything read at the next turn of what the kernel told of, and tell what only it knows."""
        if notice is None:
            return
        about = [unit for unit in self._units if notice.name in ("", unit.drive.name)]
        for unit in about:
            unit.urgent = True
            if notice.reset:
                text = "was reset, and takes commands again"
                yield event("nvme.drive.reset", unit.device, _who(unit), text, Severity.WARNING)
            if notice.async_event is not None:
                yield _async_event(unit, notice.async_event)
        if not about:  # one that came
            self._health_due = float("-inf")

    def _kept(self) -> Keep:
        if self._keep is None:
            raise NoDataError("not started")
        return self._keep

    def _changed(self) -> Changes:
        if self._changes is None:
            raise NoDataError("not started")
        return self._changes


def _who(unit: Unit) -> dict[str, FieldValue]:
    return {"address": unit.drive.address, "serial": unit.drive.serial}


def _async_event(unit: Unit, word: int) -> Event:
    told = parse_async(word)
    detail: dict[str, FieldValue] = {"kind": told.kind, "information": told.information, "log_page": told.log_page}
    severity = Severity.WARNING if told.kind in ("error", "health") else Severity.NOTICE
    return event("nvme.async", unit.device, _who(unit), f"tells of {told.kind}: {told.information}", severity, detail)
