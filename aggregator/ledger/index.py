"""What finds devices by what they say of themselves. Derived from them alone, and made for a million of them.

Most keys have one device: it is kept bare, not in a collection of its own. What is of one node is kept together: small
tables with names for keys take a fraction of one large table of pairs.
"""

import sys
from collections.abc import Collection, Hashable, Iterable
from typing import Generic, TypeVar, overload

from aggregator.ledger.model import Device, View, part_key, view_source

K = TypeVar("K", bound=Hashable)


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


class IdOf(Generic[K]):
    """(node, key) -> the one device."""

    __slots__ = ("_nodes",)

    def __init__(self) -> None:
        self._nodes: dict[str, dict[K, str]] = {}

    def put(self, node: str, key: K, device: str) -> None:
        """Let a device be found by a key, and no other."""
        found = self._nodes.get(node)
        if found is None:
            found = self._nodes[node] = {}
        found[key] = device

    def add(self, node: str, key: K, device: str) -> None:
        """Let a device be found by a key, unless another is."""
        found = self._nodes.get(node)
        if found is None:
            found = self._nodes[node] = {}
        found.setdefault(key, device)

    def remove(self, node: str, key: K, device: str) -> None:
        """Let a device be found by a key no more. Nothing happens when it is not."""
        found = self._nodes.get(node)
        if found is not None and found.get(key) == device:
            del found[key]
            if not found:
                del self._nodes[node]

    @overload
    def get(self, place: tuple[str, K]) -> str | None: ...

    @overload
    def get(self, place: tuple[str, K], default: str) -> str: ...

    def get(self, place: tuple[str, K], default: str | None = None) -> str | None:
        """Give the device of a node and key; `default` when there is none."""
        found = self._nodes.get(place[0])
        return default if found is None else found.get(place[1], default)

    def copy(self) -> "IdOf[K]":
        """Give one that changes on its own."""
        twin: IdOf[K] = IdOf()
        twin._nodes = {node: found.copy() for node, found in self._nodes.items()}
        return twin

    def __eq__(self, other: object) -> bool:
        return self._nodes == other._nodes if isinstance(other, IdOf) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._nodes!r})"


class IdsOf(Generic[K]):
    """(node, key) -> ids of devices, in the order in which they came to it."""

    __slots__ = ("_nodes",)

    def __init__(self) -> None:
        self._nodes: dict[str, Ids[K]] = {}

    def add(self, node: str, key: K, device: str) -> None:
        """Let a device be found by a key. Nothing happens when it is."""
        found = self._nodes.get(node)
        if found is None:
            found = self._nodes[node] = Ids()
        found.add(key, device)

    def remove(self, node: str, key: K, device: str) -> None:
        """Let a device be found by a key no more. Nothing happens when it is not."""
        found = self._nodes.get(node)
        if found is not None:
            found.remove(key, device)
            if not found:
                del self._nodes[node]

    def get(self, place: tuple[str, K], default: Collection[str] = ()) -> Collection[str]:
        """Give the devices of a node and key; `default` when there are none. Not to be kept: see `Ids`."""
        found = self._nodes.get(place[0])
        return default if found is None else found.get(place[1], default)

    def copy(self) -> "IdsOf[K]":
        """Give one that changes on its own."""
        twin: IdsOf[K] = IdsOf()
        twin._nodes = {node: found.copy() for node, found in self._nodes.items()}
        return twin

    def __eq__(self, other: object) -> bool:
        return self._nodes == other._nodes if isinstance(other, IdsOf) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._nodes!r})"


class Index:
    """Everything that finds a device. Call `remove` before what it goes by changes, and `add` after that."""

    def __init__(self) -> None:
        self.by_key: IdOf[str] = IdOf()
        """(node, merge key of a view) -> device."""
        self.by_source: IdOf[str] = IdOf()
        """(node, source of a view) -> device."""
        self.by_part: Ids[str] = Ids()
        """Part key -> devices; more than one is a conflict."""
        self.by_slot: IdsOf[str] = IdsOf()
        """(node, path of the slot) -> devices that are or were there."""
        self.groups: IdsOf[int] = IdsOf()
        """(node, IOMMU group) -> its endpoints."""
        self.parts: Ids[str] = Ids()
        """Device -> those that are a part of it."""
        self.apart: IdsOf[str] = IdsOf()
        """(node, source of a view) -> devices that say that they are a part of what is seen there, and are joined to
        nothing yet: most were seen before it."""

    def add(self, device: Device) -> None:
        """Let a device be found."""
        self._add_facts(device)
        self.relate(device)

    def relate(self, device: Device) -> None:
        """Let what it is related to be found: its group, and what it is a part of. Questions need no more."""
        group = device.group
        if group is not None and not device.is_bridge:
            self.groups.add(device.node, group, device.id)
        if device.parent:
            self.parts.add(device.parent, device.id)

    def remove(self, device: Device) -> None:
        """Undo `add`."""
        node, name = device.node, device.id
        for source, view in device.views.items():
            self.by_source.remove(node, source, name)
            for key in view.keys:
                self.by_key.remove(node, key, name)
            if view.parent:
                self.apart.remove(node, _whole(view), name)
        if device.views:
            self.by_part.remove(part_key(device), name)
            self.by_slot.remove(node, device.slot.path, name)
        if device.group is not None:
            self.groups.remove(node, device.group, name)
        self.parts.remove(device.parent, name)

    def join(self, device: Device, parent: str) -> None:
        """Let a device be a part of another, or with "" of none, and be found so."""
        self.parts.remove(device.parent, device.id)
        device.parent = parent
        if parent:
            self.parts.add(parent, device.id)
        for view in device.views.values():
            if view.parent:
                (self.apart.remove if parent else self.apart.add)(device.node, _whole(view), device.id)

    @classmethod
    def of(cls, devices: Iterable[Device]) -> "Index":
        """Find these devices."""
        made = cls()
        for device in devices:
            made.add(device)
        return made

    def copy(self) -> "Index":
        """Give one that changes on its own."""
        twin = Index()
        twin.by_key, twin.by_source, twin.by_part = self.by_key.copy(), self.by_source.copy(), self.by_part.copy()
        twin.by_slot, twin.groups = self.by_slot.copy(), self.groups.copy()
        twin.parts, twin.apart = self.parts.copy(), self.apart.copy()
        return twin

    def _add_facts(self, device: Device) -> None:
        """Let a device be found by what documents say; one that none speaks of is not."""
        if not device.views:
            return
        node, name = device.node, device.id
        for source, view in device.views.items():
            self.by_source.put(node, source, name)
            for key in view.keys:
                self.by_key.add(node, key, name)
            if view.parent and not device.parent:
                self.apart.add(node, _whole(view), name)
        self.by_part.add(sys.intern(part_key(device)), name)  # its stay has it too
        if device.slot.path:
            self.by_slot.add(node, device.slot.path, name)


def _whole(view: View) -> str:
    """Give the source of the view of what a view says that its device is a part of."""
    return view_source(view.publisher, view.collector, view.parent)
