"""What is other than when a drive was last seen becomes events. What was never told before is no change."""

from collections.abc import Iterable, Iterator
from typing import Final

from collectors.nvme import logs
from collectors.nvme.events import event
from collectors.nvme.keeping import Keep, Seen
from collectors.nvme.sysfs import LIVE
from collectors.nvme.units import Unit
from schemas.rows import Event, FieldValue, Severity

_WORDS: Final = (
    "few spare blocks are left",
    "a temperature is outside of its limits",
    "it is unreliable",
    "it takes no more writes",
    "its backup of volatile memory failed",
    "its persistent memory is read only or unreliable",
)
_COOLER: Final = 3.0
"""Degrees below a limit from which on it counts as no longer reached."""
_PROBES: Final = frozenset({0x000, 0x001, 0x002, 0x00B, 0x109})
"""Status of what drives refuse when they are asked for what they do not have: noise of every monitoring program."""
_ERROR, _WARNING, _NOTICE = Severity.ERROR, Severity.WARNING, Severity.NOTICE


class Changes:
    """Compares with what is kept, and keeps what is now."""

    def __init__(self, keep: Keep) -> None:
        """Begin with what the process before kept."""
        self._keep = keep

    def units(self, units: list[Unit]) -> Iterator[Event]:
        """Take which drives there are, their states and firmware."""
        kept = self._keep.kept.drives
        here = {unit.device: unit for unit in units}
        for device in [device for device in kept if device not in here]:
            seen = kept.pop(device)
            yield event("nvme.drive.gone", device, _who(seen), "is gone", _WARNING)
        for device, unit in here.items():
            drive = unit.drive
            before = kept.get(device)
            if before is None:
                kept[device] = before = Seen(drive.address, drive.serial, drive.firmware, drive.state)
                if not self._keep.first:
                    yield event("nvme.drive.new", device, _who(before), "is new", _NOTICE, {"model": drive.model})
            before.address, before.serial = drive.address, drive.serial
            yield from self._state(device, before, drive.state)
            if drive.firmware and before.firmware not in ("", drive.firmware):
                detail: dict[str, FieldValue] = {"firmware": drive.firmware, "firmware_before": before.firmware}
                text = f"runs firmware {drive.firmware} instead of {before.firmware}"
                yield event("nvme.firmware.changed", device, _who(before), text, _NOTICE, detail)
            before.firmware = drive.firmware or before.firmware
        self._keep.first = False

    def _state(self, device: str, seen: Seen, state: str) -> Iterator[Event]:
        before, seen.state = seen.state, state or seen.state
        if state and before not in ("", state):
            severity = _NOTICE if state == LIVE else _ERROR if state == "dead" else _WARNING
            detail: dict[str, FieldValue] = {"state": state, "state_before": before}
            yield event("nvme.drive.state", device, _who(seen), f"is {state}, and was {before}", severity, detail)

    def smart(self, unit: Unit, smart: logs.Smart) -> Iterator[Event]:
        """Take the SMART log."""
        seen = self._keep.kept.drives.get(unit.device)
        if seen is None:
            return
        yield from _warnings(unit.device, seen, smart)
        errors, seen.media_errors = seen.media_errors, smart.media_errors
        if errors is not None and smart.media_errors > errors:
            count = smart.media_errors - errors
            detail: dict[str, FieldValue] = {"count": _held(count), "total": _held(smart.media_errors)}
            text = f"could not read back data intact, {count} times"
            yield event("nvme.media_errors", unit.device, _who(seen), text, _ERROR, detail)
        yield from _spare(unit.device, seen, smart)
        yield from self._heat(unit, seen, smart)

    def _heat(self, unit: Unit, seen: Seen, smart: logs.Smart) -> Iterator[Event]:
        controller = unit.controller
        if smart.temperature_celsius is None or controller is None:
            return
        limits = (controller.warning_celsius, controller.critical_celsius)
        now = _heat_of(smart.temperature_celsius, limits, seen.heat)
        before, seen.heat = seen.heat, now
        if now != before:
            detail: dict[str, FieldValue] = {"temperature_celsius": smart.temperature_celsius}
            detail["limit_celsius"] = limits[max(now, 1) - 1]
            text = ("is within its limits again", "is at its warning temperature", "is at its critical temperature")
            severity = (_NOTICE, _WARNING, Severity.CRITICAL)[now]
            words = f"{text[now]}: {smart.temperature_celsius:g} degrees"
            yield event("nvme.temperature", unit.device, _who(seen), words, severity, detail)

    def errors(self, unit: Unit, entries: Iterable[logs.ErrorEntry]) -> Iterator[Event]:
        """Take the error log, newest first: one event for all entries that are new and no probes'."""
        seen = self._keep.kept.drives.get(unit.device)
        found = list(entries)
        if seen is None:
            return
        before, seen.errors = seen.errors, max((one.number for one in found), default=seen.errors or 0)
        if before is None:
            return
        new = [one for one in found if one.number > before and one.status not in _PROBES]
        if new:
            last = new[0]
            detail: dict[str, FieldValue] = {"count": len(new), "status": last.status, "queue": last.queue}
            detail |= {"lba": last.lba, "nsid": last.nsid}
            text = f"has {len(new)} new entries in its error log, the last with status 0x{last.status:03x}"
            yield event("nvme.error_log", unit.device, _who(seen), text, _WARNING, detail)

    def self_test(self, unit: Unit, log: logs.SelfTest) -> Iterator[Event]:
        """Take the self-test log."""
        seen = self._keep.kept.drives.get(unit.device)
        if seen is None:
            return
        last = log.tests[0] if log.tests else None
        now = f"{last.kind} {last.result} {last.power_on_hours}" if last else ""
        before, seen.self_test = seen.self_test, now
        if before is not None and last is not None and now != before:
            detail: dict[str, FieldValue] = {"kind": last.kind, "result": last.result, "lba": last.lba}
            detail["nsid"] = last.nsid
            severity = _ERROR if last.result in logs.FAILED else _NOTICE
            yield event(
                "nvme.self_test", unit.device, _who(seen), f"ended a self-test: {last.result}", severity, detail
            )

    def sanitize(self, unit: Unit, log: logs.Sanitize) -> Iterator[Event]:
        """Take the sanitize status log."""
        seen = self._keep.kept.drives.get(unit.device)
        if seen is None:
            return
        before, seen.sanitize = seen.sanitize, log.status
        if before and before != log.status:
            severity = _ERROR if log.status == "failed" else _NOTICE
            detail: dict[str, FieldValue] = {"status": log.status, "method": log.method or None}
            text = f"says of its sanitize: {log.status}"
            yield event("nvme.sanitize", unit.device, _who(seen), text, severity, detail)

    def namespaces(self, unit: Unit, now: dict[str, tuple[int, str]]) -> Iterator[Event]:
        """Take the name spaces, each with its sectors and format."""
        seen = self._keep.kept.drives.get(unit.device)
        if seen is None:
            return
        before, seen.namespaces = seen.namespaces, now
        if before is None:
            return
        for nsid in sorted(before.keys() | now.keys(), key=int):
            yield from _namespace(unit.device, seen, int(nsid), before.get(nsid), now.get(nsid))


def _namespace(
    device: str, seen: Seen, nsid: int, before: tuple[int, str] | None, now: tuple[int, str] | None
) -> Iterator[Event]:
    detail: dict[str, FieldValue] = {"nsid": nsid}
    if now is None:
        yield event("nvme.namespace.gone", device, _who(seen), f"has no name space {nsid} any more", _WARNING, detail)
        return
    detail |= {"format": now[1] or None, "sectors": now[0]}
    if before is None:
        yield event("nvme.namespace.new", device, _who(seen), f"has a new name space {nsid}", _NOTICE, detail)
    elif before != now:
        detail |= {"format_before": before[1] or None, "sectors_before": before[0]}
        text = f"has name space {nsid} as {now[0]} sectors of {now[1]}, and had {before[0]} of {before[1]}"
        yield event("nvme.namespace.changed", device, _who(seen), text, _NOTICE, detail)


def _warnings(device: str, seen: Seen, smart: logs.Smart) -> Iterator[Event]:
    before, now = seen.warning, smart.critical_warning
    seen.warning = now
    if now == (before or 0):
        return
    told = [text for bit, text in enumerate(_WORDS) if now >> bit & 1]
    detail: dict[str, FieldValue] = {"bits": now, "bits_before": before or 0, "warnings": "; ".join(told) or None}
    text = f"warns: {'; '.join(told) or f'bits {now:#x}'}" if now else "warns of nothing any more"
    severity = Severity.CRITICAL if now else _NOTICE
    yield event("nvme.critical_warning", device, _who(seen), text, severity, detail)


def _spare(device: str, seen: Seen, smart: logs.Smart) -> Iterator[Event]:
    before, seen.spare_percent = seen.spare_percent, smart.spare_percent
    if before is None or smart.spare_percent >= before:
        return
    low = smart.spare_percent <= smart.threshold_percent
    detail: dict[str, FieldValue] = {
        "spare_ratio": smart.spare_percent / 100,
        "spare_ratio_before": before / 100,
        "threshold_ratio": smart.threshold_percent / 100,
    }
    text = f"has {smart.spare_percent} % of its spare blocks left"
    yield event("nvme.spare", device, _who(seen), text, _WARNING if low else _NOTICE, detail)


def _heat_of(celsius: float, limits: tuple[float | None, float | None], before: int) -> int:
    """Give 0 to 2; a limit that was reached is left only some degrees below it, so that none flaps."""
    heat = 0
    for number, limit in enumerate(limits, 1):
        if limit is not None and celsius >= limit - (_COOLER if before >= number else 0.0):
            heat = number
    return heat


def _who(seen: Seen) -> dict[str, FieldValue]:
    return {"address": seen.address, "serial": seen.serial}


def _held(count: int) -> int | None:
    return count if count < 1 << 64 else None
