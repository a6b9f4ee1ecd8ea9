"""Decisions about marks: taints on devices and nodes, put there and taken off by people, by rules, and by time."""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from aggregator.ledger import cleaning, nodes
from aggregator.ledger.asks import ClaimInvalidError
from aggregator.ledger.entries import Entry, Tainted, Untainted
from aggregator.ledger.model import Device, Node, Taint
from aggregator.ledger.state import State
from aggregator.ledger.words import CONFLICT
from schemas.errors import MusterError, near_names

MAX_RULE: Final = 120
MAX_MARK_NS: Final = 100 * 366 * 86_400 * 10**9
"""The longest that a mark with an end lasts: a hundred years."""


class TaintUnknownError(MusterError):
    """There is no such taint."""

    code = "ledger.taint_unknown"
    status = 404


class Target(msgspec.Struct, frozen=True):
    """What carries marks: a node, or a device of it."""

    node: str
    device: str = ""


def device_target(state: State, name: str) -> Target:
    """Give a device. Raises DeviceUnknownError."""
    device = cleaning.find(state, name)
    return Target(device.node, device.id)


def node_target(state: State, name: str) -> Target:
    """Give a node by what it is called. Raises NodeUnknownError."""
    return Target(nodes.named(state, name).id)


def told_target(state: State, subject: str, device: str) -> Target | None:
    """Give what a row's names stand for: a device by the ledger's id, a document's name or a merge key of its node.

    None when the ledger knows no such node or device.
    """
    if device in state.devices:
        return Target(state.devices[device].node, device)
    if subject not in state.nodes:
        return None
    if not device:
        return Target(subject)
    known = state.found.by_key.get((subject, device))
    if known is not None:
        return Target(subject, known)
    for one in state.devices_of(subject):
        if any(view.document == device for view in one.views.values()):
            return Target(subject, one.id)
    return None


def taint(state: State, target: Target, mark: Taint) -> tuple[list[Entry], Taint]:
    """Put a mark on; one of the same rule and alert is replaced. Again, the same: nothing new.

    Raises ClaimInvalidError.
    """
    if not mark.rule.strip() or len(mark.rule) > MAX_RULE:
        raise ClaimInvalidError(f"rule: a name of at most {MAX_RULE} characters, under which the mark is known")
    if mark.rule == CONFLICT:
        raise ClaimInvalidError(f"rule: {CONFLICT!r} is the ledger's own; choose another name")
    if mark.expires_ns is not None and mark.expires_ns <= mark.since_ns:
        raise ClaimInvalidError("a mark that has expired already")
    if mark.expires_ns is not None and mark.expires_ns - mark.since_ns > MAX_MARK_NS:
        raise ClaimInvalidError("a mark ends within 100 years, or has no end: leave its time out")
    before = _of(state, target).taints.get(mark.key)
    if before is not None and _said(before) == _said(mark):
        return [], before
    return [Tainted(target.node, target.device, mark)], mark


def untaint(state: State, target: Target, rule: str, why: str) -> tuple[list[Entry], None]:
    """Take a rule's marks off, whoever put them there. Raises TaintUnknownError, or ClaimInvalidError."""
    found = _of(state, target).taints.values()
    marks = [mark for mark in found if mark.rule == rule]
    if not marks:
        near = near_names(rule, {mark.rule for mark in found})
        raise TaintUnknownError(f"{target.device or target.node} has no taint {rule!r}.{near}")
    if rule == CONFLICT:
        raise ClaimInvalidError("a conflict ends when one of the two devices is gone; it is not taken off by hand")
    return [Untainted(target.node, target.device, rule, why, mark.alert) for mark in marks], None


def clear(state: State, nodes: Iterable[str], alert: str, why: str) -> list[Entry]:
    """Take off what an alert marked on nodes and their devices: where it was then, whatever is in that place now."""
    return [
        Untainted(node, device, mark.rule, why, alert)
        for node in nodes
        for device, mark in _marks(state, node)
        if mark.alert == alert
    ]


def expire(state: State, nodes: Iterable[str], now_ns: int) -> tuple[list[Entry], None]:
    """Record the end of every mark on nodes and their devices whose time is up by the leader's clock."""
    entries: list[Entry] = [
        Untainted(node, device, mark.rule, "its time is up", mark.alert)
        for node in nodes
        for device, mark in _marks(state, node)
        if mark.expires_ns is not None and mark.expires_ns <= now_ns
    ]
    return entries, None


def next_expiry(state: State, node: str) -> int | None:
    """Give when the next mark on a node or its devices expires; None when none does."""
    return min((mark.expires_ns for _, mark in _marks(state, node) if mark.expires_ns is not None), default=None)


def _marks(state: State, node: str) -> Iterator[tuple[str, Taint]]:
    if node in state.nodes:
        yield from (("", mark) for mark in state.nodes[node].taints.values())
        for device in state.devices_of(node):
            if device.taints:
                yield from ((device.id, mark) for mark in device.taints.values())


def _of(state: State, target: Target) -> Device | Node:
    return state.devices[target.device] if target.device else state.nodes[target.node]


def _said(mark: Taint) -> tuple[object, ...]:
    return (mark.effect, mark.evidence, mark.who, mark.expires_ns)
