"""Adoption of a fleet that is in use already: what nobody may be given yet, why, and what makes it free.

What was never given through Muster is `dirty` because nobody said yet that it is clean, or `foreign` because somebody
uses it. An operator's word about the first, for many devices at once, is one decision with one entry a device: all or
none.
"""

from collections.abc import Iterable, Sequence

import msgspec

from aggregator.ledger import cleaning, in_use
from aggregator.ledger.asks import ClaimInvalidError
from aggregator.ledger.entries import Entry
from aggregator.ledger.givable import never_given
from aggregator.ledger.model import Device
from aggregator.ledger.state import State
from aggregator.ledger.transitions import allowed
from aggregator.ledger.words import Lifecycle, Reach


class Waiting(msgspec.Struct, frozen=True):
    """A device that cannot be given because of what it was before Muster."""

    device: str
    node: str
    node_name: str
    kind: str
    model: str
    address: str
    lifecycle: str
    reach: str
    why: str
    """For people: who uses it, or what is missing."""
    attestable: bool
    """Whether an operator's word makes it free now."""


def waiting(state: State, devices: Iterable[Device]) -> list[Waiting]:
    """Give those of `devices` that wait to be adopted, in their order."""
    return [_waiting(state, device) for device in devices if is_waiting(device)]


def is_waiting(device: Device) -> bool:
    """Tell whether a device is foreign, or dirty without that a claim ever made it so."""
    if never_given(device.kind, device.capabilities):
        return False
    return device.lifecycle is Lifecycle.FOREIGN or (device.lifecycle is Lifecycle.DIRTY and device.hold is None)


def _waiting(state: State, device: Device) -> Waiting:
    user = in_use.outside(state, device)
    if user:
        why = f"in use by {user}"
    elif device.lifecycle is Lifecycle.FOREIGN:
        why = "was in use outside Muster when its node was last heard of it"
    elif device.released:
        why = "was in use outside Muster, and nobody said that it is clean since"
    else:
        why = "nobody said that it is clean"
    if device.reach is Reach.ABSENT:
        why += "; it is not there now"
    node = state.nodes[device.node]
    return Waiting(
        device.id,
        device.node,
        node.name,
        device.kind.value,
        device.part.model,
        device.slot.address,
        device.lifecycle.value,
        state.reach(device).value,
        why,
        is_attestable(state, device),
    )


def is_attestable(state: State, device: Device) -> bool:
    """Tell whether a device waits for nothing but somebody's word."""
    return (
        is_waiting(device)
        and allowed(device.lifecycle, "attested")
        and device.reach is not Reach.ABSENT
        and not in_use.outside(state, device)
    )


def attest(
    state: State, devices: Sequence[Device], who: str, statement: str, as_of: int | None = None
) -> tuple[list[Entry], list[str]]:
    """Take an operator's word that devices are clean, as they were at `as_of`, all or none; give their ids.

    Raises what `cleaning.attest` raises for the first that cannot be; ClaimInvalidError when there is none.
    """
    if not devices:
        raise ClaimInvalidError("nothing that was chosen waits for somebody's word: 'muster adopt' lists what does")
    entries: list[Entry] = []
    for device in devices:
        entries += cleaning.attest(state, device.id, who, statement, as_of)[0]
    return entries, [device.id for device in devices]
