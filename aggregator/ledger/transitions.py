"""How a device's lifecycle may go on: data that the code, the tests and the documentation read.

Two rules stand over the table. Nothing but evidence or an attestation leads from what may have been used to `free`, and
facts alone never lead toward `free`: a cause whose `ground` is FACT only leads away from it.
"""

from enum import Enum
from typing import Final

import msgspec

from aggregator.ledger.words import Lifecycle
from schemas.errors import MusterError


class Ground(Enum):
    """What a transition rests on."""

    CLAIM = "claim"
    """A decision about a claim, by who may make it."""
    NODE = "node"
    """The node's confirmation, which quotes the claim's epoch."""
    EVIDENCE = "evidence"
    """A typed record of the device's own readback, newer than its last release, of this very part."""
    ATTESTATION = "attestation"
    """An operator's recorded word, or the BMC's that the machine is off."""
    FACT = "fact"
    """What collectors report."""
    TIME = "time"
    """A lease or a deadline ran out, by the leader's monotonic clock; recorded, never recomputed."""
    OPERATOR = "operator"
    """An operator's decision that needs no proof, because it takes away."""


class Transition(msgspec.Struct, frozen=True):
    """One line of the table."""

    cause: str
    """A word, stable once released; with the source it names one line."""
    source: Lifecycle
    target: Lifecycle
    ground: Ground
    meaning: str


class TransitionError(MusterError):
    """A device cannot go on like this; nothing was changed."""

    code = "ledger.transition"
    status = 409


_FREE, _RESERVED, _PROVISIONING = Lifecycle.FREE, Lifecycle.RESERVED, Lifecycle.PROVISIONING
_ASSIGNED, _DIRTY, _CLEANING = Lifecycle.ASSIGNED, Lifecycle.DIRTY, Lifecycle.CLEANING
_QUARANTINED, _SUSPECT, _HOST = Lifecycle.QUARANTINED, Lifecycle.SUSPECT, Lifecycle.HOST
_FOREIGN, _RETIRED = Lifecycle.FOREIGN, Lifecycle.RETIRED

TRANSITIONS: Final = (
    Transition("granted", _FREE, _RESERVED, Ground.CLAIM, "A claim was granted."),
    Transition("released", _RESERVED, _FREE, Ground.CLAIM, "Given back before any node was told."),
    Transition("expired", _RESERVED, _FREE, Ground.TIME, "The lease ran out before any node was told."),
    Transition("invalidated", _RESERVED, _DIRTY, Ground.FACT, "The device changed under the claim."),
    Transition("provisioning", _RESERVED, _PROVISIONING, Ground.CLAIM, "Durable before a node is told."),
    Transition(
        "confirmed", _PROVISIONING, _ASSIGNED, Ground.NODE, "Part, group and epoch confirmed, off host drivers."
    ),
    Transition("undone", _PROVISIONING, _DIRTY, Ground.NODE, "The provision failed; the node undid it."),
    Transition(
        "undone", _ASSIGNED, _DIRTY, Ground.NODE, "Another device of the claim failed; the node undid this one."
    ),
    Transition("undone", _SUSPECT, _DIRTY, Ground.NODE, "The node confirmed that it is not in use."),
    Transition("expired", _PROVISIONING, _SUSPECT, Ground.TIME, "The lease ran out; the node may have gone on."),
    Transition("expired", _ASSIGNED, _SUSPECT, Ground.TIME, "The lease ran out; it may be in use."),
    Transition("renewed", _SUSPECT, _ASSIGNED, Ground.CLAIM, "Its holder came back; nobody else ever had it."),
    Transition("released", _ASSIGNED, _DIRTY, Ground.CLAIM, "Given back; it has to be cleaned."),
    Transition("released", _SUSPECT, _DIRTY, Ground.CLAIM, "Given back by its holder after all."),
    Transition("released", _PROVISIONING, _DIRTY, Ground.CLAIM, "Given back before the node confirmed."),
    Transition("fenced", _SUSPECT, _DIRTY, Ground.ATTESTATION, "The machine is off, or an operator vouches for it."),
    Transition("fenced", _ASSIGNED, _DIRTY, Ground.ATTESTATION, "Its node is dead, by BMC or operator."),
    Transition("fenced", _PROVISIONING, _DIRTY, Ground.ATTESTATION, "Its node is dead, by BMC or operator."),
    Transition("clean", _DIRTY, _CLEANING, Ground.CLAIM, "The node was told to clean it."),
    Transition("clean", _QUARANTINED, _CLEANING, Ground.OPERATOR, "Another try."),
    Transition("cleaned", _CLEANING, _FREE, Ground.EVIDENCE, "The device's own readback proves it."),
    Transition("clean_failed", _CLEANING, _QUARANTINED, Ground.NODE, "The clean failed, or its evidence did not hold."),
    Transition("clean_abandoned", _CLEANING, _DIRTY, Ground.TIME, "The node never answered."),
    Transition("attested", _DIRTY, _FREE, Ground.ATTESTATION, "An operator vouches that it is clean."),
    Transition("attested", _QUARANTINED, _FREE, Ground.ATTESTATION, "An operator vouches that it is clean."),
    Transition("kept", _FREE, _HOST, Ground.FACT, "The host needs it."),
    Transition("kept", _DIRTY, _HOST, Ground.FACT, "The host needs it."),
    Transition("kept", _FOREIGN, _HOST, Ground.FACT, "The host needs it."),
    Transition("given_back", _HOST, _DIRTY, Ground.FACT, "The host needs it no more."),
    Transition("taken", _FREE, _FOREIGN, Ground.FACT, "Seen in use, and not through a claim."),
    Transition("taken", _DIRTY, _FOREIGN, Ground.FACT, "Seen in use, and not through a claim."),
    Transition("taken", _QUARANTINED, _FOREIGN, Ground.FACT, "Seen in use, and not through a claim."),
    Transition("let_go", _FOREIGN, _DIRTY, Ground.FACT, "No longer in use outside Muster."),
    Transition("restored", _FREE, _ASSIGNED, Ground.NODE, "The ledger is older than the claim that the node keeps."),
    Transition(
        "restored", _RESERVED, _ASSIGNED, Ground.NODE, "The ledger is older than the claim that the node keeps."
    ),
    Transition("restored", _DIRTY, _ASSIGNED, Ground.NODE, "The ledger is older than the claim that the node keeps."),
    Transition("restored", _FOREIGN, _ASSIGNED, Ground.NODE, "Who has it has it by a claim of a ledger that is lost."),
    Transition(
        "restored", _QUARANTINED, _ASSIGNED, Ground.NODE, "The ledger is older than the claim that the node keeps."
    ),
    Transition("doubted", _FREE, _DIRTY, Ground.FACT, "What was known of it no longer holds (restore, lost evidence)."),
    Transition("retired", _FREE, _RETIRED, Ground.OPERATOR, "Taken out for good."),
    Transition("retired", _DIRTY, _RETIRED, Ground.OPERATOR, "Taken out for good."),
    Transition("retired", _QUARANTINED, _RETIRED, Ground.OPERATOR, "Taken out for good."),
    Transition("retired", _HOST, _RETIRED, Ground.OPERATOR, "Taken out for good."),
    Transition("retired", _FOREIGN, _RETIRED, Ground.OPERATOR, "Taken out for good."),
    Transition("reinstated", _RETIRED, _DIRTY, Ground.OPERATOR, "Back again, and not known to be clean."),
)
"""Every way on. What is not here does not happen."""

FIRST_SIGHT: Final = {
    "taken": _FOREIGN,
    "kept": _HOST,
    "seen": _DIRTY,
    "attested": _FREE,
    "restored": _ASSIGNED,
}
"""What a device begins as: in use outside Muster, needed by the host, unknown, free by a recorded attestation or
policy, or held by the claim of a checkpoint that its node kept, of a ledger that is lost."""

_NEXT: Final = {(line.source, line.cause): line for line in TRANSITIONS}
assert len(_NEXT) == len(TRANSITIONS)


def transition(source: Lifecycle, cause: str) -> Transition:
    """Give the line of the table. Raises TransitionError when there is none."""
    try:
        return _NEXT[source, cause]
    except KeyError:
        fit = " or ".join(dict.fromkeys(line.source.value for line in TRANSITIONS if line.cause == cause))
        raise TransitionError(
            f"a device that is {source.value} cannot be {cause!r}: that is for one that is {fit or 'in no state'}"
        ) from None


def allowed(source: Lifecycle, cause: str) -> bool:
    """Tell whether a device in `source` can go on by `cause`."""
    return (source, cause) in _NEXT
