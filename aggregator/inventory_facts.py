"""From what publishers and rules say to decisions of the ledger: plain functions of its state."""

import logging
from typing import Final

import msgspec

from aggregator.inventory_runs import Run
from aggregator.ledger import bmcs, conflicts, marks
from aggregator.ledger.asks import ClaimInvalidError
from aggregator.ledger.entries import Entry, NodeReached, NodeRun, NodeSeen
from aggregator.ledger.facts import Adopt, Sighting, observe, withdraw
from aggregator.ledger.givable import GIVEN
from aggregator.ledger.model import Taint, view_source
from aggregator.ledger.state import State
from aggregator.ledger.words import BMC_KEY, Effect
from schemas.alerts import AlertTransition
from schemas.batch import Envelope
from schemas.device import DeviceKind, Document, Slot, decode_document

_log = logging.getLogger("muster.inventory")
_EFFECTS: Final = frozenset(effect.value for effect in Effect)
_OF_PLACE: Final = frozenset({"iommu_group", "numa_node", "bridge", "driver", "vfio_in_use"})
"""Capabilities by which functions of a machine's own bus bind one another."""


class Said(msgspec.Struct, frozen=True, gc=False):
    """A document, and who says it."""

    envelope: Envelope
    run: Run
    subject: str
    collector: str
    device: str
    document: Document | None
    """None: no longer described."""

    @property
    def about(self) -> str:
        """The subject that its publisher speaks for, as ingest has checked."""
        return self.subject or self.envelope.publisher

    def node(self, state: State) -> str:
        """Give the node that it is about: a BMC is joined to the machine of the system UUID that it tells.

        That is, where the publisher's scope lets it speak for this BMC as a subject of its own. Whoever speaks for
        itself alone says nothing of other machines, whatever it calls its devices. What such a BMC tells of parts that
        can be given to somebody is about that machine's.
        """
        if self.document is None or self.about == self.envelope.publisher:
            return self.about
        if self.document.kind is DeviceKind.BMC:
            system = str(self.document.capabilities.get("system_uuid", ""))
            return system if system in state.nodes else self.about
        return (self.machine(state) if self.document.kind in GIVEN else "") or self.about

    def machine(self, state: State) -> str:
        """Give the machine that the BMC which it is about is joined to; "" for none."""
        return bmcs.joined_to(state, self.envelope.publisher, self.collector, self.about)

    @property
    def source(self) -> str:
        """What tells its view of a device from others."""
        return view_source(self.envelope.publisher, self.collector, self.device)

    def is_waiting(self, state: State) -> bool:
        """Tell whether it adds to a device that its machine has not described yet."""
        if self.document is None or not bmcs.is_outside(self.about, self.collector, self.document.kind):
            return False
        return state.found.by_source.get((self.node(state), self.source)) is None


def speaks(state: State, said: Said) -> bool:
    """Tell whether the run of an envelope speaks for its node already, and the node is not silent."""
    known = state.nodes.get(said.node(state))
    return known is not None and known.live and known.epoch == said.envelope.epoch


def begin_run(state: State, said: Said) -> tuple[list[Entry], None]:
    """Let the run of an envelope speak for its node. A poller or relay speaks about nodes, not for them."""
    node, envelope = said.node(state), said.envelope
    if node != said.about:
        return [], None  # whoever polls its BMC does not speak for a machine, not even for one that nobody speaks for
    known = state.nodes.get(node)
    if known is not None and known.epoch == envelope.epoch:
        return ([] if known.live else _speaks_again(state, node)), None
    if known is not None and known.publisher not in ("", envelope.publisher) and envelope.publisher != node:
        return [], None
    changed = known is not None and bool(known.epoch) and (known.boot != said.run.boot or said.run.unverified)
    entries: list[Entry] = [] if known else [NodeSeen(node)]
    entries.append(NodeRun(node, envelope.publisher, envelope.epoch, said.run.boot, changed))
    if known is not None and not known.live:
        entries += _speaks_again(state, node)
    return entries, None


def _speaks_again(state: State, node: str) -> list[Entry]:
    return [NodeReached(node, live=True), *conflicts.of_nodes(state, [node])]


def left_behind(state: State, said: Said) -> tuple[list[Entry], int]:
    """Give what follows where a BMC's document was of another machine before: it names that one no more.

    To be decided before its `facts`: one BMC in two machines would be a conflict.
    """
    source = view_source(said.envelope.publisher, said.collector, said.device)
    here = said.node(state) if said.document is not None else ""
    why = "its collector no longer describes it" if said.document is None else "it is another machine's, as it says now"
    machine, envelope = said.machine(state), said.envelope
    entries, _ = _bmc_gone(state, source, why, but=here)
    if entries and machine:  # what it added goes with it
        for one in list(bmcs.views_through(state, machine, envelope.publisher, said.collector, said.about)):
            entries += withdraw(state, machine, one, why)
    return entries, len(entries)


def _bmc_gone(state: State, source: str, why: str, but: str) -> tuple[list[Entry], int]:
    nodes = dict.fromkeys(state.devices[name].node for name in state.found.bmcs.get(source))
    entries = [entry for node in nodes if node != but for entry in withdraw(state, node, source, why)]
    return entries, len(entries)


def facts(state: State, said: Said, adopt: Adopt) -> tuple[list[Entry], int]:
    """Give what is new in a document, and how many entries that are."""
    node, envelope = said.node(state), said.envelope
    if said.document is None:
        why = "its collector no longer describes it"
        entries = withdraw(state, node, said.source, why) or withdraw(state, said.machine(state), said.source, why)
    else:
        document = said.document if node == said.about else _joined(said.document)
        sighting = Sighting(node, envelope.publisher, said.collector, document, said.run.boot)
        entries = observe(state, sighting, adopt)
    return entries, len(entries)


def _joined(document: Document) -> Document:
    """Give what a BMC's document tells of the BMC: where things sit in its machine, that machine tells itself."""
    if document.kind is not DeviceKind.BMC:
        return bmcs.added(document)
    keys = [key for key in document.merge_keys if key.startswith(BMC_KEY)]
    told = {name: value for name, value in document.capabilities.items() if name not in _OF_PLACE}
    return msgspec.structs.replace(
        document, merge_keys=keys, parent="", slot=Slot(location=document.slot.location), capabilities=told
    )


def withdraw_held(state: State, node: str, source: str, why: str) -> tuple[list[Entry], int]:
    """Give what follows when a document is held no more, of `node` or of the machine that a BMC was joined to."""
    publisher, collector, _ = source.split("\n", 2)
    entries, elsewhere = withdraw(state, node, source, why), _bmc_gone(state, source, why, but=node)[0]
    added = withdraw(state, bmcs.joined_to(state, publisher, collector, node), source, why)
    found = [*entries, *elsewhere, *added]
    return found, len(found)


def follow_alert(state: State, alert: AlertTransition) -> tuple[list[Entry], int]:
    """Taint what an alert is about, or take its taint off; nothing for what the ledger does not know."""
    target = marks.told_target(state, alert.subject, alert.device)
    if not alert.firing or not alert.taint:
        nodes = {alert.subject, target.node if target else alert.subject}
        entries = marks.clear(state, sorted(nodes), alert.fingerprint, alert.summary or "the alert is over")
        return entries, len(entries)
    if target is None or alert.taint not in _EFFECTS:
        return [], 0
    ends = None if alert.taint_seconds is None else alert.at_ns + int(alert.taint_seconds * 1e9)
    mark = Taint(
        alert.rule, Effect(alert.taint), alert.summary, f"rule:{alert.rule}", alert.at_ns, ends, alert.fingerprint
    )
    try:
        found, _ = marks.taint(state, target, mark)
    except ClaimInvalidError as error:
        _log.warning("alert_not_followed fingerprint=%s error=%s", alert.fingerprint, error)
        return [], 0
    return found, len(found)


def read_document(text: str) -> Document | None:
    """Give a document; None for "", which takes one back, and for what cannot be read."""
    if not text:
        return None
    try:
        return decode_document(text)
    except msgspec.MsgspecError as error:
        _log.warning("document_unreadable error=%s", error)
        return None
