"""A ledger that is new or was set back: what its nodes keep of claims is taken before they are known again."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import msgspec

from aggregator.leases import Leases
from aggregator.ledger import expecting, restoring
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.state import State
from aggregator.speaking import Speaking
from schemas.claims import Checkpoint, CheckpointClaim
from schemas.rows import Event, Severity

_log = logging.getLogger("muster.claims")
PENDING_SECONDS: Final = 120.0
"""How long a device of a checkpoint may be missing before it is called absent; it stays its claim's."""
SET_BACK_SECONDS: Final = 3600.0
"""A node that has seen more than the ledger has a generation begun, at most so often: one node alone can claim it."""
_FUTURE_SECONDS: Final = 86_400


class _Shown(msgspec.Struct):
    """A checkpoint, and how far it is restored."""

    checkpoint: Checkpoint
    since: float
    told: set[str] = msgspec.field(default_factory=set)
    """Claims of which it was said that somebody else has their devices."""


class Restoring:
    """Takes checkpoints, and gives back what the ledger lost. For one event loop."""

    def __init__(
        self,
        ledger: Ledger,
        leases: Leases,
        announce: Callable[[list[Event]], Awaitable[None]],
        *,
        clock: Callable[[], float],
        wall_ns: Callable[[], int],
    ) -> None:
        self._ledger = ledger
        self._leases = leases
        self._announce = announce
        self._clock = clock
        self._wall_ns = wall_ns
        self._shown: dict[str, _Shown] = {}
        """Publisher -> what it keeps of claims, as of the beginning of its run."""
        self._open: set[str] = set()
        """Publishers whose checkpoints are to be looked at."""
        self._set_back = float("-inf")
        self._speaking = Speaking()

    def take(self, publisher: str, checkpoint: Checkpoint) -> list[str]:
        """Take a checkpoint; `restore` looks at it. Gives the nodes that its publisher speaks for."""
        self._shown[publisher] = _Shown(checkpoint, self._clock())
        self._open.add(publisher)
        self._note(self._ledger.peek())
        return self._speaking.of(publisher)

    async def begin(self, state: State) -> None:
        """Begin with a state that was read from disk: a ledger that is new knows nothing of any node."""
        self._open.update(self._shown)
        if not state.sequence:
            await self._generation("this ledger is new")

    async def restore(self, state: State) -> None:
        """Let nodes that have shown what they keep be known, once what the ledger lost of it is back."""
        self._note(state)
        for publisher in sorted(self._open):
            shown = self._shown[publisher]
            if restoring.ahead(state, shown.checkpoint) and not await self._was_set_back(shown.checkpoint):
                continue
            pending = [kept for kept in shown.checkpoint.claims if await self._give_back(publisher, shown, kept)]
            if pending and self._clock() - shown.since < PENDING_SECONDS:
                continue
            nodes = self._speaking.of(publisher)
            for kept in pending:
                await self._expect(publisher, shown, kept, nodes)
            if any(restoring.unshown(state, nodes)):
                await self._ledger.decide(partial(restoring.show, nodes=nodes, kept=shown.checkpoint))
            if self._shown[publisher] is shown:  # else it has begun another run meanwhile
                self._open.discard(publisher)

    def _note(self, state: State) -> None:
        """Open again what is done of publishers that speak for a node of which nothing is known yet."""
        for node in restoring.unshown(state, self._speaking.changed(state)):
            if node.publisher in self._shown:
                self._open.add(node.publisher)

    async def _give_back(self, publisher: str, shown: _Shown, kept: CheckpointClaim) -> bool:
        """Restore one claim; tell whether a device of it is yet to be described."""
        restored = await self._ledger.decide(partial(restoring.restore, publisher=publisher, claim=kept))
        found = self._ledger.peek().claims.get(kept.claim)
        if found is not None:
            self._leases.follow(found)
        if restored.conflict and kept.claim not in shown.told:
            shown.told.add(kept.claim)
            detail = {"claim": kept.claim, "reason": restored.conflict[:500]}
            message = f"claim {kept.claim}: {restored.conflict}"
            event = Event("claim.contradicted", message, Severity.CRITICAL, detail=detail, subject=publisher)
            await self._announce([event])
        return restored.pending

    async def _expect(self, publisher: str, shown: _Shown, kept: CheckpointClaim, nodes: list[str]) -> None:
        """Restore a claim with what nobody described in time: absent, and nobody else's when it is seen after all."""
        missing = await self._ledger.decide(partial(expecting.expect, nodes=nodes, claim=kept))
        _log.warning("claim_devices_absent claim=%s publisher=%s devices=%d", kept.claim, publisher, missing)
        if missing:
            await self._give_back(publisher, shown, kept)

    async def _was_set_back(self, checkpoint: Checkpoint) -> bool:
        """Begin a generation because a node has seen more than the ledger holds; False when that cannot be believed."""
        if not self._believable(checkpoint.generation):
            _log.error("checkpoint_refused generation=%d: it lies in the future", checkpoint.generation)
            return False
        if self._clock() - self._set_back < SET_BACK_SECONDS:
            return False
        self._set_back = self._clock()
        epoch = f"{checkpoint.generation}.{checkpoint.sequence}"
        await self._generation(f"a node has seen epoch {epoch}, which this ledger has not reached: it was set back")
        return not restoring.ahead(self._ledger.peek(), checkpoint)

    def _believable(self, generation: int) -> bool:
        """Tell whether a ledger may have had a generation: none lies far beyond any clock that is nearly right."""
        return generation <= self._wall_ns() // 10**9 + _FUTURE_SECONDS

    async def _generation(self, why: str) -> None:
        """Begin a generation: nothing is known of any node until it has shown what it keeps."""
        seen = (shown.checkpoint.generation for shown in self._shown.values())
        known = max((one for one in seen if self._believable(one)), default=0)
        begin = partial(restoring.begin_generation, now_ns=self._wall_ns(), why=why, known=known)
        generation = await self._ledger.decide(begin)
        _log.warning("generation_begun generation=%d why=%s", generation, why)
        self._open.update(self._shown)
        for shown in self._shown.values():
            shown.since = self._clock()
