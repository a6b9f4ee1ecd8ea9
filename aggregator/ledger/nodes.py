"""Decisions about the life of nodes: what may go there, what should leave, what it is called, when it ends.

None of them takes anything from a claim: a claim on a node that was drained, retired or fell silent stays its holder's
until it is released or its node is fenced.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from aggregator.ledger import cleaning, conflicts
from aggregator.ledger.asks import ClaimInvalidError
from aggregator.ledger.entries import Entry, NodeOrdered, NodeReplaced, NodeRetired, NodeSeen
from aggregator.ledger.model import Claim, Node
from aggregator.ledger.state import State
from aggregator.ledger.twins import twins_of
from aggregator.ledger.words import Reach
from schemas.errors import MusterError, near_names

MAX_MAINTENANCE_NS: Final = 366 * 86_400 * 10**9


class NodeUnknownError(MusterError):
    """There is no such node."""

    code = "node.unknown"
    status = 404


class Orphan(msgspec.Struct, frozen=True):
    """A claim that holds something of a node that is gone or does not speak: nobody there can confirm its end."""

    claim: str
    tenant: str
    consumer: str
    state: str
    node: str
    node_name: str
    why: str
    """`decommissioned`, or `silent`."""
    devices: list[str]


def find(state: State, node: str) -> Node:
    """Give a node by id. Raises NodeUnknownError with near names."""
    found = state.nodes.get(node)
    if found is None:
        raise NodeUnknownError(f"the ledger has no node {node[:80]!r}.{near_names(node, {*state.nodes})}")
    return found


def node_of(state: State, name: str) -> Node | None:
    """Give the node that is called so: by id, else by its name or host name; None for none, or more than one.

    One that is gone for good is called by its id alone: another may have its name by now.
    """
    if name in state.nodes:
        return state.nodes[name]
    found = [node for node in state.nodes.values() if name in _names(node)]
    return found[0] if len(found) == 1 else None


def called(state: State) -> dict[str, Node | None]:
    """Give what `node_of` gives for each name and host name, for who asks for many; None: several are called so."""
    found: dict[str, Node | None] = {}
    for node in state.nodes.values():
        for name in _names(node):
            found[name] = None if name in found else node
    return found


def named(state: State, name: str) -> Node:
    """Give what `node_of` gives. Raises NodeUnknownError with near names, or how many nodes are called so."""
    found = node_of(state, name)
    if found is None:
        raise NodeUnknownError(not_named(state, name))
    return found


def not_named(state: State, name: str) -> str:
    """Say why `node_of` gives none."""
    same = sum(name in _names(node) for node in state.nodes.values())
    if same > 1:
        return f"{same} nodes are called {name[:80]}: name one by its id"
    return f"there is no node {name[:80]!r}.{near_names(name[:80], names(state))}"


def names(state: State) -> set[str]:
    """Give everything that nodes can be called by, but for those that are gone for good."""
    return {one for node in state.nodes.values() if not node.retired for one in (node.id, *_names(node))}


def _names(node: Node) -> set[str]:
    return set() if node.retired else {node.name, node.host_name} - {""}


def cordon(state: State, node: str, why: str, who: str) -> tuple[list[Entry], Node]:
    """Let nothing new go to a node; with `why` "" let it go there again, whatever kept it from it."""
    found = find(state, node)
    if why:
        return [] if found.cordoned == why else [NodeOrdered(node, cordoned=why, who=who)], found
    if not found.cordoned and not found.draining:
        return [], found
    return [NodeOrdered(node, cordoned="", draining="", who=who)], found


def drain(state: State, node: str, why: str, who: str) -> tuple[list[Entry], list[Claim]]:
    """Say that what is on a node should leave, and let nothing new go there; give the claims that should."""
    found = find(state, node)
    if not why:
        raise ClaimInvalidError("say why the node is drained: those who must leave are told")
    entries: list[Entry] = [] if found.draining == why else [NodeOrdered(node, draining=why, who=who)]
    return entries, claims_there(state, node)


def maintain(state: State, node: str, until_ns: int, why: str, who: str) -> tuple[list[Entry], Node]:
    """Put a node into maintenance until a time of the wall clock (0: end it). Nothing new goes there meanwhile."""
    found = find(state, node)
    if not until_ns:
        over = found.maintenance_until_ns is None
        return [] if over else [NodeOrdered(node, maintenance_until_ns=0, who=who)], found
    if not state.time_ns < until_ns <= state.time_ns + MAX_MAINTENANCE_NS:
        raise ClaimInvalidError("maintenance ends at a time to come, within a year")
    return [NodeOrdered(node, maintenance_until_ns=until_ns, maintenance=why, who=who)], found


def silenced(state: State, node: str) -> str:
    """Say why nobody should be woken for what happens on a node; "" when they should be."""
    found = state.nodes.get(node)
    if found is None or found.maintenance_until_ns is None:
        return ""
    return f"maintenance: {found.maintenance}" if found.maintenance else "maintenance"


def rename(state: State, node: str, name: str, who: str) -> tuple[list[Entry], Node]:
    """Call a node by an operator's name, before what it calls itself; "" ends that. Its id and claims stay."""
    found = find(state, node)
    taken = [other.id for other in state.nodes.values() if name in _names(other) and other.id != node]
    if taken:
        raise ClaimInvalidError(f"{taken[0]} is called {name!r} already: a name tells one node from another")
    if name == (found.name if found.host_name else ""):
        return [], found
    return [NodeOrdered(node, name=name, who=who)], found


def retire(state: State, node: str, who: str, *, retired: bool = True) -> tuple[list[Entry], list[Claim]]:
    """Say that a node is gone for good, or back; give the claims that hold something of it, which they keep."""
    found = state.nodes.get(node)
    entries: list[Entry] = [] if found is None or found.retired is retired else [NodeRetired(node, retired, who)]
    return entries, claims_there(state, node)


def replace(state: State, node: str, successor: str, who: str) -> tuple[list[Entry], list[Claim]]:
    """Say that the machine `node` goes on as `successor`, with devices and claims; give those claims. Safe twice."""
    found = state.nodes.get(node)
    if node == successor:
        raise ClaimInvalidError(f"{node} cannot replace itself")
    if found is None or (found.retired and not found.devices and not state.claims_on.get(node)):
        return [], claims_there(state, successor)
    entries: list[Entry] = [] if successor in state.nodes else [NodeSeen(successor, found.name)]
    twins = twins_of(state, node, successor)
    for device in (state.devices[name] for name in twins):
        if device.reach is Reach.ABSENT and not (device.part.uuid or device.part.serial):
            entries += cleaning.doubt(device, "it was away, and does not say who it is")
    entries.append(NodeReplaced(node, successor, who, add=True, twins=twins))
    return [*entries, *conflicts.of_twins(state, twins, successor)], claims_there(state, node)


def claims_there(state: State, node: str) -> list[Claim]:
    """Give the live claims that hold something of a node, the oldest first."""
    return sorted(
        (state.claims[name] for name in state.claims_on.get(node, ())), key=lambda claim: (claim.created_ns, claim.id)
    )


def orphans(state: State) -> Iterator[Orphan]:
    """Yield the live claims on nodes that are decommissioned or silent, one for each node."""
    for node in state.nodes.values():
        if not node.retired and node.live:
            continue
        for claim in claims_there(state, node.id):
            devices = [
                held.device for held in claim.devices if held.node == node.id and held.device not in claim.undone
            ]
            why = "decommissioned" if node.retired else "silent"
            yield Orphan(claim.id, claim.tenant, claim.consumer, claim.state.value, node.id, node.name, why, devices)
