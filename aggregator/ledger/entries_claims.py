"""Entries that are decisions about claims. `apply_claims` says what they do."""

import msgspec

from aggregator.ledger.entry import LedgerEntry
from aggregator.ledger.model import Evidence, Held
from schemas.claims import Made


class Granted(LedgerEntry, frozen=True, tag=20):
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


class Provisioned(LedgerEntry, frozen=True, tag=21):
    """The nodes will be told: from here on the devices may be in use."""

    claim: str
    kept: bool = False
    """Nodes of which it holds amounts alone confirm that they keep that. Of entries written before this field: not."""


class Confirmed(LedgerEntry, frozen=True, tag=22):
    """A node confirmed part, group and epoch of devices. With the last, the claim is active.

    `ids` says what was made of partitions of the claim that were planned: device -> its ids.
    """

    claim: str
    devices: list[str]
    ids: dict[str, Made] = msgspec.field(default_factory=dict)
    nodes: list[str] = msgspec.field(default_factory=list)
    """Nodes that keep what it holds of them beside devices."""


class Renewed(LedgerEntry, frozen=True, tag=23):
    """The lease begins anew, with so many seconds."""

    claim: str
    lease_seconds: float


class LeaseExpired(LedgerEntry, frozen=True, tag=24):
    """The lease ran out: before a node was told the devices are free again, after that they are suspect."""

    claim: str


class Released(LedgerEntry, frozen=True, tag=25):
    """The claim is given back; devices that a node was told of are dirty."""

    claim: str
    who: str = ""
    why: str = ""


class UndoBegun(LedgerEntry, frozen=True, tag=26):
    """The provision failed: its nodes are told to undo it."""

    claim: str
    why: str


class Undone(LedgerEntry, frozen=True, tag=27):
    """A node undid devices of a claim, or never had them; with the last one the claim has failed."""

    claim: str
    devices: list[str]


class Fenced(LedgerEntry, frozen=True, tag=28):
    """Devices cannot be in use any more: their node is off, or an operator vouches for it."""

    claim: str
    devices: list[str]
    evidence: Evidence
    nodes: list[str] = msgspec.field(default_factory=list)
    """Nodes that were fenced: it holds no amounts of them any more. Of entries written before this field: it does."""


class Invalidated(LedgerEntry, frozen=True, tag=29):
    """A claim that no node was told of loses devices that changed: all of it is given back, those dirty."""

    claim: str
    device: str
    why: str
    devices: list[str] = msgspec.field(default_factory=list)
    """Further devices of it that changed. Of entries written before this field, `device` is the only one."""


class ClaimRestored(LedgerEntry, frozen=True, tag=30):
    """A node's checkpoint holds a claim that the ledger does not know, or knows as over: it was lost, or is old."""

    claim: str
    tenant: str
    consumer: str
    generation: int
    sequence: int
    devices: list[Held]
    lease_seconds: float
    amounts: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)
    """What it holds of the nodes whose checkpoint it is, by node."""


class Forgotten(LedgerEntry, frozen=True, tag=31):
    """Claims that are over leave the state; the ledger keeps their history."""

    claims: list[str]
