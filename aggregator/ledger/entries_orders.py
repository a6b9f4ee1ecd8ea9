"""Entries that are what operators set, and what the ledger notes of itself. `apply_orders` says what they do."""

from aggregator.ledger.entry import LedgerEntry
from aggregator.ledger.model import Package, Quota, Variant


class VariantSet(LedgerEntry, frozen=True, tag=40):
    """A variant is made or changed."""

    variant: Variant
    who: str = ""


class VariantRemoved(LedgerEntry, frozen=True, tag=41):
    """A variant is gone."""

    name: str
    who: str = ""


class PackageSet(LedgerEntry, frozen=True, tag=42):
    """A package is made or changed."""

    package: Package
    who: str = ""


class PackageRemoved(LedgerEntry, frozen=True, tag=43):
    """A package is gone."""

    name: str
    who: str = ""


class QuotaSet(LedgerEntry, frozen=True, tag=44):
    """A tenant's limits, or with tenant "" everybody's; without limits they are gone."""

    quota: Quota
    who: str = ""


class NodeOrdered(LedgerEntry, frozen=True, tag=45):
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


class NodeRetired(LedgerEntry, frozen=True, tag=46):
    """A node is gone for good, or back (`retired` false). Its devices keep lifecycle and claims."""

    node: str
    retired: bool = True
    who: str = ""


class NodeReplaced(LedgerEntry, frozen=True, tag=47):
    """The machine `node` goes on under the id `successor`, with its devices."""

    node: str
    successor: str
    who: str = ""
    add: bool = False
    """What claims hold of both is theirs of the successor. Of entries written before this field: of the old node's."""
    twins: dict[str, str] | None = None
    """Devices of the old node -> what its successor showed them as: they are one. None: from before this field."""


class RatioSet(LedgerEntry, frozen=True, tag=48):
    """How much of an amount may be given for each that is there; 1 by default. Over-commit is an explicit policy."""

    amount: str
    ratio: float
    who: str = ""


class GenerationBegun(LedgerEntry, frozen=True, tag=49):
    """The ledger was restored or made anew: every device is unverified until its node has shown its checkpoint."""

    generation: int
    why: str = ""


class CheckpointShown(LedgerEntry, frozen=True, tag=60):
    """A node has shown what it keeps of claims, and what the ledger had lost of them stands before this entry."""

    node: str
    generation: int
