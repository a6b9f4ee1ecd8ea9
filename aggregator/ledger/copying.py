"""Copies the state for a snapshot while it goes on changing, in slices of a few milliseconds, on the ledger's own loop.

As a virtual machine is moved while it runs: nodes are encoded one by one, and what changed meanwhile is encoded again,
until so little is left that it, and what is not of a node, is done in one go. That moment is the snapshot's. Nothing
else is as cheap: a second state built on a thread costs as much memory as the first, and the collector of garbage,
which stops everybody, walks through both.
"""

import time
from typing import Final

import msgspec

from aggregator.ledger.snapshot import (
    CLAIMS_A_PART,
    NODES_A_PART,
    encode_claim,
    encode_head,
    encode_node,
    join_parts,
)
from aggregator.ledger.state import State, encode_kept

SLICE_SECONDS: Final = 0.002
_FEW_NODES: Final = 8
"""So many may be left for the last go."""
_FEW_CLAIMS: Final = 128
_ROUNDS: Final = 20
"""Of a state that changes faster than it is copied, the rest is done in one go then, however long that takes."""


class Copy(msgspec.Struct, frozen=True):
    """A state in parts, as of one moment, encoded."""

    sequence: int
    time_ns: int
    rest: bytes
    """Of `State.keep`, all that is of no node and no claim."""
    node_order: list[str]
    nodes: dict[str, bytes]
    """By id; more than there are, for some went while it was made."""
    claim_order: list[str]
    claims: dict[str, bytes]

    def parts(self) -> list[bytes]:
        """Give parts 1 and on, not compressed."""
        nodes = join_parts([self.nodes[name] for name in self.node_order], NODES_A_PART)
        return nodes + join_parts([self.claims[name] for name in self.claim_order], CLAIMS_A_PART)

    def head(self, base: int) -> bytes:
        """Give part 0, not compressed."""
        nodes, claims = -(-len(self.node_order) // NODES_A_PART), -(-len(self.claim_order) // CLAIMS_A_PART)
        return encode_head(base, nodes, claims, self.rest)


class Copying:
    """One copy under way. Call `step` until it gives the copy, or `stop`; anything may be applied in between."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._touched: set[str] = set(state.nodes)
        state.listeners.append(self._touched)
        self._nodes: dict[str, bytes] = {}
        self._claims: dict[str, bytes] = {}
        self._nodes_left: list[str] = []
        """Of this round."""
        self._claims_left: list[str] = list(state.claims)
        self._since = state.sequence
        """Claims that changed after it are not in this round, or were copied too early."""
        self._rounds = self._claim_rounds = 0

    def step(self, seconds: float = SLICE_SECONDS) -> Copy | None:
        """Encode for about so long; give the copy, of this very moment, once all is encoded."""
        until = time.perf_counter() + seconds
        idle = True
        while time.perf_counter() < until:
            if self._nodes_left:
                for _ in range(min(4, len(self._nodes_left))):
                    self._copy_node(self._nodes_left.pop())
            elif len(self._touched) > _FEW_NODES and self._rounds < _ROUNDS:
                self._nodes_left = list(self._touched)
                self._touched.clear()
                self._rounds += 1
            elif self._claims_left:
                self._copy_claims(self._claims_left[-32:])
                del self._claims_left[-32:]
            elif self._claim_rounds < _ROUNDS and len(stale := self._stale_claims()) > _FEW_CLAIMS:
                self._claims_left, self._since = stale, self.state.sequence
                self._claim_rounds += 1
            elif idle:
                return self._finish()
            else:
                return None  # the last go has a slice of its own
            idle = False
        return None

    def stop(self) -> None:
        """Let go of the state. Safe twice."""
        self.state.listeners = [one for one in self.state.listeners if one is not self._touched]

    def _copy_node(self, name: str) -> None:
        node = self.state.nodes.get(name)
        if node is not None:
            self._nodes[name] = encode_node(self.state, node)

    def _copy_claims(self, names: list[str]) -> None:
        for name in names:
            claim = self.state.claims.get(name)
            if claim is not None:
                self._claims[name] = encode_claim(claim)

    def _stale_claims(self) -> list[str]:
        since = self._since
        return [claim.id for claim in self.state.claims.values() if claim.version > since]

    def _finish(self) -> Copy:
        for name in self._touched:
            self._copy_node(name)
        self._copy_claims(self._stale_claims())
        self.stop()
        state = self.state
        rest = encode_kept(state.keep(whole=False))
        return Copy(
            state.sequence, state.time_ns, rest, list(state.nodes), self._nodes, list(state.claims), self._claims
        )
