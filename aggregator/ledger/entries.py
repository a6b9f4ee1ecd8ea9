"""What can be written into the ledger. An entry is a fact or a decision; `state.apply` says what it does.

Entries travel and are kept as msgpack arrays that begin with their tag. A tag is never given a second meaning; new
fields come last, with a default. An entry says what changed and nothing that follows from what is there already, so
that a year of a fleet fits into a gigabyte, and it carries everything that time or chance decided, so that replaying it
gives the same state.
"""

from typing import Final

import msgspec

from aggregator.ledger.model import Divergence, Evidence, Held, Package, Profile, Quota, Taint, Use, Variant, View
from schemas.device import DeviceKind, Slot, Value


class _Entry(msgspec.Struct, array_like=True, frozen=True):
    """The base of all entries."""


# --- facts --------------------------------------------------------------------------------------------------------


class ProfileDefined(_Entry, frozen=True, tag=1):
    """From now on `number` stands for `profile`. Numbers are given in order, from 0."""

    number: int
    profile: Profile


class NodeSeen(_Entry, frozen=True, tag=2):
    """What a node says of itself; a field that is None stays as it was."""

    node: str
    name: str | None = None
    totals: dict[str, int] | None = None
    labels: dict[str, str] | None = None


class NodeRun(_Entry, frozen=True, tag=3):
    """A new run of the node's agent speaks for it.

    `unverified`: another boot, or a takeover that names no predecessor: no device is known to be the part that it was.
    """

    node: str
    publisher: str
    epoch: str
    boot: str
    unverified: bool = False


class NodeReached(_Entry, frozen=True, tag=4):
    """The node fell silent, or speaks again."""

    node: str
    live: bool
    why: str = ""


class DeviceSeen(_Entry, frozen=True, tag=5):
    """The first sight of a device; `Viewed` follows. `cause` is a key of `transitions.FIRST_SIGHT`."""

    device: str
    node: str
    kind: DeviceKind
    cause: str
    why: str = ""


class Viewed(_Entry, frozen=True, tag=6):
    """A collector sees a device: all that it says of it."""

    device: str
    view: View


class ViewChanged(_Entry, frozen=True, tag=7):
    """What changed in a view. None: as it was; a value of None in `own`: no longer told."""

    device: str
    source: str
    own: dict[str, Value | None] = {}
    profile: int | None = None
    slot: Slot | None = None
    parent: str | None = None
    keys: list[str] | None = None
    serial: str | None = None
    uuid: str | None = None


class ViewGone(_Entry, frozen=True, tag=8):
    """A collector no longer sees a device. When it was the last, the device is absent, and what it said is kept."""

    device: str
    source: str
    why: str = ""


class Verified(_Entry, frozen=True, tag=9):
    """A device has shown its identity in this boot, or must show it again (`seen` false)."""

    device: str
    seen: bool
    why: str = ""


class Tainted(_Entry, frozen=True, tag=10):
    """A device, or a node (`device` ""), is marked."""

    node: str
    device: str
    taint: Taint


class Untainted(_Entry, frozen=True, tag=11):
    """A mark is taken off."""

    node: str
    device: str
    rule: str
    why: str = ""
    alert: str = ""
    """As its `Taint` has it."""


class Passed(_Entry, frozen=True, tag=12):
    """A device goes on by `cause`, a word of `transitions`, with no claim involved."""

    device: str
    cause: str
    who: str = ""
    why: str = ""


class Proved(_Entry, frozen=True, tag=13):
    """A device is proved clean: by its own readback (`cleaned`), or by an operator's word (`attested`)."""

    device: str
    cause: str
    evidence: Evidence
    """Its `sequence` is given by the entry's own."""


class Joined(_Entry, frozen=True, tag=14):
    """A device is a part of another: its `parent` was found; "" takes it apart."""

    device: str
    parent: str


class UsesRecorded(_Entry, frozen=True, tag=15):
    """Another scheduler's record was handed in: what it says that it did not say before, and what it says no more."""

    source: str
    kind: str
    as_of_ns: int
    said: list[Use] = []
    unsaid: list[str] = []
    """Places (`Use.place`)."""
    who: str = ""


class RecordDropped(_Entry, frozen=True, tag=16):
    """A record holds no more."""

    source: str
    who: str = ""


class Diverged(_Entry, frozen=True, tag=17):
    """Two views of one thing do not agree, or disagree in other words than before."""

    divergence: Divergence


class Agreed(_Entry, frozen=True, tag=18):
    """They agree again, or there is nothing left to disagree about."""

    divergence: str
    """Its id."""
    why: str = ""


# --- decisions about claims -----------------------------------------------------------------------------------------


class Granted(_Entry, frozen=True, tag=20):
    """Devices and amounts are given, all or none. The claim's epoch is (generation in force, this entry's sequence)."""

    claim: str
    tenant: str
    consumer: str
    devices: list[Held]
    amounts: dict[str, dict[str, int]]
    lease_seconds: float
    who: str = ""
    package: str = ""
    request: str = ""
    key: str = ""
    """The caller's `Idempotency-Key`; "" without one."""


class Provisioned(_Entry, frozen=True, tag=21):
    """The nodes will be told: from here on the devices may be in use."""

    claim: str


class Confirmed(_Entry, frozen=True, tag=22):
    """A node confirmed part, group and epoch of devices. With the last, the claim is active.

    `ids` gives a partition that was made the id of its own: device of the claim -> id.
    """

    claim: str
    devices: list[str]
    ids: dict[str, str] = {}


class Renewed(_Entry, frozen=True, tag=23):
    """The lease begins anew, with so many seconds."""

    claim: str
    lease_seconds: float


class LeaseExpired(_Entry, frozen=True, tag=24):
    """The lease ran out: before a node was told the devices are free again, after that they are suspect."""

    claim: str


class Released(_Entry, frozen=True, tag=25):
    """The claim is given back; devices that a node was told of are dirty."""

    claim: str
    who: str = ""
    why: str = ""


class UndoBegun(_Entry, frozen=True, tag=26):
    """The provision failed: its nodes are told to undo it."""

    claim: str
    why: str


class Undone(_Entry, frozen=True, tag=27):
    """A node undid devices of a claim, or never had them; with the last one the claim has failed."""

    claim: str
    devices: list[str]


class Fenced(_Entry, frozen=True, tag=28):
    """Devices cannot be in use any more: their node is off, or an operator vouches for it."""

    claim: str
    devices: list[str]
    evidence: Evidence


class Invalidated(_Entry, frozen=True, tag=29):
    """A claim that no node was told of loses devices that changed: all of it is given back, those dirty."""

    claim: str
    device: str
    why: str
    devices: list[str] = []
    """Further devices of it that changed. Of entries written before this field, `device` is the only one."""


class ClaimRestored(_Entry, frozen=True, tag=30):
    """A node's checkpoint holds a claim that the ledger does not know, or knows as over: it was lost, or is old."""

    claim: str
    tenant: str
    consumer: str
    generation: int
    sequence: int
    devices: list[Held]
    lease_seconds: float


class Forgotten(_Entry, frozen=True, tag=31):
    """Claims that are over leave the state; the ledger keeps their history."""

    claims: list[str]


# --- what operators set -----------------------------------------------------------------------------------------------


class VariantSet(_Entry, frozen=True, tag=40):
    """A variant is made or changed."""

    variant: Variant
    who: str = ""


class VariantRemoved(_Entry, frozen=True, tag=41):
    """A variant is gone."""

    name: str
    who: str = ""


class PackageSet(_Entry, frozen=True, tag=42):
    """A package is made or changed."""

    package: Package
    who: str = ""


class PackageRemoved(_Entry, frozen=True, tag=43):
    """A package is gone."""

    name: str
    who: str = ""


class QuotaSet(_Entry, frozen=True, tag=44):
    """A tenant's limits, or with tenant "" everybody's; without limits they are gone."""

    quota: Quota
    who: str = ""


class NodeOrdered(_Entry, frozen=True, tag=45):
    """An operator's orders for a node; None: as it was."""

    node: str
    cordoned: str | None = None
    draining: str | None = None
    maintenance_until_ns: int | None = None
    """0: over."""
    who: str = ""
    name: str | None = None
    """The operator's name for it; "": none, and what the machine calls itself counts again."""
    maintenance: str = ""
    """Why, while `maintenance_until_ns` is set."""


class NodeRetired(_Entry, frozen=True, tag=46):
    """A node is gone for good, or back (`retired` false). Its devices keep lifecycle and claims."""

    node: str
    retired: bool = True
    who: str = ""


class NodeReplaced(_Entry, frozen=True, tag=47):
    """The machine `node` goes on under the id `successor`, with its devices."""

    node: str
    successor: str
    who: str = ""


class RatioSet(_Entry, frozen=True, tag=48):
    """How much of an amount may be given for each that is there; 1 by default. Over-commit is an explicit policy."""

    amount: str
    ratio: float
    who: str = ""


class GenerationBegun(_Entry, frozen=True, tag=49):
    """The ledger was restored or made anew: every device is unverified until its node has shown its checkpoint."""

    generation: int
    why: str = ""


class CheckpointShown(_Entry, frozen=True, tag=60):
    """A node has shown what it keeps of claims, and what the ledger had lost of them stands before this entry."""

    node: str
    generation: int


Entry = (
    ProfileDefined
    | NodeSeen
    | NodeRun
    | NodeReached
    | DeviceSeen
    | Viewed
    | ViewChanged
    | ViewGone
    | Verified
    | Tainted
    | Untainted
    | Passed
    | Proved
    | Joined
    | UsesRecorded
    | RecordDropped
    | Diverged
    | Agreed
    | Granted
    | Provisioned
    | Confirmed
    | Renewed
    | LeaseExpired
    | Released
    | UndoBegun
    | Undone
    | Fenced
    | Invalidated
    | ClaimRestored
    | Forgotten
    | VariantSet
    | VariantRemoved
    | PackageSet
    | PackageRemoved
    | QuotaSet
    | NodeOrdered
    | NodeRetired
    | NodeReplaced
    | RatioSet
    | GenerationBegun
    | CheckpointShown
)

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Entry)


def encode_entry(entry: Entry) -> bytes:
    """Give an entry's bytes."""
    return _encoder.encode(entry)


def decode_entry(data: bytes) -> Entry:
    """Read an entry. Raises msgspec.DecodeError, of which msgspec.ValidationError is one."""
    decoded: Entry = _decoder.decode(data)
    return decoded
