"""Devices out of a snapshot, in bulk: a leader that starts makes all of them before it can decide."""

import sys
from collections.abc import Mapping
from typing import Final

import msgspec

from aggregator.ledger.merge import merge_capabilities, merged_part
from aggregator.ledger.model import Device, Node, Profile, Sight, View, view_source
from aggregator.ledger.sharing import Capabilities
from aggregator.ledger.snapshot_form import Alike, ToldDevice, ToldNode, ToldStays, ToldView, decode
from schemas.device import DeviceKind, Part, Slot, Value, part_key

_MOST: Final = 1 << 15
"""So many are remembered of what is alike; with more, remembering begins anew."""
_node: Final = msgspec.msgpack.Decoder(ToldNode)
_alike: Final = msgspec.msgpack.Decoder(Alike)


class Making:
    """Makes devices of what a snapshot says of them. What many of them have alike is made once, and shared."""

    __slots__ = ("_known", "_profiles", "made")

    def __init__(self, profiles: list[Profile]) -> None:
        self._profiles = profiles
        self.made: list[tuple[View, Capabilities]] = []
        """A view of each that many have alike, and what a device can do that is seen so alone: for `Sharing`."""
        self._known: dict[bytes, _Like] = {}

    def encoded(self, node: msgspec.Raw) -> list[tuple[Device, ToldStays]]:
        """Give the devices of a node of `Reading.encoded`, each with what `stays` takes. Raises SnapshotError."""
        return self.devices(decode(_node, node))

    def devices(self, one: ToldNode) -> list[tuple[Device, ToldStays]]:
        """Give a node's devices, each with what `stays` takes. Raises SnapshotError."""
        return [(self._device(one.node, told), told.stays) for told in one.devices]

    def _device(self, node: Node, one: ToldDevice) -> Device:
        if len(one.views) == 1:  # as most have: in a fraction of the time that `merge` takes
            (told,) = one.views
            like = self._known.get(told.alike) or self._like(told.alike)
            publisher = node.id if told.publisher is None else told.publisher
            views = {publisher + like.source: _view_of(told, publisher, like.view)}
            part = like.profile.part
            if told.serial or told.uuid:
                part = Part(
                    part.vendor, part.model, part.part_number, told.serial, told.uuid, part.revision, part.firmware
                )
            slot, capabilities, profiles = like.view.slot, like.capabilities, like.profiles
        else:
            views = self._views(node, one)
            part, slot, capabilities, profiles = _merged(views, self._profiles)
        return Device(
            one.id,
            node.id,
            one.kind,
            views,
            one.part or part,
            one.slot or slot,
            one.parent,
            one.lifecycle,
            one.reach,
            one.taints or {},
            one.hold,
            one.evidence,
            one.released,
            one.cleaning,
            node.boot if one.boot is None else one.boot,
            one.first,
            one.changed,
            capabilities,
            profiles,
            one.planned,
        )

    def _views(self, node: Node, one: ToldDevice) -> dict[str, View]:
        views = {}
        for told in one.views:
            like = self._known.get(told.alike) or self._like(told.alike)
            publisher = node.id if told.publisher is None else told.publisher
            views[publisher + like.source] = _view_of(told, publisher, like.view)
        return views

    def _like(self, encoded: bytes) -> "_Like":
        one = decode(_alike, encoded)
        profile = self._profiles[one.profile]
        capabilities = Capabilities(profile.capabilities, one.own)
        made = _Like(view_source("", one.collector, one.document), one, profile, capabilities, (one.profile,))
        view = View("", one.collector, one.document, one.profile, one.slot, "", "", one.parent, [], one.own)
        self.made.append((view, capabilities))
        if len(self._known) >= _MOST:
            self._known.clear()
            self.made.clear()
        self._known[encoded] = made
        return made


class _Like(msgspec.Struct, frozen=True, gc=False):
    """What devices have alike of which a view tells alike."""

    source: str
    """Of the view, without its publisher."""
    view: Alike
    profile: Profile
    capabilities: Mapping[str, Value]
    """Of a device that has this view alone."""
    profiles: tuple[int, ...]
    """Likewise."""


def _view_of(told: ToldView, publisher: str, like: Alike) -> View:
    return View(
        publisher,
        like.collector,
        like.document,
        like.profile,
        like.slot,
        told.serial,
        told.uuid,
        like.parent,
        [sys.intern(one) for one in told.keys],
        like.own,
    )


def _merged(views: dict[str, View], profiles: list[Profile]) -> tuple[Part, Slot, Mapping[str, Value], tuple[int, ...]]:
    """Give what `merge` derives."""
    device = Device("", "", DeviceKind.PCI_FUNCTION, views)
    merge_capabilities(device, profiles)
    return *merged_part(views.values(), profiles), device.capabilities, device.profiles


def stays(device: Device, told: ToldStays) -> list[Sight]:
    """Give where a device has been; it must not have changed since the snapshot."""
    node, slot = device.node, device.slot
    path, part = slot.path or slot.address, part_key(device.part, node, slot)
    if isinstance(told, int):
        return [Sight(device.id, node, path, part, told)]
    return [
        Sight(
            device.id,
            node if stay.node is None else stay.node,
            path if stay.path is None else stay.path,
            part if stay.part is None else stay.part,
            stay.since,
            stay.until,
        )
        for stay in told
    ]
