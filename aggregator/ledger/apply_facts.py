"""What facts do to the state: nodes, devices, how collectors see them, and what they are marked with."""

import sys
from collections.abc import Callable
from typing import Any, Final

import msgspec

from aggregator.ledger.entries import (
    DeviceSeen,
    Joined,
    NodeReached,
    NodeRun,
    NodeSeen,
    Passed,
    ProfileDefined,
    Proved,
    Tainted,
    Untainted,
    Verified,
    ViewChanged,
    Viewed,
    ViewGone,
)
from aggregator.ledger.model import Device, Node, Sight, View, mark_key, part_key
from aggregator.ledger.sharing import Capabilities
from aggregator.ledger.state import State, encode_profile
from aggregator.ledger.transitions import FIRST_SIGHT
from aggregator.ledger.words import Reach

_FINDS: Final = frozenset({"iommu_group", "bridge"})
"""Capabilities that `State.index` goes by."""
_NOTHING: Final = (None,) * 6


def _profile_defined(state: State, entry: ProfileDefined) -> None:
    assert entry.number == len(state.profiles)
    state.profiles.append(entry.profile)
    state.numbers[encode_profile(entry.profile)] = entry.number


def _node_seen(state: State, entry: NodeSeen) -> None:
    node = state.nodes.get(entry.node)
    if node is None:
        node = state.nodes[entry.node] = Node(entry.node)
    if entry.name is not None and node.host_name:
        node.host_name = entry.name  # an operator's name goes before it
    elif entry.name is not None:
        node.name = entry.name
    if entry.totals is not None:
        node.totals = entry.totals
    if entry.labels is not None:
        node.labels = entry.labels
    state.touch_node(node.id)


def _node_run(state: State, entry: NodeRun) -> None:
    node = state.nodes[entry.node]
    node.publisher, node.epoch, node.boot, node.order = entry.publisher, entry.epoch, entry.boot, 0
    if entry.unverified:
        for device in state.devices_of(node.id):
            if device.reach is Reach.LIVE:
                device.reach = Reach.UNVERIFIED
                state.touch(device)
    state.touch_node(node.id)


def _node_reached(state: State, entry: NodeReached) -> None:
    node = state.nodes[entry.node]
    if entry.live:
        node.silent_ns = 0
    elif node.live:
        node.silent_ns = state.time_ns
    node.live = entry.live
    state.touch_node(entry.node)


def _device_seen(state: State, entry: DeviceSeen) -> None:
    assert entry.device not in state.devices
    node = state.nodes[entry.node]
    device = Device(entry.device, node.id, entry.kind, lifecycle=FIRST_SIGHT[entry.cause], first=state.sequence)
    device.boot = node.boot
    state.devices[device.id] = device
    node.devices[device.id] = None
    state.index(device)
    state.touch(device)


def _viewed(state: State, entry: Viewed) -> None:
    device = state.devices[entry.device]
    state.unindex(device)
    for source in entry.instead:
        device.views.pop(source, None)
    view = state.sharing.view(entry.view, state.nodes[device.node].publisher)
    device.views[sys.intern(view.source)] = view
    _seen(state, device)


def _view_changed(state: State, entry: ViewChanged) -> None:
    device = state.devices[entry.device]
    view = _changed(device.views[entry.source], entry)
    if _is_small(state, device, entry):
        device.views[entry.source] = view
        device.capabilities = Capabilities(state.profiles[view.profile].capabilities, view.own)
        state.touch(device)
        return
    state.unindex(device)
    device.views[entry.source] = state.sharing.view(view, state.nodes[device.node].publisher)
    _seen(state, device)


def _is_small(state: State, device: Device, entry: ViewChanged) -> bool:
    """Tell whether a change touches nothing that the device is found by or that another view tells: most are so."""
    if (
        len(device.views) != 1
        or device.reach is Reach.ABSENT
        or not entry.own
        or not entry.own.keys().isdisjoint(_FINDS)
    ):
        return False
    if (entry.profile, entry.slot, entry.parent, entry.keys, entry.serial, entry.uuid) != _NOTHING:
        return False
    last = state.sights[device.id][-1]
    return last.until is None and last.node == device.node


def _changed(view: View, entry: ViewChanged) -> View:
    own: dict[str, Any] = {**view.own, **entry.own} if entry.own else view.own
    if None in entry.own.values():
        own = {name: value for name, value in own.items() if value is not None}
    return View(
        view.publisher,
        view.collector,
        view.document,
        view.profile if entry.profile is None else entry.profile,
        view.slot if entry.slot is None else entry.slot,
        view.serial if entry.serial is None else entry.serial,
        view.uuid if entry.uuid is None else entry.uuid,
        view.parent if entry.parent is None else entry.parent,
        view.keys if entry.keys is None else entry.keys,
        own,
    )


def _seen(state: State, device: Device) -> None:
    """Bring a device up to date after one of its views changed; `unindex` was called before."""
    if device.reach is Reach.ABSENT:
        device.reach = Reach.LIVE
    state.derive(device)
    place = (device.node, device.slot.path or device.slot.address, sys.intern(part_key(device)))
    sights = state.sights.get(device.id)
    if sights is None:
        state.sights[device.id] = [Sight(device.id, *place, since=state.sequence)]
        return
    if sights and sights[-1].until is None:
        last = sights[-1]
        if (last.node, last.path, last.part) == place:
            return
        sights[-1] = msgspec.structs.replace(last, until=state.sequence)
    sights.append(Sight(device.id, *place, since=state.sequence))


def _view_gone(state: State, entry: ViewGone) -> None:
    device = state.devices[entry.device]
    if len(device.views) > 1:
        state.unindex(device)
        device.views.pop(entry.source, None)
        state.derive(device)
        return
    device.reach = Reach.ABSENT
    sights = state.sights.get(device.id, [])
    if sights and sights[-1].until is None:
        sights[-1] = msgspec.structs.replace(sights[-1], until=state.sequence)
    state.touch(device)
    state.end_planned(device)


def _verified(state: State, entry: Verified) -> None:
    device = state.devices[entry.device]
    if entry.seen:
        device.reach = Reach.LIVE
        device.boot = state.nodes[device.node].boot
    else:
        device.reach = Reach.UNVERIFIED
    state.touch(device)


def _tainted(state: State, entry: Tainted) -> None:
    if entry.device:
        device = state.devices[entry.device]
        device.taints[entry.taint.key] = entry.taint
        state.touch(device)
    else:
        state.nodes[entry.node].taints[entry.taint.key] = entry.taint
        state.touch_node(entry.node)


def _untainted(state: State, entry: Untainted) -> None:
    if entry.device:
        device = state.devices[entry.device]
        device.taints.pop(mark_key(entry.rule, entry.alert), None)
        state.touch(device)
    else:
        state.nodes[entry.node].taints.pop(mark_key(entry.rule, entry.alert), None)
        state.touch_node(entry.node)


def _passed(state: State, entry: Passed) -> None:
    state.move(state.devices[entry.device], entry.cause)


def _proved(state: State, entry: Proved) -> None:
    device = state.devices[entry.device]
    device.evidence = msgspec.structs.replace(entry.evidence, sequence=state.sequence)
    gpu = state.devices.get(device.parent) if device.planned else None
    if gpu is not None:  # a partition that was made for a claim ends with its clean
        gpu.evidence = device.evidence
        state.touch(gpu)
    state.move(device, entry.cause)


def _joined(state: State, entry: Joined) -> None:
    state.join(state.devices[entry.device], entry.parent)


FACTS: Final[dict[type[Any], Callable[[State, Any], None]]] = {
    ProfileDefined: _profile_defined,
    NodeSeen: _node_seen,
    NodeRun: _node_run,
    NodeReached: _node_reached,
    DeviceSeen: _device_seen,
    Viewed: _viewed,
    ViewChanged: _view_changed,
    ViewGone: _view_gone,
    Verified: _verified,
    Tainted: _tainted,
    Untainted: _untainted,
    Passed: _passed,
    Proved: _proved,
    Joined: _joined,
}
"""What each entry of these does."""
