"""Entries that are facts: what nodes, collectors and records say. `apply_facts` and `apply_views` say what they do."""

import msgspec

from aggregator.ledger.entry import LedgerEntry
from aggregator.ledger.model import Evidence, Profile, Taint, View
from aggregator.ledger.outside import Divergence, Use
from schemas.device import DeviceKind, Slot, Value


class ProfileDefined(LedgerEntry, frozen=True, tag=1):
    """From now on `number` stands for `profile`. Numbers are given in order, from 0."""

    number: int
    profile: Profile


class NodeSeen(LedgerEntry, frozen=True, tag=2):
    """What a node says of itself; a field that is None stays as it was."""

    node: str
    name: str | None = None
    totals: dict[str, int] | None = None
    labels: dict[str, str] | None = None


class NodeRun(LedgerEntry, frozen=True, tag=3):
    """A new run of the node's agent speaks for it.

    `unverified`: another boot, or a takeover that names no predecessor: no device is known to be the part that it was.
    """

    node: str
    publisher: str
    epoch: str
    boot: str
    unverified: bool = False


class NodeReached(LedgerEntry, frozen=True, tag=4):
    """The node fell silent, or speaks again."""

    node: str
    live: bool
    why: str = ""


class DeviceSeen(LedgerEntry, frozen=True, tag=5):
    """The first sight of a device; `Viewed` follows. `cause` is a key of `transitions.FIRST_SIGHT`."""

    device: str
    node: str
    kind: DeviceKind
    cause: str
    why: str = ""


class Viewed(LedgerEntry, frozen=True, tag=6):
    """A collector sees a device: all that it says of it."""

    device: str
    view: View
    instead: list[str] = msgspec.field(default_factory=list)
    """Sources of views that hold no more: of where a device was that is back elsewhere."""


class ViewChanged(LedgerEntry, frozen=True, tag=7):
    """What changed in a view. None: as it was; a value of None in `own`: no longer told."""

    device: str
    source: str
    own: dict[str, Value | None] = msgspec.field(default_factory=dict)
    profile: int | None = None
    slot: Slot | None = None
    parent: str | None = None
    keys: list[str] | None = None
    serial: str | None = None
    uuid: str | None = None


class ViewGone(LedgerEntry, frozen=True, tag=8):
    """A collector no longer sees a device. When it was the last, the device is absent, and what it said is kept."""

    device: str
    source: str
    why: str = ""


class Verified(LedgerEntry, frozen=True, tag=9):
    """A device has shown its identity in this boot, or must show it again (`seen` false)."""

    device: str
    seen: bool
    why: str = ""


class Tainted(LedgerEntry, frozen=True, tag=10):
    """A device, or a node (`device` ""), is marked."""

    node: str
    device: str
    taint: Taint


class Untainted(LedgerEntry, frozen=True, tag=11):
    """A mark is taken off."""

    node: str
    device: str
    rule: str
    why: str = ""
    alert: str = ""
    """As its `Taint` has it."""


class Passed(LedgerEntry, frozen=True, tag=12):
    """A device goes on by `cause`, a word of `transitions`, with no claim involved."""

    device: str
    cause: str
    who: str = ""
    why: str = ""


class Proved(LedgerEntry, frozen=True, tag=13):
    """A device is proved clean: by its own readback (`cleaned`), or by an operator's word (`attested`)."""

    device: str
    cause: str
    evidence: Evidence
    """Its `sequence` is given by the entry's own."""


class Joined(LedgerEntry, frozen=True, tag=14):
    """A device is a part of another: its `parent` was found; "" takes it apart."""

    device: str
    parent: str


class UsesRecorded(LedgerEntry, frozen=True, tag=15):
    """Another scheduler's record was handed in: what it says that it did not say before, and what it says no more."""

    source: str
    kind: str
    as_of_ns: int
    said: list[Use] = msgspec.field(default_factory=list)
    unsaid: list[str] = msgspec.field(default_factory=list)
    """Places (`Use.place`)."""
    who: str = ""


class RecordDropped(LedgerEntry, frozen=True, tag=16):
    """A record holds no more."""

    source: str
    who: str = ""


class Diverged(LedgerEntry, frozen=True, tag=17):
    """Two views of one thing do not agree, or disagree in other words than before."""

    divergence: Divergence


class Agreed(LedgerEntry, frozen=True, tag=18):
    """They agree again, or there is nothing left to disagree about."""

    divergence: str
    """Its id."""
    why: str = ""
