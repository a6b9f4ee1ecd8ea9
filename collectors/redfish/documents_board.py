"""What sits on a machine's board, as its BMC tells of it: power supplies, fans, processors, memory modules.

Source: Redfish PowerSupply 1.6, Fan 1.5, Power 1.7, Thermal 1.7, Processor 1.20, Memory 1.20.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from collectors._dmi import usable
from collectors.redfish.location import Places
from collectors.redfish.machine import Machine
from collectors.redfish.naming import entry_id, owner, part_id
from collectors.redfish.resource import Resource, member, number, objects, text, uri
from schemas.device import DeviceKind, Document, Part, Slot, Value

_MEBI: Final = 1 << 20
_MEGA: Final = 1_000_000
_MOST_MEGA: Final = 1_000_000
"""Megahertz and above that nothing has."""
_MOST_MEBI: Final = 1 << 43
"""Mebibytes whose bytes no number of 64 bits holds."""
_MOST_PLACE: Final = 1 << 16
_HEALTHS: Final = frozenset({"ok", "warning", "critical"})
_IN_USE: Final = frozenset({"", "enabled", "absent"})
_FORMS: Final = {
    "rdimm": ("DIMM", "registered"),
    "udimm": ("DIMM", "unregistered"),
    "lrdimm": ("DIMM", "load reduced"),
    "so_dimm": ("SODIMM", None),
    "so_rdimm": ("SODIMM", "registered"),
    "so_udimm": ("SODIMM", "unregistered"),
    "die": ("die", None),
}
"""Memory.BaseModuleType in the words of SMBIOS."""
_CORRECTED: Final = {"noecc": False, "singlebitecc": True, "multibitecc": True, "addressparity": False}
_DIGITS: Final = re.compile(r"(\d+)")

Found = Mapping[str, list[Resource]]
"""Resources by schema."""


def there(resource: Resource) -> bool:
    """Whether a part is there, as far as its BMC says."""
    return text(member(resource, "Status"), "State").lower() != "absent"


def health(resource: Resource) -> str | None:
    """Give `ok`, `warning` or `critical`; None when nobody says."""
    word = text(member(resource, "Status"), "Health").lower()
    return word if word in _HEALTHS else None


def condition(resource: Resource) -> dict[str, Value | None]:
    """Give how a part fares."""
    state = text(member(resource, "Status"), "State").lower()
    return {"health": health(resource), "part_state": None if state in _IN_USE else state[:32]}


def part_of(resource: Resource, *, model: str = "", firmware: str = "", uuid: str = "") -> Part:
    """Give what a part says that it is; `model`, `firmware`: where it says them under other names."""
    return Part(
        vendor=usable(text(resource, "Manufacturer")),
        model=usable(text(resource, "Model")) or usable(model),
        part_number=usable(text(resource, "PartNumber")),
        serial=serial_of(resource),
        uuid=uuid,
        firmware=usable(text(resource, "FirmwareVersion")) or usable(firmware),
    )


def serial_of(resource: Resource) -> str:
    """Give a serial number; "" for none, and for what stands for none."""
    serial = usable(text(resource, "SerialNumber")[:128])
    return "" if serial.lower() in ("n/a", "na", "nil", "not available") else serial


def told(facts: dict[str, Value | None]) -> dict[str, Value]:
    """Leave out what was not told."""
    return {name: value for name, value in facts.items() if value is not None and value not in ("", [])}


def supplies(label: str, found: Found, places: Places) -> Iterator[Document]:
    """Describe the power supplies: those of the newer schema, and of the older one where a chassis has only that."""
    for supply, device in _new_or_old(
        label, found, DeviceKind.PSU, "PowerSupply", "PowerSupplies", "Power", "PowerSubsystem"
    ):
        yield _supply(supply, device, places)


def _supply(supply: Resource, device: str, places: Places) -> Document:
    limit = number(supply.get("PowerCapacityWatts"))
    serial = serial_of(supply)
    return Document(
        device,
        DeviceKind.PSU,
        merge_keys=[f"serial:{serial}"] if serial else [],
        slot=Slot(location=places.of(supply) or usable(text(supply, "Name"))),
        part=part_of(supply),
        capabilities=told(
            {
                "output_limit_watts": limit if limit is not None and limit > 0 else None,
                "supply_type": usable(text(supply, "PowerSupplyType")).lower() or None,
                "hot_pluggable": _flag(supply, "HotPluggable"),
                **condition(supply),
            }
        ),
    )


def fans(label: str, found: Found, places: Places) -> Iterator[Document]:
    """Describe the fans, which have no serial numbers; older schema as for power supplies."""
    for fan, device in _new_or_old(label, found, DeviceKind.FAN, "Fan", "Fans", "Thermal", "ThermalSubsystem"):
        yield _fan(fan, device, places)


def _fan(fan: Resource, device: str, places: Places) -> Document:
    return Document(
        device,
        DeviceKind.FAN,
        slot=Slot(location=places.of(fan) or usable(text(fan, "Name")) or usable(text(fan, "FanName"))),
        part=part_of(fan),
        capabilities=told({"hot_pluggable": _flag(fan, "HotPluggable"), **condition(fan)}),
    )


def _new_or_old(
    label: str, found: Found, kind: DeviceKind, schema: str, plural: str, older: str, subsystem: str
) -> Iterator[tuple[Resource, str]]:
    """Yield parts that are there, with their ids: resources of `schema`, and members of lists in `older` ones.

    The latter only of a chassis whose `subsystem` has none of the former. Both lists are called `plural`.
    """
    newer = [one for one in found.get(schema, ()) if f"/{plural}/" in uri(one)]
    for one in newer:
        if there(one):
            yield one, part_id(kind, label, uri(one))
    chassis = {owner(uri(one), subsystem) for one in newer}
    for resource, one, at in listed(found, older, plural):
        if there(one) and owner(uri(resource), older) not in chassis:
            yield one, part_id(kind, label, uri(resource), at)


def listed(found: Found, schema: str, name: str) -> Iterator[tuple[Resource, Resource, str]]:
    """Yield the members of lists within resources (Power, Thermal): resource, member, what it is called there."""
    for resource in found.get(schema, ()):
        for at, one in enumerate(objects(resource, name)):
            yield resource, one, entry_id(one, at)


def processors(label: str, found: Found, places: Places, machine: Machine) -> Iterator[Document]:
    """Describe the processor packages of the machine.

    The node counts packages from 0 in the order of their sockets: where every socket has one, ours are the same.
    """
    all_of = [
        one
        for one in found.get("Processor", ())
        if text(one, "ProcessorType").lower() == "cpu" and "/SubProcessors/" not in uri(one)
    ]
    all_of.sort(key=lambda one: natural(uri(one)))
    own = [one for one in all_of if uri(machine.system) and uri(one).startswith(f"{uri(machine.system)}/")]
    full = bool(own) and all(there(one) for one in own)
    for cpu in all_of:
        if there(cpu):
            at = own.index(cpu) if full and cpu in own else None
            yield _processor(cpu, part_id(DeviceKind.CPU, label, uri(cpu)), places, at)


def _processor(cpu: Resource, device: str, places: Places, at: int | None) -> Document:
    hertz = number(cpu.get("MaxSpeedMHz"))
    family = text(member(cpu, "ProcessorId"), "EffectiveFamily")
    return Document(
        device,
        DeviceKind.CPU,
        merge_keys=[] if at is None else [f"cpu-package:{at}"],
        slot=Slot(location=places.of(cpu)),
        part=part_of(cpu, model=family if " " in family else ""),
        capabilities=told(
            {
                "cores": count(cpu, "TotalCores"),
                "threads": count(cpu, "TotalThreads"),
                "frequency_max_hertz": int(hertz * _MEGA) if hertz is not None and 0 < hertz < 65535 else None,
                **condition(cpu),
            }
        ),
    )


def modules(label: str, found: Found, places: Places) -> Iterator[Document]:
    """Describe the memory modules; memory that is soldered to a GPU is the GPU's."""
    for module in found.get("Memory", ()):
        if there(module) and text(module, "MemoryDeviceType").upper()[:3] != "HBM" and _is_told(module):
            yield _module(module, part_id(DeviceKind.MEMORY_MODULE, label, uri(module)), places)


def _is_told(module: Resource) -> bool:
    return bool(count(module, "CapacityMiB") or serial_of(module))


def _module(module: Resource, device: str, places: Places) -> Document:
    size, serial = mebibytes(module), serial_of(module)
    data, total = count(module, "DataWidthBits"), count(module, "BusWidthBits")
    wide = total > data if data and total else None
    form, registers = _FORMS.get(text(module, "BaseModuleType").lower(), (None, None))
    allowed = module.get("AllowedSpeedsMHz")
    read = [number(one) for one in allowed] if isinstance(allowed, list) else []
    speeds = [speed for speed in read if speed is not None and 0 < speed < _MOST_MEGA]
    facts: dict[str, Value | None] = {
        "size_bytes": size,
        "type": usable(text(module, "MemoryDeviceType")) or None,
        "form_factor": form,
        "registers": registers,
        "data_width_bits": data,
        "total_width_bits": total,
        "error_correction": _CORRECTED.get(text(module, "ErrorCorrection").lower(), wide),
        "transfers_hertz": int(max(speeds)) * _MEGA if speeds else None,
        "configured_transfers_hertz": (count(module, "OperatingSpeedMhz") or 0) * _MEGA or None,
        "ranks": count(module, "RankCount"),
        **condition(module),
    }  # fmt: skip
    return Document(
        device,
        DeviceKind.MEMORY_MODULE,
        merge_keys=[f"serial:{serial}"] if serial else [],
        slot=Slot(location=places.of(module) or _memory_place(module) or usable(text(module, "Name"))),
        part=part_of(module, firmware=text(module, "FirmwareRevision")),
        capabilities=told(facts),
    )


def _memory_place(module: Resource) -> str:
    """Give socket and slot, where these are all that a BMC tells."""
    place = member(module, "MemoryLocation")
    told_of = ((word, place.get(word)) for word in ("Socket", "Channel", "Slot"))
    return " ".join(f"{word} {at}" for word, at in told_of if isinstance(at, int) and 0 <= at < _MOST_PLACE)


def mebibytes(module: Resource) -> int | None:
    """Give the bytes of a memory; None when it says none, or more than can be."""
    size = count(module, "CapacityMiB")
    return None if size is None or size >= _MOST_MEBI else size * _MEBI


def count(resource: Resource, name: str) -> int | None:
    """Give a whole number above zero; None for anything else: of sizes and counts, BMCs write 0 for unknown."""
    found = number(resource.get(name))
    return int(found) if found is not None and 0 < found < 1 << 53 and found == int(found) else None


def _flag(resource: Resource, name: str) -> bool | None:
    value = resource.get(name)
    return value if isinstance(value, bool) else None


def natural(name: str) -> list[tuple[int, str]]:
    """Give what sorts names with numbers in them as people do: 2 before 10."""
    return [(int(step) if step.isdecimal() else -1, step) for step in _DIGITS.split(name)]
