"""A node as placement sees it: its layout, and bit masks of what is available, for whom, and of why the rest is not.

The relations of `ledger.relations` are computed here on masks, for all seats at once. The grant asks them again, one
device at a time; a property test holds the two together.
"""

from collections.abc import Collection
from typing import NamedTuple

from aggregator.ledger import in_use
from aggregator.ledger.asks import node_closed, unschedulable
from aggregator.ledger.model import Device, Node
from aggregator.ledger.partitions import is_there, slices
from aggregator.ledger.relations import proved, unjoined, unproved, whole_or_none
from aggregator.ledger.state import State
from aggregator.ledger.words import Lifecycle, Mode, Reach
from aggregator.placement.layout import Layout, Seat, bits, seated, seats_of
from schemas.device import DeviceKind
from schemas.mig import SLICES

RELATION = "relation"
"""The condition that removes a free device on account of another one."""
DIVIDED = "divided"
"""The condition that removes a free GPU because of its partitions; more of them may be made on it."""


class Masks(NamedTuple):
    """What may be given on a node."""

    passthrough: int
    driver: int
    out: int
    """Seats that are in nobody's way: absent or retired, and not held. A whole group is whole without them."""
    divide: int = 0
    """GPUs on which partitions may be made."""
    slices: int = 0
    """What those take that were made for claims: `SLICES` bits for each seat."""


class Summary:
    """A node, as of its last change."""

    __slots__ = (
        "closed",
        "devices",
        "filters",
        "layout",
        "masks",
        "node",
        "planned",
        "reasons",
        "selected",
        "special",
        "taints",
    )

    def __init__(self, node: str, layout: Layout, devices: tuple[Device, ...]) -> None:
        self.node = node
        self.layout = layout
        self.devices = devices
        """By seat."""
        self.planned: list[tuple[int, Device]] = []
        """Partitions that were made for claims, or are to be, behind the seats of their GPUs."""
        self.masks = Masks(0, 0, 0)
        """For a tenant that has nothing here, and that tolerates nothing."""
        self.special: dict[str, Masks] = {}
        """For tenants to whom the relations leave more, because the neighbour is their own."""
        self.reasons: dict[str, int] = {}
        """Condition -> what it removes, each seat under the first that does, for everybody but `special`."""
        self.closed = ""
        """Why nothing may go to the node, a word; "" when it may."""
        self.taints: frozenset[str] = frozenset()
        """Rules that mark the node, or a device of it."""
        self.filters: dict[str, int] = {}
        """Expression -> seats that it fits."""
        self.selected: dict[str, bool] = {}
        """Expression -> whether it fits the node."""

    def masks_for(self, state: State, tenant: str, tolerations: Collection[str]) -> Masks:
        """Give what a tenant may be given that puts up with some taints."""
        if self.taints.isdisjoint(tolerations):
            return self.special.get(tenant, self.masks)
        masks, special, _ = _view(state, state.nodes[self.node], self, tolerations)
        return special.get(tenant, masks)

    def reasons_for(self, state: State, tenant: str, tolerations: Collection[str]) -> dict[str, int]:
        """Give what each condition removes, for a tenant that puts up with some taints."""
        node = state.nodes[self.node]
        masks, special, reasons = _view(state, node, self, tolerations)
        mine = special.get(tenant)
        if mine is not None:
            for word in {RELATION, DIVIDED} & reasons.keys():
                reasons[word] &= ~(mine.passthrough & ~masks.passthrough)
        return reasons


class Layouts:
    """All layouts, each once."""

    def __init__(self) -> None:
        self._known: dict[tuple[Seat, ...], Layout] = {}

    def of(self, seats: tuple[Seat, ...]) -> Layout:
        """Give the layout of some seats."""
        found = self._known.get(seats)
        if found is None:
            found = self._known[seats] = Layout(seats, len(self._known))
        return found


def summarise(state: State, name: str, layouts: Layouts) -> Summary:
    """Look at a node anew."""
    devices = tuple(seated(state, name))
    layout = layouts.of(seats_of(state, devices))
    made = Summary(name, layout, devices)
    made.planned = _planned(state, name, devices)
    node = state.nodes[name]
    marks = [*node.taints.values(), *(mark for device in devices for mark in device.taints.values())]
    made.taints = frozenset(mark.rule for mark in marks)
    closed = node_closed(state, node)
    made.closed = closed.reason if closed else ""
    made.masks, made.special, made.reasons = _view(state, node, made, ())
    return made


def _planned(state: State, name: str, devices: tuple[Device, ...]) -> list[tuple[int, Device]]:
    found = [device for device in state.devices_of(name) if device.planned and is_there(device)]
    places = {device.id: at for at, device in enumerate(devices)} if found else {}
    return [(places[device.parent], device) for device in found if device.parent in places]


def _view(
    state: State, node: Node, summary: Summary, tolerations: Collection[str]
) -> tuple[Masks, dict[str, Masks], dict[str, int]]:
    free, out = 0, 0
    reasons: dict[str, int] = {}
    told = list(tolerations)
    live = not node_closed(state, node, told)
    for at, device in enumerate(summary.devices):
        idle = device.lifecycle is Lifecycle.FREE and device.reach is Reach.LIVE and not device.taints
        if live and idle and not in_use.busy(state, device) and not unjoined(device):
            free |= 1 << at
        else:
            objection = unschedulable(state, device, told)
            if objection is None:
                free |= 1 << at
            else:
                reasons[objection.reason] = reasons.get(objection.reason, 0) | 1 << at
        gone = device.reach is Reach.ABSENT or (
            device.lifecycle is Lifecycle.RETIRED and not in_use.uneasy(state, device)
        )
        if device.hold is None and gone:
            out |= 1 << at
    holds = _Holds(state, summary)
    blocked, driver = holds.blocked(""), holds.blocked_driver()
    divide = free & summary.layout.gpus & ~holds.blocked_to_divide()
    masks = Masks(free & ~blocked, free & ~driver, out, divide, _slices(summary))
    special = {}
    if free & blocked:
        parts = free & blocked & holds.in_parts()
        reasons |= {word: seats for word, seats in ((RELATION, free & blocked & ~parts), (DIVIDED, parts)) if seats}
        for tenant in holds.tenants:
            mine = masks._replace(passthrough=free & ~holds.blocked(tenant))
            if mine != masks:
                special[tenant] = mine
    return masks, special, reasons


def _slices(summary: Summary) -> int:
    found = 0
    for at, device in summary.planned:
        found |= slices(device) << SLICES * at
    return found


class _Holds:
    """Who holds what of a node, as masks."""

    def __init__(self, state: State, summary: Summary) -> None:
        self.layout = summary.layout
        self.devices = summary.devices
        self.held = 0
        """Held, in use outside Muster, or being cleaned: blocks its whole and its parts."""
        self.unproved = {at: since for at, device in enumerate(summary.devices) if (since := unproved(device))}
        """Seats in whose memory somebody may have left something -> since when: it blocks what was proved before."""
        self.passed = self.driven = self.loose = 0
        """Held for passthrough, or a guest's outside Muster; held with the host's driver; in nobody's hands, and not
        known to be idle."""
        self.shared = 0
        """What the host's driver keeps for who holds a part of it that has no PCI function of its own."""
        self.divided = 0
        """GPUs with partitions that were made for claims, and are not known to be gone."""
        self.tenants: dict[str, int] = {}
        for at, device in enumerate(summary.devices):
            bit = 1 << at
            if device.hold is not None:
                self.held |= bit
                if device.hold.mode is Mode.PASSTHROUGH:
                    self.passed |= bit
                    self.tenants[device.hold.tenant] = self.tenants.get(device.hold.tenant, 0) | bit
                else:
                    self.driven |= bit
            else:
                self.held |= bit if whole_or_none(state, device) else 0
                if device.reach is not Reach.ABSENT:
                    self.loose |= bit if in_use.uneasy(state, device) else 0
                    self.passed |= bit if in_use.passed(state, device) else 0
            if self.layout.shared[at] and self.held & bit:
                self.shared |= self.layout.shared[at]
        for at, device in summary.planned:
            if device.lifecycle is not Lifecycle.FREE:
                self.divided |= 1 << at
                if whole_or_none(state, device):
                    self.shared |= 1 << at
        for at in bits(self.shared):
            if summary.devices[at].reach is Reach.ABSENT:
                self.shared &= ~(1 << at)

    def blocked(self, tenant: str) -> int:
        """Give what the relations forbid to pass through to a tenant."""
        others = (self.passed & ~self.tenants.get(tenant, 0)) | self.driven | self.loose | self.shared
        return self._near(others) | self.divided

    def blocked_driver(self) -> int:
        """Give what the relations forbid to give with the host's driver."""
        return self._near(self.passed) | self.divided

    def blocked_to_divide(self) -> int:
        """Give what the relations forbid to make partitions on: what is beside a device that was passed through."""
        fellows = self.layout.fellows
        return sum(1 << at for at in bits(self.layout.gpus) if fellows[at] & self.passed) if self.passed else 0

    def in_parts(self) -> int:
        """Give the GPUs whose partitions somebody has."""
        found, layout = self.divided, self.layout
        for at in bits(self.held):
            if layout.seats[at].kind is DeviceKind.GPU_PARTITION:
                found |= layout.shared[at]
        return found

    def _near(self, others: int) -> int:
        found = 0
        if not (others or self.held or self.unproved):
            return found
        layout = self.layout
        for at, (fellows, family) in enumerate(zip(layout.fellows, layout.family, strict=True)):
            shared = layout.shared[at]
            beside = layout.fellows[shared.bit_length() - 1] if shared else fellows
            if beside & others or family & self.held or (self.unproved and self._is_older(at, family)):
                found |= 1 << at
        return found

    def _is_older(self, at: int, family: int) -> bool:
        """Tell whether a seat's own proof is older than what somebody left in its whole or in a part of it."""
        return any(family >> other & 1 and since > proved(self.devices[at]) for other, since in self.unproved.items())
