"""How the devices of a node sit, without who has them: equal for all nodes that are built alike.

Every set of devices is a bit mask over the layout's seats. Seats are in the order of slots, which outlives a boot.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from aggregator.ledger.givable import GIVEN
from aggregator.ledger.model import Device, view_source
from aggregator.ledger.state import State
from aggregator.ledger.words import SHARING, WHOLE_OF, Lifecycle, Reach, is_part
from schemas.device import DeviceKind
from schemas.mig import WHOLE, read_place


class Seat(NamedTuple):
    """One device's place."""

    kind: DeviceKind
    profiles: tuple[int, ...]
    """Its making: numbers of the state's profiles."""
    numa: int | None
    root: int | None
    """Number of its PCIe root port within the node."""
    group: int | None
    """Number of its IOMMU group within the node."""
    parent: int | None
    """Seat of what it is a part of."""
    links: tuple[tuple[int, int], ...]
    """(seat, NVLinks) of each peer."""
    fabric: tuple[str, ...]
    placement: str


class Layout:
    """The seats of a node, and what follows from them."""

    def __init__(self, seats: tuple[Seat, ...], number: int) -> None:
        self.seats: Final = seats
        self.number: Final = number
        """Tells layouts apart, in the order in which they were first seen."""
        self.size: Final = len(seats)
        self.fellows: Final = _fellows(seats)
        """For each seat the others of its IOMMU group."""
        self.family: Final = _families(seats)
        """For each seat what cannot be given while it is: its whole, or its parts."""
        self.links: Final = [dict(seat.links) for seat in seats]
        self.linked: Final = sum(1 << at for at, seat in enumerate(seats) if seat.links)
        self.fabric: Final = tuple(sorted(_partitions(seats)))
        """Masks of the NVSwitch partitions; () where GPUs may be given one by one."""
        self.shared: Final = _shared(seats)
        """For each seat without a PCI function of its own the seat that it shares one with; 0 for all others."""
        self.divided: Final = _divided(seats)
        """Seat of a GPU -> slices that the partitions take which are there anyhow."""
        self.in_fabric: Final = sum(1 << at for at, seat in enumerate(seats) if seat.fabric)
        self.gpus: Final = sum(1 << at for at, seat in enumerate(seats) if seat.kind is DeviceKind.GPU)
        self.grouped: Final = sum(1 << at for at, fellows in enumerate(self.fellows) if fellows)
        self.familied: Final = sum(1 << at for at, family in enumerate(self.family) if family)
        self.twins: Final = _twins(self.links)
        """For each seat the first one that has the same links to all others: nothing in the graph tells them apart."""
        self.even: Final = _even(self.links, self.linked)
        """Whether every two GPUs that have links are linked alike, as behind a switch: no choice strands any."""
        self._islands: dict[int, tuple[int, int]] = {}

    def islands(self, gpus: int) -> tuple[int, int]:
        """Give into how many islands some GPUs fall by links among themselves, and how many links those are."""
        known = self._islands.get(gpus)
        if known is None:
            known = self._islands[gpus] = self._count_islands(gpus)
        return known

    def _count_islands(self, gpus: int) -> tuple[int, int]:
        islands, links, left = 0, 0, gpus
        while left:
            islands += 1
            reached, border = 0, left & -left
            while border:
                reached |= border
                border = 0
                for at in bits(reached):
                    for peer, number in self.links[at].items():
                        if gpus >> peer & 1 and number:
                            border |= 1 << peer
                border &= ~reached
            left &= ~reached
        for at in bits(gpus):
            links += sum(number for peer, number in self.links[at].items() if peer > at and gpus >> peer & 1)
        return islands, links

    def cut(self, taken: int, rest: int) -> int:
        """Give the links between what is taken and what is left: so many are of no use to either."""
        if self.even:
            return 0
        return sum(number for at in bits(taken) for peer, number in self.links[at].items() if rest >> peer & 1)


def bits(mask: int) -> Iterator[int]:
    """Yield the numbers of the bits that are set, ascending."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def seated(state: State, node: str) -> list[Device]:
    """Give the devices of a node that have a seat: endpoints that can be given, or that share a group, in slot order.

    One that is absent keeps its seat until another part is in its slot, and longer while a claim holds it.
    """
    found = [device for device in state.devices_of(node) if _sits(state, device)]
    parents = {device.id: device.slot.path for device in found}

    def order(device: Device) -> tuple[str, str, str, str]:
        path = device.slot.path or parents.get(device.parent, "~")
        return path, device.kind.value, device.slot.address, _own_name(device)

    return sorted(found, key=order)


def _own_name(device: Device) -> str:
    """Give what orders parts of one whole: the end of the name that its collector gave it."""
    names = sorted(view.document.rpartition("/")[2] for view in device.views.values())
    return f"{names[0] if names else ''}\n{device.id}"


def _sits(state: State, device: Device) -> bool:
    if device.planned:  # it is one claim's alone
        return False
    if device.is_bridge or (device.kind not in GIVEN and device.group is None):
        return False
    if device.reach is not Reach.ABSENT or device.hold is not None or device.lifecycle is Lifecycle.FOREIGN:
        return True
    if device.kind is DeviceKind.GPU_PARTITION:  # partitions come and go
        return False
    there = state.found.by_slot.get((device.node, device.slot.path), {}) if device.slot.path else {}
    return not any(state.devices[name].reach is not Reach.ABSENT for name in there)


def seats_of(state: State, devices: Sequence[Device]) -> tuple[Seat, ...]:
    """Give the seats of devices, numbered within their node so that nodes built alike have equal ones."""
    places = {device.id: at for at, device in enumerate(devices)}
    roots: dict[str, int] = {}
    groups: dict[int, int] = {}
    made = []
    for device in devices:
        told = device.capabilities
        numa, root, fabric = told.get("numa_node"), told.get("pcie_root"), told.get("nvswitch_partitions")
        made.append(
            Seat(
                device.kind,
                device.profiles,
                numa if isinstance(numa, int) and numa >= 0 else None,
                roots.setdefault(root, len(roots)) if isinstance(root, str) and root else None,
                None if device.group is None else groups.setdefault(device.group, len(groups)),
                places.get(device.parent) if device.kind in WHOLE_OF else None,
                _links(state, device, places) if "nvlink_peers" in told else (),
                tuple(sorted(fabric)) if isinstance(fabric, list) else (),
                str(told.get("mig_placement", "")) if device.kind is DeviceKind.GPU_PARTITION else "",
            )
        )
    return tuple(made)


def _links(state: State, device: Device, places: dict[str, int]) -> tuple[tuple[int, int], ...]:
    """Read `nvlink_peers`, `<device>=<links>` each; a peer is named as the same collector names it."""
    found: dict[int, int] = {}
    for view in device.views.values():
        peers = view.own.get("nvlink_peers")
        for text in peers if isinstance(peers, list) else ():
            name, _, links = text.rpartition("=")
            source = view_source(view.publisher, view.collector, name)
            place = places.get(state.found.by_source.get((device.node, source), ""))
            if place is not None and links.isdigit() and int(links):
                found[place] = int(links)
    return tuple(sorted(found.items()))


def _fellows(seats: tuple[Seat, ...]) -> tuple[int, ...]:
    groups: dict[int, int] = {}
    for at, seat in enumerate(seats):
        if seat.group is not None:
            groups[seat.group] = groups.get(seat.group, 0) | 1 << at
    return tuple(0 if seat.group is None else groups[seat.group] & ~(1 << at) for at, seat in enumerate(seats))


def _families(seats: tuple[Seat, ...]) -> tuple[int, ...]:
    masks = [0] * len(seats)
    for at, seat in enumerate(seats):
        if seat.parent is not None and WHOLE_OF.get(seat.kind) is not None:
            masks[at] |= 1 << seat.parent
            if is_part(seat.kind, seats[seat.parent].kind):
                masks[seat.parent] |= 1 << at
    return tuple(masks)


def _shared(seats: tuple[Seat, ...]) -> tuple[int, ...]:
    return tuple(1 << seat.parent if seat.parent is not None and seat.kind in SHARING else 0 for seat in seats)


def _divided(seats: tuple[Seat, ...]) -> dict[int, int]:
    found: dict[int, int] = {}
    for seat in seats:
        if seat.kind is DeviceKind.GPU_PARTITION and seat.parent is not None:
            place = read_place(seat.placement)
            found[seat.parent] = found.get(seat.parent, 0) | (WHOLE if place is None else place.mask)
    return found


def _partitions(seats: tuple[Seat, ...]) -> set[int]:
    masks: dict[str, int] = {}
    for at, seat in enumerate(seats):
        for name in seat.fabric:
            masks[name] = masks.get(name, 0) | 1 << at
    return set(masks.values())


def _twins(links: Sequence[dict[int, int]]) -> tuple[int, ...]:
    found = list(range(len(links)))
    heads: list[int] = []
    for at, mine in enumerate(links):
        for head in heads if mine else ():
            theirs = links[head]
            if all(
                mine.get(peer, 0) == theirs.get(peer, 0)
                for peer in mine.keys() | theirs.keys()
                if peer not in (at, head)
            ):
                found[at] = head
                break
        else:
            heads.append(at)
    return tuple(found)


def _even(links: Sequence[dict[int, int]], linked: int) -> bool:
    numbers = {number for mine in links for number in mine.values()}
    return len(numbers) <= 1 and all(len(mine) in (0, linked.bit_count() - 1) for mine in links)
