"""What operators decide about nodes: in the registry, which says who may speak, and in the ledger: what is there.

Two databases, one after the other: the registry first, so that nobody speaks any more for what the ledger then retires.
Each step may be repeated: who gets an error asks again.
"""

from collections.abc import Iterator
from functools import partial

import msgspec

from aggregator.fleet import Fleet
from aggregator.ledger import nodes
from aggregator.ledger.entries import Entry, NodeSeen
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.model import Claim
from aggregator.ledger.model import Node as LedgerNode
from aggregator.ledger.state import State
from aggregator.nodes import Node, NodeView


class ClaimThere(msgspec.Struct, frozen=True):
    """A claim that holds something of a node."""

    claim: str
    tenant: str
    consumer: str
    state: str
    devices: list[str]
    """Those of the node."""


class Amount(msgspec.Struct, frozen=True):
    """How much of something a node has: vCPUs, bytes of memory or disk."""

    total: int
    """What is there."""
    limit: int
    """What may be given: the total by the policy of over-commit."""
    used: int
    """What claims hold."""
    left: int
    """What remains of the limit; 0 also when more is held than may be."""


class Life(msgspec.Struct, frozen=True):
    """What the ledger says of a node."""

    cordoned: str
    """Why nothing new goes there; "" when it may."""
    draining: str
    maintenance: str
    maintenance_until_ns: int | None
    retired: bool
    devices: int
    claims: int
    """Live ones that hold something there."""
    amounts: dict[str, Amount]
    """Consumed against remaining: `vcpus`, `memory_bytes`, `disk_bytes`; what the node does not tell is absent."""
    labels: dict[str, str]
    """What it says of itself: `node.labels` in expressions."""
    marks: dict[str, str] = {}
    """Rule -> what was seen, of the marks on the node itself."""


class NodeInAnswer(msgspec.Struct, frozen=True):
    """A node as answers show it: as the registry knows it, and as the ledger does."""

    node: Node
    state: str
    silent_s: float | None
    life: Life | None
    """None: the ledger has heard nothing of it, or cannot answer now."""


class Decided(msgspec.Struct, frozen=True):
    """What became of a decision, and the claims that it concerns."""

    id: str
    name: str
    claims: list[ClaimThere]
    life: Life | None = None
    replaced_by: str | None = None


class NodeLife:
    """Decisions about nodes, in both places. For one event loop."""

    def __init__(self, fleet: Fleet, ledger: Ledger) -> None:
        self._fleet = fleet
        self._ledger = ledger

    async def views(self) -> list[NodeInAnswer]:
        """Give every node of the registry, by id."""
        views = await self._fleet.views()
        if not self._ledger.ready:
            return [_shown(view, None) for view in views]
        return await self._ledger.read(lambda state: [_shown(view, life(state, view.node.id)) for view in views])

    async def cordon(self, node: str, why: str, who: str) -> Decided:
        """Let nothing new go to a node; with `why` "" let it go there again. Raises NodeUnknownError."""
        await self._known(node)
        await self._ledger.decide(partial(nodes.cordon, node=node, why=why, who=who))
        return await self._decided(node)

    async def drain(self, node: str, why: str, who: str) -> Decided:
        """Say that what is on a node should leave; its consumers are told by event. Raises NodeUnknownError."""
        await self._known(node)
        await self._ledger.decide(partial(nodes.drain, node=node, why=why, who=who))
        return await self._decided(node)

    async def maintain(self, node: str, until_ns: int, why: str, who: str) -> Decided:
        """Put a node into maintenance until a time; 0 ends it. Raises NodeUnknownError."""
        await self._known(node)
        await self._ledger.decide(partial(nodes.maintain, node=node, until_ns=until_ns, why=why, who=who))
        return await self._decided(node)

    async def rename(self, node: str, name: str, who: str) -> Decided:
        """Call a node by an operator's name; "" ends that. Raises NodeUnknownError, or ClaimInvalidError if taken."""
        await self._known(node)
        await self._ledger.decide(partial(nodes.rename, node=node, name=name, who=who))
        self._fleet.call({node: name})
        return await self._decided(node)

    async def decommission(self, node: str, who: str) -> Decided:
        """Let a node go: its tokens end, its stranded rows are lost, its claims are orphans. Raises NodeError."""
        await self._fleet.nodes.decommission(node)
        await self._ledger.decide(partial(nodes.retire, node=node, who=who))
        return await self._decided(node)

    async def reinstate(self, node: str, who: str) -> Decided:
        """Let a node speak again. What another id has taken over stays there. Raises NodeError."""
        await self._fleet.nodes.reinstate(node)
        await self._ledger.decide(partial(nodes.retire, node=node, who=who, retired=False))
        return await self._decided(node)

    async def replace(self, old: str, new: str, who: str) -> Decided:
        """Say that `new` is the machine that was `old`, with its devices and claims. Raises NodeError."""
        decided = await self._fleet.nodes.replace(old, new)
        await self._ledger.decide(partial(nodes.replace, node=old, successor=new, who=who))
        there = await self._ledger.read(lambda state: claims_of(state, new))
        return Decided(old, decided.host_name or "", there, replaced_by=decided.replaced_by)

    async def claims(self, node: str) -> Decided:
        """Give a node with the claims that hold something of it. Raises NodeUnknownError."""
        return await self._decided(node)

    async def _known(self, node: str) -> None:
        """Let the ledger know a node of which only the registry has heard."""
        found = {view.node.id: view.node.host_name or "" for view in await self._fleet.views()}
        if node in found:
            await self._ledger.decide(partial(_meet, node=node, name=found[node]))

    async def _decided(self, node: str) -> Decided:
        def question(state: State) -> Decided:
            found = state.nodes.get(node)
            name = found.name if found else ""
            return Decided(node, name, claims_of(state, node), life(state, node))

        return await self._ledger.read(question)


def life(state: State, node: str) -> Life | None:
    """Say what the ledger knows of a node; None for nothing."""
    found = state.nodes.get(node)
    if found is None:
        return None
    return Life(
        found.cordoned,
        found.draining,
        found.maintenance,
        found.maintenance_until_ns,
        found.retired,
        len(found.devices),
        len(state.claims_on.get(node, ())),
        dict(_amounts(state, found)),
        dict(found.labels),
        {mark.rule: mark.evidence for mark in found.taints.values()},
    )


def _amounts(state: State, node: LedgerNode) -> Iterator[tuple[str, Amount]]:
    """Yield what there is of each amount on a node, as far as it tells."""
    for name, total in node.totals.items():
        limit, used = state.capacity(node, name), node.used.get(name, 0)
        if limit is not None:
            yield name, Amount(total, limit, used, max(0, limit - used))


def claims_of(state: State, node: str) -> list[ClaimThere]:
    """Give the live claims on a node, the oldest first."""
    return [_there(claim, node) for claim in nodes.claims_there(state, node)]


def _there(claim: Claim, node: str) -> ClaimThere:
    devices = [held.device for held in claim.devices if held.node == node]
    return ClaimThere(claim.id, claim.tenant, claim.consumer, claim.state.value, devices)


def _shown(view: NodeView, known: Life | None) -> NodeInAnswer:
    return NodeInAnswer(view.node, view.state, view.silent_s, known)


def _meet(state: State, node: str, name: str) -> tuple[list[Entry], None]:
    return [] if node in state.nodes else [NodeSeen(node, name or None)], None
