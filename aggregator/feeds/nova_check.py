"""Finds what a hand-written `device_spec` breaks: groups that it would share out, and devices that are not nova's.

Every group is judged with all of its endpoints, whether nova is told of them or not; bridges do not count.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from aggregator.feeds import nova
from aggregator.feeds.isolation import Policy, choose, is_own
from aggregator.feeds.nova_conf import Spec
from aggregator.ledger import in_use
from aggregator.ledger.model import Device, Node
from aggregator.ledger.relations import together
from aggregator.ledger.state import State
from aggregator.ledger.words import Lifecycle, Reach


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong."""

    severity: str
    """`broken`: two tenants, or a tenant and the host, could reach each other. `warning`: it is hardly meant so."""
    rule: str
    """A word, stable once released."""
    node: str
    node_name: str
    group: int | None
    addresses: list[str]
    lines: list[int]
    """Of nova.conf."""
    message: str
    remedy: str


class Check(msgspec.Struct, frozen=True):
    """What became of a check."""

    sequence: int
    specs: int
    """Entries of device_spec that were read."""
    listed: int
    """Devices that nova would give away by them."""
    findings: list[Finding]

    @property
    def broken(self) -> bool:
        """Whether anything breaks isolation."""
        return any(finding.severity == "broken" for finding in self.findings)


def check(state: State, nodes: Iterable[Node], specs: Sequence[Spec], *, held: bool = False) -> Check:
    """Say what a configuration would do on some nodes. Of several entries that match a device the first counts.

    `held`: whether what claims hold is nova's.
    """
    findings: list[Finding] = []
    listed, used = 0, set()
    for node in nodes:
        found = {
            device.id: spec
            for device in state.devices_of(node.id)
            if device.slot.address and device.reach is not Reach.ABSENT
            if (spec := next((one for one in specs if one.matches(state, device)), None)) is not None
        }
        listed += len(found)
        used |= {spec.line for spec in found.values()}
        findings += _of_node(state, node, found, held=held)
    for spec in specs:
        if spec.line not in used:
            message = f"line {spec.line} matches no device that comes to it: {spec.text}"
            findings.append(
                Finding("warning", "matches_nothing", "", "", None, [], [spec.line], message, "leave it out")
            )
    return Check(state.sequence, len(specs), listed, findings)


def _of_node(state: State, node: Node, listed: dict[str, Spec], *, held: bool) -> Iterator[Finding]:
    groups: dict[int, list[Device]] = {}
    for name, spec in listed.items():
        device = state.devices[name]
        yield from _alone(state, node, device, spec, held=held)
        if device.group is not None and not device.is_bridge:
            groups.setdefault(device.group, []).append(device)
    for members in groups.values():
        members.sort(key=lambda device: device.slot.address)
        yield from _group(state, node, members, listed)


def _finding(
    rule: str,
    node: Node,
    devices: list[Device],
    lines: Iterable[int],
    message: str,
    remedy: str,
    severity: str = "broken",
) -> Finding:
    where = f"{node.name or node.id}: {message}"
    addresses = [device.slot.address for device in devices]
    return Finding(severity, rule, node.id, node.name, devices[0].group, addresses, sorted({*lines}), where, remedy)


def _alone(state: State, node: Node, device: Device, spec: Spec, *, held: bool) -> Iterator[Finding]:
    """Judge a device by itself."""
    address, lines = device.slot.address, [spec.line]
    leave = f"narrow line {spec.line} so that it does not match {address}"
    if device.is_bridge:
        yield _finding("bridge", node, [device], lines, f"{address} is a bridge, with everything behind it", leave)
    elif device.lifecycle is Lifecycle.HOST:
        needs = in_use.seen(device, "kept")
        message = f"{address} is the host's" + (f", which needs it: {needs}" if needs else "")
        yield _finding("host", node, [device], lines, message, leave)
    elif device.lifecycle is Lifecycle.FOREIGN and not is_own(state, device, nova.OWN):
        user = in_use.outside(state, device) or "somebody outside Muster"
        yield _finding("foreign", node, [device], lines, f"{address} is in use by {user}", leave)
    elif device.hold is not None and not held:
        message = f"{address} is {device.lifecycle.value} for claim {device.hold.claim}, and nova gives it to anybody"
        yield _finding("held", node, [device], lines, message, leave)
    elif device.lifecycle is Lifecycle.RETIRED:
        yield _finding("retired", node, [device], lines, f"{address} is retired", leave, "warning")
    elif device.group is None:
        yield _finding("no_group", node, [device], lines, f"{address} has no IOMMU group: it cannot be passed", leave,
                       "warning")  # fmt: skip


def _group(state: State, node: Node, members: list[Device], listed: dict[str, Spec]) -> Iterator[Finding]:
    """Judge what of a group is listed, and what is not."""
    group, lines = members[0].group, [listed[device.id].line for device in members]
    addresses = ", ".join(device.slot.address for device in members)
    everybody = [members[0], *together(state, members[0])]
    others = [one for one in everybody if one.id not in listed and one.reach is not Reach.ABSENT and not one.is_bridge]
    if len(members) > 1 and not _whole(members, others, listed):
        message = (
            f"group {group} would be shared out: {addresses} are of one IOMMU group, and nova gives each to anybody;"
            " whoever has one can read and write what the others do"
        )
        yield _finding("shared_group", node, members, lines, message, _one_of(state, members))
    for other in others:
        what = ""
        if other.lifecycle is Lifecycle.HOST:
            needs = in_use.seen(other, "kept")
            what = f"is the host's{f', which needs it: {needs}' if needs else ''}"
        elif other.hold is not None or other.lifecycle is Lifecycle.FOREIGN:
            holder = f"held by claim {other.hold.claim}" if other.hold else f"in use by {in_use.outside(state, other)}"
            what = "" if is_own(state, other, nova.OWN) else f"is {holder}"
        elif other.lifecycle in (Lifecycle.FREE, Lifecycle.RETIRED) and not is_own(state, other, nova.OWN):
            user = in_use.uneasy(state, other)  # of nobody, as far as anybody said, and not idle
            what = f"is {user}" if user else ""
        if what:
            message = (
                f"group {group}: {addresses} would be given away, and {other.slot.address} in the same group {what}"
            )
            remedy = f"list nothing of group {group} while {other.slot.address} is in other hands"
            yield _finding("mixed_group", node, [*members, other], lines, message, remedy)


def _whole(members: list[Device], others: list[Device], listed: dict[str, Spec]) -> bool:
    """Tell whether a group is named as a whole: by a resource class that nothing else on the node has."""
    classes = {listed[device.id].resource_class for device in members}
    if len(classes) != 1 or "" in classes or any(other.lifecycle is not Lifecycle.RETIRED for other in others):
        return False
    names = {device.id for device in members}
    return all(spec.resource_class not in classes for name, spec in listed.items() if name not in names)


def _one_of(state: State, members: list[Device]) -> str:
    chosen, _ = choose(state, members, Policy.ONE_PER_GROUP, nova.OWN, held=True)
    kept = chosen[0].device if chosen else members[0]
    rest = ", ".join(device.slot.address for device in members if device is not kept)
    return f'list one of them by its address, "address": "{kept.slot.address}", and neither {rest}'
