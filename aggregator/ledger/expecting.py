"""Devices that a node keeps for claims and that nobody describes: absent, and their claims' all the same.

Whoever describes one later speaks of a device that is known, and a claim's: no policy for first sights frees it. What
it is a part of is recorded with it, or it would be given whole.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from aggregator.ledger.entries import DeviceSeen, Entry, Joined, ProfileDefined, Viewed, ViewGone
from aggregator.ledger.facts import Sighting, device_id
from aggregator.ledger.model import Profile, View
from aggregator.ledger.restoring import find_kept, find_whole
from aggregator.ledger.state import State, encode_profile
from aggregator.ledger.words import WHOLE_OF
from schemas.claims import CheckpointClaim, ClaimDevice
from schemas.device import DeviceKind, Document, Part, Slot

_KINDS: Final = {kind.value for kind in DeviceKind}


def expect(state: State, nodes: Sequence[str], claim: CheckpointClaim) -> tuple[list[Entry], int]:
    """Record the devices of a claim that nobody described in time as absent, and give how many; then `restore` it.

    `nodes`: those that its publisher speaks for. Where these are several, and an older agent did not keep on which of
    them a device was, it is not known, and not recorded.
    """
    expected = _Expected(state)
    found = 0
    for one in claim.devices:
        node = one.node if one.node in nodes else nodes[0] if len(nodes) == 1 else ""
        publisher = state.nodes[node].publisher if node else ""
        if not node or find_kept(state, publisher, one) is not None:
            continue
        whole = find_whole(state, publisher, one) if one.family not in ("", one.part) else None
        if one.profile and whole is not None:
            continue  # what is to be made on a GPU that is known comes back by its plan
        found += 1
        expected.add(node, one, "" if whole is None else whole.id, claim.claim)
    return expected.entries, found


class _Expected:
    """What is recorded of the devices of one claim."""

    def __init__(self, state: State) -> None:
        self.entries: list[Entry] = []
        self._state = state
        self._numbers: dict[bytes, int] = {}
        self._wholes: dict[tuple[str, str], str] = {}
        """(node, part) of what was recorded as what something is a part of -> its id."""

    def add(self, node: str, one: ClaimDevice, whole: str, claim: str) -> None:
        """Record one, and what it is a part of where that is not known (`whole` ""). A plan is its claim's to make."""
        why = f"its node keeps it for claim {claim}, and does not describe it"
        if one.family not in ("", one.part) and not whole:
            whole = self._wholes.get((node, one.family)) or self._whole(node, one, why)
        if one.profile:
            return
        name = one.device if one.device not in self._state.devices else f"{one.device}-{self._state.sequence}"
        self._absent(node, name, one, why)
        if whole:
            self.entries.append(Joined(name, whole))

    def _whole(self, node: str, one: ClaimDevice, why: str) -> str:
        """Record what a device is a part of, as far as that tells of it, and give its id."""
        kind = WHOLE_OF.get(DeviceKind(one.kind)) if one.kind in _KINDS else None
        path = one.path.rpartition("/")[0]
        kept = msgspec.structs.replace(
            one,
            device=f"whole:{one.family}",
            kind=(kind or DeviceKind.PCI_FUNCTION).value,
            part=one.family,
            address=one.parent,
            path="" if path == one.parent else path,
        )
        profile, view = _as_kept(self._state.nodes[node].publisher, kept)
        told = Document(view.document, profile.kind, part=profile.part)
        name = device_id(self._state, Sighting(node, view.publisher, view.collector, told, ""), view)
        self._wholes[node, one.family] = name
        self._absent(node, name, kept, why)
        return name

    def _absent(self, node: str, name: str, one: ClaimDevice, why: str) -> None:
        profile, view = _as_kept(self._state.nodes[node].publisher, one)
        key = encode_profile(profile)
        number = self._state.numbers.get(key, self._numbers.get(key))
        if number is None:
            number = self._numbers[key] = len(self._state.profiles) + len(self._numbers)
            self.entries.append(ProfileDefined(number, profile))
        self.entries.append(DeviceSeen(name, node, profile.kind, "seen", why))
        self.entries.append(Viewed(name, msgspec.structs.replace(view, profile=number)))
        self.entries.append(ViewGone(name, view.source, why))


def _as_kept(publisher: str, one: ClaimDevice) -> tuple[Profile, View]:
    """Give what a checkpoint says of a device, as a collector would; the profile's number is the caller's to give."""
    word, _, rest = one.part.partition(":")
    vendor = model = serial = uuid = ""
    if word == "uuid":
        uuid = rest
    elif word == "serial":
        vendor, _, serial = rest.partition(":")
    else:
        _, vendor, model = rest.rsplit(":", 2) if rest.count(":") > 1 else ("", "", "")
    kind = DeviceKind(one.kind) if one.kind in _KINDS else DeviceKind.PCI_FUNCTION
    keys = [f"pci:{one.address}"] if one.address else []
    slot = Slot(path=one.path, address=one.address)
    view = View(publisher, "checkpoint", one.device, 0, slot, serial, uuid, keys=keys)
    return Profile(kind, Part(vendor=vendor, model=model)), view
