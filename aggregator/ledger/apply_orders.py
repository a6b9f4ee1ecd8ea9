"""What operators' orders do to the state: variants, packages, quotas, policies, and the life of nodes."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from aggregator.ledger import in_use
from aggregator.ledger.entries import (
    CheckpointShown,
    GenerationBegun,
    NodeOrdered,
    NodeReplaced,
    NodeRetired,
    PackageRemoved,
    PackageSet,
    QuotaSet,
    RatioSet,
    VariantRemoved,
    VariantSet,
)
from aggregator.ledger.model import Device, Node, Sight, renamed_part
from aggregator.ledger.state import State
from aggregator.ledger.transitions import allowed
from aggregator.ledger.twins import twins_of
from aggregator.ledger.words import CONFLICT, Lifecycle, Reach


def _variant_set(state: State, entry: VariantSet) -> None:
    state.variants[entry.variant.name] = entry.variant


def _variant_removed(state: State, entry: VariantRemoved) -> None:
    state.variants.pop(entry.name, None)


def _package_set(state: State, entry: PackageSet) -> None:
    state.packages[entry.package.name] = entry.package


def _package_removed(state: State, entry: PackageRemoved) -> None:
    state.packages.pop(entry.name, None)


def _quota_set(state: State, entry: QuotaSet) -> None:
    if entry.quota.limits:
        state.quotas[entry.quota.tenant] = entry.quota
    else:
        state.quotas.pop(entry.quota.tenant, None)


def _node_ordered(state: State, entry: NodeOrdered) -> None:
    node = state.nodes[entry.node]
    if entry.cordoned is not None:
        node.cordoned = entry.cordoned
    if entry.draining is not None:
        node.draining = entry.draining
    if entry.maintenance_until_ns is not None:
        node.maintenance_until_ns = entry.maintenance_until_ns or None
        node.maintenance = entry.maintenance if entry.maintenance_until_ns else ""
    if entry.name is not None:
        name_node(node, entry.name)
    state.touch_node(node.id)


def name_node(node: Node, name: str) -> None:
    """Let an operator's name stand for what the machine calls itself; "" ends that."""
    host_name = node.host_name or node.name
    node.name, node.host_name = (name, host_name) if name else (host_name, "")


def _node_retired(state: State, entry: NodeRetired) -> None:
    state.nodes[entry.node].retired = entry.retired
    state.touch_node(entry.node)


def _node_replaced(state: State, entry: NodeReplaced) -> None:
    """The successor's own devices stay its own; those of the old machine come under its id, claims and all."""
    old = state.nodes[entry.node]
    new = state.nodes.setdefault(entry.successor, Node(entry.successor, name=old.name))
    claims = [claim for claim in state.live_claims() if old.id in claim.amounts]
    claims += [
        claim
        for claim in state.live_claims()
        if claim not in claims and any(held.node == old.id for held in claim.devices)
    ]
    for claim in claims:
        state.hold(claim, -1)
    twins = twins_of(state, old.id, new.id) if entry.twins is None else entry.twins
    for device in list(state.devices_of(old.id)):
        state.unindex(device)
        device.node = new.id
        if device.hold is not None:
            part = renamed_part(device.hold.part, old.id, new.id)
            device.hold = msgspec.structs.replace(device.hold, part=part)
        device.reach = Reach.UNVERIFIED if device.reach is Reach.LIVE else device.reach
        new.devices[device.id] = None
        state.index(device)
        state.touch(device)
    old.devices = {}
    old.retired = True
    for claim in claims:
        claim.rename(old.id, new.id, add=entry.add)
        claim.version = state.sequence
        state.hold(claim)
    for name, twin in twins.items():  # claims are counted again: what becomes of a device's profiles counts with them
        _absorb(state, state.devices[name], state.devices[twin])
    state.touch_node(old.id)
    state.touch_node(new.id)


def _absorb(state: State, device: Device, twin: Device) -> None:
    """Let a device have what was told of it under another name, which is no more."""
    state.unindex(device)
    state.unindex(twin)
    device.views = dict(twin.views)
    device.reach, device.boot = twin.reach, twin.boot
    del state.devices[twin.id]
    del state.nodes[twin.node].devices[twin.id]
    for part in state.devices_of(twin.node):
        if part.parent == twin.id:
            state.unindex(part)
            part.parent = device.id
            state.index(part)
    _follow_sights(state, device, state.sights.pop(twin.id, []))
    for record in state.records.values():
        for use in [use for use in record.uses.values() if use.device == twin.id]:
            state.record(record.source, use, -1)
            record.uses[use.place] = msgspec.structs.replace(use, device=device.id)
            state.record(record.source, record.uses[use.place])
    state.derive(device)
    device.taints |= {key: mark for key, mark in twin.taints.items() if mark.rule != CONFLICT}
    _take_the_worse(state, device, twin)


_WORSE: Final = {
    Lifecycle.FOREIGN: "taken",
    Lifecycle.HOST: "kept",
    Lifecycle.RETIRED: "retired",
    Lifecycle.QUARANTINED: "doubted",
    Lifecycle.CLEANING: "doubted",
    Lifecycle.DIRTY: "doubted",
}
"""Of a twin, what makes of a device what is known of it as well."""


def _take_the_worse(state: State, device: Device, twin: Device) -> None:
    """Of what two records say of one device the worse holds; nothing but first sight is no news of one known before.

    What a claim has, or had last, is its own until its end: who else has it counts then.
    """
    device.released = max(device.released, twin.released)
    if device.hold is not None or (twin.lifecycle is Lifecycle.DIRTY and not twin.released):
        return
    cause = _WORSE.get(twin.lifecycle)
    if cause is not None and allowed(device.lifecycle, cause):
        state.move(device, cause)
    elif device.lifecycle is Lifecycle.FOREIGN and not in_use.outside(state, device):
        state.move(device, "let_go")  # who had it had it under the old id


def _follow_sights(state: State, device: Device, of_twin: list[Sight]) -> None:
    mine = state.sights.setdefault(device.id, [])
    if of_twin and mine and mine[-1].until is None:
        mine[-1] = msgspec.structs.replace(mine[-1], until=state.sequence)
    mine += [msgspec.structs.replace(sight, device=device.id) for sight in of_twin]


def _ratio_set(state: State, entry: RatioSet) -> None:
    state.ratios[entry.amount] = entry.ratio
    for node in state.nodes:
        state.touch_node(node)


def _generation_begun(state: State, entry: GenerationBegun) -> None:
    """No node has shown its checkpoint in it yet: `State.reach` calls their devices unverified."""
    state.generation = entry.generation
    state.generations[entry.generation] = state.sequence
    for node in state.nodes:
        state.touch_node(node)


def _checkpoint_shown(state: State, entry: CheckpointShown) -> None:
    state.nodes[entry.node].shown = entry.generation
    state.touch_node(entry.node)


ORDERS: Final[dict[type[Any], Callable[[State, Any], None]]] = {
    VariantSet: _variant_set,
    VariantRemoved: _variant_removed,
    PackageSet: _package_set,
    PackageRemoved: _package_removed,
    QuotaSet: _quota_set,
    NodeOrdered: _node_ordered,
    NodeRetired: _node_retired,
    NodeReplaced: _node_replaced,
    RatioSet: _ratio_set,
    GenerationBegun: _generation_begun,
    CheckpointShown: _checkpoint_shown,
}
"""What each entry of these does."""
