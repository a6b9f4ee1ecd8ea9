"""The fleet as the aggregator holds it: runs and their succession, nodes, grants, and the control channel to each."""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from aggregator.access import matches
from aggregator.announcer import Announcer
from aggregator.config import VerbositySection
from aggregator.control import Control
from aggregator.control_channel import ControlHub
from aggregator.grants import Budget, GrantBook
from aggregator.nodes import Nodes, NodeView
from aggregator.outbox import Outbox
from aggregator.refusals import Refusals
from aggregator.succession import SILENCE_S, Hello, RefusedError, Succession
from aggregator.token_service import Tokens
from schemas.claims import Checkpoint, ClaimReport
from schemas.control import CollectorReport, ControlRequest, Message
from schemas.errors import MusterError
from schemas.publish import PublishRequest

_log = logging.getLogger("muster.fleet")
CHORE_SECONDS: Final = 60.0


class NodeCollector(msgspec.Struct, frozen=True):
    """One collector of one node, as the node last reported it."""

    node: str
    reported_seconds: float | None
    """How old the report is."""
    collector: CollectorReport


def budget_of(limits: VerbositySection) -> Budget:
    """Give the limits of grants as the configuration says them."""
    return Budget(limits.max_nodes, limits.max_grant_seconds)


class Fleet:
    """Everything about nodes that is not their rows. For one event loop."""

    def __init__(
        self,
        control: Control,
        tokens: Tokens,
        announcer: Announcer,
        limits: VerbositySection,
        *,
        silence_s: float = SILENCE_S,
    ) -> None:
        self._announcer = announcer
        self._outbox = Outbox(control, announcer)
        self.refusals = Refusals()
        self.succession = Succession(control, silence_s=silence_s)
        self.nodes = Nodes(control, self.succession, tokens)
        self.grants = GrantBook(control, budget_of(limits))
        self.hub = ControlHub(self.grants)
        self._chores_at = time.monotonic()
        self._names: dict[str, str] = {}
        self._given: dict[str, str] = {}
        self.reported: Callable[[str, list[ClaimReport]], Awaitable[None]] | None = None
        """Takes what a node says of its work for claims."""
        self.kept: Callable[[str, Checkpoint], None] | None = None
        """Takes what a node keeps of claims, as it says at the beginning of a run."""

    async def load(self) -> None:
        """Read what was decided, and tell what is yet to be told. Called once, before the first request."""
        await self.succession.load()
        await self.grants.load()
        views = await self.nodes.views()
        self._names = {view.node.id: view.node.host_name for view in views if view.node.host_name}
        await self._outbox.drain()

    async def admit(self, request: PublishRequest) -> frozenset[str]:
        """Give the epochs whose batches the sender may hand in. Raises RefusedError when another run is current."""
        hello = Hello(request.publisher, request.epoch, request.boot, tuple(request.predecessors), request.host_name)
        await self._admit(hello)
        if request.host_name and self._names.get(request.publisher) != request.host_name:
            self._names = {**self._names, request.publisher: request.host_name}
        return frozenset((request.epoch, *request.predecessors))

    async def poll(self, request: ControlRequest) -> list[Message]:
        """Answer the control channel. Raises RefusedError when another run is current."""
        machine = request.machine
        hello = Hello(
            request.publisher,
            request.epoch,
            request.boot,
            tuple(request.predecessors),
            machine.host_name if machine else "",
        )
        await self._admit(hello)
        if request.leaving:
            self.hub.leave(request.publisher)
            await self.succession.leave(hello)
            return []
        if machine is not None:
            await self.nodes.describe(
                request.publisher,
                host_name=machine.host_name,
                boot=request.boot,
                agent_version=machine.agent_version,
                facts=machine.facts,
            )
        if request.checkpoint is not None and self.kept is not None:
            self.kept(request.publisher, request.checkpoint)
        if request.claims and self.reported is not None:
            await self.reported(request.publisher, request.claims)
        return await self.hub.poll(request)

    async def _admit(self, hello: Hello) -> None:
        try:
            decision = await self.succession.admit(hello)
        except RefusedError as error:
            await self._announcer.announce(list(error.decision.events))
            raise
        if decision.events:
            await self._outbox.drain()

    async def refused(self, who: str, error: MusterError) -> None:
        """Take note that somebody was refused, with an event where that is due. What is no refusal is passed over."""
        await self._announcer.announce(self.refusals.note(who, error))

    def watch(self, pattern: str, seconds: float) -> None:
        """Ask every node that a pattern stands for to flush within a second, for so long."""
        for session in self.hub.sessions():
            if session.connected and matches(pattern, session.publisher):
                self.hub.watch(session.publisher, seconds)

    def collectors(self, node: str = "") -> list[NodeCollector]:
        """Give how the collectors fare, of one node or all."""
        return [
            NodeCollector(session.publisher, session.reported_s, report)
            for session in self.hub.sessions()
            if not node or session.publisher == node
            for report in session.collectors
        ]

    async def node_named(self, name: str) -> str:
        """Give the id of the node that people call `name`; the name itself when it is an id, a pattern or unknown."""
        views = await self.views()
        if any(view.node.id == name for view in views):
            return name
        named = [view.node.id for view in views if view.node.host_name == name and view.state != "replaced"]
        return named[0] if len(named) == 1 else name

    async def tick(self) -> None:
        """Write down acknowledgements and end what expired; the rest once a minute. Called every second."""
        await self.grants.maintain()
        if self._outbox.left:
            await self._outbox.drain()
        if time.monotonic() - self._chores_at < CHORE_SECONDS:
            return
        self._chores_at = time.monotonic()
        self.hub.maintain()
        await self._outbox.drain()  # of a request that was cancelled between its decision and its event
        await self.nodes.flush()

    def names(self) -> Mapping[str, str]:
        """Give the name of each node that has one, by id: an operator's, else its host name. Safe on any thread."""
        return {**self._names, **self._given} if self._given else self._names

    def call(self, names: Mapping[str, str]) -> None:
        """Let operators' names stand before what nodes call themselves; "" ends that."""
        self._given = {node: name for node, name in {**self._given, **names}.items() if name}

    async def views(self) -> list[NodeView]:
        """Give every node as it is now, by id, under the name that people use."""
        return [
            msgspec.structs.replace(view, node=msgspec.structs.replace(view.node, host_name=self._given[view.node.id]))
            if view.node.id in self._given
            else view
            for view in await self.nodes.views()
        ]

    async def flush(self) -> None:
        """Keep what is only in memory yet, when nodes were last heard; tell what is yet to be told."""
        await self._outbox.drain()
        await self.nodes.flush()

    def close(self) -> None:
        """Answer everybody who waits on the control channel."""
        self.hub.close()
