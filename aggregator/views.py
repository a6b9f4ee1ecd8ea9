"""The ledger's state as the API shows it: plain structures, with what is derived spelled out."""

import msgspec

from aggregator.ledger.model import Device, Evidence, Sight, Taint
from aggregator.ledger.relations import excludes, together
from aggregator.ledger.state import State
from schemas.device import Part, Slot, Value


class TaintView(msgspec.Struct, frozen=True):
    """A mark, and why."""

    rule: str
    effect: str
    evidence: str
    who: str
    since_ns: int
    expires_ns: int | None

    @classmethod
    def of(cls, taint: Taint) -> "TaintView":
        """Show a taint."""
        return cls(taint.rule, taint.effect.value, taint.evidence, taint.who, taint.since_ns, taint.expires_ns)


class DeviceView(msgspec.Struct, frozen=True):
    """A device, as answers show it."""

    id: str
    node: str
    node_name: str
    kind: str
    variant: str
    """The operator's name for its making; "" when none fits."""
    lifecycle: str
    reach: str
    taints: list[TaintView]
    claim: str
    """The claim that holds it, or held it last and it was not cleaned since; "" for none, and for who may not know."""
    tenant: str
    mode: str
    part: Part
    slot: Slot
    parent: str
    together: list[str]
    """The other endpoints of its IOMMU group."""
    excludes: list[str]
    """What cannot be given while it is."""
    capabilities: dict[str, Value]
    unsupported: list[str]
    evidence: Evidence | None
    first: int
    changed: int
    """Ledger sequences."""


def device_view(state: State, device: Device) -> DeviceView:
    """Show a device."""
    node = state.nodes[device.node]
    hold = device.hold
    return DeviceView(
        device.id,
        device.node,
        node.name,
        device.kind.value,
        state.variant_of(device),
        device.lifecycle.value,
        state.reach(device).value,
        [TaintView.of(taint) for taint in device.taints.values()],
        hold.claim if hold else "",
        hold.tenant if hold else "",
        hold.mode.value if hold else "",
        device.part,
        device.slot,
        device.parent,
        [other.id for other in together(state, device)],
        [other.id for other in excludes(state, device)],
        device.capabilities,
        sorted({name for number in device.profiles for name in state.profiles[number].unsupported}),
        device.evidence,
        device.first,
        device.changed,
    )


class DeviceHistory(msgspec.Struct, frozen=True):
    """Where a device has been, and what was where it is."""

    sights: list[Sight]
    slot: list[Sight]
    """The stays of every part in its slot, its own among them."""


def device_history(state: State, device: Device) -> DeviceHistory:
    """Give the stays of a device, and those of all parts in its slot, oldest first."""
    neighbours = (device.slot.path and state.in_slot(device.node, device.slot.path)) or [device.id]
    slot = [
        sight
        for name in neighbours
        for sight in state.sights.get(name, ())
        if sight.node == device.node and sight.path == (device.slot.path or device.slot.address)
    ]
    return DeviceHistory(list(state.sights.get(device.id, ())), sorted(slot, key=lambda sight: sight.since))
