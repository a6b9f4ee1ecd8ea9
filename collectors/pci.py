"""Every function on the PCI bus: what it is, where it sits, who has it, how its link and its error counts are.

Everything is read below `Context.root`, without privilege but for serial numbers, the ports of switches and the words
printed beside slots, which the kernel and the firmware show to root alone.
"""

import select
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Final, Protocol

import msgspec
from msgspec import Meta

from collectors._uevents import Uevent, Uevents
from collectors.contract import Context, Emit
from collectors.isolation import MACHINE
from collectors.pci_bus import read_bus
from collectors.pci_documents import Known, describe_bus
from collectors.pci_events import EVENTS
from collectors.pci_link import METRICS, Links
from collectors.pci_names import PciNames
from collectors.pci_sysfs import DEVICES, Function, Identity, answers, read_identity
from collectors.pci_use import host_needs, vfio_use
from collectors.pci_watch import Changes, vfio_users
from schemas.device import Document
from schemas.errors import NoDataError, PartialCollectError
from schemas.events import EventSpec
from schemas.metrics import MetricSpec
from schemas.rows import Item

_LOOK_S: Final = 0.5
"""The longest wait before `stopping` is looked at."""
_QUIET_S: Final = 0.2
"""After the last event of a burst, before the bus is looked at: a card's functions come one by one."""
_BURST_S: Final = 2.0
"""The longest that a burst is waited for."""
_BUS: Final = frozenset({"pci", "vfio", "vfio-dev"})
"""Subsystems whose events concern a function."""

Seconds = Annotated[float, Meta(gt=0)]


class PciConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of the PCI bus is read, and how often."""

    links_every_seconds: Seconds = 60.0
    """How often links and error counters are read."""
    rescan_every_seconds: Seconds = 60.0
    """How often the bus is looked at for what no event told: who holds a vfio group, what no longer answers."""
    read_vpd: bool = True
    """Read the vital product data (part and serial number) of each card, once; some cards take a second for it."""


class Ear(Protocol):
    """Where uevents come from."""

    def fileno(self) -> int:
        """Give what to wait on."""

    def take(self) -> list[Uevent | None]:
        """Give what has come; None stands for what was lost."""

    def close(self) -> None:
        """Listen no more."""


class PciCollector:
    """Reads the PCI bus. On a root other than `/` it reads a recorded one, and hears nothing from the kernel."""

    name: ClassVar[str] = "pci"
    isolation: ClassVar[str] = MACHINE
    METRICS: ClassVar[tuple[MetricSpec, ...]] = METRICS
    EVENTS: ClassVar[tuple[EventSpec, ...]] = EVENTS
    Config: ClassVar[type[PciConfig]] = PciConfig

    def __init__(
        self,
        config: PciConfig,
        context: Context,
        clock: Callable[[], float] = time.monotonic,
        listen: Callable[[], Ear] | None = None,
    ) -> None:
        """Prepare. `listen` opens what uevents come from; None: the kernel, on this machine's own root."""
        self._config = config
        self._context = context
        self._clock = clock
        self._listen = listen or (Uevents if context.root == Path("/") else None)
        self._names = PciNames(context.root)
        self._links = Links(context.root)
        self._links_due = float("-inf")
        self._identities: dict[tuple[str, int], Identity] = {}
        self._documents: dict[str, Document] = {}
        self._changes = Changes(context.root, self._last_document)

    def probe(self) -> str:
        """Give "" where there is a PCI bus, else what is missing."""
        folder = self._context.root / DEVICES
        return "" if folder.is_dir() else f"{folder} is not there: no PCI bus, or sysfs is not mounted."

    def start(self) -> None:
        """Take what later looks are compared with. Raises NoDataError without a PCI bus."""
        missing = self.probe()
        if missing:
            raise NoDataError(missing)
        self._links_due = float("-inf")
        self._changes.forget()
        self._changes.look()

    def collect(self) -> Iterator[Item]:
        """Read links and error counters when they are due."""
        now = self._clock()
        if now >= self._links_due:
            self._links_due = now + self._config.links_every_seconds
            yield from self._links.read(self._context.level())

    def describe(self) -> Iterator[Document]:
        """Give a document for every function; one that no longer answers on its bus has none, as if it were gone.

        Raises PartialCollectError at the end when some could not be read.
        """
        root = self._context.root
        bus = read_bus(root)
        needs, use = host_needs(root), vfio_use(root)
        self._identities = {key: one for key, one in self._identities.items() if _is(bus.functions.get(key[0]), key)}
        known = {
            address: Known(
                self._identity(function),
                answers(root, address),
                tuple(needs.get(address, ())),
                vfio_users(root, function, use),
            )
            for address, function in bus.functions.items()
        }
        self._names.learn((function.vendor, function.device) for function in bus.functions.values())
        documents = [
            one for one in describe_bus(bus, known, self._names) if known[one.slot.address].answers is not False
        ]
        self._documents = {document.slot.address: document for document in documents}
        yield from documents
        if bus.unreadable:
            raise PartialCollectError("; ".join(bus.unreadable[:8]), failed=len(bus.unreadable))

    def watch(self, emit: Emit, stopping: threading.Event) -> None:
        """Hear of changes from the kernel, and look by oneself now and then; emit at once what changed."""
        ear = self._open_ear()
        try:
            due = self._clock() + self._config.rescan_every_seconds
            while not stopping.is_set():
                heard = self._heard(ear, stopping)
                if stopping.is_set() or not (heard or self._clock() >= due):
                    continue
                deep = self._clock() >= due
                if deep:
                    due = self._clock() + self._config.rescan_every_seconds
                events = self._changes.look(deep=deep)
                if events:
                    emit(events)
        finally:
            if ear is not None:
                ear.close()

    def stop(self) -> None:
        """Nothing is open between calls."""

    def _identity(self, function: Function) -> Identity | None:
        """Give who a function says it is: asked once, as long as it is there and awake."""
        key = (function.address, function.inode)
        if key not in self._identities:
            found = read_identity(self._context.root, function, vpd=self._config.read_vpd)
            if found is None:
                return None
            self._identities[key] = found
        return self._identities[key]

    def _last_document(self, address: str) -> Document | None:
        return self._documents.get(address)

    def _open_ear(self) -> Ear | None:
        if self._listen is None:
            return None
        try:
            return self._listen()
        except OSError as error:
            every = self._config.rescan_every_seconds
            self._context.log.warning("no uevents, looking every %g s instead: %s", every, error)
            return None

    def _heard(self, ear: Ear | None, stopping: threading.Event) -> bool:
        """Wait a little; tell whether something happened on the bus, after the burst of it is over."""
        if ear is None:
            stopping.wait(_LOOK_S)
            return False
        poller = select.poll()
        poller.register(ear.fileno(), select.POLLIN)
        if not poller.poll(_LOOK_S * 1000) or not _concerns(ear.take()):
            return False
        end = self._clock() + _BURST_S
        while self._clock() < end and poller.poll(_QUIET_S * 1000) and not stopping.is_set():
            ear.take()
        return True


def _is(function: Function | None, key: tuple[str, int]) -> bool:
    return function is not None and (function.address, function.inode) == key


def _concerns(events: Iterable[Uevent | None]) -> bool:
    """Whether any of them is about a function, or is not known to be about something else."""
    return any(event is None or event.subsystem in _BUS for event in events)
