"""The ledger's state as the API shows it: plain structures, with what is derived spelled out."""

import msgspec

from aggregator.ledger.model import Device, Evidence, Sight, Taint
from aggregator.ledger.relations import excludes, together
from aggregator.ledger.state import State
from schemas.device import Part, Slot, Value
from schemas.evidence import Readback, decode_readback


class TaintView(msgspec.Struct, frozen=True):
    """A mark, and why."""

    rule: str
    effect: str
    evidence: str
    who: str
    since_ns: int
    expires_ns: int | None
    """When it ends by itself; null: never."""
    alert: str
    """Fingerprint of the alert that it ends with; "" when no alert put it there."""

    @classmethod
    def of(cls, taint: Taint) -> "TaintView":
        """Show a taint."""
        effect = taint.effect.value
        return cls(taint.rule, effect, taint.evidence, taint.who, taint.since_ns, taint.expires_ns, taint.alert)


class EvidenceView(msgspec.Struct, frozen=True):
    """Why a device may be free: the last proof that it is clean."""

    sequence: int
    """Of the ledger."""
    ground: str
    """`evidence`: the device's own readback; `attestation`: an operator's word."""
    who: str
    part: str
    """The part that it is about."""
    statement: str = ""
    """The operator's words."""
    readback: Readback | None = None
    """What the device's node read of it; null: nothing."""

    @classmethod
    def of(cls, evidence: Evidence) -> "EvidenceView":
        """Show a proof. A document of a form that is not known any more is shown as it is, in `statement`."""
        told = (evidence.sequence, evidence.ground, evidence.who, evidence.part)
        try:
            if evidence.ground == "evidence":
                return cls(*told, readback=decode_readback(evidence.document))
            return cls(*told, msgspec.json.decode(evidence.document, type=dict[str, str])["statement"])
        except (msgspec.MsgspecError, KeyError):
            return cls(*told, evidence.document)


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
    evidence: EvidenceView | None
    """Null: nothing ever proved it clean."""
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
        dict(device.capabilities),
        sorted({name for number in device.profiles for name in state.profiles[number].unsupported}),
        EvidenceView.of(device.evidence) if device.evidence else None,
        device.first,
        device.changed,
    )


class StayView(msgspec.Struct, frozen=True):
    """One stay of a part in a slot."""

    device: str
    node: str
    path: str
    """Of the slot."""
    part: str
    since: int
    until: int | None
    """Ledger sequences; null: it is there."""

    @classmethod
    def of(cls, sight: Sight) -> "StayView":
        """Show a stay."""
        return cls(sight.device, sight.node, sight.path, sight.part, sight.since, sight.until)


class DeviceHistory(msgspec.Struct, frozen=True):
    """Where a device has been, and what was where it is."""

    sights: list[StayView]
    slot: list[StayView]
    """The stays of every part in its slot, its own among them."""


def device_history(state: State, device: Device) -> DeviceHistory:
    """Give the stays of a device, and those of all parts in its slot, oldest first."""
    place = device.slot.path or device.slot.address
    slot = [
        sight
        for one in (state.devices_of(device.node) if place else [device])  # what was there may be elsewhere by now
        for sight in state.sights.get(one.id, ())
        if sight.node == device.node and sight.path == place
    ]
    mine = state.sights.get(device.id, ())
    return DeviceHistory(
        [StayView.of(sight) for sight in mine],
        [StayView.of(sight) for sight in sorted(slot, key=lambda sight: sight.since)],
    )
