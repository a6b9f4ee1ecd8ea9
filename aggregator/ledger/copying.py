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
_FEW_NODES: Final = 16
"""So many may be left for the last go."""
_FEW_CLAIMS: Final = 256
_ROUNDS: Final = 20
"""Of a state that changes faster than it is copied, the rest is done in one go then, however long that takes."""


class Copy(msgspec.Struct, frozen=True):
    """A state in parts, as of one moment, encoded."""

    sequence: int
    time_ns: int
    rest: bytes
    """Of `State.keep`, all that is of no node and no claim."""
    nodes: list[bytes]
    claims: list[bytes]

    def parts(self) -> list[bytes]:
        """Give parts 1 and on, not compressed."""
        return join_parts(self.nodes, NODES_A_PART) + join_parts(self.claims, CLAIMS_A_PART)

    def head(self, base: int) -> bytes:
        """Give part 0, not compressed."""
        nodes, claims = -(-len(self.nodes) // NODES_A_PART), -(-len(self.claims) // CLAIMS_A_PART)
        return encode_head(base, nodes, claims, self.rest)


class Copying:
    """One copy under way. Call `step` until it gives the copy, or `stop`; anything may be applied in between."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._touched: set[str] = set(state.nodes)
        state.listeners.append(self._touched)
        self._nodes: dict[str, bytes] = {}
        self._claims: dict[str, tuple[int, bytes]] = {}
        """By id, with the version."""
        self._rounds = 0
        self._round: list[str] = []

    def step(self, seconds: float = SLICE_SECONDS) -> Copy | None:
        """Encode for about so long; give the copy, of this very moment, once all is encoded."""
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            if self._round:
                for _ in range(min(4, len(self._round))):
                    self._copy_node(self._round.pop())
            elif len(self._touched) > _FEW_NODES and self._rounds < _ROUNDS:
                self._round = list(self._touched)
                self._touched.clear()
                self._rounds += 1
            elif len(stale := self._stale_claims(_FEW_CLAIMS)) == _FEW_CLAIMS:
                self._copy_claims(stale)
            else:
                return self._finish()
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
            claim = self.state.claims[name]
            self._claims[name] = (claim.version, encode_claim(claim))

    def _stale_claims(self, most: int) -> list[str]:
        """Give claims that are not copied as they are now, at most so many."""
        found: list[str] = []
        for name, claim in self.state.claims.items():
            known = self._claims.get(name)
            if known is None or known[0] != claim.version:
                found.append(name)
                if len(found) >= most:
                    break
        return found

    def _finish(self) -> Copy:
        for name in self._touched:
            self._copy_node(name)
        state = self.state
        self._copy_claims(self._stale_claims(len(state.claims) + 1))
        self.stop()
        return Copy(
            state.sequence,
            state.time_ns,
            encode_kept(state.keep(whole=False)),
            [self._nodes[name] for name in state.nodes],
            [self._claims[name][1] for name in state.claims],
        )
