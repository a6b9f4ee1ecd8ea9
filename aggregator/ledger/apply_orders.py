"""What operators' orders do to the state: variants, packages, quotas, policies, and the life of nodes."""

from collections.abc import Callable
from typing import Any, Final

from aggregator.ledger.entries import (
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
from aggregator.ledger.model import Node
from aggregator.ledger.state import State
from aggregator.ledger.words import Reach


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
    state.touch_node(node.id)


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
    for device in list(state.devices_of(old.id)):
        state.unindex(device)
        device.node = new.id
        device.reach = Reach.UNVERIFIED if device.reach is Reach.LIVE else device.reach
        new.devices[device.id] = None
        state.index(device)
        state.touch(device)
    old.devices = {}
    old.retired = True
    for claim in claims:
        claim.rename(old.id, new.id)
        state.hold(claim)
    state.touch_node(old.id)


def _ratio_set(state: State, entry: RatioSet) -> None:
    state.ratios[entry.amount] = entry.ratio
    for node in state.nodes:
        state.touch_node(node)


def _generation_begun(state: State, entry: GenerationBegun) -> None:
    state.generation = entry.generation
    for device in state.devices.values():
        if device.reach is Reach.LIVE:
            device.reach = Reach.UNVERIFIED
            state.touch(device)


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
}
"""What each entry of these does."""
