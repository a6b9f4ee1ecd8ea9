"""What others say of devices: other schedulers' records, and where their view and the ledger's do not agree."""

import msgspec


class Use(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """A device that somebody has outside Muster, as a record that was handed in says."""

    node: str
    """The node's id; as the record names it while no such node is known."""
    address: str
    """PCI address as of the record, in normal form."""
    user: str
    """Who has it, for people: `libvirt:instance-00000042`, `nova:<instance>`."""
    device: str = ""
    """The device that was there; "" while none is known, and the first that is seen there is meant."""

    @property
    def place(self) -> str:
        """What tells this use from the record's others."""
        return f"{self.node} {self.address}"


class UseRecord(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What another scheduler's record says: every device that is in use through it."""

    source: str
    """Its name; what is handed in under it takes the place of what was there."""
    kind: str
    """`libvirt`, `nova`, or another scheduler's name."""
    as_of_ns: int
    """When the record was made."""
    taken_ns: int
    """When it was last handed in."""
    who: str
    uses: dict[str, Use] = {}
    """By place."""


class Divergence(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Two views of one thing that do not agree: the ledger's, and a node's or a record's."""

    kind: str
    """A word, stable once released (`aggregator.reconcile.KINDS`)."""
    node: str
    device: str
    """"" where it is about no device, or about one that the ledger does not know."""
    claim: str
    ledger: str
    """What the ledger says, for people."""
    seen: str
    """What the other side says."""
    about: str = ""
    """What tells it from others of its kind and device: a record's source and place."""
    since_ns: int = 0

    @property
    def id(self) -> str:
        """What stays the same while it lasts, whatever its words."""
        return f"{self.kind}:{self.node}:{self.device}:{self.claim}:{self.about}"
