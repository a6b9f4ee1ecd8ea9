"""Capability documents of a machine as its BMC tells of it: the BMC itself, and every part that is there.

A document takes the words and merge keys of the node's own collectors for the same kind of device, so that a GPU, a
drive, a NIC or a memory module that both describe is one device. What says nothing by which it could be told from
others (no serial number, no UUID, no MAC) is a device of the board only where nobody else could mean it too.

What a BMC says is absent has no document. Pure: resources in, documents out.

Source: Redfish schema bundle 2024.3; `KEPT` names the schemas that are looked at.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from collectors._dmi import usable, usable_uuid
from collectors.redfish import documents_board, documents_bus
from collectors.redfish.location import Places
from collectors.redfish.machine import Machine, machine_of
from collectors.redfish.naming import bmc_id
from collectors.redfish.resource import Resource, kind, member, text, uri
from schemas.device import DeviceKind, Document, Part, Value

KEPT: Final = frozenset(
    {
        "Chassis",
        "ComputerSystem",
        "Drive",
        "EventService",
        "Fan",
        "Manager",
        "Memory",
        "NetworkAdapter",
        "NetworkDeviceFunction",
        "PCIeDevice",
        "PCIeFunction",
        "PCIeSlots",
        "Port",
        "Power",
        "PowerSupply",
        "Processor",
        "ServiceRoot",
        "SoftwareInventory",
        "Thermal",
    }
)
"""Schemas that documents are made of."""
_SETTINGS: Final = frozenset({"settings", "sd", "pending"})
_NOT_IN_USE: Final = ("Previous-", "Available-")
"""Dell's names of firmware that is kept, or could be had."""
_STANDBY: Final = frozenset({"absent", "standbyspare", "standbyoffline", "disabled"})
_MOST_VERSIONS: Final = 256


def documents(label: str, resources: Iterable[Resource], *, own: bool) -> list[Document]:
    """Give the documents of a BMC and of its machine's parts, in an order that stays.

    Args:
        label: The name that the BMC goes by.
        resources: What was read of it, in any order; schemas other than `KEPT` are passed over.
        own: It is the BMC of the node that reads it: its parts are the node's.
    """
    return survey(label, resources, own=own)[0]


def survey(label: str, resources: Iterable[Resource], *, own: bool) -> tuple[list[Document], dict[str, str]]:
    """Give what `documents` gives, and by path of a resource the device that it belongs to without being called so.

    BMCs tell of a GPU's chassis, or of its memory, when they mean the GPU.
    """
    found = by_kind(resources)
    machine = machine_of(found)
    board = _bmc(label, found, machine)
    places = Places(found.get("PCIeSlots", ()))
    parts = [
        *documents_board.supplies(label, found, places),
        *documents_board.fans(label, found, places),
        *documents_board.processors(label, found, places, machine),
        *documents_board.modules(label, found, places),
        *documents_bus.drives(label, found, places),
        *documents_bus.gpus(label, found, places),
        *documents_bus.nics(label, found, places),
    ]
    parent = "node" if own else board.device
    told = [board, *(_finished(one, board.device, parent) for one in _alone(parts))]
    known = {one.device for one in told}
    near = {path: device for path, device in documents_bus.near(label, found) if device in known}
    return told, near


def by_kind(resources: Iterable[Resource]) -> dict[str, list[Resource]]:
    """Sort resources by schema, each path once; what is to be after the next reset is left out."""
    found: dict[str, dict[str, Resource]] = {}
    for resource in resources:
        schema, path = kind(resource), uri(resource)
        if schema in KEPT and path and path.rpartition("/")[2].lower() not in _SETTINGS:
            found.setdefault(schema, {}).setdefault(path, resource)
    return {schema: [those[path] for path in sorted(those)] for schema, those in found.items()}


def versions(found: Mapping[str, list[Resource]]) -> list[str]:
    """Give the firmware that is in use, each `<item>=<version>`, sorted."""
    said: dict[str, str] = {}
    for item in found.get("SoftwareInventory", ()):
        if "/FirmwareInventory/" not in uri(item):
            continue
        name, version = uri(item).rpartition("/")[2], usable(text(item, "Version")[:128])
        state = text(member(item, "Status"), "State").lower()
        if not version or version == "nil" or name.startswith(_NOT_IN_USE) or state in _STANDBY:
            continue
        said[name.rpartition("__")[2]] = version  # Dell: `Installed-25227-6.00.30.00__iDRAC.Embedded.1-1`
    return sorted(f"{name}={version}" for name, version in said.items())[:_MOST_VERSIONS]


def _bmc(label: str, found: Mapping[str, list[Resource]], machine: Machine) -> Document:
    root = next(iter(found.get("ServiceRoot", ())), {})
    manager, system = machine.manager, machine.system
    told: dict[str, Value | None] = {
        "system_uuid": machine.uuid or None,
        "protocols": ["redfish"],
        "redfish_version": usable(text(root, "RedfishVersion")) or None,
        "management_controller": usable(text(manager, "Model")) or usable(text(root, "Product")) or None,
        "machine_model": usable(text(system, "Model")) or None,
        "machine_serial": usable(text(system, "SerialNumber")) or None,
        "firmware_versions": versions(found) or None,
        "event_stream": any(text(one, "ServerSentEventUri") for one in found.get("EventService", ())),
        "health": documents_board.health(manager),
    }
    return Document(
        bmc_id(label),
        DeviceKind.BMC,
        merge_keys=[f"bmc:{one}" for one in _identities(label, root, manager)],
        part=Part(
            vendor=usable(text(manager, "Manufacturer")) or usable(text(root, "Vendor")),
            model=usable(text(manager, "Model")) or usable(text(root, "Product")),
            part_number=usable(text(manager, "PartNumber")),
            serial=usable(text(manager, "SerialNumber")),
            firmware=usable(text(manager, "FirmwareVersion")),
        ),
        capabilities={name: value for name, value in told.items() if value is not None},
    )


def _identities(label: str, root: Resource, manager: Resource) -> list[str]:
    """Give who a BMC is, the strongest first: by whatever way it is reached, that is the same."""
    told = [usable_uuid(text(manager, "UUID")), usable_uuid(text(root, "UUID"))]
    return list(dict.fromkeys(one for one in told if one)) or [label]


def _alone(parts: list[Document]) -> Iterator[Document]:
    """Take identities that several state from all of them, and give each device once."""
    serials = Counter((one.kind, one.part.serial) for one in parts)
    uuids = Counter((one.kind, one.part.uuid) for one in parts)
    keys = Counter(key for one in parts for key in set(one.merge_keys))
    seen: set[str] = set()
    for one in parts:
        if one.device in seen:
            continue
        seen.add(one.device)
        part = msgspec.structs.replace(
            one.part,
            serial=one.part.serial if serials[one.kind, one.part.serial] == 1 else "",
            uuid=one.part.uuid if uuids[one.kind, one.part.uuid] == 1 else "",
        )
        own = [key for key in one.merge_keys if keys[key] == 1]
        yield msgspec.structs.replace(one, part=part, merge_keys=own)


def _finished(document: Document, board: str, parent: str) -> Document:
    """Say whose part it is: of the board what only the BMC sees; what the node's own collectors see, of the node."""
    of_board = document.kind in (DeviceKind.PSU, DeviceKind.FAN)
    return msgspec.structs.replace(document, parent=board if of_board or parent == board else parent)
