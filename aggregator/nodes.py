"""The registry of publishers: what each said of itself, its runs, when it was heard, and what operators decided.

`decommission` and `replace` are decisions: the node may not speak any more, its tokens end, and with `decommission` the
rows that it took with it are written off (the balance moves them from stranded to lost). Both are undone by `reinstate`
or by a new enrolment.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, bindparam, insert, select, update

from aggregator import tokens
from aggregator.access import check_subject
from aggregator.control import Control
from aggregator.succession import Succession
from aggregator.tables import EPOCH, NODE
from aggregator.token_service import Tokens
from schemas.errors import MusterError, near_names

MAX_FACTS_BYTES: Final = 64 << 10
"""What a node may say of its machine, as JSON."""


class NodeError(MusterError):
    """There is no such node, or it cannot be changed so."""

    code = "node.invalid"


class Node(msgspec.Struct, frozen=True):
    """A publisher as the control database knows it."""

    id: str
    host_name: str | None
    boot: str | None
    agent_version: str | None
    facts: dict[str, Any]
    """What the machine is, as its agent says: model, serial, kernel, CPUs, memory."""
    epoch: str | None
    """The current epoch; None when it never spoke."""
    first_heard_ns: int | None
    last_heard_ns: int | None
    """When it was last heard, to about a minute; `NodeView.silent_s` is exact."""
    decommissioned_ns: int | None
    replaced_by: str | None


class Epoch(msgspec.Struct, frozen=True):
    """One run of a node's agent. Its record stays: rows may be stranded under it."""

    node: str
    epoch: str
    boot: str
    predecessors: tuple[str, ...]
    """The epochs that it named when it started, newest first."""
    started_ns: int
    ended_ns: int | None
    """When it ended in order, or another one took its place; None for one that goes on."""
    end_reason: str | None
    """`handover`, `takeover`, or `goodbye`: it ended in order."""
    lost_ns: int | None
    """When its stranded rows were written off; None: they were not."""


class NodeView(msgspec.Struct, frozen=True):
    """A node as it is now."""

    node: Node
    state: str
    """`live`, `silent`, `decommissioned`, `replaced`, or `expected` (enrolled or restored, not heard yet)."""
    silent_s: float | None
    """Seconds since it was heard, by this process's monotonic clock; None: not since this process started."""


def list_nodes(connection: Connection) -> list[Node]:
    """Give every node, by id."""
    return [_node(row) for row in connection.execute(select(NODE).order_by(NODE.c.id))]


def find_node(connection: Connection, id: str) -> Node:  # noqa: A002  # the word that users see
    """Give one node. Raises NodeError with near names."""
    row = connection.execute(select(NODE).where(NODE.c.id == id)).first()
    if row is None:
        known = {*connection.execute(select(NODE.c.id)).scalars()}
        raise NodeError(f"there is no node {id[:80]!r}.{near_names(id, known)}")
    return _node(row)


def list_epochs(connection: Connection, node: str | None = None) -> list[Epoch]:
    """Give the runs of one node, or of all, oldest first."""
    question = select(EPOCH).order_by(EPOCH.c.node, EPOCH.c.started_ns, EPOCH.c.epoch)
    if node is not None:
        question = question.where(EPOCH.c.node == node)
    return [msgspec.convert(row, Epoch, from_attributes=True) for row in connection.execute(question)]


def written_off(connection: Connection) -> set[tuple[str, str]]:
    """Give (node, epoch) of every run whose stranded rows were written off: for them, stranded reads lost."""
    rows = connection.execute(select(EPOCH.c.node, EPOCH.c.epoch).where(EPOCH.c.lost_ns.is_not(None)))
    return {(row.node, row.epoch) for row in rows}


def describe(connection: Connection, id: str, said: Mapping[str, Any]) -> None:  # noqa: A002
    """Keep what a node says of itself: any of host_name, boot, agent_version, facts."""
    if not connection.execute(update(NODE).where(NODE.c.id == id).values(**said)).rowcount:
        connection.execute(insert(NODE).values({"id": id, "facts": {}, **said}))


def keep_heard(connection: Connection, heard: Mapping[str, int]) -> None:
    """Keep when nodes were last heard: nanoseconds since 1970 by id."""
    if heard:
        statement = update(NODE).where(NODE.c.id == bindparam("which")).values(last_heard_ns=bindparam("when"))
        connection.execute(statement, [{"which": id_, "when": when} for id_, when in heard.items()])


def decommission(connection: Connection, id: str, now_ns: int) -> Node:  # noqa: A002
    """Let a node go: end its tokens, write off what is stranded with it. Safe twice. Raises NodeError."""
    node = find_node(connection, id)
    tokens.revoke_node(connection, id, now_ns)
    connection.execute(update(EPOCH).where(EPOCH.c.node == id, EPOCH.c.lost_ns.is_(None)).values(lost_ns=now_ns))
    if node.decommissioned_ns is None:
        connection.execute(update(NODE).where(NODE.c.id == id).values(decommissioned_ns=now_ns))
    return find_node(connection, id)


def replace(connection: Connection, old: str, new: str, now_ns: int) -> Node:
    """Say that `new` is the machine that was `old` (its board was swapped, its id with it); give `old`.

    The tokens of `old` end. Its stranded rows stay stranded, for its spool may yet be brought back; `decommission` OLD
    writes them off. Raises NodeError.
    """
    node = find_node(connection, old)
    if old == new:
        raise NodeError(f"{old} cannot replace itself")
    successor = connection.execute(select(NODE).where(NODE.c.id == check_subject(new))).first()
    if successor is not None and successor.replaced_by is not None:
        raise NodeError(f"{new} was itself replaced by {successor.replaced_by}; name that one")
    if node.replaced_by not in (None, new):
        raise NodeError(f"{old} was already replaced by {node.replaced_by}; reinstate it first")
    tokens.revoke_node(connection, old, now_ns)
    connection.execute(update(NODE).where(NODE.c.id == old).values(replaced_by=new))
    if successor is None:
        connection.execute(insert(NODE).values(id=new, facts={}))
    return find_node(connection, old)


def reinstate(connection: Connection, id: str) -> Node:  # noqa: A002
    """Undo `decommission` and `replace`: it may speak again, with a token yet to be made. Raises NodeError."""
    find_node(connection, id)
    connection.execute(update(NODE).where(NODE.c.id == id).values(decommissioned_ns=None, replaced_by=None))
    connection.execute(update(EPOCH).where(EPOCH.c.node == id).values(lost_ns=None))
    return find_node(connection, id)


def _node(row: Row[Any]) -> Node:
    return msgspec.convert(row, Node, from_attributes=True)


class Nodes:
    """The registry as the aggregator's other parts use it. For one event loop."""

    def __init__(
        self,
        control: Control,
        succession: Succession,
        tokens: Tokens,
        *,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._control = control
        self._succession = succession
        self._tokens = tokens
        self._wall_ns = wall_ns
        self._said: dict[str, dict[str, Any]] = {}
        self._kept: dict[str, int] = {}

    async def describe(self, id: str, **said: Any) -> None:  # noqa: A002
        """Keep what a node says of itself (host_name, boot, agent_version, facts), if it is new. Raises NodeError."""
        known = self._said.setdefault(id, {})
        new = {name: value for name, value in said.items() if value not in (None, "") and known.get(name) != value}
        if not new:
            return
        if "facts" in new and len(msgspec.json.encode(new["facts"])) > MAX_FACTS_BYTES:
            raise NodeError(f"{id} says more than {MAX_FACTS_BYTES} bytes about its machine")
        await self._control.write(partial(describe, id=id, said=new))
        known.update(new)

    async def views(self) -> list[NodeView]:
        """Give every node as it is now, by id."""
        nodes = await self._control.read(list_nodes)
        heard = self._succession.heard()
        limit = self._succession.silence_s
        return [NodeView(node, _state(node, heard.get(node.id), limit), heard.get(node.id)) for node in nodes]

    async def decommission(self, id: str) -> Node:  # noqa: A002
        """Let a node go; see the function of that name."""
        return await self._decide(partial(decommission, id=id, now_ns=self._wall_ns()), id)

    async def replace(self, old: str, new: str) -> Node:
        """Say that `new` is the machine that was `old`; see the function of that name."""
        return await self._decide(partial(replace, old=old, new=new, now_ns=self._wall_ns()), old)

    async def reinstate(self, id: str) -> Node:  # noqa: A002
        """Let a node speak again; see the function of that name."""
        return await self._decide(partial(reinstate, id=id), id)

    async def flush(self) -> None:
        """Keep when nodes were last heard. Called about once a minute."""
        now_ns = self._wall_ns()
        heard = {id_: now_ns - int(seconds * 1e9) for id_, seconds in self._succession.heard().items()}
        new = {id_: when for id_, when in heard.items() if when - self._kept.get(id_, 0) > 10**9}
        if new:
            await self._control.write(partial(keep_heard, heard=new))
            self._kept.update(new)

    async def _decide(self, transaction: Callable[[Connection], Node], id: str) -> Node:  # noqa: A002
        try:
            return await self._control.write(transaction)
        finally:  # also when cancelled: it may have been kept
            self._tokens.forget()
            self._said.pop(id, None)
            await self._succession.load()


def _state(node: Node, silent_s: float | None, limit_s: float) -> str:
    if node.decommissioned_ns is not None:
        return "decommissioned"
    if node.replaced_by is not None:
        return "replaced"
    if silent_s is None:
        return "expected"
    return "live" if silent_s < limit_s else "silent"
