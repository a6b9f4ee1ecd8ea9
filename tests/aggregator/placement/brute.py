"""Placement by trying everything: slow, and short enough to be believed.

It shares nothing with what it is compared to but the ledger's objections and the packing of a rank.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

from aggregator.ledger.asks import Ask, Pick, objections
from aggregator.ledger.model import Device
from aggregator.ledger.state import State
from aggregator.ledger.words import Lifecycle, Mode, Reach
from aggregator.placement.rank import pack
from aggregator.placement.request import Affinity, Isolation, Need, Request
from schemas.device import DeviceKind

Choice = tuple[tuple[Device, ...], ...]


def best(state: State, request: Request) -> int | None:
    """Give the rank of the best choice on any node, None when there is none."""
    ranks = [rank for node in state.nodes for rank in ranks_on(state, request, node)]
    return min(ranks, default=None)


def ranks_on(state: State, request: Request, node: str) -> Iterator[int]:
    devices = list(state.devices_of(node))
    free = {device.id for device in devices if _free(state, request, device)}
    for choice in _choices(state, request.needs, devices):
        extra = _extra(state, request, choice)
        if extra is not None and _allowed(state, request, node, choice, extra):
            yield _rank(state, request, devices, free, choice, extra)


def _free(state: State, request: Request, device: Device, mode: Mode = Mode.PASSTHROUGH) -> bool:
    ask = Ask(request.tenant, "x", [Pick(device.id, mode)], tolerations=request.tolerations)
    return not [one for one in objections(state, ask) if not one.reason.startswith("quota.")]


def _fits(state: State, need: Need, device: Device) -> bool:
    return state.is_variant(device.profiles, need.variant)


def _choices(state: State, needs: Sequence[Need], devices: Sequence[Device]) -> Iterator[Choice]:
    if not needs:
        yield ()
        return
    fitting = [device for device in devices if _fits(state, needs[0], device)]
    for chosen in combinations(fitting, needs[0].count):
        left = [device for device in devices if device not in chosen]
        for rest in _choices(state, needs[1:], left):
            yield (chosen, *rest)


def _mode(need: Need) -> Mode:
    return need.mode or Mode.PASSTHROUGH


def _fellows(state: State, device: Device) -> list[Device]:
    if device.group is None:
        return []
    return [
        other
        for other in state.devices_of(device.node)
        if other.group == device.group and other is not device and not other.is_bridge
    ]


def _extra(state: State, request: Request, choice: Choice) -> list[Device] | None:
    """Give what whole groups add, None when one cannot be taken."""
    if request.isolation is not Isolation.WHOLE_GROUP:
        return []
    chosen = [device for part in choice for device in part]
    found: list[Device] = []
    for need, part in zip(request.needs, choice, strict=True):
        for device in part if _mode(need) is Mode.PASSTHROUGH else ():
            for other in _fellows(state, device):
                if other in chosen or other in found:
                    continue
                away = other.reach is Reach.ABSENT or other.lifecycle is Lifecycle.RETIRED
                if away and other.hold is None:
                    continue
                found.append(other)
    return found


def _allowed(state: State, request: Request, node: str, choice: Choice, extra: list[Device]) -> bool:
    picks = [
        Pick(device.id, _mode(need)) for need, part in zip(request.needs, choice, strict=True) for device in part
    ] + [Pick(device.id) for device in extra]
    ask = Ask(request.tenant, "x", picks, {node: request.amounts}, tolerations=request.tolerations)
    if any(objections(state, ask)):
        return False
    devices = [device for part in choice for device in part]
    passed = [
        d for need, part in zip(request.needs, choice, strict=True) if _mode(need) is Mode.PASSTHROUGH for d in part
    ]
    if request.isolation is Isolation.SINGLETON and any(d.group is None or _fellows(state, d) for d in passed):
        return False
    for required, name in ((request.affinity.numa, "numa_node"), (request.affinity.pcie_root, "pcie_root")):
        places = {device.get(name) for device in devices}
        if required is Affinity.REQUIRE and (None in places or len(places) > 1):
            return False
    gpus = [device for device in devices if device.kind is DeviceKind.GPU]
    return not (request.affinity.nvlink is Affinity.REQUIRE and gpus and _islands(gpus) > 1)


def links(device: Device) -> dict[str, int]:
    """Give a device's links, by the address of the peer."""
    told = device.get("nvlink_peers")
    return {text.rpartition("=")[0]: int(text.rpartition("=")[2]) for text in (told if isinstance(told, list) else [])}


def _between(one: Device, other: Device) -> int:
    return links(one).get(f"pci:{other.slot.address}", 0)


def _islands(gpus: Sequence[Device]) -> int:
    left, count = list(gpus), 0
    while left:
        count += 1
        island = [left.pop()]
        for one in island:
            near = [other for other in left if _between(one, other)]
            island += near
            left = [other for other in left if other not in near]
    return count


def _rank(
    state: State, request: Request, devices: list[Device], free: set[str], choice: Choice, extra: list[Device]
) -> int:
    chosen = [device for part in choice for device in part]
    affinity = request.affinity
    islands = numa = roots = lacking = 0
    gpus = [device for device in chosen if device.kind is DeviceKind.GPU]
    linked = [device for device in devices if links(device)]
    numbers = {_between(one, other) for one in linked for other in linked if one is not other}
    even = len(numbers) <= 1
    if affinity.nvlink is not Affinity.NONE and gpus:
        islands = _islands(gpus) - 1
        if len(gpus) > 1 and not even:
            lacking = 4095 - sum(_between(one, other) for one, other in combinations(gpus, 2))
    if affinity.numa is not Affinity.NONE:
        numa = len({device.get("numa_node") for device in chosen}) - 1
    if affinity.pcie_root is not Affinity.NONE:
        known = {device.get("pcie_root") for device in chosen} - {None}
        roots = len(known) + sum(device.get("pcie_root") is None for device in chosen) - 1
    used = {device.id for device in (*chosen, *extra)}
    rest = [device for device in linked if device.id in free and device.id not in used]
    cut = 0 if even else sum(_between(one, other) for one in gpus for other in rest)
    broken = {
        other.id
        for need, part in zip(request.needs, choice, strict=True)
        if _mode(need) is Mode.PASSTHROUGH
        for device in part
        for other in _fellows(state, device)
    }
    stranded = len(extra) if request.isolation is Isolation.WHOLE_GROUP else len(broken & free - used)
    fitting = {
        device.id
        for need in request.needs
        for device in devices
        if _fits(state, need, device)
        and _near(request, need, state, device)
        and _free(state, request, device, _mode(need))
    }
    fill = max(0, len(fitting) - sum(need.count for need in request.needs))
    return pack((islands, numa, roots, lacking), (stranded, cut, 0), fill, request.strategy)


def _near(request: Request, need: Need, state: State, device: Device) -> bool:
    """Tell whether a device can be a candidate at all, whatever else is chosen."""
    for required, name in ((request.affinity.numa, "numa_node"), (request.affinity.pcie_root, "pcie_root")):
        if required is Affinity.REQUIRE and device.get(name) is None:
            return False
    if request.isolation is Isolation.SINGLETON and _mode(need) is Mode.PASSTHROUGH:
        return device.group is not None and not _fellows(state, device)
    return True
