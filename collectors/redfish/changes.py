"""What changed of a machine between two looks at its parts, as events: parts that came or went, firmware, health.

Two looks are compared by what stands in their documents; a look that could not read everything loses nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from schemas.device import DeviceKind, Document, Value
from schemas.events import EventSpec
from schemas.rows import Event, FieldValue, Severity

_WHO: Final = ("kind", "location", "model", "serial")
PART_EVENTS: Final = (
    EventSpec("redfish.part.new", "A part is there that was not at the last look.", (Severity.NOTICE,), _WHO),
    EventSpec(
        "redfish.part.gone",
        "A part is not there any more, as the BMC says; another in its place is told as `redfish.part.changed`.",
        (Severity.WARNING,),
        _WHO,
    ),
    EventSpec(
        "redfish.part.changed",
        "In the place of a part there is another one.",
        (Severity.NOTICE,),
        (*_WHO, "model_before", "serial_before"),
    ),
    EventSpec(
        "redfish.part.health",
        "The BMC says otherwise than before how a part is; a notice when it is well again.",
        (Severity.CRITICAL, Severity.WARNING, Severity.NOTICE),
        (*_WHO, "health", "health_before"),
    ),
    EventSpec(
        "redfish.firmware.changed",
        "Other firmware is in use than at the last look.",
        (Severity.NOTICE,),
        (*_WHO, "item", "version", "version_before"),
    ),
)
_SEVERITIES: Final = {"critical": Severity.CRITICAL, "warning": Severity.WARNING}
_NAMES: Final = {
    DeviceKind.BMC: "the BMC",
    DeviceKind.PSU: "power supply",
    DeviceKind.FAN: "fan",
    DeviceKind.CPU: "processor",
    DeviceKind.MEMORY_MODULE: "memory module",
    DeviceKind.NVME: "drive",
    DeviceKind.GPU: "GPU",
    DeviceKind.NIC: "network function",
    DeviceKind.DPU: "DPU",
}


def changes(
    before: Iterable[Document], after: Iterable[Document], *, whole: bool, subject: str = ""
) -> Iterator[Event]:
    """Yield what changed. `whole`: the second look read everything, so that what it lacks is gone."""
    known = {one.device: one for one in before}
    found = {one.device: one for one in after}
    for device, now in found.items():
        was = known.get(device)
        if was is None:
            if known:
                yield _event("redfish.part.new", now, "is there, and was not before", Severity.NOTICE, subject)
        elif _is_another(was, now):
            told: dict[str, FieldValue] = {"model_before": was.part.model, "serial_before": was.part.serial}
            yield _event("redfish.part.changed", now, "is another one than before", Severity.NOTICE, subject, told)
        else:
            yield from _changed(was, now, subject)
    for device, was in known.items() if whole else ():
        if device not in found:
            yield _event("redfish.part.gone", was, "is not there any more", Severity.WARNING, subject)


def _is_another(was: Document, now: Document) -> bool:
    pairs = ((was.part.serial, now.part.serial), (was.part.uuid, now.part.uuid))
    return any(one and other and one != other for one, other in pairs)


def _changed(was: Document, now: Document, subject: str) -> Iterator[Event]:
    before, health = was.capabilities.get("health"), now.capabilities.get("health")
    if isinstance(before, str) and isinstance(health, str) and before != health:
        severity = _SEVERITIES.get(health, Severity.NOTICE)
        detail: dict[str, FieldValue] = {"health": health, "health_before": before}
        yield _event("redfish.part.health", now, f"is {health} and was {before}", severity, subject, detail)
    if was.part.firmware and now.part.firmware and was.part.firmware != now.part.firmware:
        yield _firmware(now, "", was.part.firmware, now.part.firmware, subject)
    old, new = _versions(was.capabilities), _versions(now.capabilities)
    for item, version in sorted(new.items()):
        if item in old and old[item] != version:
            yield _firmware(now, item, old[item], version, subject)


def _firmware(now: Document, item: str, before: str, version: str, subject: str) -> Event:
    of = f"firmware {item}" if item else "firmware"
    detail: dict[str, FieldValue] = {"version": version, "version_before": before, "item": item}
    text = f"has {of} {version} and had {before}"
    return _event("redfish.firmware.changed", now, text, Severity.NOTICE, subject, detail)


def _versions(told: Mapping[str, Value]) -> dict[str, str]:
    found = told.get("firmware_versions")
    entries = found if isinstance(found, list) else []
    return {item: version for item, _, version in (entry.partition("=") for entry in entries)}


def _event(
    kind: str, one: Document, text: str, severity: Severity, subject: str, more: dict[str, FieldValue] | None = None
) -> Event:
    part = one.part
    who: dict[str, FieldValue] = {
        "kind": one.kind.value, "location": one.slot.location, "model": part.model, "serial": part.serial
    }  # fmt: skip
    said = {name: value for name, value in {**who, **(more or {})}.items() if value != ""}
    name = " ".join(filter(None, (_NAMES.get(one.kind, one.kind.value), one.slot.location, part.model)))
    return Event(kind, f"{name} {text}", severity, one.device, said, None, subject)
