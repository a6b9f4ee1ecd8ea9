"""What a fault makes a node say: events, and lines of the kernel log, with the node's own facts filled in."""

from collections.abc import Iterator, Mapping
from typing import Final

from collectors.simulated.drift import EVENTS as DRIFT_EVENTS
from collectors.simulated.fault_words import Saying
from collectors.simulated.faults import FAULTS, Active
from collectors.simulated.hardware import DRIVER, Hardware
from collectors.simulated.topology import Place
from schemas.events import EventSpec
from schemas.rows import Event, LogRecord


def events_of(hardware: Hardware, fault: Active, now_ns: int, *, recovery: bool) -> Iterator[Event]:
    """Yield the events of a fault that begins or, in `recovery`, ends. Each says that it is simulated."""
    facts = _facts(hardware, fault)
    for saying in fault.kind.recovery_events if recovery else fault.kind.events:
        yield Event(
            saying.type,
            saying.message.format_map(facts),
            saying.severity,
            str(facts["device"]),
            {**saying.detail, "fault": fault.kind.name, "simulated": True},
            now_ns,
        )


def records_of(hardware: Hardware, fault: Active, now_ns: int, first: int, *, recovery: bool) -> Iterator[LogRecord]:
    """Yield the kernel's lines of a fault that begins or, in `recovery`, ends, numbered from `first`."""
    facts = _facts(hardware, fault)
    lines = fault.kind.recovery_lines if recovery else fault.kind.lines
    for sequence, line in enumerate(lines, first):
        yield LogRecord(
            line.message.format_map(facts),
            line.severity,
            "kmsg",
            facility=0,
            host=hardware.name,
            app="kernel",
            source_time_ns=now_ns,
            device=str(facts["device"]),
            sequence=sequence,
        )


def _facts(hardware: Hardware, fault: Active) -> Mapping[str, object]:
    """Give what the texts of a fault may mention."""
    target, layout = fault.target, hardware.layout
    facts: dict[str, object] = {
        "device": "",
        "index": target,
        "link": fault.link,
        "count": int(fault.value),
        "driver": DRIVER,
    }
    place: Place | None = None
    match fault.kind.target:
        case "gpu":
            place, facts["device"] = layout.gpus[target], hardware.gpus[target]
        case "nvme":
            place, facts["device"] = layout.nvmes[target], hardware.drives[target]
        case "nic":
            place, facts["device"] = layout.ports[target], hardware.ports[target]
            facts["interface"] = hardware.interface(target)
        case "vf":
            place = [each for family in layout.vfs for each in family][target]
            facts["device"] = hardware.vfs[target]
        case "dpu":
            place, facts["device"] = layout.dpus[target], hardware.dpus[target]
        case "bmc":
            facts["device"] = hardware.bmc
    if place is not None:
        facts |= {
            "address": place.address,
            "pci": place.address.partition(".")[0],
            "root": place.root,
            "group": place.iommu_group,
            "slot": target + 1,
        }
    return facts


def _declared() -> Iterator[EventSpec]:
    """Give what the faults can say, one declaration for each type of event."""
    sayings: dict[str, list[tuple[str, Saying]]] = {}
    for kind in FAULTS.values():
        for saying in (*kind.events, *kind.recovery_events):
            sayings.setdefault(saying.type, []).append((kind.name, saying))
    for type_, said in sorted(sayings.items()):
        faults = sorted({name for name, _ in said})
        detail = dict.fromkeys(key for _, saying in said for key in saying.detail)
        meaning = f"Made up by the fault {', '.join(faults)}: as a real node would say it."
        severities = tuple(sorted({saying.severity for _, saying in said}))
        yield EventSpec(type_, meaning, severities, (*detail, "fault", "simulated"))


EVENTS: Final = (*_declared(), *DRIFT_EVENTS)
"""What simulated nodes tell."""
