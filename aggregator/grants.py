"""Verbosity grants: somebody wants to know more, of some nodes, for a while. They end by themselves.

A grant is durable before anybody acts on it, so that it survives the aggregator; it lasts by the monotonic clock from
then on, here and at the agent, so that nobody's clock can make it last for ever. The fleet has a budget: so many nodes
may be raised at one time. A grant that would exceed it is refused when it is set; what no longer fits because the fleet
grew is withheld, and shown as such.
"""

import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from aggregator.access import Caller, check_pattern, matches
from aggregator.control import Control
from aggregator.query_text import span_words
from aggregator.tables import GRANT, GRANT_ACK, NODE, advance, counted
from schemas import control as wire
from schemas.errors import MusterError
from schemas.verbosity import Level, RowClass

_REVISION: Final = "verbosity"
_KEEP_NS: Final = 7 * 86400 * 10**9


class GrantError(MusterError):
    """A grant that cannot be, or is not there."""

    code = "verbosity.invalid"


class BudgetError(GrantError):
    """The grant would raise more nodes than the fleet's budget allows at one time."""

    code = "verbosity.budget"


class Budget(msgspec.Struct, frozen=True):
    """The limits of grants."""

    max_nodes: int = 50
    """Nodes that grants may raise at one time."""
    max_seconds: float = 86_400.0
    """The longest grant."""


_BUDGET: Final = Budget()


class Grant(msgspec.Struct, frozen=True):
    """One grant."""

    id: str
    revision: int
    """Of the fleet's grants, when this one was set."""
    who: str
    """Who set it: `token:<id>`, `local`, `alert:<rule>`."""
    nodes: str
    """The name or pattern of the nodes that it is for."""
    collector: str
    """The collector that it is for; "" for all."""
    row_class: RowClass | None
    """The class that it is for; None for all."""
    level: Level
    reason: str
    created_ns: int
    until_ns: int
    """The wall time at which it ends."""
    cleared_ns: int | None = None
    """When it was ended early; None when it was not."""


class GrantView(msgspec.Struct, frozen=True):
    """A live grant as lists show it."""

    grant: Grant
    seconds: float
    """How much longer it lasts."""
    acknowledged: tuple[str, ...]
    """The nodes that said that they act on it."""
    withheld: tuple[str, ...]
    """Nodes that it is for, and that do not get it because the fleet's budget is spent."""
    acknowledged_after: dict[str, float] = {}
    """By node how many seconds after it was asked for, on this aggregator's monotonic clock. A node is absent that has
    not acknowledged, and all are that did so to an aggregator before this one."""


def add(connection: Connection, grant: Grant, budget: Budget) -> Grant:
    """Keep a grant; give it with its revision. Raises BudgetError when it would raise too many of the known nodes."""
    live = list_live(connection, grant.created_ns)
    gone = NODE.c.decommissioned_ns.is_not(None) | NODE.c.replaced_by.is_not(None)
    nodes = connection.execute(select(NODE.c.id).where(~gone)).scalars()
    patterns = {grant.nodes, *(one.nodes for one in live)}
    raised = sum(any(matches(pattern, node) for pattern in patterns) for node in nodes)
    if raised > budget.max_nodes:
        raise BudgetError(
            f"with this grant {raised} nodes would be raised at one time; the fleet's budget is {budget.max_nodes}."
            f" Narrow it, clear another one, or raise verbosity.max_nodes"
        )
    kept = msgspec.structs.replace(grant, revision=advance(connection, _REVISION))
    connection.execute(insert(GRANT).values(**msgspec.to_builtins(kept)))
    return kept


def clear(connection: Connection, ids: Iterable[str] | None, now_ns: int) -> tuple[list[str], int]:
    """End grants, or all live ones when `ids` is None; give the ids, and the revision after it.

    Raises GrantError for one that is not live.
    """
    live = {grant.id for grant in list_live(connection, now_ns)}
    ended = sorted(live if ids is None else set(ids))
    for one in ended:
        if one not in live:
            raise GrantError(f"there is no live grant {one[:80]!r}; `muster verbosity list` shows them")
    if ended:
        connection.execute(update(GRANT).where(GRANT.c.id.in_(ended)).values(cleared_ns=now_ns))
        return ended, advance(connection, _REVISION)
    return ended, counted(connection, _REVISION)


def list_live(connection: Connection, now_ns: int) -> list[Grant]:
    """Give the grants that were neither cleared nor have expired, oldest first."""
    question = select(GRANT).where(GRANT.c.cleared_ns.is_(None), GRANT.c.until_ns > now_ns).order_by(GRANT.c.revision)
    return [msgspec.convert(row, Grant, from_attributes=True) for row in connection.execute(question)]


def acknowledge(connection: Connection, acks: Mapping[tuple[str, str], int]) -> None:
    """Keep that nodes act on grants: nanoseconds since 1970 by (grant, node). The first time counts."""
    grants = {grant for grant, _ in acks}
    rows = connection.execute(select(GRANT_ACK.c.grant_id, GRANT_ACK.c.node).where(GRANT_ACK.c.grant_id.in_(grants)))
    known = {(row.grant_id, row.node) for row in rows}
    new = [
        {"grant_id": grant, "node": node, "acknowledged_ns": when}
        for (grant, node), when in acks.items()
        if (grant, node) not in known
    ]
    if new:
        connection.execute(insert(GRANT_ACK), new)


def acknowledged(connection: Connection) -> dict[str, tuple[str, ...]]:
    """Give the nodes that acknowledged each grant, sorted."""
    by_grant: dict[str, list[str]] = {}
    for row in connection.execute(select(GRANT_ACK).order_by(GRANT_ACK.c.node)):
        by_grant.setdefault(row.grant_id, []).append(row.node)
    return {grant: tuple(nodes) for grant, nodes in by_grant.items()}


def sweep(connection: Connection, before_ns: int) -> int:
    """Forget grants that ended before `before_ns`; give how many."""
    dead = (GRANT.c.until_ns < before_ns) | (GRANT.c.cleared_ns < before_ns)
    connection.execute(delete(GRANT_ACK).where(GRANT_ACK.c.grant_id.in_(select(GRANT.c.id).where(dead))))
    return connection.execute(delete(GRANT).where(dead)).rowcount


def _load(connection: Connection, now_ns: int) -> tuple[list[Grant], int, dict[str, tuple[str, ...]]]:
    return list_live(connection, now_ns), counted(connection, _REVISION), acknowledged(connection)


class GrantBook:
    """The live grants in memory, and what each node gets of them. For one event loop.

    `changed` is called after every change, with nothing: the control channel tells the nodes.
    """

    def __init__(
        self,
        control: Control,
        budget: Budget = _BUDGET,
        *,
        changed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._control = control
        self._budget = budget
        self._clock = clock
        self._wall_ns = wall_ns
        self.changed = changed
        self.revision = 0
        self._live: dict[str, tuple[Grant, float]] = {}  # with the end by the monotonic clock
        self._raised: set[str] = set()
        self._withheld: set[str] = set()
        self._acks: dict[str, set[str]] = {}
        self._asked: dict[str, float] = {}  # by grant that was asked for here, when
        self._took: dict[str, dict[str, float]] = {}
        self._new_acks: dict[tuple[str, str], int] = {}

    def limit(self, budget: Budget) -> None:
        """Grant within another budget from now on. What is granted stays; nodes that were withheld are told anew."""
        self._budget = budget
        self._change(self.revision)

    async def load(self) -> None:
        """Read the live grants. Called before the first node is told; what is in memory already stays as it is."""
        while True:
            now_ns, now = self._wall_ns(), self._clock()
            live, revision, acks = await self._control.read(partial(_load, now_ns=now_ns))
            if self.revision <= revision:  # else a grant was set or cleared here after the snapshot: take a newer one
                break
        self.revision = revision
        read = {grant.id: (grant, now + (grant.until_ns - now_ns) / 1e9) for grant in live}
        # a grant that runs here runs by the monotonic clock, whatever the wall clock says by now
        both = {**read, **self._live}
        self._live = dict(sorted(both.items(), key=lambda item: item[1][0].revision))
        self._acks = {id_: {*acks.get(id_, ()), *self._acks.get(id_, ())} for id_ in self._live}

    async def set(
        self,
        nodes: str,
        level: Level,
        seconds: float,
        caller: Caller | str,
        *,
        collector: str = "",
        row_class: RowClass | None = None,
        reason: str = "",
    ) -> Grant:
        """Make a grant; nodes are told once it is on disk. Raises ScopeError, GrantError, BudgetError."""
        if not 0 < seconds <= self._budget.max_seconds:
            most = span_words(self._budget.max_seconds)
            raise GrantError(f"a grant lasts more than 0 and at most {most}, not {span_words(seconds)}")
        if level is Level.ESSENTIAL:
            raise GrantError("what is essential is always sent; grant standard, detailed or debug")
        if len(reason) > 1000 or len(collector) > 255:
            raise GrantError("a reason has at most 1,000 characters, a collector's name 255")
        now_ns = self._wall_ns()
        who = caller if isinstance(caller, str) else caller.name
        until_ns = now_ns + int(seconds * 1e9)
        id_ = secrets.token_hex(6)
        asked = Grant(id_, 0, who, check_pattern(nodes), collector, row_class, level, reason, now_ns, until_ns)
        until = self._clock() + seconds
        grant = await self._control.write(partial(add, grant=asked, budget=self._budget))
        self._live[grant.id] = (grant, until)
        self._asked[grant.id] = until - seconds
        self._change(grant.revision)
        return grant

    async def clear(self, ids: Iterable[str] | None = None) -> list[str]:
        """End grants before their time, or all of them; give the ids. Raises GrantError for one that is not live."""
        asked = None if ids is None else list(ids)
        ended, revision = await self._control.write(partial(clear, ids=asked, now_ns=self._wall_ns()))
        for id_ in ended:
            self._forget(id_)
        if ended:
            self._change(revision)
        return ended

    def live(self) -> list[Grant]:
        """Give the grants that are live now, oldest first."""
        now = self._clock()
        return [grant for grant, until in self._live.values() if until > now]

    def for_node(self, node: str) -> list[wire.Grant]:
        """Give what a node is to be told: its live grants with the seconds that are left; none beyond the budget."""
        now = self._clock()
        mine = [(grant, until) for grant, until in self._live.values() if until > now and matches(grant.nodes, node)]
        if not mine:
            self._raised.discard(node)
            self._withheld.discard(node)
            return []
        if node not in self._raised and len(self._raised) >= self._budget.max_nodes:
            self._withheld.add(node)
            return []
        self._raised.add(node)
        self._withheld.discard(node)
        return [
            wire.Grant(grant.id, grant.level, grant.collector, grant.row_class, until - now) for grant, until in mine
        ]

    def acknowledged(self, node: str, grants: Iterable[str]) -> None:
        """Take note that a node acts on these grants; `maintain` writes it down."""
        now_ns, now = self._wall_ns(), self._clock()
        for id_ in grants:
            if id_ in self._live and node not in self._acks.setdefault(id_, set()):
                self._acks[id_].add(node)
                self._new_acks[id_, node] = now_ns
                if id_ in self._asked:
                    self._took.setdefault(id_, {})[node] = now - self._asked[id_]

    def views(self) -> list[GrantView]:
        """Give the live grants as lists show them, oldest first."""
        now = self._clock()
        return [
            GrantView(
                grant,
                until - now,
                tuple(sorted(self._acks.get(grant.id, ()))),
                tuple(sorted(node for node in self._withheld if matches(grant.nodes, node))),
                dict(sorted(self._took.get(grant.id, {}).items())),
            )
            for grant, until in self._live.values()
            if until > now
        ]

    async def maintain(self) -> None:
        """Write acknowledgements down, and let go of what expired. Called every few seconds."""
        now = self._clock()
        expired = [id_ for id_, (_, until) in self._live.items() if until <= now]
        for id_ in expired:
            self._forget(id_)
        if expired:  # agents ended them by themselves; but the budget may now have room for nodes that were withheld
            self._change(self.revision)
        acks, self._new_acks = self._new_acks, {}
        if acks:
            await self._control.write(partial(acknowledge, acks=acks))

    async def sweep(self) -> int:
        """Forget grants that ended more than a week ago; give how many. Called about once a day."""
        return await self._control.write(partial(sweep, before_ns=self._wall_ns() - _KEEP_NS))

    def _forget(self, id_: str) -> None:
        for kept in (self._live, self._acks, self._asked, self._took):
            kept.pop(id_, None)

    def _change(self, revision: int) -> None:
        self.revision = max(self.revision, revision)
        self._raised = {node for node in self._raised if self._concerned(node)}
        self._withheld = {node for node in self._withheld if self._concerned(node)}
        self.changed()

    def _concerned(self, node: str) -> bool:
        return any(matches(grant.nodes, node) for grant in self.live())
