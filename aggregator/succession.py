"""Which run of a publisher is the current one: one epoch per id, decided once, kept in the control database.

The rule (DESIGN part 3, "node"): a start that names the current epoch as its predecessor, on the same boot, takes over
at once. Any other is refused, and may come again, until the current one has been silent for 30 s; then it takes over
with an event, and its devices are unverified. So a clone of a machine's disk cannot push the machine aside while it
speaks (it names the epoch, but under another boot), and a machine that crashed and rebooted waits out what is left of
the 30 s, its rows safe in its spool. A run that ends in order says so; after that nobody has to wait for its silence.

The ordinary request, from the epoch that is current, costs a look into a dictionary. Silence is measured by this
process's monotonic clock and begins anew when it starts: nobody was heard before, because nobody listened.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Final

import msgspec
from sqlalchemy import Connection, insert, select, update

from aggregator import outbox
from aggregator.access import check_subject
from aggregator.control import Control
from aggregator.tables import EPOCH, NODE
from schemas.errors import MusterError
from schemas.rows import Event, FieldValue, Severity

SILENCE_S: Final = 30.0
"""How long the current epoch must be silent before another one takes over without its word."""
_GONE_RETRY_S: Final = 300.0
_TOLD: Final = 4096
_TRIES: Final = 4


class Hello(msgspec.Struct, frozen=True):
    """What every request of a publisher says about its run."""

    publisher: str
    epoch: str
    boot: str
    """The boot id of its machine; "" never counts as the same boot."""
    predecessors: tuple[str, ...] = ()
    host_name: str = ""


class Verdict(Enum):
    """What the rule says. The value is stored as the reason why the epoch before ended."""

    CURRENT = "current"
    """It is the current epoch."""
    FIRST = "first"
    """Nobody was current."""
    HANDOVER = "handover"
    """The ordinary restart of an agent."""
    TAKEOVER = "takeover"
    """The one before is silent."""
    GOODBYE = "goodbye"
    """The one before said that it ends."""
    REFUSED = "refused"


class Holder(msgspec.Struct, frozen=True):
    """The epoch that is current, and the boot that it runs on."""

    epoch: str
    boot: str
    left: bool = False
    """It said that it ends, and has not spoken since."""


class Decision(msgspec.Struct, frozen=True):
    """What became of a request."""

    accepted: bool
    code: str = ""
    """When refused: `node.contested` or `node.decommissioned`."""
    message: str = ""
    retry_after_s: float | None = None
    """When refused: come again after so long."""
    unverified: bool = False
    """The devices of the node are to be taken as unverified from here on."""
    events: tuple[Event, ...] = ()
    """About the publisher. When accepted, they are in the outbox; when refused, whoever answers publishes them."""


ACCEPTED: Final = Decision(True)
"""The ordinary answer: nothing changed."""


class RefusedError(MusterError):
    """Another run of this publisher is current, or the node was decommissioned; come again later (HTTP 409)."""

    code = "node.refused"

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.message)
        self.decision = decision
        self.reason = decision.code
        self.retry_after = decision.retry_after_s or SILENCE_S


class _Settled(msgspec.Struct, frozen=True):
    """What the database says after a transaction: settled when `holder` is the one that asked."""

    holder: Holder | None
    gone: str | None = None
    """Why the node may not speak at all; None when it may."""
    settled: bool = False


def judge(holder: Holder | None, hello: Hello, silent_s: float, limit_s: float = SILENCE_S) -> Verdict:
    """Apply the rule. `silent_s`: how long the current epoch has not been heard; `limit_s`: how long it must be."""
    if holder is None:
        return Verdict.FIRST
    if holder.epoch == hello.epoch:
        return Verdict.CURRENT
    if holder.epoch in hello.predecessors and _same_boot(holder, hello):
        return Verdict.HANDOVER
    if holder.left:
        return Verdict.GOODBYE
    return Verdict.TAKEOVER if silent_s >= limit_s else Verdict.REFUSED


def load(connection: Connection) -> tuple[dict[str, Holder], dict[str, str]]:
    """Give the current epoch of every node that has one, and why some may not speak, by node id."""
    holders: dict[str, Holder] = {}
    gone: dict[str, str] = {}
    join = NODE.outerjoin(EPOCH, (EPOCH.c.node == NODE.c.id) & (EPOCH.c.epoch == NODE.c.epoch))
    columns = (NODE.c.id, NODE.c.epoch, EPOCH.c.boot, EPOCH.c.ended_ns, NODE.c.decommissioned_ns, NODE.c.replaced_by)
    for row in connection.execute(select(*columns).select_from(join)):
        if row.epoch is not None:
            holders[row.id] = Holder(row.epoch, row.boot or "", row.ended_ns is not None)
        if why := _gone(row.id, row.decommissioned_ns, row.replaced_by):
            gone[row.id] = why
    return holders, gone


def why_gone(connection: Connection, node: str) -> str | None:
    """Give why a node may not speak; None when it may."""
    columns = (NODE.c.decommissioned_ns, NODE.c.replaced_by)
    row = connection.execute(select(*columns).where(NODE.c.id == node)).first()
    return None if row is None else _gone(node, row.decommissioned_ns, row.replaced_by)


def settle(
    connection: Connection,
    hello: Hello,
    expected: str | None,
    reason: str,
    now_ns: int,
    events: tuple[Event, ...] = (),
) -> _Settled:
    """Make an epoch the current one, if `expected` still is; otherwise change nothing and say who is.

    `events` tell of it: they are put into the outbox with it.
    """
    row = connection.execute(select(NODE).where(NODE.c.id == hello.publisher)).first()
    if row is not None and (why := _gone(row.id, row.decommissioned_ns, row.replaced_by)):
        return _Settled(None, why)
    current = None if row is None else row.epoch
    if current != expected:
        return _Settled(_holder(connection, hello.publisher, current))
    if row is None:
        connection.execute(insert(NODE).values(id=hello.publisher, facts={}, first_heard_ns=now_ns))
    names = {"epoch": hello.epoch, "boot": hello.boot, "last_heard_ns": now_ns}
    if hello.host_name:
        names["host_name"] = hello.host_name
    # the condition is in the statement: of two that decide at once, on one database, one changes nothing
    still = NODE.c.epoch.is_(None) if expected is None else NODE.c.epoch == expected
    if not connection.execute(update(NODE).where(NODE.c.id == hello.publisher, still).values(**names)).rowcount:
        return _Settled(None)
    _begin_epoch(connection, hello, expected, reason, now_ns)
    outbox.put(connection, events, now_ns)
    return _Settled(Holder(hello.epoch, hello.boot), settled=True)


def mark_left(connection: Connection, hello: Hello, ended_ns: int | None) -> None:
    """Keep that an epoch said that it ends, or, with None, that it spoke again after that."""
    this = (EPOCH.c.node == hello.publisher) & (EPOCH.c.epoch == hello.epoch)
    reason = None if ended_ns is None else Verdict.GOODBYE.value
    connection.execute(update(EPOCH).where(this).values(ended_ns=ended_ns, end_reason=reason))


def _holder(connection: Connection, node: str, epoch: str | None) -> Holder | None:
    if not epoch:
        return None
    of = (EPOCH.c.node == node) & (EPOCH.c.epoch == epoch)
    row = connection.execute(select(EPOCH.c.boot, EPOCH.c.ended_ns).where(of)).first()
    return Holder(epoch, "") if row is None else Holder(epoch, row.boot, row.ended_ns is not None)


def _begin_epoch(connection: Connection, hello: Hello, expected: str | None, reason: str, now_ns: int) -> None:
    if expected is not None:
        # of one that said goodbye, that is when and why it ended
        before = (EPOCH.c.node == hello.publisher) & (EPOCH.c.epoch == expected) & EPOCH.c.ended_ns.is_(None)
        connection.execute(update(EPOCH).where(before).values(ended_ns=now_ns, end_reason=reason))
    this = (EPOCH.c.node == hello.publisher) & (EPOCH.c.epoch == hello.epoch)
    facts = {"boot": hello.boot, "predecessors": list(hello.predecessors), "ended_ns": None, "end_reason": None}
    facts["lost_ns"] = None
    if not connection.execute(update(EPOCH).where(this).values(**facts)).rowcount:  # else it was replaced, and is back
        values = {"node": hello.publisher, "epoch": hello.epoch, "started_ns": now_ns, **facts}
        connection.execute(insert(EPOCH).values(**values))


def _gone(node: str, decommissioned_ns: int | None, replaced_by: str | None) -> str | None:
    if replaced_by is not None:
        return f"{node} was replaced by {replaced_by}"
    return None if decommissioned_ns is None else f"{node} was decommissioned; enrol it again, or reinstate it"


class Succession:
    """Decides, and remembers who was heard when. For one event loop."""

    def __init__(
        self,
        control: Control,
        *,
        silence_s: float = SILENCE_S,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._control = control
        self._silence_s = silence_s
        self._clock = clock
        self._wall_ns = wall_ns
        self._started = clock()
        self._holders: dict[str, Holder] = {}
        self._gone: dict[str, str] = {}
        self._heard: dict[str, float] = {}
        self._told: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def load(self) -> None:
        """Read what was decided. Called once before the first request, and again after nodes were changed."""
        self._holders, self._gone = await self._control.read(load)

    async def decide(self, hello: Hello) -> Decision:
        """Say whether a request is taken. Raises ControlError, and ScopeError when the publisher's name is none."""
        for _ in range(_TRIES):
            if hello.publisher in self._gone and (why := await self._still_gone(hello.publisher)):
                return Decision(False, "node.decommissioned", why, _GONE_RETRY_S)
            holder = self._holders.get(hello.publisher)
            silent = self.silent_s(hello.publisher)
            verdict = judge(holder, hello, silent, self._silence_s)
            if verdict is Verdict.CURRENT:
                self._heard[hello.publisher] = self._clock()
                if holder is not None and holder.left:
                    await self._mark(holder, hello, left=False)
                return ACCEPTED
            if holder is not None and verdict is Verdict.REFUSED:
                return self._refuse(holder, hello, silent)
            check_subject(hello.publisher)
            expected = None if holder is None else holder.epoch
            decision = self._accept(holder, hello, verdict, silent)
            change = partial(settle, hello=hello, expected=expected, reason=verdict.value, events=decision.events)
            settled = await self._control.write(partial(change, now_ns=self._wall_ns()))
            self._learn(hello.publisher, settled)
            if settled.settled:
                return decision
        # somebody else changed it under us each time: it is as good as contested
        return Decision(False, "node.contested", f"another run of {hello.publisher} was faster; come again", 1.0)

    async def admit(self, hello: Hello) -> Decision:
        """Give the decision on a request that is taken, with its events. Raises RefusedError on any other."""
        decision = await self.decide(hello)
        if not decision.accepted:
            raise RefusedError(decision)
        return decision

    async def leave(self, hello: Hello) -> None:
        """Take note that the current run ends: the next one need not wait. Any other run's word counts for nothing."""
        holder = self._holders.get(hello.publisher)
        if holder is not None and holder.epoch == hello.epoch:
            await self._mark(holder, hello, left=True)

    async def _mark(self, holder: Holder, hello: Hello, *, left: bool) -> None:
        await self._control.write(partial(mark_left, hello=hello, ended_ns=self._wall_ns() if left else None))
        if self._holders.get(hello.publisher) is holder:  # else another one has followed meanwhile
            self._holders[hello.publisher] = Holder(holder.epoch, holder.boot, left)

    def welcome(self, publisher: str) -> None:
        """Let a node speak that was gone: it was enrolled again, and that is on disk."""
        self._gone.pop(publisher, None)

    @property
    def silence_s(self) -> float:
        """How long the current epoch must be silent before another one takes over without its word, seconds."""
        return self._silence_s

    def current(self, publisher: str) -> str | None:
        """Give the epoch that is current; None when there is none."""
        holder = self._holders.get(publisher)
        return None if holder is None else holder.epoch

    def silent_s(self, publisher: str) -> float:
        """How long the current epoch has not been heard, at most since this process started."""
        return self._clock() - self._heard.get(publisher, self._started)

    def heard(self) -> dict[str, float]:
        """For each publisher that was heard by this process: seconds since then."""
        now = self._clock()
        return {publisher: now - at for publisher, at in self._heard.items()}

    async def _still_gone(self, publisher: str) -> str | None:
        """Ask again: it may have been enrolled anew, and one that may not speak asks seldom."""
        why = await self._control.read(partial(why_gone, node=publisher))
        if why is None:
            self._gone.pop(publisher, None)
        return why

    def _learn(self, publisher: str, settled: _Settled) -> None:
        if settled.gone is not None:
            self._gone[publisher] = settled.gone
            return
        if settled.holder is None:
            self._holders.pop(publisher, None)
        else:
            self._holders[publisher] = settled.holder
            self._heard[publisher] = self._clock()  # it speaks, or spoke to another aggregator just now

    def _accept(self, before: Holder | None, hello: Hello, verdict: Verdict, silent: float) -> Decision:
        name = hello.host_name or hello.publisher
        detail = {"epoch": hello.epoch, "boot": hello.boot}
        if before is None:
            event = Event("node.new", f"{name} speaks for the first time", detail=detail, subject=hello.publisher)
            return Decision(True, events=(event,))
        detail |= {"before": before.epoch, "boot_before": before.boot}
        if verdict is Verdict.HANDOVER:
            text = f"the agent of {name} started again and goes on where it stopped"
            event = Event("node.handover", text, detail=detail, subject=hello.publisher)
            return Decision(True, events=(event,))
        same, known = _same_boot(before, hello), before.epoch in hello.predecessors
        severity = Severity.NOTICE
        if same and verdict is Verdict.GOODBYE:
            text = f"the agent of {name} ended in order and started again with a spool that knows nothing of that"
        elif known:
            text = f"{name} booted again; its devices are unverified until they are seen"
        else:
            severity = Severity.WARNING
            ended = "ended in order" if verdict is Verdict.GOODBYE else f"was silent for {silent:.0f} s"
            text = f"another run took the place of {name}, which {ended}; its devices are unverified. {_advice(same)}"
        facts: dict[str, FieldValue] = {**detail, "silent_seconds": round(silent, 3), "named_predecessor": known}
        event = Event("node.takeover", text, severity, detail=facts, subject=hello.publisher)
        return Decision(True, unverified=not (same and verdict is Verdict.GOODBYE), events=(event,))

    def _refuse(self, holder: Holder, hello: Hello, silent: float) -> Decision:
        same, known = _same_boot(holder, hello), holder.epoch in hello.predecessors
        who, limit = hello.publisher, f"{self._silence_s:.0f} s"
        text = (
            f"another run of {who} is current and was heard {silent:.0f} s ago; this one may take over once that has"
            f" been silent for {limit}. {_REBOOTED if known else _advice(same)}"
        )
        events: tuple[Event, ...] = ()
        contest = (hello.publisher, hello.epoch)
        if contest not in self._told:  # once for each that tries, not for each try
            self._told[contest] = None
            if len(self._told) > _TOLD:
                self._told.popitem(last=False)
            detail: dict[str, FieldValue] = {"current": holder.epoch, "refused": hello.epoch, "boot": hello.boot}
            detail |= {"host_name": hello.host_name, "same_boot": same, "named_predecessor": known}
            what = f"a second run of {who} was refused: the current one was heard {silent:.0f} s ago."
            what = f"{what} {_REBOOTED if known else _advice(same)}"
            severity = Severity.NOTICE if known or same else Severity.WARNING
            events = (Event("node.contested", what, severity, detail=detail, subject=hello.publisher),)
        return Decision(False, "node.contested", text, max(1.0, self._silence_s - silent), events=events)


_REBOOTED: Final = (
    "It names that one, but on another boot: the machine crashed and booted again, or its disk was cloned"
)


def _same_boot(holder: Holder, hello: Hello) -> bool:
    return holder.boot == hello.boot != ""


def _advice(same_boot: bool) -> str:
    """Say what to make of a run that does not name the one before."""
    if same_boot:
        return (
            "Both are of this machine and boot, and this one does not name that one: its spool was lost, or two agents"
            " run here"
        )
    return "If two machines share this id, give one its own (agent.node_id)"
