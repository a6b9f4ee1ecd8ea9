"""What the leader looks after by itself: divergences, claims that should leave, maintenance that ends.

Every second it looks at the nodes that changed, and at so many of the others that each is looked at once a minute; a
few at a time, for others use the loop too. What it finds is an entry of the ledger where it is a fact that lasts, and
an event on change. Events are told at least once: after a restart those who should leave are told again.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Final

from aggregator import reconcile
from aggregator.ledger import conflicts, in_use, nodes, uses
from aggregator.ledger.entries import Agreed, Diverged, Entry
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.model import Claim, Device
from aggregator.ledger.outside import Divergence
from aggregator.ledger.state import State
from aggregator.ledger.words import LIVE_CLAIMS, Effect, Lifecycle
from aggregator.reconcile import Kept
from aggregator.speaking import Speaking
from schemas.claims import Checkpoint
from schemas.errors import MusterError
from schemas.rows import Event, FieldValue, Severity

_log = logging.getLogger("muster.caretaker")
TICK_SECONDS: Final = 1.0
SWEEP_SECONDS: Final = 60.0
_RECORDS_SECONDS: Final = 10.0
_SLICE: Final = 4
"""Nodes that are looked at before others have the loop."""
SETTLE_SECONDS: Final = {"claim.idle": 300.0, "claim.driver": 30.0, "claim.network": 30.0, "record.device": 60.0}
"""How long two views may differ before it is told: what was just confirmed is not opened yet, or not yet seen so."""
_SETTLE: Final = 5.0
USE_SECONDS: Final = 120.0
"""How long a free device is seen in use before that counts: twice what collectors take at most to look again."""
_OF_RECORDS: Final = frozenset({"record.device", "record.node"})
"""Divergences of places where nothing is known."""

Announce = Callable[[list[Event]], Awaitable[None]]


class Caretaker:
    """Looks after the fleet until it is cancelled. For one event loop."""

    def __init__(
        self,
        ledger: Ledger,
        announce: Announce,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._ledger = ledger
        self._announce = announce
        self._clock = clock
        self._wall_ns = wall_ns
        self._state: State | None = None
        self._touched: set[str] = set()
        self._sweep: list[str] = []
        """Nodes still to be looked at, whatever became of them, before all are again."""
        self._records_at = float("-inf")
        self._noticed: dict[str, dict[str, float]] = {}
        """Node, "" for what is of none -> divergence that may pass -> since when it was seen."""
        self._speaking = Speaking()
        self._told: dict[str, dict[str, str]] = {}
        """Node -> claims that were told to leave, and why."""
        self._ends: dict[str, tuple[int, float]] = {}
        """Node in maintenance -> until when by the wall clock, and by ours."""
        self._busy: dict[str, float] = {}
        """Free device that is seen in use -> since when."""
        self._kept: dict[str, Kept] = {}
        """Node -> its checkpoint."""

    async def run(self) -> None:
        """Look after everything, every second."""
        while True:
            try:
                await self.tick()
            except MusterError as error:
                _log.warning("caretaker_waits error=%s", error)
            await asyncio.sleep(TICK_SECONDS)

    def checkpoint(self, publisher: str, kept: Checkpoint) -> None:
        """Take what a node says at the beginning of a run that it keeps of claims."""
        state = self._ledger.peek()
        self._speaking.changed(state)
        for name in {publisher, *self._speaking.of(publisher)} & state.nodes.keys():
            self._kept[name] = Kept.of(state, kept)
            self._touched.add(name)

    async def tick(self) -> None:
        """Look once."""
        state = self._ledger.peek()
        if state is not self._state:
            self._begin(state)
        if not self._sweep:
            self._sweep = list(state.nodes)
        share = -(-len(state.nodes) * int(TICK_SECONDS) // int(SWEEP_SECONDS))
        due = list({*self._touched, *(self._sweep.pop() for _ in range(min(share, len(self._sweep))))})
        self._touched.clear()
        await self._ledger.settled()  # nobody is told what is not on disk
        await self._end_maintenance(state)
        told: dict[str, list[Divergence]] = {}
        for one in state.divergences.values():
            told.setdefault(one.node, []).append(one)
        for begin in range(0, len(due), _SLICE):
            names = set(due[begin : begin + _SLICE]) & state.nodes.keys()
            await self._look_at(state, names, [one for name in names for one in told.get(name, ())])
            await asyncio.sleep(0)
        if self._clock() - self._records_at >= _RECORDS_SECONDS:
            self._records_at = self._clock()
            known = [one for one in state.divergences.values() if one.kind in _OF_RECORDS]
            found = list(reconcile.of_records(state))
            await self._compare(found, known)
            self._forget(found, {""})

    async def _look_at(self, state: State, names: set[str], told: list[Divergence]) -> None:
        await self._overdue(state, names)
        await self._maintenance(state, names)
        await self._leaving(state, names)
        found = [one for name in names for one in reconcile.of_node(state, state.nodes[name], self._kept.get(name))]
        known = [one for one in told if state.divergences.get(one.id) is one and self._comparable(one)]
        await self._compare(found, known)
        self._forget(found, names)

    def _forget(self, found: list[Divergence], names: set[str]) -> None:
        """Let what passed before it was told begin anew; "" stands for what is of no node."""
        ids = {one.id for one in found}
        for name in names & self._noticed.keys():
            kept = {id_: since for id_, since in self._noticed.pop(name).items() if id_ in ids}
            if kept:
                self._noticed[name] = kept

    def _begin(self, state: State) -> None:
        mine: set[str] = set(state.nodes)
        state.listeners = [*(one for one in state.listeners if one is not self._touched), mine]
        self._state, self._touched = state, mine
        self._told.clear()
        self._busy.clear()

    async def _overdue(self, state: State, touched: Iterable[str]) -> None:
        """Let count what came while a claim had a device: records at once, views once they had time to be told anew."""
        for name in touched:
            for device in list(state.devices_of(name)):
                lasting = device.lifecycle is Lifecycle.FREE and self._lasts(state, device)
                if uses.overdue(state, device, seen=lasting) or conflicts.over(state, device):
                    await self._ledger.decide(partial(_overdue, device=device.id, seen=lasting))

    def _lasts(self, state: State, device: Device) -> bool:
        """Tell whether a free device was seen in use for a while: what it was cleaned after is told a moment longer."""
        if not in_use.busy(state, device):
            self._busy.pop(device.id, None)
            return False
        self._touched.add(device.node)  # look again
        return self._clock() - self._busy.setdefault(device.id, self._clock()) >= USE_SECONDS

    # --- maintenance --------------------------------------------------------------------------------------------------

    async def _maintenance(self, state: State, touched: Iterable[str]) -> None:
        for name in touched:
            node = state.nodes.get(name)
            until = node.maintenance_until_ns if node else None
            known = self._ends.get(name)
            if until is None:
                if self._ends.pop(name, None) is not None:
                    await self._announce([_event("node.maintenance_ended", name, "maintenance ended")])
            elif known is None or known[0] != until:
                self._ends[name] = (until, self._clock() + max(0.0, (until - self._wall_ns()) / 1e9))
                if known is None and node is not None:
                    why = node.maintenance
                    message = f"in maintenance{f': {why}' if why else ''}; nobody is woken for it"
                    detail: dict[str, FieldValue] = {"until_ns": until, "reason": why}
                    await self._announce([_event("node.maintenance_began", name, message, detail)])

    async def _end_maintenance(self, state: State) -> None:
        """Record that a maintenance ran out; it is never computed again on replay."""
        for name, (_, end) in list(self._ends.items()):
            if self._clock() >= end and name in state.nodes:
                await self._ledger.decide(partial(nodes.maintain, node=name, until_ns=0, why="", who="ledger"))

    # --- leaving ------------------------------------------------------------------------------------------------------

    async def _leaving(self, state: State, touched: Iterable[str]) -> None:
        for name in touched:
            leaving = {claim.id: why for claim, why in should_leave(state, name)}
            told = self._told.get(name, {})
            events = [
                _must_leave(state.claims[claim], name, why) for claim, why in leaving.items() if told.get(claim) != why
            ]
            node = state.nodes.get(name)
            if told and not leaving and node is not None and node.draining:
                message = f"drained: no claim holds anything of it ({node.draining})"
                events.append(_event("node.drained", name, message, {"reason": node.draining}))
            if leaving:
                self._told[name] = leaving
            else:
                self._told.pop(name, None)
            await self._announce(events)

    # --- divergences --------------------------------------------------------------------------------------------------

    async def _compare(self, found: list[Divergence], known: list[Divergence]) -> None:
        """Record and tell what is new among what was found, and what is over of what was known before."""
        entries: list[Entry] = []
        events: list[Event] = []
        before = {one.id: one for one in known}
        for one in found:
            last = before.pop(one.id, None)
            if last is None and self._settled(one):
                entries.append(Diverged(one))
                events.append(_began(one))
            elif last is not None and (last.ledger, last.seen) != (one.ledger, one.seen):
                entries.append(Diverged(one))
        for one in before.values():
            entries.append(Agreed(one.id))
            events.append(_ended(one))
        if entries:
            await self._ledger.decide(lambda _: (entries, None))
            await self._announce(events)

    def _settled(self, one: Divergence) -> bool:
        node = one.node if one.kind not in _OF_RECORDS else ""
        noticed = self._noticed.setdefault(node, {})
        since = noticed.setdefault(one.id, self._clock())
        if self._clock() - since >= SETTLE_SECONDS.get(one.kind, _SETTLE):
            del noticed[one.id]
            return True
        if node:
            self._touched.add(node)  # look again
        return False

    def _comparable(self, one: Divergence) -> bool:
        """Tell whether what was known can be compared again: a checkpoint comes but once a run."""
        if one.kind in _OF_RECORDS:
            return False
        return not one.kind.startswith("checkpoint.") or one.node in self._kept


def should_leave(state: State, node: str) -> Iterator[tuple[Claim, str]]:
    """Yield the claims on a node whose consumers should leave, and why: a drain, or a mark that says so."""
    known: dict[str, str] = {}
    there = (state.claims[name] for name in state.claims_on.get(node, ()))
    found = [(claim, why) for claim in there if (why := leave(state, claim, known))]
    if node in state.nodes:
        yield from sorted(found, key=lambda one: (one[0].created_ns, one[0].id))


def leave(state: State, claim: Claim, known: dict[str, str] | None = None) -> str:
    """Say why a claim's consumer should leave; "" when it need not.

    `known` is what was found of nodes: kept by who asks about many claims, for a node may have thousands.
    """
    if claim.state not in LIVE_CLAIMS:
        return ""
    known = {} if known is None else known
    for name in dict.fromkeys((*(held.node for held in claim.devices), *claim.shares)):
        why = known.get(name)
        if why is None:
            why = known[name] = _leave_node(state, name)
        if why:
            return why
    for held in claim.devices:
        for taint in state.devices[held.device].taints.values() if held.device in state.devices else ():
            if taint.effect is Effect.DRAIN:
                return f"{held.device} is marked by {taint.rule}: {taint.evidence}"
    return ""


def _leave_node(state: State, name: str) -> str:
    """Say why everybody should leave a node; "" when nobody need."""
    node = state.nodes.get(name)
    if node is None:
        return ""
    if node.draining:
        return f"node {node.name or name} is draining: {node.draining}"
    for taint in node.taints.values():
        if taint.effect is Effect.DRAIN:
            return f"node {node.name or name} is marked by {taint.rule}: {taint.evidence}"
    return ""


def _overdue(state: State, device: str, *, seen: bool) -> tuple[list[Entry], None]:
    found = state.devices.get(device)
    if found is None:
        return [], None
    return [*uses.overdue(state, found, seen=seen), *conflicts.over(state, found)], None


def _event(type_: str, node: str, message: str, detail: dict[str, FieldValue] | None = None) -> Event:
    return Event(type_, message, subject=node, detail=detail or {})


def _must_leave(claim: Claim, node: str, why: str) -> Event:
    message = f"claim {claim.id} of {claim.tenant} ({claim.consumer}) should leave: {why}"
    detail = {"claim": claim.id, "tenant": claim.tenant, "consumer": claim.consumer, "reason": why}
    return Event("claim.must_leave", message, Severity.WARNING, subject=node, detail=detail)


def _began(one: Divergence) -> Event:
    return Event(
        "divergence.began", _words(one), Severity.WARNING, device=one.device, subject=one.node, detail=_views(one)
    )


def _ended(one: Divergence) -> Event:
    message = f"no more: {_words(one)}"
    return Event("divergence.ended", message, device=one.device, subject=one.node, detail=_views(one))


def _words(one: Divergence) -> str:
    return f"{one.kind}: the ledger says: {one.ledger}; seen: {one.seen}"


def _views(one: Divergence) -> dict[str, FieldValue]:
    return {name: getattr(one, name) for name in ("kind", "device", "claim", "ledger", "seen", "about")}
