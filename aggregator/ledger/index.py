"""What finds devices by what they say of themselves. Derived from them alone, and made for a million of them.

Most keys have one device: it is kept bare, not in a collection of its own. What is of one node is kept together: small
tables with names for keys take a fraction of one large table of pairs, and are made when somebody first asks for
something there, or changes it. So a leader that starts has little to make before it can decide, and a past state that
is only listed makes none.
"""

import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable
from operator import attrgetter
from typing import Final, Generic, TypeVar, overload

from aggregator.ledger.model import Device, View, part_key, view_source, weaker_key
from aggregator.ledger.words import Reach
from schemas.device import DeviceKind

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Ids(Generic[K]):
    """Key -> ids of devices, in the order in which they came to it."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[K, str | dict[str, None]] = {}

    def add(self, key: K, device: str) -> None:
        """Let a device be found by a key. Nothing happens when it is."""
        found = self._found.setdefault(key, device)
        if found is device:  # most are alone
            return
        if isinstance(found, dict):
            found[device] = None
        elif found != device:
            self._found[key] = {found: None, device: None}

    def remove(self, key: K, device: str) -> None:
        """Let a device be found by a key no more. Nothing happens when it is not."""
        found = self._found.get(key)
        if found == device:
            del self._found[key]
        elif isinstance(found, dict):
            found.pop(device, None)
            if len(found) == 1:
                (self._found[key],) = found

    def get(self, key: K, default: Collection[str] = ()) -> Collection[str]:
        """Give the devices of a key; `default` when there are none. Not to be kept: it may change with the index."""
        found = self._found.get(key)
        if found is None:
            return default
        return found if isinstance(found, dict) else (found,)

    def copy(self) -> "Ids[K]":
        """Give one that changes on its own."""
        twin: Ids[K] = Ids()
        twin._found = {key: found.copy() if isinstance(found, dict) else found for key, found in self._found.items()}
        return twin

    def __bool__(self) -> bool:
        return bool(self._found)

    def __eq__(self, other: object) -> bool:
        """Tell whether the same devices are found by the same keys, in whatever order."""
        return self._found == other._found if isinstance(other, Ids) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._found!r})"


class Place:
    """What finds the devices of one node."""

    __slots__ = ("apart", "by_key", "by_slot", "by_source", "groups")

    def __init__(self) -> None:
        self.by_key: dict[str, str] = {}
        self.by_source: dict[str, str] = {}
        self.by_slot: Ids[str] = Ids()
        self.groups: Ids[int] = Ids()
        self.apart: Ids[str] = Ids()

    @classmethod
    def of(cls, devices: Iterable[Device]) -> "Place":
        """Find these devices, all of one node."""
        made = cls()
        for device in devices:
            made.add(device)
        return made

    def add(self, device: Device) -> None:
        """Let a device be found; what no document speaks of is found by nothing that documents say."""
        name, group, there = device.id, device.group, device.reach is not Reach.ABSENT
        for source, view in device.views.items():
            if there or source not in self.by_source:  # another one may be seen where it was
                self.by_source[source] = name
            for key in view.keys:
                self.by_key.setdefault(key, name)
            if view.parent and not device.parent:
                self.apart.add(_whole(view), name)
        if device.views and device.slot.path:
            self.by_slot.add(device.slot.path, name)
        if group is not None and not device.is_bridge:
            self.groups.add(group, name)

    def remove(self, device: Device) -> None:
        """Undo `add`."""
        name = device.id
        for source, view in device.views.items():
            _drop(self.by_source, source, name)
            for key in view.keys:
                _drop(self.by_key, key, name)
            if view.parent:
                self.apart.remove(_whole(view), name)
        if device.views:
            self.by_slot.remove(device.slot.path, name)
        if device.group is not None:
            self.groups.remove(device.group, name)

    def copy(self) -> "Place":
        """Give one that changes on its own."""
        twin = Place()
        twin.by_key, twin.by_source = self.by_key.copy(), self.by_source.copy()
        twin.by_slot, twin.groups, twin.apart = self.by_slot.copy(), self.groups.copy(), self.apart.copy()
        return twin


class Places:
    """Node -> what finds its devices; made of them when it is first asked for."""

    __slots__ = ("_late", "_made")

    def __init__(self) -> None:
        self._made: dict[str, Place] = {}
        self._late: dict[str, Collection[Device]] = {}
        """What the rest is to be made of. Nothing that a device is found by changes while it is in here."""

    def later(self, node: str, devices: Collection[Device]) -> None:
        """Let a node's devices, all of them, be found. The collection is kept, and must not change."""
        self._late[node] = devices

    def get(self, node: str) -> Place | None:
        """Give what finds a node's devices; None when it has none."""
        found = self._made.get(node)
        if found is None and node in self._late:
            found = self._made[node] = Place.of(self._late[node])
            del self._late[node]
        return found

    def own(self, node: str) -> Place:
        """Give what finds a node's devices, to add one."""
        found = self.get(node)
        if found is None:
            found = self._made[node] = Place()
        return found

    def copy(self) -> "Places":
        """Give one that changes on its own. The devices of which it is still to be made must not change any more."""
        twin = Places()
        twin._made, twin._late = {node: place.copy() for node, place in self._made.items()}, self._late.copy()
        return twin

    def told(self, table: Callable[[Place], T]) -> dict[str, T]:
        """Make what is not made yet, and give one table of each node, but for those that are empty."""
        for node in list(self._late):
            self.get(node)
        return {node: found for node, place in self._made.items() if (found := table(place))}


class _Of(Generic[T]):
    """One table of every node."""

    __slots__ = ("_places", "_table")

    def __init__(self, places: Places, table: Callable[[Place], T]) -> None:
        self._places = places
        self._table = table

    def __eq__(self, other: object) -> bool:
        """Tell whether the same devices are found by the same keys, in whatever order."""
        if not isinstance(other, _Of):
            return NotImplemented
        return self._places.told(self._table) == other._places.told(other._table)

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._places.told(self._table)!r})"


class IdOf(_Of[dict[K, str]]):
    """(node, key) -> the one device."""

    __slots__ = ()

    @overload
    def get(self, place: tuple[str, K]) -> str | None: ...

    @overload
    def get(self, place: tuple[str, K], default: str) -> str: ...

    def get(self, place: tuple[str, K], default: str | None = None) -> str | None:
        """Give the device of a node and key; `default` when there is none."""
        found = self._places.get(place[0])
        return default if found is None else self._table(found).get(place[1], default)


class IdsOf(_Of[Ids[K]]):
    """(node, key) -> ids of devices, in the order in which they came to it."""

    __slots__ = ()

    def get(self, place: tuple[str, K], default: Collection[str] = ()) -> Collection[str]:
        """Give the devices of a node and key; `default` when there are none. Not to be kept: see `Ids`."""
        found = self._places.get(place[0])
        return default if found is None else self._table(found).get(place[1], default)


class Index:
    """Everything that finds a device. Call `remove` before what it goes by changes, and `add` after that."""

    def __init__(self, places: Places | None = None) -> None:
        self._places = places = places or Places()
        self.by_key: IdOf[str] = IdOf(places, _BY_KEY)
        """(node, merge key of a view) -> device."""
        self.by_source: IdOf[str] = IdOf(places, _BY_SOURCE)
        """(node, source of a view) -> device; of several that were seen so the one that is there."""
        self.by_part: Ids[str] = Ids()
        """Part key -> devices; more than one is a conflict."""
        self.by_weaker: Ids[str] = Ids()
        """Serial number -> devices that are found by a stronger identity in `by_part`."""
        self.bmcs: Ids[str] = Ids()
        """Source of a view -> BMCs that are or were seen so: whoever polls one may tell of another machine's next."""
        self.by_slot: IdsOf[str] = IdsOf(places, _BY_SLOT)
        """(node, path of the slot) -> devices that are or were there."""
        self.groups: IdsOf[int] = IdsOf(places, _GROUPS)
        """(node, IOMMU group) -> its endpoints."""
        self.parts: Ids[str] = Ids()
        """Device -> those that are a part of it."""
        self.apart: IdsOf[str] = IdsOf(places, _APART)
        """(node, source of a view) -> devices that say that they are a part of what is seen there, and are joined to
        nothing yet: most were seen before it."""

    def add(self, device: Device) -> None:
        """Let a device be found."""
        self._places.own(device.node).add(device)
        self._add_whole(device, sys.intern(part_key(device)))  # its stay has it too

    def later(self, node: str, devices: Collection[Device]) -> None:
        """Let a node's devices, all of them, be found, but not by part. They are kept, and must not become others."""
        self._places.later(node, devices)
        for device in devices:
            if device.parent:
                self.parts.add(device.parent, device.id)

    def remove(self, device: Device) -> None:
        """Undo `add`."""
        place = self._places.get(device.node)
        if place is not None:
            place.remove(device)
        if device.views:
            self.by_part.remove(part_key(device), device.id)
            self.by_weaker.remove(weaker_key(device.part, device.kind), device.id)
        for source in device.views if device.kind is DeviceKind.BMC else ():
            self.bmcs.remove(source, device.id)
        self.parts.remove(device.parent, device.id)

    def join(self, device: Device, parent: str) -> None:
        """Let a device be a part of another, or with "" of none, and be found so."""
        self.parts.remove(device.parent, device.id)
        device.parent = parent
        if parent:
            self.parts.add(parent, device.id)
        for view in device.views.values():
            if view.parent:
                apart = self._places.own(device.node).apart
                (apart.remove if parent else apart.add)(_whole(view), device.id)

    @classmethod
    def of(cls, devices: Iterable[Device]) -> "Index":
        """Find these devices. What finds them within their node is made when somebody asks there."""
        made = cls()
        by_node: dict[str, list[Device]] = defaultdict(list)
        for device in devices:
            by_node[device.node].append(device)
            made._add_whole(device, part_key(device))
        for node, here in by_node.items():
            made._places.later(node, here)
        return made

    def copy(self) -> "Index":
        """Give one that changes on its own. Nothing that its devices are found by may change meanwhile."""
        twin = Index(self._places.copy())
        twin.by_part, twin.by_weaker, twin.parts = self.by_part.copy(), self.by_weaker.copy(), self.parts.copy()
        twin.bmcs = self.bmcs.copy()
        return twin

    def _add_whole(self, device: Device, part: str) -> None:
        """Let a device be found by what is not of one node."""
        if device.views:
            self.by_part.add(part, device.id)
            if device.part.uuid and (weaker := weaker_key(device.part, device.kind)):
                self.by_weaker.add(weaker, device.id)
        if device.kind is DeviceKind.BMC:
            for source in device.views:
                self.bmcs.add(source, device.id)
        if device.parent:
            self.parts.add(device.parent, device.id)


_BY_KEY: Final[Callable[[Place], dict[str, str]]] = attrgetter("by_key")
_BY_SOURCE: Final[Callable[[Place], dict[str, str]]] = attrgetter("by_source")
_BY_SLOT: Final[Callable[[Place], Ids[str]]] = attrgetter("by_slot")
_GROUPS: Final[Callable[[Place], Ids[int]]] = attrgetter("groups")
_APART: Final[Callable[[Place], Ids[str]]] = attrgetter("apart")


def _whole(view: View) -> str:
    """Give the source of the view of what a view says that its device is a part of."""
    return view_source(view.publisher, view.collector, view.parent)


def _drop(table: dict[str, str], key: str, device: str) -> None:
    """Let a device be found by a key no more. Nothing happens when it is not."""
    if table.get(key) == device:
        del table[key]
