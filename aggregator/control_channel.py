"""The aggregator's end of the control channel: keeps agents waiting until there is something to tell them.

What is to be told is kept by kind, not as a queue: the newest set of grants takes the place of one that was not told
yet. It is told again until the agent acknowledges it, to whichever run of the agent asks, so that neither a lost answer
nor a restart on either side loses anything. Nobody polls: a change wakes exactly the agents that it concerns.

Knows nothing of HTTP. The route decides first who is asking and whether this run is current (`access`, `succession`).
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from aggregator.grants import GrantBook
from schemas.claims import ClaimStep
from schemas.control import (
    MAX_WAIT_S,
    Ack,
    CollectorReport,
    ControlRequest,
    Message,
    ResendDocuments,
    SetGrants,
    SetWork,
    TokenRotated,
    Watch,
)

_log = logging.getLogger("muster.control")
AGAIN_S: Final = 1.0
"""What was told and not acknowledged is told again after so long, if the agent asks again."""
DOCUMENTS_EVERY_S: Final = 30.0
"""A node is not asked more often for its documents."""
CONNECTED_S: Final = 10.0
"""A node that was answered so long ago will surely ask again."""
FORGET_S: Final = 600.0
"""A node that has not asked for so long is forgotten; what it was to be told with it."""


class Session(msgspec.Struct, frozen=True):
    """One node's end of the channel, as lists show it."""

    publisher: str
    epoch: str
    connected: bool
    """It is waiting now, or will surely ask again in a moment."""
    silent_s: float
    """Seconds since it last asked."""
    collectors: tuple[CollectorReport, ...]
    """How its collectors were when it last said."""
    reported_s: float | None
    """Seconds since it said so; None: this run never did."""


class _Letter:
    """One thing to tell, until it is acknowledged. The message is made when it is told: its seconds run."""

    __slots__ = ("grants", "id", "make", "told")

    def __init__(self, make: Callable[["_Letter"], Message]) -> None:
        self.id = secrets.token_hex(8)
        self.make = make
        self.told: float | None = None
        self.grants: tuple[str, ...] = ()


class _Node:
    """What is known of one node's channel."""

    __slots__ = (
        "asked",
        "collectors",
        "documents_at",
        "epoch",
        "grants",
        "letters",
        "reported",
        "turn",
        "wake",
        "watched_until",
    )

    def __init__(self, now: float) -> None:
        self.epoch = ""
        self.asked = now
        self.turn = 0
        self.wake = asyncio.Event()
        self.letters: dict[type, _Letter] = {}
        self.grants: tuple[str, ...] = ()
        self.watched_until = 0.0
        self.documents_at = float("-inf")
        self.collectors: tuple[CollectorReport, ...] = ()
        self.reported: float | None = None


class ControlHub:
    """Holds the agents' requests and answers them. For one event loop."""

    def __init__(
        self, book: GrantBook, *, hold_s: float = MAX_WAIT_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._book = book
        self._hold_s = hold_s
        self._clock = clock
        self._nodes: dict[str, _Node] = {}
        self._closing = False
        book.changed = self.grants_changed

    async def poll(self, request: ControlRequest) -> list[Message]:
        """Take what an agent says, and give what there is to tell it: at once, when it comes up, or [] in the end.

        The sender must have been checked: it may use the channel as `request.publisher`, and its run is current. A
        second request of the same node ends the first one's wait: the agent has given that up.
        """
        node = self._hear(request)
        node.turn += 1
        turn = node.turn
        node.wake.set()
        node.wake = asyncio.Event()
        deadline = self._clock() + min(request.wait, self._hold_s)
        while turn == node.turn and not self._closing:
            messages, due = self._due(node)
            if messages:
                return messages
            left = min(deadline, due) - self._clock()
            if deadline <= self._clock():
                break
            await self._sleep(node, left)
        if turn == node.turn:
            node.asked = self._clock()
        return []

    def leave(self, publisher: str) -> None:
        """Take note that a node's run ends: it does not wait any more. What it was to be told is kept for the next."""
        node = self._nodes.get(publisher)
        if node is not None:
            node.turn += 1
            node.wake.set()
            node.asked = min(node.asked, self._clock() - self._hold_s - CONNECTED_S)

    def grants_changed(self) -> None:
        """Tell every node whose grants are others now. Called by the book."""
        for publisher, node in self._nodes.items():
            mine = tuple(grant.id for grant in self._book.for_node(publisher))
            if mine != node.grants:
                self._tell_grants(publisher, node)

    def watch(self, publisher: str, seconds: float) -> bool:
        """Ask a node to flush within a second, for so long; call again to prolong. False when it is not connected."""
        node = self._nodes.get(publisher)
        if node is None:
            return False
        now = self._clock()
        told_for = node.watched_until - now
        if told_for < seconds / 2:
            node.watched_until = now + seconds
            until = node.watched_until
            self._tell(node, Watch, lambda letter: Watch(letter.id, max(0.0, until - self._clock())))
        return True

    def resend_documents(self, publisher: str) -> bool:
        """Ask a node for its whole set of documents, at most every 30 s. False when it is not connected."""
        node = self._nodes.get(publisher)
        if node is None:
            return False
        now = self._clock()
        if ResendDocuments not in node.letters and now - node.documents_at >= DOCUMENTS_EVERY_S:
            node.documents_at = now
            self._tell(node, ResendDocuments, lambda letter: ResendDocuments(letter.id))
        return True

    def set_work(self, publisher: str, steps: list[ClaimStep] | None) -> bool:
        """Tell a node all that claims ask of it, in place of what it was told. False when it is not connected.

        None: what it has not acknowledged is not told any more, and nothing in its place.
        """
        node = self._nodes.get(publisher)
        if node is None:
            return False
        if steps is None:
            node.letters.pop(SetWork, None)
            return True
        self._tell(node, SetWork, lambda letter: SetWork(letter.id, steps))
        return True

    def rotate_token(self, publisher: str, token: str, grace_s: float) -> bool:
        """Hand a node its new token. False when it is not connected: then rotate it when it is."""
        node = self._nodes.get(publisher)
        if node is None:
            return False
        ends = self._clock() + grace_s
        self._tell(node, TokenRotated, lambda letter: TokenRotated(letter.id, token, max(0.0, ends - self._clock())))
        return True

    def sessions(self) -> list[Session]:
        """Give every node that asked lately, by id."""
        now = self._clock()
        return [
            Session(
                publisher,
                node.epoch,
                now - node.asked < self._hold_s + CONNECTED_S,
                now - node.asked,
                node.collectors,
                None if node.reported is None else now - node.reported,
            )
            for publisher, node in sorted(self._nodes.items())
        ]

    def maintain(self) -> None:
        """Forget nodes that have not asked for long. Called about once a minute."""
        now = self._clock()
        for publisher in [name for name, node in self._nodes.items() if now - node.asked >= FORGET_S]:
            del self._nodes[publisher]

    def close(self) -> None:
        """Answer everybody who waits, now and from here on at once."""
        self._closing = True
        for node in self._nodes.values():
            node.wake.set()

    # --- inside ---------------------------------------------------------------------------------------------------

    def _hear(self, request: ControlRequest) -> _Node:
        now = self._clock()
        node = self._nodes.get(request.publisher)
        if node is None:
            node = self._nodes[request.publisher] = _Node(now)
        node.asked = now
        if node.epoch != request.epoch:  # a new run knows nothing: tell it everything
            node.epoch = request.epoch
            node.collectors, node.reported = (), None
            for letter in node.letters.values():
                letter.told = None
            if node.watched_until > now:
                left, node.watched_until = node.watched_until - now, 0.0
                self.watch(request.publisher, left)
            self._tell_grants(request.publisher, node)
        self._acknowledge(request.publisher, node, request.acks)
        if request.collectors is not None:
            node.collectors, node.reported = tuple(request.collectors), now
        return node

    def _acknowledge(self, publisher: str, node: _Node, acks: Iterable[Ack]) -> None:
        by_id = {letter.id: (kind, letter) for kind, letter in node.letters.items()}
        for ack in acks:
            if ack.id not in by_id:
                continue  # told twice, or something newer has taken its place
            kind, letter = by_id[ack.id]
            node.letters.pop(kind, None)
            if ack.problem:
                _log.warning("not_done node=%s message=%s problem=%s", publisher, kind.__name__, ack.problem[:200])
            elif letter.grants:
                self._book.acknowledged(publisher, letter.grants)

    def _tell_grants(self, publisher: str, node: _Node) -> None:
        def make(letter: _Letter) -> Message:
            grants = self._book.for_node(publisher)
            letter.grants = tuple(grant.id for grant in grants)
            return SetGrants(letter.id, self._book.revision, grants)

        node.grants = tuple(grant.id for grant in self._book.for_node(publisher))
        self._tell(node, SetGrants, make)

    def _tell(self, node: _Node, kind: type, make: Callable[[_Letter], Message]) -> None:
        node.letters[kind] = _Letter(make)
        node.wake.set()

    def _due(self, node: _Node) -> tuple[list[Message], float]:
        """Give what is to be told now, and when there will be something to tell again."""
        now = self._clock()
        messages: list[Message] = []
        later = float("inf")
        for letter in node.letters.values():
            if letter.told is not None and now - letter.told < AGAIN_S:
                later = min(later, letter.told + AGAIN_S)
                continue
            letter.told = now
            messages.append(letter.make(letter))
        return messages, later

    async def _sleep(self, node: _Node, seconds: float) -> None:
        wake = node.wake
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await wake.wait()
        except TimeoutError:
            return
        if node.wake is wake:  # else a newer request has brought its own
            node.wake = asyncio.Event()
