"""From capability documents to facts: which device a document speaks of, and what about it is new.

A device is a part in a slot. Two documents of one node speak of one device when they come from the same source, when
they state the same identity (serial, UUID, MAC), or when they state the same PCI address and nothing contradicts it.
A part that states another identity than the one in its slot is another device: the old one is absent, and nothing that
was the old one's passes to it.

Facts never lead toward `free`. What is first seen is `foreign` when in use, `host` when the host needs it or when
nobody could ever be given it, `free` only by a recorded policy, else `dirty`.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from aggregator.ledger import bmcs, claims, cleaning, conflicts, in_use, joining, shrunk, uses
from aggregator.ledger.entries import (
    DeviceSeen,
    Entry,
    NodeSeen,
    Passed,
    ProfileDefined,
    Verified,
    ViewChanged,
    Viewed,
    ViewGone,
)
from aggregator.ledger.givable import never_given
from aggregator.ledger.merge import of_one_bus, same_kind
from aggregator.ledger.model import OWN, Device, Profile, View, view_source
from aggregator.ledger.partitions import planned_in
from aggregator.ledger.state import State, encode_profile
from aggregator.ledger.transitions import allowed
from aggregator.ledger.words import Lifecycle, Reach
from schemas.capabilities import NODE_OF_DPU_WORDS
from schemas.device import DeviceKind, Document, Part, Value
from schemas.mig import read_place

NODE_LABELS: Final = ("simulated", "nvlink_topology", *(word.name for word in NODE_OF_DPU_WORDS))
"""What of a node's document can be asked for as `node.labels`."""
PART_LABELS: Final = ("vendor", "model", "part_number")
"""What of its making can, so that a service goes only where it can run (R001-17)."""
_SLOT_KEY: Final = "pci:"
"""Keys that name a place, good within one boot; all others name a part."""
_CARDS: Final = {DeviceKind.NIC, DeviceKind.DPU}
"""What a network card is called, by how much of it is known."""
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz234567"
"""Of ids: those of RFC 4648, 6 (base32), in small."""


class Sighting(msgspec.Struct, frozen=True, gc=False):
    """A document, and who says it."""

    node: str
    """The node that it is about."""
    publisher: str
    collector: str
    document: Document
    boot: str


Adopt = Callable[[Device | None, Document], str]
"""Policy for what is seen first and not in use: the cause to begin with, `seen` or `attested`."""


def seen_dirty(_device: Device | None, _document: Document) -> str:
    """Give the default policy: nothing is free before somebody or something says that it is clean."""
    return "seen"


def seen_free(_device: Device | None, _document: Document) -> str:
    """Give the policy of who vouches for whatever arrives: what nobody uses when it is first seen is free."""
    return "attested"


FIRST_SIGHT_POLICIES: Final[dict[str, Adopt]] = {"dirty": seen_dirty, "free": seen_free}
"""By the word of the configuration, `[inventory] first_sight`."""


def observe(state: State, sighting: Sighting, adopt: Adopt = seen_dirty) -> list[Entry]:
    """Give what is new in a document; [] when nothing is."""
    if sighting.document.kind is DeviceKind.NODE:
        return list(_node(state, sighting))
    entries: list[Entry] = []
    if sighting.node not in state.nodes:
        entries.append(NodeSeen(sighting.node))
    profile, own = split(sighting.document)
    number = state.numbers.get(encode_profile(profile))
    if number is None:
        number = len(state.profiles)
        entries.append(ProfileDefined(number, profile))
    view = state.sharing.view(_view(sighting, number, own), sighting.publisher)
    device, replaced = _find(state, sighting.node, view, profile)
    outside = bmcs.is_outside(sighting.node, sighting.collector, profile.kind)
    if outside and not bmcs.may_add(device):
        return [] if replaced is None else _gone(state, replaced, view.source, "its BMC tells of another part there")
    if replaced is not None:
        entries += _gone(state, replaced, view.source, f"another part is in its slot: {view.serial or view.uuid}")
    if device is None:
        name = device_id(state, sighting, view)
        entries += _first(state, name, sighting, view, adopt)
    else:
        entries += _changes(device, view)
        if not outside:  # it may tell of a part that is there no more
            entries += _verified(state, device, view, profile)
            entries += _passed(state, device, view)
        name = device.id
    entries += conflicts.of_view(state, name, sighting.node, view, profile, device, entries)
    entries += joining.parts(state, sighting.node, view, name)
    entries += joining.left_behind(state, replaced, view, name, entries)
    entries += joining.whole(state, sighting.node, view, name, device)
    return entries


def withdraw(state: State, node: str, source: str, why: str) -> list[Entry]:
    """Give what follows when a collector no longer sees a device."""
    name = state.found.by_source.get((node, source))
    if name is None or state.devices[name].reach is Reach.ABSENT:
        return []
    return _gone(state, state.devices[name], source, why)


def split(document: Document) -> tuple[Profile, dict[str, Value]]:
    """Tell what a document says of the making of a device from what it says of this one."""
    told = document.part
    part = Part(told.vendor, told.model, told.part_number, "", "", told.revision, told.firmware)
    shared: dict[str, Value] = {}
    own: dict[str, Value] = {}
    for name, value in document.capabilities.items():
        (own if name in OWN else shared)[name] = value
    return Profile(document.kind, part, shared, document.unsupported), own


def _view(sighting: Sighting, profile: int, own: dict[str, Value]) -> View:
    document = sighting.document
    return View(
        sighting.publisher,
        sighting.collector,
        document.device,
        profile,
        document.slot,
        document.part.serial,
        document.part.uuid,
        document.parent,
        document.merge_keys,
        own,
    )


# --- which device -----------------------------------------------------------------------------------------------------


def _find(state: State, node: str, view: View, profile: Profile) -> tuple[Device | None, Device | None]:
    """Give the device that a view is of, None when it is new; and the one whose slot it has taken."""
    before = state.found.by_source.get((node, view.source))
    for name in _candidates(state, node, view, profile, before):
        device = state.devices[name]
        if _contradicts(device, view, profile) or (name != before and _beside(device, view)):
            continue
        if not of_one_bus(device.kind, profile.kind):
            continue
        return device, state.devices[before] if before not in (None, name) else None
    return None, state.devices[before] if before is not None else _displaced(state, node, view, profile)


def _candidates(state: State, node: str, view: View, profile: Profile, before: str | None) -> Iterator[str]:
    if before is not None:
        yield before
    for key in sorted(view.keys, key=lambda key: key.startswith(_SLOT_KEY)):
        found = state.found.by_key.get((node, key))
        if found is not None:
            yield found
    if profile.kind is DeviceKind.GPU_PARTITION:
        yield from _planned(state, node, view)
    if view.slot.path:
        yield from list(state.found.by_slot.get((node, view.slot.path), ()))


def _planned(state: State, node: str, view: View) -> Iterator[str]:
    """Yield the partition that was planned in the place where one is seen."""
    gpu = state.found.by_source.get((node, view_source(view.publisher, view.collector, view.parent)))
    place = read_place(str(view.own.get("mig_placement", "")))
    if gpu is not None and place is not None:
        yield from [one.id for one in planned_in(state, gpu, place)]


def _contradicts(device: Device, view: View, profile: Profile) -> bool:
    """Tell whether a view cannot be of a device: another identity, another place at the same time, another making."""
    if device.planned and device.lifecycle is Lifecycle.RESERVED:
        return True  # no node was told to make it yet
    if _differ(device.part.uuid, view.uuid) or _differ(device.part.serial, view.serial):
        return True
    same_part = bool(
        (view.uuid and view.uuid == device.part.uuid) or (view.serial and view.serial == device.part.serial)
    )
    if same_part:
        return False
    alike = same_kind(device.kind, profile.kind) or {device.kind, profile.kind} <= _CARDS
    if device.reach is Reach.ABSENT and not alike:
        return True  # something else is in its slot, told of first by who knows no more of it
    if _differ(device.slot.path, view.slot.path) and not any(key in _keys(device) for key in _part_keys(view.keys)):
        return True
    known = device.capabilities
    return any(_differ(known.get(name), profile.capabilities.get(name)) for name in ("pci_vendor_id", "pci_device_id"))


def _beside(device: Device, view: View) -> bool:
    """Tell whether who speaks describes a device under another name already, in this boot: two names, two devices."""
    return device.reach is Reach.LIVE and any(
        (one.publisher, one.collector) == (view.publisher, view.collector) and one.document != view.document
        for one in device.views.values()
    )


def _differ(one: object, other: object) -> bool:
    return bool(one) and bool(other) and one != other


def _keys(device: Device) -> set[str]:
    return {key for view in device.views.values() for key in view.keys}


def _part_keys(keys: Iterable[str]) -> list[str]:
    return [key for key in keys if not key.startswith(_SLOT_KEY)]


def _displaced(state: State, node: str, view: View, profile: Profile) -> Device | None:
    """Give the device in whose slot a new part sits, as far as the same collector saw it there."""
    for name in state.found.by_slot.get((node, view.slot.path), ()) if view.slot.path else ():
        device = state.devices[name]
        if device.reach is Reach.ABSENT or not of_one_bus(device.kind, profile.kind):
            continue
        if _contradicts(device, view, profile):
            return device
    return None


def device_id(state: State, sighting: Sighting, view: View) -> str:
    """Make the id of a device that is seen first: its kind, and letters that its identity gives; never one in use."""
    document = sighting.document
    identity = view.uuid or view.serial or f"{sighting.node} {view.slot.path or view.source}"
    seed = f"{identity} {sighting.node} {document.part.vendor} {document.part.model}"
    digest = hashlib.blake2b(seed.encode(), digest_size=20).digest()
    number = int.from_bytes(digest, "big")
    letters = ""
    for shift in range(155, -1, -5):
        letters += _LETTERS[number >> shift & 31]
        if len(letters) >= 7 and (name := f"{document.kind.value}-{letters}") not in state.devices:
            return name
    return f"{document.kind.value}-{letters}-{state.sequence}"


# --- what is new ------------------------------------------------------------------------------------------------------


def _node(state: State, sighting: Sighting) -> Iterator[Entry]:
    told = sighting.document.capabilities
    node = state.nodes.get(sighting.node)
    totals = dict(node.totals) if node else {}
    for amount, source in (("vcpus", "cores"), ("memory_bytes", "memory_bytes"), ("disk_bytes", "disk_bytes")):
        value = told.get(source)
        if isinstance(value, int):
            totals[amount] = value
    name = str(told.get("host_name", "")) or None
    labels: dict[str, str] = {key: str(told[key]) for key in NODE_LABELS if key in told}
    part = sighting.document.part
    labels |= {key: text for key in PART_LABELS if (text := getattr(part, key))}
    new_name = node is None or (name and name != (node.host_name or node.name))
    if node is None or new_name or totals != node.totals or labels != node.labels:
        yield NodeSeen(sighting.node, name, totals, labels)
    if node is not None and totals != node.totals:
        yield from shrunk.of_totals(state, node, totals)


def _first(state: State, name: str, sighting: Sighting, view: View, adopt: Adopt) -> list[Entry]:
    document = sighting.document
    bound = uses.awaited(state, sighting.node, view.slot.address, name) if view.slot.address else []
    user = in_use.told_by(view, "taken") or uses.awaited_user(state, sighting.node, view.slot.address)
    need = in_use.told_by(view, "kept")
    if user:
        cause, why = "taken", f"in use by {user}"
    elif need:
        cause, why = "kept", f"the host needs it: {need}"
    elif own := never_given(document.kind, document.capabilities):
        cause, why = "kept", own
    else:
        cause = adopt(None, document)
        why = "by policy" if cause == "attested" else ""
    return [DeviceSeen(name, sighting.node, document.kind, cause, why), Viewed(name, view), *bound]


def _changes(device: Device, view: View) -> list[Entry]:
    before = device.views.get(view.source)
    if before is None:
        # what was last said of an absent part, of where it was, holds no more: another may be there by now
        return [Viewed(device.id, view, list(device.views) if device.reach is Reach.ABSENT else [])]
    if before == view and device.reach is not Reach.ABSENT:
        return []
    own: dict[str, Value | None] = {name: value for name, value in view.own.items() if before.own.get(name) != value}
    own |= dict.fromkeys(before.own.keys() - view.own.keys())
    return [
        ViewChanged(
            device.id,
            view.source,
            own,
            None if view.profile == before.profile else view.profile,
            None if view.slot == before.slot else view.slot,
            None if view.parent == before.parent else view.parent,
            None if view.keys == before.keys else view.keys,
            None if view.serial == before.serial else view.serial,
            None if view.uuid == before.uuid else view.uuid,
        )
    ]


def _verified(state: State, device: Device, view: View, profile: Profile) -> list[Entry]:
    """After a boot a device is what it was once it says so; one that never said who it is, once its making fits.

    Not so one that was away: what is in its slot now may be another that says nothing of itself. What nobody has is not
    known to be clean then; what a claim has stays its, and is cleaned after it, whatever it is.
    """
    known = device.part.uuid or device.part.serial
    shown = (view.uuid and view.uuid == device.part.uuid) or (view.serial and view.serial == device.part.serial)
    if device.reach is Reach.ABSENT and not shown:
        why = "it was away, and does not say who it is"
        if known:
            return [Verified(device.id, seen=False, why=why)]
        if not _named(state, device, view) and (doubted := cleaning.doubt(device, why)):
            return doubted
    if device.reach is not Reach.UNVERIFIED:
        return []
    if shown or (not known and profile.part.model == device.part.model):
        return [Verified(device.id, seen=True)]
    return []


def _named(state: State, device: Device, view: View) -> bool:
    """Tell whether a view names a device without UUID and serial as it was: by a MAC, or as a function of its port."""
    if any(key in _keys(device) for key in _part_keys(view.keys)):
        return True
    port = state.devices.get(device.parent) if device.kind is DeviceKind.VF else None
    return port is not None and port.reach is Reach.LIVE


def _passed(state: State, device: Device, view: View) -> list[Entry]:
    """What a device's use on the host does to its lifecycle; only the view that tells it, the last to, may end it.

    Of a device that a claim may have in use, being in use is no news.
    """
    if uses.in_hands(state, device):
        return []
    before = device.views.get(view.source)
    for begin, stop in (("taken", "let_go"), ("kept", "given_back")):
        told, was = in_use.told_by(view, begin), in_use.told_by(before, begin) if before else ""
        if told and (entries := uses.begun(state, device, begin, told)):
            return entries
        others = in_use.seen(device, begin, beside=view.source) or (begin == "taken" and in_use.recorded(state, device))
        if stop == "given_back" and never_given(device.kind, device.capabilities):
            continue
        if was and not told and not others and allowed(device.lifecycle, stop):
            return [Passed(device.id, stop, why=was)]
    return []


def _gone(state: State, device: Device, source: str, why: str) -> list[Entry]:
    """A collector no longer sees a device; with its last view a claim that no node was told of is given back."""
    entries: list[Entry] = []
    alone = bmcs.outside(device, beside=source)
    last = set(device.views) <= {source, *alone}
    if last:
        entries += claims.invalidate(state, [device], why)
        if device.planned and device.lifecycle is Lifecycle.RESERVED:
            return entries  # with its claim it is no device any more
    entries += [ViewGone(device.id, one, "only its BMC tells of it still") for one in alone]
    entries.append(ViewGone(device.id, source, why))
    if last:
        entries += conflicts.left_alone(state, device)
    else:
        entries += conflicts.of_views_left(state, device, {source, *alone})
    return entries
