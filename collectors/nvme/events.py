"""The events of the collector `nvme`, and how they are made."""

from typing import Final

from schemas.events import EventSpec
from schemas.rows import Event, FieldValue, Severity

_CRITICAL, _ERROR, _WARNING, _NOTICE = Severity.CRITICAL, Severity.ERROR, Severity.WARNING, Severity.NOTICE
_WHO: Final = ("address", "serial")

EVENTS: Final = (
    EventSpec("nvme.critical_warning", "The drive's warnings changed; a notice when none is left.",
              (_CRITICAL, _NOTICE), (*_WHO, "bits", "bits_before", "warnings")),
    EventSpec("nvme.media_errors", "Data could not be read back intact.", (_ERROR,), (*_WHO, "count", "total")),
    EventSpec("nvme.temperature", "The drive became too hot for its own limits, or is no longer.",
              (_CRITICAL, _WARNING, _NOTICE), (*_WHO, "temperature_celsius", "limit_celsius")),
    EventSpec("nvme.spare", "Spare blocks were used up; a warning from the drive's threshold on.",
              (_WARNING, _NOTICE), (*_WHO, "spare_ratio", "spare_ratio_before", "threshold_ratio")),
    EventSpec("nvme.error_log", "The drive's error log has new entries, beyond those of probes that it does not know.",
              (_WARNING,), (*_WHO, "count", "status", "queue", "lba", "nsid")),
    EventSpec("nvme.self_test", "A self-test ended.", (_ERROR, _NOTICE), (*_WHO, "kind", "result", "lba", "nsid")),
    EventSpec("nvme.sanitize", "A sanitize began, ended or failed.", (_ERROR, _NOTICE), (*_WHO, "status", "method")),
    EventSpec("nvme.firmware.changed", "Other firmware runs.", (_NOTICE,), (*_WHO, "firmware", "firmware_before")),
    EventSpec("nvme.drive.new", "There is a drive that was not there before.", (_NOTICE,), (*_WHO, "model")),
    EventSpec("nvme.drive.gone", "A drive is gone: taken out, dead, or bound to another driver.", (_WARNING,), _WHO),
    EventSpec("nvme.drive.state", "What the kernel can do with a drive changed; a notice when it is live again.",
              (_ERROR, _WARNING, _NOTICE), (*_WHO, "state", "state_before")),
    EventSpec("nvme.drive.reset", "The drive's controller was reset, and is there again.", (_WARNING,), _WHO),
    EventSpec("nvme.drive.hung", "Asking a drive hung; it is left alone for a while.", (_CRITICAL,),
              (*_WHO, "times", "seconds")),
    EventSpec("nvme.async", "The drive told of something by itself (where its administrator has it do so).",
              (_WARNING, _NOTICE), (*_WHO, "kind", "information", "log_page")),
    EventSpec("nvme.namespace.new", "A name space is new.", (_NOTICE,), (*_WHO, "nsid", "format", "sectors")),
    EventSpec("nvme.namespace.gone", "A name space is gone.", (_WARNING,), (*_WHO, "nsid")),
    EventSpec("nvme.namespace.changed", "A name space has another size or format.", (_NOTICE,),
              (*_WHO, "nsid", "format", "format_before", "sectors", "sectors_before")),
)  # fmt: skip


def event(
    type_: str,
    device: str,
    who: dict[str, FieldValue],
    text: str,
    severity: Severity,
    detail: dict[str, FieldValue] | None = None,
) -> Event:
    """Make an event of a drive: `text` goes on after its name."""
    name = f"drive {who.get('serial') or '(no serial number)'} at {who.get('address') or 'an unknown place'}"
    return Event(type_, f"{name} {text}", severity, device, {**who, **(detail or {})})
