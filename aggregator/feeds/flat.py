"""Devices as one flat table: a row each, the same columns in CSV and JSON. Absent is an empty cell, or null."""

import csv
import io
from collections.abc import Iterable
from typing import Any, Final

from aggregator.ledger.model import Device, Node
from aggregator.ledger.state import State

COLUMNS: Final = (
    *("id", "node", "node_name", "kind", "variant", "lifecycle", "reach", "tenant", "claim", "mode", "taints"),
    *("vendor", "model", "part_number", "serial", "uuid", "revision", "firmware"),
    *("address", "path", "location", "parent", "pci_vendor_id", "pci_device_id", "pci_class"),
    *("iommu_group", "numa_node", "driver", "memory_bytes", "first", "changed"),
)
"""In this order; new ones come last."""


def rows(state: State, nodes: Iterable[Node], variants: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Give the devices of some nodes in the order of first sight; of `variants` alone when there are any."""
    wanted = set(variants)
    return [
        _row(state, node, device)
        for node in nodes
        for device in state.devices_of(node.id)
        if not wanted or state.variant_of(device) in wanted
    ]


def _row(state: State, node: Node, device: Device) -> dict[str, Any]:
    part, slot, hold = device.part, device.slot, device.hold
    told: dict[str, Any] = {
        "id": device.id,
        "node": node.id,
        "node_name": node.name,
        "kind": device.kind.value,
        "variant": state.variant_of(device),
        "lifecycle": device.lifecycle.value,
        "reach": state.reach(device).value,
        "tenant": hold.tenant if hold else "",
        "claim": hold.claim if hold else "",
        "mode": hold.mode.value if hold else "",
        "taints": " ".join(sorted({mark.rule for mark in device.taints.values()})),
        "address": slot.address,
        "path": slot.path,
        "location": slot.location,
        "parent": device.parent,
        "first": device.first,
        "changed": device.changed,
    }
    for name in ("vendor", "model", "part_number", "serial", "uuid", "revision", "firmware"):
        told[name] = getattr(part, name)
    return {name: value if (value := told.get(name, device.get(name))) != "" else None for name in COLUMNS}


def as_csv(found: Iterable[dict[str, Any]]) -> str:
    """Give rows as CSV with a head, lines ended by CR LF. Source: RFC 4180."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS)
    writer.writeheader()
    for row in found:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return out.getvalue()


def _cell(value: object) -> object:
    """Keep a spreadsheet from taking what a device says for a formula."""
    text = " ".join(map(str, value)) if isinstance(value, list) else value
    return f"'{text}" if isinstance(text, str) and text[:1] in "=+-@\t\r" else text
