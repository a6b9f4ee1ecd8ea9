"""Changes that could be made to a fleet, and a state in which they were: for blockers and for what-if.

A hypothesis shares everything with its state but the nodes that an edit touched, which it has of its own.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from aggregator.ledger import in_use, nodes
from aggregator.ledger.index import Index
from aggregator.ledger.model import Device, Node, Quota, Tenant
from aggregator.ledger.relations import unjoined
from aggregator.ledger.state import State
from aggregator.ledger.words import LIVE_CLAIMS, ClaimState, Lifecycle, Reach
from aggregator.placement.request import RequestError, UnknownNameError
from schemas.errors import near_names

MAX_ADDED: Final = 1000
"""Nodes that a hypothesis may add, in all."""


class Edit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="edit"):
    """The base of all edits; `edit` tells them apart."""


class AddNode(Edit, frozen=True, tag="add-node"):
    """Nodes that are built like one that there is, all free."""

    like: str
    count: Annotated[int, Meta(ge=1, le=MAX_ADDED)] = 1


class DrainNode(Edit, frozen=True, tag="drain-node"):
    """Nothing new goes to the node."""

    node: str


class OpenNode(Edit, frozen=True, tag="open-node"):
    """The node is taken back into service: not cordoned, drained, in maintenance or retired."""

    node: str


class NodeSpeaks(Edit, frozen=True, tag="node-speaks"):
    """The node's agent is heard again, has shown what it keeps of claims, and nothing of what it said is unread."""

    node: str


class AddAmount(Edit, frozen=True, tag="add-amount"):
    """So much more of an amount can be given on the node."""

    node: str
    amount: str
    number: int


class FreeDevice(Edit, frozen=True, tag="free-device"):
    """The device is nobody's, and clean: released, cleaned, given back, whatever it takes."""

    device: str


class DeviceSeen(Edit, frozen=True, tag="device-seen"):
    """The device is there, and has shown who it is."""

    device: str


class Clean(Edit, frozen=True, tag="clean"):
    """What is nobody's and dirty, being cleaned or quarantined is clean: of one node, or everywhere."""

    node: str = ""


class ReleaseClaim(Edit, frozen=True, tag="release-claim"):
    """The claim is over, and its devices are clean."""

    claim: str


class RemoveTaint(Edit, frozen=True, tag="remove-taint"):
    """A mark is taken off a device, or off a node (`device` "")."""

    node: str
    rule: str
    device: str = ""


class SetQuota(Edit, frozen=True, tag="set-quota"):
    """One limit of a tenant is another; `tenant` "": everybody's."""

    tenant: str
    name: str
    limit: int


AnyEdit = (
    AddNode
    | DrainNode
    | OpenNode
    | NodeSpeaks
    | AddAmount
    | FreeDevice
    | DeviceSeen
    | Clean
    | ReleaseClaim
    | RemoveTaint
    | SetQuota
)


class Hypothesis:
    """A state as it would be. The state that it was made of is not changed, and must not change meanwhile."""

    def __init__(self, base: State, only: Sequence[str] | None = None) -> None:
        """With `only`, these nodes are all that there is."""
        self.base = base
        self.touched: set[str] = set()
        """Nodes that differ."""
        self.state = _shared(base, {*_SETTINGS, *_WHOLE} if only is None else _SETTINGS)
        if only is not None:
            self.state.nodes, self.state.devices, self.state.found = {}, {}, Index()
            for name in only:
                self._own_whole(name)

    def apply(self, edits: Iterable[AnyEdit]) -> "Hypothesis":
        """Make some edits. Raises UnknownNameError for a node, device or claim that there is not."""
        for edit in edits:
            _APPLY[type(edit)](self, edit)
        return self

    def node(self, name: str) -> Node:
        """Give a node to be changed, by what it is called."""
        found = nodes.node_of(self.state, name)
        if found is None:
            raise UnknownNameError(nodes.not_named(self.state, name))
        if found.id not in self.touched:
            self.touched.add(found.id)
            if self.base.nodes.get(found.id) is found:
                found = self.state.nodes[found.id] = copy.copy(found)
                found.taints, found.used, found.totals = dict(found.taints), dict(found.used), dict(found.totals)
                for device in found.devices:
                    self.state.devices[device] = _copy(self.state.devices[device])
        return found

    def device(self, name: str) -> Device:
        """Give a device to be changed."""
        found = self.state.devices.get(name)
        if found is None:
            raise UnknownNameError(f"there is no device {name!r}.{near_names(name, set(self.state.devices))}")
        self.node(found.node)
        return self.state.devices[name]

    def _own_whole(self, name: str) -> None:
        node = copy.copy(self.base.nodes[name])
        node.taints, node.used, node.totals = dict(node.taints), dict(node.used), dict(node.totals)
        self.state.nodes[name] = node
        for device in self.base.devices_of(name):
            mine = self.state.devices[device.id] = _copy(device)
            self.state.index(mine)


def _copy(device: Device) -> Device:
    found = copy.copy(device)
    found.taints = dict(device.taints)
    return found


_SETTINGS: Final = ("quotas", "tenants", "unread")
_WHOLE: Final = ("nodes", "devices", "claims", "claims_on")
"""What edits replace members of."""


def _shared(base: State, own: Iterable[str]) -> State:
    made = State()
    made.__dict__.update(base.__dict__)
    made.listeners = []
    for name in own:
        setattr(made, name, dict(getattr(base, name)))
    return made


# --- what each edit does ----------------------------------------------------------------------------------------------


def _add_node(hypothesis: Hypothesis, edit: AddNode) -> None:
    state = hypothesis.state
    like = hypothesis.node(edit.like)
    if len(state.nodes) + edit.count > len(hypothesis.base.nodes) + MAX_ADDED:
        raise RequestError(f"more than {MAX_ADDED} nodes are added: ask for fewer at once")
    if state.found is hypothesis.base.found:
        state.found = state.found.copy()
    for number in range(1, edit.count + 1):
        own = [device for device in like.devices if not state.devices[device].planned]
        names = {device: f"{device}+{number}" for device in own}
        node = Node(f"{like.id}+{number}", f"{like.name or like.id}+{number}", boot=like.boot, shown=state.generation)
        node.totals, node.labels = dict(like.totals), dict(like.labels)
        state.nodes[node.id] = node
        hypothesis.touched.add(node.id)
        for name in own:
            device = copy.copy(state.devices[name])
            device.id, device.node = names[name], node.id
            device.parent = names.get(device.parent, "")
            device.taints, device.reach = {}, Reach.LIVE
            if device.lifecycle not in (Lifecycle.HOST, Lifecycle.RETIRED):
                device.lifecycle, device.hold, device.views = Lifecycle.FREE, None, in_use.unused(device.views)
            _described(device)
            state.devices[device.id] = device
            node.devices[device.id] = None
            state.index(device)


def _drain(hypothesis: Hypothesis, edit: DrainNode) -> None:
    hypothesis.node(edit.node).draining = "what if"


def _open(hypothesis: Hypothesis, edit: OpenNode) -> None:
    node = hypothesis.node(edit.node)
    node.cordoned = node.draining = ""
    node.maintenance_until_ns = None
    node.retired = False


def _speaks(hypothesis: Hypothesis, edit: NodeSpeaks) -> None:
    node = hypothesis.node(edit.node)
    node.live, node.shown = True, hypothesis.state.generation
    hypothesis.state.unread.pop(node.publisher, None)


def _amount(hypothesis: Hypothesis, edit: AddAmount) -> None:
    """What is used shrinks below 0 rather than what there is grows: over-commit may multiply that."""
    node = hypothesis.node(edit.node)
    if edit.amount in node.totals:
        node.used[edit.amount] = node.used.get(edit.amount, 0) - edit.number
    else:
        node.totals[edit.amount] = 0
        node.used[edit.amount] = -edit.number


def _free(hypothesis: Hypothesis, edit: FreeDevice) -> None:
    _let_go(hypothesis.state, hypothesis.device(edit.device))


def _let_go(state: State, device: Device) -> None:
    """Let a device be nobody's, and in nobody's use. One that was made for a claim is gone with it."""
    device.lifecycle, device.hold, device.views = Lifecycle.FREE, None, in_use.unused(device.views)
    if device.id in state.recorded:
        state.recorded = {name: users for name, users in state.recorded.items() if name != device.id}
    if device.planned:
        device.reach = Reach.ABSENT


def _seen(hypothesis: Hypothesis, edit: DeviceSeen) -> None:
    device = hypothesis.device(edit.device)
    device.reach = Reach.LIVE
    _described(device)


def _described(device: Device) -> None:
    """Let what a device is a part of be none that nobody has described."""
    if unjoined(device):
        device.views = {source: msgspec.structs.replace(view, parent="") for source, view in device.views.items()}


def _clean(hypothesis: Hypothesis, edit: Clean) -> None:
    state = hypothesis.state
    nodes = [hypothesis.node(edit.node).id] if edit.node else list(state.nodes)
    idle = (Lifecycle.DIRTY, Lifecycle.CLEANING, Lifecycle.QUARANTINED)
    for name in nodes:
        for device in list(state.devices_of(name)):
            claim = state.claims.get(device.hold.claim) if device.hold else None
            if device.lifecycle in idle and (claim is None or claim.state not in LIVE_CLAIMS):
                _let_go(state, hypothesis.device(device.id))


def _release(hypothesis: Hypothesis, edit: ReleaseClaim) -> None:
    state = hypothesis.state
    claim = state.claims.get(edit.claim)
    if claim is None:
        raise UnknownNameError(f"there is no claim {edit.claim!r}.{near_names(edit.claim, set(state.claims))}")
    for held in claim.devices:
        device = hypothesis.state.devices.get(held.device)  # of a partition that was cleaned already nothing is left
        if device is not None and device.hold is not None and device.hold.claim == claim.id:
            _let_go(state, hypothesis.device(held.device))
    if claim.state not in LIVE_CLAIMS:
        return
    tenant = state.tenants[claim.tenant]
    state.tenants[claim.tenant] = Tenant(tenant.name, dict(tenant.claims), dict(tenant.used), dict(tenant.profiles))
    for name in {*claim.shares, *(held.node for held in claim.devices)}:
        hypothesis.node(name)
        state.claims_on[name] = dict(state.claims_on[name])
    state.hold(claim, -1)
    over = state.claims[claim.id] = copy.copy(claim)
    over.state = ClaimState.RELEASED


def _untaint(hypothesis: Hypothesis, edit: RemoveTaint) -> None:
    marked = hypothesis.device(edit.device) if edit.device else hypothesis.node(edit.node)
    marked.taints = {key: mark for key, mark in marked.taints.items() if mark.rule != edit.rule}


def _quota(hypothesis: Hypothesis, edit: SetQuota) -> None:
    state = hypothesis.state
    before = state.quota(edit.tenant)  # its own, or the one for everybody, which it has no more then
    state.quotas[edit.tenant] = Quota(edit.tenant, {**(before.limits if before else {}), edit.name: edit.limit})


_APPLY: Final[dict[type[Edit], Callable[[Hypothesis, Any], None]]] = {
    AddNode: _add_node,
    DrainNode: _drain,
    OpenNode: _open,
    NodeSpeaks: _speaks,
    AddAmount: _amount,
    FreeDevice: _free,
    DeviceSeen: _seen,
    Clean: _clean,
    ReleaseClaim: _release,
    RemoveTaint: _untaint,
    SetQuota: _quota,
}
