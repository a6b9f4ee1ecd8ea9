"""OpenStack nova: `[pci] device_spec` and `alias`, such that nova cannot break isolation with them.

Nova knows no IOMMU groups, and no claims: whatever `device_spec` names it gives to anybody. What a record of nova's own
says that it has stays in its configuration; what a claim holds does not, unless nova's machines are kept as claims.

Source: docs.openstack.org/nova/latest/configuration/config.html, section pci; nova/pci/devspec.py and request.py.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from aggregator.feeds.isolation import Chosen, Policy, Skipped, choose
from aggregator.ledger.model import Device, Node
from aggregator.ledger.state import State
from schemas.device import DeviceKind

OWN: Final = "nova"
"""The kind of records that are nova's."""
_NOTHING: Final = """\
# nothing to hand on: no node has devices of a variant; 'muster variants set'
# makes one, 'muster devices' shows what there is
"""


class DeviceSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry of `[pci] device_spec`."""

    address: str
    vendor_id: str
    product_id: str
    resource_class: str = ""
    """Of a whole group: placement keeps it apart from all others."""


class Alias(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry of `[pci] alias`."""

    name: str
    device_type: str
    """`type-PCI`, `type-PF` or `type-VF`."""
    vendor_id: str = ""
    product_id: str = ""
    resource_class: str = ""


class NodeFeed(msgspec.Struct, frozen=True):
    """What one compute host gets."""

    node: str
    node_name: str
    device_spec: list[DeviceSpec]
    skipped: list[Skipped]


class NovaFeed(msgspec.Struct, frozen=True):
    """The configuration of nova-compute, by node, and what nova-api and nova-compute share."""

    policy: str
    sequence: int
    """The ledger's, as of the answer."""
    nodes: list[NodeFeed]
    alias: list[Alias]
    flavors: dict[str, str]
    """What a flavor's `pci_passthrough:alias` must say, by alias."""


def feed(
    state: State,
    nodes: Iterable[Node],
    policy: Policy = Policy.ONE_PER_GROUP,
    variants: Sequence[str] = (),
    *,
    held: bool = False,
) -> NovaFeed:
    """Give the configuration of some nodes, for devices of `variants` (none: of every variant).

    `held`: whether what claims hold is nova's, and handed on.
    """
    found: list[NodeFeed] = []
    aliases: dict[str, Alias] = {}
    flavors: dict[str, str] = {}
    for node in nodes:
        devices = [one for one in state.devices_of(node.id) if not variants or state.variant_of(one) in variants]
        chosen, skipped = choose(state, devices, policy, OWN, held=held)
        specs = []
        for one in chosen:
            alias = _alias(state, one)
            specs.append(_spec(one.device, alias.resource_class))
            aliases.setdefault(alias.name, alias)
            flavors.setdefault(alias.name, f"{alias.name}:{one.of}")
        if specs or skipped:
            found.append(NodeFeed(node.id, node.name, specs, skipped))
    return NovaFeed(policy.value, state.sequence, found, [aliases[name] for name in sorted(aliases)], flavors)


def _spec(device: Device, resource_class: str) -> DeviceSpec:
    return DeviceSpec(
        device.slot.address, _word(device, "pci_vendor_id"), _word(device, "pci_device_id"), resource_class
    )


def _word(device: Device, name: str) -> str:
    return str(device.get(name) or "").lower()


def _alias(state: State, one: Chosen) -> Alias:
    """Give the alias by which a device is asked for: by its making, or with its whole group."""
    device, name = one.device, state.variant_of(one.device)
    if one.of > 1:
        name = f"{name}-group{device.group}-of-{one.of}"
        return Alias(name, device_type(device), resource_class=resource_class(name))
    return Alias(name, device_type(device), _word(device, "pci_vendor_id"), _word(device, "pci_device_id"))


def device_type(device: Device) -> str:
    """Give nova's word for what a function is: one that could have virtual functions is a PF to it."""
    if device.kind is DeviceKind.VF:
        return "type-VF"
    return "type-PF" if device.get("sriov_total_vfs") else "type-PCI"


def resource_class(name: str) -> str:
    """Give a resource class in the form to which nova brings it. Source: nova/pci/request.py, help of `alias`."""
    word = re.sub(r"[^A-Z0-9_]+", "_", name.upper())
    return word if word.startswith("CUSTOM_") else f"CUSTOM_{word}"


def nova_conf(made: NovaFeed) -> str:
    """Give the feed as text for nova.conf: a section for each node, what is not in it and why in comments."""
    lines: list[str] = []
    for node in made.nodes:
        lines += [f"# {node.node_name or node.node}", "[pci]"]
        lines += [f"device_spec = {_json(spec)}" for spec in node.device_spec]
        lines += [f"alias = {_json(alias)}" for alias in made.alias]
        if any(spec.resource_class for spec in node.device_spec):
            lines += ["report_in_placement = true", "# and in nova.conf of the scheduler, [filter_scheduler]:",
                      "# pci_in_placement = true"]  # fmt: skip
        lines += [f"# not {skipped.address}: {skipped.reason}" for skipped in node.skipped]
        lines.append("")
    if made.flavors:
        lines.append("# flavors ask for them by extra spec:")
        lines += [f"#   pci_passthrough:alias={asked}" for _, asked in sorted(made.flavors.items())]
    return "\n".join(lines).rstrip() + "\n" if lines else _NOTHING


def _json(value: DeviceSpec | Alias) -> str:
    told = {name: text for name, text in msgspec.structs.asdict(value).items() if text}
    return msgspec.json.encode(told).decode().replace('","', '", "').replace('":"', '": "')
