"""Placing: the decision that chooses devices and grants them, with nothing in between; and the same as a dry run."""

import asyncio
from collections.abc import Iterator
from typing import Final

import msgspec

from aggregator.ledger import asks, claims
from aggregator.ledger.asks import Ask, NotGrantedError, Pick
from aggregator.ledger.entries import Entry
from aggregator.ledger.ledger import Ledger, LedgerBusyError
from aggregator.ledger.model import part_key
from aggregator.ledger.state import State
from aggregator.ledger.words import Mode
from aggregator.placement.choose import Chooser, Chosen, Solvers
from aggregator.placement.explain import Blocker, blockers
from aggregator.placement.index import Index
from aggregator.placement.layout import bits
from aggregator.placement.refusal import Refusal, quota_objections, refuse
from aggregator.placement.request import Request, Resolved, resolve
from schemas.errors import MusterError
from schemas.mig import Plan

SLICE: Final = 20
"""Nodes that are looked at in one go: some 5 ms."""
KEEP_UP_SECONDS: Final = 0.1


class NotPlacedError(MusterError):
    """There is no place for the request now; `refusal` says why."""

    code = "placement.refused"
    status = 409

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Instance(msgspec.Struct, frozen=True):
    """Where one instance goes."""

    node: str
    devices: list[Pick]
    rank: int
    """How good the choice is on its node (`rank`); lower is better, and only comparable within one request."""
    node_name: str = ""
    """The node's host name; "" where it has none."""


class Placement(msgspec.Struct, frozen=True):
    """What would be granted."""

    instances: list[Instance]
    ask: Ask


class Placer:
    """Places requests on one ledger's state. For one thread, that of the state."""

    def __init__(self) -> None:
        self._index: Index | None = None
        self._solvers = Solvers()

    def index(self, state: State) -> Index:
        """Give the index of a state, up to date. Of another state than last time it is built anew."""
        index = self._of(state)
        index.refresh()
        return index

    def _of(self, state: State) -> Index:
        index = self._index
        if index is None or index.state is not state:
            if index is not None:
                index.leave(state)
            index = self._index = Index(state)
        index.follow()
        return index

    @property
    def looked_at(self) -> set[str]:
        """The nodes that are known now."""
        return set(self._index.nodes) if self._index is not None else set()

    async def keep_up(self, ledger: Ledger) -> None:
        """Look at nodes as they change, a few at a time, so that no request has to wait for many; until cancelled."""
        while True:
            try:
                left = self._of(ledger.peek()).refresh(SLICE)
            except LedgerBusyError:
                left = False  # it is being read from disk
            await asyncio.sleep(0 if left else KEEP_UP_SECONDS)

    def place(self, state: State, request: Request, *, who: str = "", key: str = "") -> Placement:
        """Choose; nothing is granted. Raises RequestError, or NotPlacedError."""
        return self.place_on(self.index(state), request, who=who, key=key)

    def place_on(self, index: Index, request: Request, *, who: str = "", key: str = "") -> Placement:
        """Choose on an index of one's own: of a hypothesis, or of the past."""
        resolved = resolve(index.state, request)
        chooser = Chooser(index, self._solvers, resolved)
        chosen = None if quota_objections(index.state, resolved) else chooser.choose()
        if chosen is None:
            raise NotPlacedError(refuse(chooser))
        placement = _placement(index, resolved, chosen, who, key)
        over = list(asks.over_quota(index.state, placement.ask))
        if over:  # whole groups are larger than what was asked for
            raise NotPlacedError(Refusal("; ".join(one.message for one in over), [], quota=over))
        return placement

    def grant(
        self, state: State, request: Request, claim: str, *, who: str = "", key: str = ""
    ) -> tuple[list[Entry], str]:
        """Choose and grant, in one decision. Raises RequestError, NotPlacedError, or ClaimError."""
        before = claims.repeated(state, request.tenant, key, text_of(request))
        if before:
            return [], before
        return claims.grant(state, self.place(state, request, who=who, key=key).ask, claim)

    def dry_run(self, state: State, request: Request) -> Placement:
        """Do all that `grant` does, and give what would be granted. Raises what `grant` raises."""
        placement = self.place(state, request)
        asks.check_ask(placement.ask)
        against = list(asks.objections(state, placement.ask))
        if against:
            raise NotGrantedError(against)
        return placement

    def explain(self, state: State, request: Request, refusal: Refusal) -> list[Blocker] | None:
        """Give an irreducible set of blockers of a refused request; None when no change of state would help."""
        return blockers(self.index(state), resolve(state, request), refusal)


def text_of(request: Request) -> str:
    """Give a request as the ledger keeps it."""
    return msgspec.json.encode(request, order="sorted").decode()


def _placement(index: Index, resolved: Resolved, chosen: list[Chosen], who: str, key: str) -> Placement:
    request = resolved.request
    instances = [
        Instance(one.node, list(_picks(index, one)), one.solution.rank, index.state.nodes[one.node].name)
        for one in chosen
    ]
    amounts: dict[str, dict[str, int]] = {}
    for one in chosen:
        mine = amounts.setdefault(one.node, {})
        for amount, number in resolved.amounts.items():
            mine[amount] = mine.get(amount, 0) + number
    ask = Ask(
        request.tenant,
        request.consumer,
        [pick for instance in instances for pick in instance.devices],
        {node: mine for node, mine in amounts.items() if mine},
        request.lease_seconds,
        request.tolerations,
        who,
        request.package,
        text_of(request),
        key,
    )
    return Placement(instances, ask)


def _picks(index: Index, chosen: Chosen) -> Iterator[Pick]:
    devices = index.nodes[chosen.node].devices
    for need, (part, mask) in enumerate(zip(chosen.plan.parts, chosen.solution.seats, strict=False)):
        for at in bits(mask) if not part.profile else ():
            yield Pick(devices[at].id, part.mode, part_key(devices[at]))
        for one in chosen.solution.made:
            if one.need == need:
                plan = str(Plan(part.profile, one.place))
                yield Pick(devices[one.seat].id, part.mode, part_key(devices[one.seat]), plan)
    for at in bits(chosen.solution.extra):
        yield Pick(devices[at].id, Mode.PASSTHROUGH, part_key(devices[at]))
