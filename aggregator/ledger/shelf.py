"""A state of the past whose devices are made when they are asked for: most questions are about a few of many.

Nodes and claims are there from the start; a node's devices lie as the snapshot has them, with the entries since that
are about one of them alone. Whoever asks for a device has its node's devices made, and those entries applied, each as
of its own sequence. That gives what applying all entries in order gives: an entry waits only when it reads and changes
nothing but one device, its stays, and its node's `changed`; any other is applied at once, and finds its devices made.
"""

import weakref
from collections import defaultdict
from collections.abc import Callable, ItemsView, Iterator, Mapping, ValuesView
from typing import Any, Final, TypeVar, cast

import msgspec

from aggregator.ledger.apply import LedgerGapError, apply
from aggregator.ledger.entries import (
    DeviceSeen,
    Entry,
    Joined,
    NodeRun,
    Passed,
    Proved,
    Tainted,
    Untainted,
    Verified,
    ViewChanged,
    Viewed,
    ViewGone,
)
from aggregator.ledger.journal import Written
from aggregator.ledger.making import Making, stays
from aggregator.ledger.model import Claim, Device, Sight, Tenant
from aggregator.ledger.snapshot import Reading
from aggregator.ledger.snapshot_form import Stay, ToldStays
from aggregator.ledger.state import State

V = TypeVar("V")
OF_A_DEVICE: Final[frozenset[type[Any]]] = frozenset(
    {Viewed, ViewChanged, ViewGone, Verified, Tainted, Untainted, Passed, Proved, Joined}
)
"""Entries that are about one device and nothing else, their field `device`; "" is none."""


class Lazy(dict[str, V]):
    """Device -> what is known of it; until somebody asks for that, the node to make it of.

    Its keys are there from the start, in the order of first sight.
    """

    def __init__(self, make: Callable[[str], None], nodes: dict[str, str]) -> None:
        """`nodes`: of each key the node that its value is to be made of."""
        super().__init__(cast(dict[str, V], nodes))
        self._make = make

    def node(self, key: str) -> str | None:
        """Give the node of which a value is still to be made; None for one that is made, or is none."""
        found: object = super().get(key)
        return found if type(found) is str else None

    def made(self) -> dict[str, V]:
        """Give an ordinary one, everything being made."""
        return dict(super().items())

    def __getitem__(self, key: str) -> V:
        found: V = dict.__getitem__(self, key)  # `super` takes time, and there are many
        if type(found) is str:
            self._make(found)  # type: ignore[arg-type]  # no value is a str
            return dict.__getitem__(self, key)
        return found

    def __iter__(self) -> Iterator[str]:
        """Go through the keys. Without a method of its own, `dict()` would copy what is not made."""
        return super().__iter__()

    def get(self, key: str, default: Any = None) -> Any:
        """See `dict`."""
        return self[key] if key in self else default  # noqa: SIM401 - `get` of what is not made is this method

    def setdefault(self, key: str, default: Any = None) -> Any:
        """See `dict`."""
        return self[key] if key in self else super().setdefault(key, default)

    def pop(self, key: str, *default: Any) -> Any:
        """See `dict`."""
        self.get(key)
        return super().pop(key, *default)

    def values(self) -> ValuesView[V]:  # type: ignore[override]  # the view of any mapping, which asks for each
        """See `dict`."""
        return ValuesView(self)

    def items(self) -> ItemsView[str, V]:  # type: ignore[override]  # likewise
        """See `dict`."""
        return ItemsView(self)


class LazyStays(Lazy[list[Sight]]):
    """Device -> its stays; of a device that is made, until somebody asks, as a snapshot tells them."""

    def __init__(self, make: Callable[[str], None], nodes: dict[str, str], devices: Mapping[str, Device]) -> None:
        super().__init__(make, nodes)
        self._devices = devices

    def tell(self, told: Mapping[str, ToldStays]) -> None:
        """Keep what is told of the stays of devices. Ask for those of a device before it changes."""
        super().update(cast(Mapping[str, list[Sight]], told))  # nobody sees it

    def __getitem__(self, key: str) -> list[Sight]:
        found: Any = dict.__getitem__(self, key)
        if type(found) is str:
            found = super().__getitem__(key)
        if type(found) is int or (found and type(found[-1]) is Stay):
            found = self[key] = stays(self._devices[key], found)
        sights: list[Sight] = found
        return sights


class Shelf(State):
    """A past state for questions: no facts may be taken with it. Not for two threads at once.

    How many devices of which making a tenant holds (`Tenant.profiles`) is known once it is `whole`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._encoded: dict[str, msgspec.Raw] = {}
        self._making = Making(self.profiles)
        self._waiting: dict[str, list[Written]] = {}
        self._settled = self._whole = False
        self.tenants = defaultdict(lambda: Tenant(""))  # what is counted while entries are applied is not read

    @classmethod
    def open(cls, reading: Reading) -> "Shelf":
        """Give the state that a snapshot holds, read with `lazy`. Raises SnapshotError."""
        shelf = cls.of(reading.kept(), index=False)
        assert isinstance(shelf, Shelf)
        nodes = {device: node for _, device, node in reading.places}
        here = weakref.ref(shelf)  # or it would be a part of a cycle, and stay for ever where it is frozen

        def make(node: str) -> None:
            found = here()
            assert found is not None, "a past state is asked that nobody holds any more"
            found._make(node)

        shelf.devices = Lazy(make, nodes)
        shelf.sights = LazyStays(make, nodes, shelf.devices)
        shelf._encoded, shelf._making = reading.encoded, reading.making  # noqa: SLF001 - a second constructor
        return shelf

    @property
    def left(self) -> int:
        """How many nodes' devices are not made yet."""
        return len(self._encoded)

    def follow(self, written: Written) -> None:
        """Take the next entry. Raises LedgerGapError."""
        node = self._waits(written.entry)
        if node is None:
            apply(self, written.sequence, written.time_ns, written.entry)
            return
        if written.sequence != self.sequence + 1:
            raise LedgerGapError(f"entry {written.sequence} does not follow entry {self.sequence}; restore a backup")
        self._waiting.setdefault(node, []).append(written)
        self.sequence, self.time_ns = written.sequence, written.time_ns
        self.nodes[node].changed = written.sequence

    def settle(self) -> None:
        """All entries were taken: let questions find what is related, and count what claims hold."""
        self._settled = True
        devices, self.devices = self.devices, {}  # their makings are counted when all of them are there
        self._count_all()
        self.devices = devices
        for name in self.nodes:
            if name not in self._encoded:
                self.found.later(name, list(self.devices_of(name)))

    def whole(self) -> None:
        """Make what is not made yet: from now on it is a state like any other. Raises SnapshotError."""
        if self._whole:
            return
        for node in list(self._encoded):
            self._make(node)
        if isinstance(self.devices, Lazy):
            self.devices = self.devices.made()
        self._count_all()
        self._whole = True

    def count(self, claim: Claim, sign: int = 1) -> None:
        """Count nothing before the end: see `settle`."""

    def _count_all(self) -> None:
        self.tenants, self.claims_on = {}, {}
        for node in self.nodes.values():
            node.used = {}
        for claim in self.live_claims():
            super().count(claim)

    def _waits(self, entry: Entry) -> str | None:
        """Give the node with whose devices an entry waits; None for one that is to be applied at once."""
        if type(entry) in OF_A_DEVICE and isinstance(self.devices, Lazy):
            return self.devices.node(cast(Viewed, entry).device)  # all of them have it
        # a boot, of which what waits makes use; a device that the snapshot does not have
        if isinstance(entry, (NodeRun, DeviceSeen)) and entry.node in self._encoded:
            self._make(entry.node)
        return None

    def _make(self, name: str) -> None:
        """Make a node's devices, as of the snapshot, and apply what waits for them."""
        node, sequence, time_ns = self.nodes[name], self.sequence, self.time_ns
        changed = node.changed
        made = self._making.encoded(self._encoded.pop(name))
        devices = [device for device, _ in made]
        self.devices.update([(device.id, device) for device in devices])
        cast(LazyStays, self.sights).tell({device.id: told for device, told in made})
        for device in devices if not self._settled else ():
            self.sights[device.id]  # any entry may change the device from now on
        for written in self._waiting.pop(name, ()):
            self.sights[cast(Viewed, written.entry).device]
            self.sequence = written.sequence - 1
            apply(self, written.sequence, written.time_ns, written.entry)
        self.sequence, self.time_ns, node.changed = sequence, time_ns, changed
        if self._settled:
            self.found.later(name, devices)
