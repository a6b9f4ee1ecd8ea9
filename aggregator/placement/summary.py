"""A node as placement sees it: its layout, and bit masks of what is available, for whom, and of why the rest is not.

The relations of `ledger.relations` are computed here on masks, for all seats at once. The grant asks them again, one
device at a time; a property test holds the two together.
"""

from collections.abc import Collection
from typing import NamedTuple

from aggregator.ledger.asks import node_closed, unschedulable
from aggregator.ledger.model import Device, Node
from aggregator.ledger.state import State
from aggregator.ledger.words import Lifecycle, Mode, Reach
from aggregator.placement.layout import Layout, Seat, seated, seats_of

RELATION = "relation"
"""The condition that removes a free device on account of another one."""


class Masks(NamedTuple):
    """What may be given on a node."""

    passthrough: int
    driver: int
    out: int
    """Seats that are in nobody's way: absent or retired, and not held. A whole group is whole without them."""


class Summary:
    """A node, as of its last change."""

    __slots__ = ("closed", "devices", "filters", "layout", "masks", "node", "reasons", "selected", "special", "taints")

    def __init__(self, node: str, layout: Layout, devices: tuple[Device, ...]) -> None:
        self.node = node
        self.layout = layout
        self.devices = devices
        """By seat."""
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
        if mine is not None and RELATION in reasons:
            reasons[RELATION] &= ~(mine.passthrough & ~masks.passthrough)
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
    node = state.nodes[name]
    marks = [*node.taints.values(), *(mark for device in devices for mark in device.taints.values())]
    made.taints = frozenset(mark.rule for mark in marks)
    closed = node_closed(node)
    made.closed = closed.reason if closed else ""
    made.masks, made.special, made.reasons = _view(state, node, made, ())
    return made


def _view(
    state: State, node: Node, summary: Summary, tolerations: Collection[str]
) -> tuple[Masks, dict[str, Masks], dict[str, int]]:
    free, out = 0, 0
    reasons: dict[str, int] = {}
    told = list(tolerations)
    live = not node_closed(node, told) and node.shown == state.generation
    for at, device in enumerate(summary.devices):
        if live and device.lifecycle is Lifecycle.FREE and device.reach is Reach.LIVE and not device.taints:
            free |= 1 << at
        else:
            objection = unschedulable(state, device, told)
            if objection is None:
                free |= 1 << at
            else:
                reasons[objection.reason] = reasons.get(objection.reason, 0) | 1 << at
        if device.hold is None and (device.reach is Reach.ABSENT or device.lifecycle is Lifecycle.RETIRED):
            out |= 1 << at
    holds = _Holds(summary)
    blocked, driver = holds.blocked(""), holds.blocked_driver()
    masks = Masks(free & ~blocked, free & ~driver, out)
    special = {}
    if free & blocked:
        reasons[RELATION] = free & blocked
        for tenant in holds.tenants:
            mine = Masks(free & ~holds.blocked(tenant), masks.driver, out)
            if mine != masks:
                special[tenant] = mine
    return masks, special, reasons


class _Holds:
    """Who holds what of a node, as masks."""

    def __init__(self, summary: Summary) -> None:
        self.layout = summary.layout
        self.held = 0
        """Held, or in use outside Muster: blocks its whole and its parts."""
        self.passed = self.driven = self.loose = 0
        """Held for passthrough; held with the host's driver; in nobody's hands, and not known to be idle."""
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
            elif device.lifecycle is Lifecycle.FOREIGN:
                self.held |= bit
                self.loose |= 0 if device.reach is Reach.ABSENT else bit
            elif device.reach is not Reach.ABSENT and device.lifecycle not in (Lifecycle.FREE, Lifecycle.RETIRED):
                self.loose |= bit

    def blocked(self, tenant: str) -> int:
        """Give what the relations forbid to pass through to a tenant."""
        others = (self.passed & ~self.tenants.get(tenant, 0)) | self.driven | self.loose
        return self._near(others)

    def blocked_driver(self) -> int:
        """Give what the relations forbid to give with the host's driver."""
        return self._near(self.passed)

    def _near(self, others: int) -> int:
        found = 0
        if not (others or self.held):
            return found
        for at, (fellows, family) in enumerate(zip(self.layout.fellows, self.layout.family, strict=True)):
            if fellows & others or family & self.held:
                found |= 1 << at
        return found
