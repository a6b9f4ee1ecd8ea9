"""What the ledger's entries add up to: nodes, devices, claims, and what operators set. Plain data; `state` changes it.

Times are nanoseconds since 1970 by the leader's clock, as recorded; they are shown and never compared to decide.
What a device can do is split: what many devices have in common is a `Profile`, kept once; its own stays with it.

There are a million of these, and none is part of a cycle: `gc=False` keeps the collector of garbage from walking them.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

import schemas.device
from aggregator.ledger.words import ClaimState, Effect, Epoch, Lifecycle, Mode, Reach
from schemas.capabilities import OWN_DPU_WORDS, OWN_DRIFT_WORDS, OWN_PCI_WORDS
from schemas.capabilities_bmc import OWN_BMC_WORDS
from schemas.capabilities_gpu import OWN_GPU_WORDS
from schemas.capabilities_nic import OWN_NIC_WORDS
from schemas.capabilities_nvme import OWN_NVME_WORDS
from schemas.device import DeviceKind, Part, Slot, Value, serial_key

OWN: Final = (
    OWN_PCI_WORDS
    | OWN_DPU_WORDS
    | OWN_DRIFT_WORDS
    | OWN_GPU_WORDS
    | OWN_NIC_WORDS
    | OWN_NVME_WORDS
    | OWN_BMC_WORDS
    | {
        "block_device",
        "controller",
        "host_name",
        "power_state",
    }
)
"""Capabilities that say where a device is and what is done with it, not what it is: kept with the device."""


class Profile(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What devices of one making have in common."""

    kind: DeviceKind
    part: Part
    """Without serial and UUID."""
    capabilities: dict[str, Value] = {}
    unsupported: list[str] = []


class View(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """A device as one collector of one publisher sees it."""

    publisher: str
    collector: str
    document: str
    """The document's own name of the device."""
    profile: int
    slot: Slot = Slot()
    serial: str = ""
    uuid: str = ""
    parent: str = ""
    """The document's name of the device that this one is a part of."""
    keys: list[str] = []
    own: dict[str, Value] = {}

    @property
    def source(self) -> str:
        """What tells this view from the device's others, and from all others of its node."""
        return view_source(self.publisher, self.collector, self.document)


def view_source(publisher: str, collector: str, document: str) -> str:
    """Give the name of a view within its node."""
    return f"{publisher}\n{collector}\n{document}"


class Taint(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """Why a device should not be given away, or should be left."""

    rule: str
    effect: Effect
    evidence: str
    """For people: what was seen."""
    who: str
    """Who put it there: `rule:<name>`, `token:<name>`, `ledger`."""
    since_ns: int
    expires_ns: int | None = None
    """When the leader will take it off by itself; None: never. Its end is an entry of its own."""
    alert: str = ""
    """Fingerprint of the alert that put it there, and that alone takes it off; "": a person, or the ledger, did."""

    @property
    def key(self) -> str:
        """What tells it from the other marks of one thing: two alerts of one rule are two marks."""
        return mark_key(self.rule, self.alert)


def mark_key(rule: str, alert: str = "") -> str:
    """Give what tells a mark from the others of a device or node."""
    return f"{rule}\n{alert}" if alert else rule


class Evidence(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """Why a device may be free: the last proof that it is clean."""

    sequence: int
    ground: str
    """`evidence`, `attestation`, `policy`."""
    who: str
    part: str
    """The part that it is about, as `part_key` gives it."""
    document: str
    """The typed document, as JSON (`aggregator.ledger.evidence`)."""


class Hold(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """Who has a device, or had it last: kept until it is free again."""

    claim: str
    tenant: str
    mode: Mode
    epoch: Epoch
    part: str
    """The part that was granted (`part_key`)."""
    expected: dict[str, str] = {}
    """`Held.expected`."""


class Device(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A part in a slot of a node."""

    id: str
    node: str
    kind: DeviceKind
    views: dict[str, View] = {}
    """By source. Of a device that is absent the last one is kept."""
    part: Part = Part()
    """The last identity that was seen: a device bound to vfio keeps it within one boot."""
    slot: Slot = Slot()
    parent: str = ""
    """Id of the device that this one is a part of; "" for none, or not known yet."""
    lifecycle: Lifecycle = Lifecycle.DIRTY
    reach: Reach = Reach.LIVE
    """Without its node's silence, which is the node's."""
    taints: dict[str, Taint] = {}
    """By `Taint.key`."""
    hold: Hold | None = None
    evidence: Evidence | None = None
    released: int = 0
    """Ledger sequence of the last moment when it may have been in use; 0: never through Muster."""
    cleaning: int = 0
    """Ledger sequence at which the last clean was begun: evidence quotes it; 0: never."""
    boot: str = ""
    """Boot in which its identity was last seen."""
    first: int = 0
    """Ledger sequence of the first sight."""
    changed: int = 0
    """Ledger sequence of the last change."""
    capabilities: Mapping[str, Value] = {}
    """Of all views, merged; derived. Shared with others: never changed in place."""
    profiles: tuple[int, ...] = ()
    """Of all views, in the order of their sources: equal for devices of one making; derived."""
    planned: str = ""
    """Of a GPU's partition that is made for a claim, and ends with it: its plan (`schemas.mig.Plan`); else ""."""

    def get(self, name: str) -> Value | None:
        """Give a capability by name; None when no collector tells it."""
        return self.capabilities.get(name)

    @property
    def group(self) -> int | None:
        """IOMMU group; None when it has none or none is known."""
        group = self.capabilities.get("iommu_group")
        return group if isinstance(group, int) and group >= 0 else None

    @property
    def is_bridge(self) -> bool:
        """Whether it is a bridge to another bus: those are in groups, and are endpoints of none."""
        return self.capabilities.get("bridge") is True

    @property
    def part_key(self) -> str:
        """What tells this part from every other, as far as it is known."""
        return part_key(self)


def part_key(device: Device) -> str:
    """Give the strongest identity of a device's part; for one that says nothing of itself, its slot's."""
    return schemas.device.part_key(device.part, device.node, device.slot)


def weaker_key(part: Part, kind: DeviceKind) -> str:
    """Give what tells a part as well, beside its strongest identity: its serial number; "" for nothing.

    The number of a GPU's partition is its place on that GPU: it says nothing by itself.
    """
    return serial_key(part) if part.uuid and part.serial and kind is not DeviceKind.GPU_PARTITION else ""


def renamed_part(part: str, old: str, new: str) -> str:
    """Give the key of a part that follows its node to another id: one that says nothing of itself is named by that."""
    return f"slot:{new}:{part.removeprefix(f'slot:{old}:')}" if part.startswith(f"slot:{old}:") else part


class Node(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A machine with an agent."""

    id: str
    name: str = ""
    publisher: str = ""
    epoch: str = ""
    """The publisher's epoch whose facts apply now."""
    order: int = 0
    """Order number of the last envelope of that epoch whose facts were applied."""
    boot: str = ""
    live: bool = True
    cordoned: str = ""
    """Why nothing new goes there; "" when it may."""
    draining: str = ""
    """Why what is there should leave."""
    maintenance_until_ns: int | None = None
    taints: dict[str, Taint] = {}
    totals: dict[str, int] = {}
    """What there is of each amount; absent: not known, and nothing of it is given."""
    used: dict[str, int] = {}
    """What live claims hold of each amount; derived."""
    devices: dict[str, None] = {}
    """Ids in the order of first sight; derived."""
    labels: dict[str, str] = {}
    retired: bool = False
    changed: int = 0
    host_name: str = ""
    """What the machine calls itself, where an operator gave it another name; "" where none did."""
    maintenance: str = ""
    """Why it is in maintenance."""
    shown: int = 1
    """The generation in which it has shown its checkpoint; an older one than the ledger's: nothing of it is known."""
    silent_ns: int = 0
    """When it was called silent, by the ledger's time; 0 while it is live, and where that is not known."""


class Held(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """A device of a claim."""

    device: str
    node: str
    mode: Mode
    part: str
    """The part that was chosen: another one in its place is not held."""
    profile: str = ""
    """Of a GPU's partition that is made for the claim: its plan, `<profile>@<start>:<size>`."""
    expected: dict[str, str] = {}
    """What it was like when it was granted, as far as a clean has to bring it back: `mac`, `vlan` of a VF."""
    parent: str = ""
    """With `profile`: the GPU."""


class Claim(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A lease on devices and amounts."""

    id: str
    tenant: str
    consumer: str
    """What it is for, in the tenant's own words: an instance, a job."""
    epoch: Epoch
    state: ClaimState
    devices: list[Held]
    amounts: dict[str, dict[str, int]]
    """By node."""
    lease_seconds: float
    created_ns: int
    until_ns: int
    """When the lease runs out by the wall clock, to be shown; the leader's monotonic clock decides."""
    who: str = ""
    package: str = ""
    request: str = ""
    """The request as JSON, as it was made."""
    confirmed: dict[str, None] = {}
    """Devices that their node has confirmed."""
    undone: dict[str, None] = {}
    """Devices that their node has undone."""
    began_ns: int | None = None
    """When the first node was told; usage counts from here."""
    ended_ns: int | None = None
    reason: str = ""
    """Why it is in this state, for people."""
    version: int = 0
    """Ledger sequence of its last change: conditional writes quote it."""
    unkept: dict[str, None] = {}
    """Nodes of which it holds amounts alone, and that have yet to confirm that they keep that for a lost ledger."""
    fenced: dict[str, None] = {}
    """Nodes that were fenced: of their amounts it holds none any more."""

    @property
    def shares(self) -> dict[str, dict[str, int]]:
        """What it holds of nodes beside devices, by node: what it was granted, but for what a fence took away."""
        if not self.fenced:
            return self.amounts
        return {node: amounts for node, amounts in self.amounts.items() if node not in self.fenced}

    def rename(self, old: str, new: str, *, add: bool) -> None:
        """Follow a node to its new id; with `add`, amounts that it holds under both are added up.

        Nothing is changed in place: what was granted is the entry's as well.
        """
        self.devices = [
            msgspec.structs.replace(held, node=new, part=renamed_part(held.part, old, new))
            if held.node == old
            else held
            for held in self.devices
        ]
        if old in self.amounts:
            self._rename_amounts(old, new, add=add)

    def _rename_amounts(self, old: str, new: str, *, add: bool) -> None:
        """Follow a node with what is held of it beside devices; what a fence took away under one id stays so."""
        moved, there = dict(self.amounts[old]), self.shares.get(new)
        fenced = old in self.fenced and there is None
        if there is not None and old in self.fenced:
            moved = there
        elif there is not None and add:
            for amount, number in there.items():
                moved[amount] = moved.get(amount, 0) + number
        if old in self.unkept:
            self.unkept = dict.fromkeys(new if name == old else name for name in self.unkept)
        self.amounts = {name: amounts for name, amounts in self.amounts.items() if name != old} | {new: moved}
        self.fenced = {name: None for name in self.fenced if name not in (old, new)} | ({new: None} if fenced else {})


class Variant(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """An operator's name for devices of one make (R004-3)."""

    name: str
    kind: DeviceKind
    vendor: str
    device: str
    """PCI vendor and device id, four hex digits each."""
    revision: str = ""
    """"": any."""

    def names(self, profiles: Iterable[Profile]) -> bool:
        """Tell whether a device of these profiles is one of this variant."""
        ours = list(profiles)
        told = {"pci_vendor_id": self.vendor, "pci_device_id": self.device}
        kinds = {profile.kind for profile in ours}
        return (
            self.kind in kinds
            and all(any(profile.capabilities.get(name) == value for profile in ours) for name, value in told.items())
            and (not self.revision or any(profile.part.revision == self.revision for profile in ours))
        )


class Needs(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """So many devices of a variant."""

    variant: str
    count: int


class Package(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A named bundle of needs."""

    name: str
    amounts: dict[str, int]
    devices: list[Needs] = []


class Quota(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """The most that a tenant may hold: by `claims`, an amount, `devices`, or `devices:<variant>`."""

    tenant: str
    """"": every tenant that has none of its own."""
    limits: dict[str, int]


class Tenant(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """Who holds what; derived."""

    name: str
    claims: dict[str, None] = {}
    """Live claims."""
    used: dict[str, int] = {}
    """Amounts, `claims` and `devices`."""
    profiles: dict[tuple[int, ...], int] = {}
    """How many devices of each making (`Device.profiles`)."""


class Sight(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """One stay of a part in a slot, for history."""

    device: str
    node: str
    path: str
    part: str
    since: int
    until: int | None = None
    """Ledger sequences; None: it is there."""
