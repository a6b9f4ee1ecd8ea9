"""Network ports and their virtual functions: what they carry, how they are set, and whether that is as it should be.

All of it can be read without privilege, but for the mode of a card's switch (`eswitch_mode`: CAP_NET_ADMIN). A port
that vfio has is told by the bus alone: it has no interface to ask.
"""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from collectors._untold import Untold
from collectors.contract import Context, Emit, Objection
from collectors.isolation import MACHINE
from collectors.metrics_nic import HEALTH_METRICS, NIC_METRICS, PORT_METRICS, RDMA_METRICS, VF_METRICS
from collectors.sriov.cards import card_words, function_words, rdma_words
from collectors.sriov.devlink import PCI, Card, read_cards, read_health
from collectors.sriov.documents import describe_port, describe_vf, offloads
from collectors.sriov.drivers import Trust
from collectors.sriov.ears import Ear, own_ears, wait
from collectors.sriov.events import EVENTS
from collectors.sriov.health import health_rows
from collectors.sriov.keeping import Keep
from collectors.sriov.kernel import Kernel, kernel_of, read_driver, read_features, read_link
from collectors.sriov.netlink import NetlinkError, VirtualFunction
from collectors.sriov.rdma import RdmaLink, owners, read_links, read_row
from collectors.sriov.readings import Readings
from collectors.sriov.standing import Drift
from collectors.sriov.survey import Survey, changes
from collectors.sriov.survey import survey as look
from collectors.sriov.sysfs import Port, VirtualPort, duplex, in_cloud, link_rate, read_ports
from schemas.device import Document, Value
from schemas.errors import NoDataError, PartialCollectError
from schemas.events import EventSpec
from schemas.metrics import MetricSpec
from schemas.rows import Event, Item, Reading
from schemas.verbosity import Level

if TYPE_CHECKING:
    from collectors.sriov.checks import Checks

_LOOK_S: Final = 0.5
"""The longest wait before `stopping` is looked at."""
_SLOW_S: Final = 60.0
"""How often a port's rate is asked for while its carrier stays as it is."""

Seconds = Annotated[float, Meta(gt=0)]


class SriovConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of the network functions is read, and how often."""

    rescan_every_seconds: Seconds = 60.0
    """How often everything is looked at for what no event told."""
    metadata: Literal["auto", "on", "off"] = "auto"
    """Compare functions with the VNICs of the cloud's metadata service; auto: on an instance of Oracle's cloud."""
    metadata_address: str = "169.254.169.254:80"
    """Where that service answers, `<host>:<port>`."""
    metadata_every_seconds: Seconds = 60.0
    """How often it is asked."""
    expectations: str = ""
    """Path of a file that says how network functions must be; what differs is told as drift. Empty: no file."""


class SriovCollector:
    """Reads the network functions of the PCI bus, with or without virtual functions."""

    name: ClassVar[str] = "sriov"
    isolation: ClassVar[str] = MACHINE
    METRICS: ClassVar[tuple[MetricSpec, ...]] = (
        *NIC_METRICS,
        *PORT_METRICS,
        *VF_METRICS,
        *HEALTH_METRICS,
        *RDMA_METRICS,
    )
    EVENTS: ClassVar[tuple[EventSpec, ...]] = EVENTS
    Config: ClassVar[type[SriovConfig]] = SriovConfig

    def __init__(
        self,
        config: SriovConfig,
        context: Context,
        clock: Callable[[], float] = time.monotonic,
        kernel: Callable[[], Kernel] | None = None,
        listen: Callable[[], list[Ear]] | None = None,
    ) -> None:
        """Prepare. `kernel` opens what is asked, once for each thread; `listen` what tells of changes.

        None: this machine's kernel on its own root, else nothing.
        """
        self._config = config
        self._context = context
        self._clock = clock
        self._make_kernel = kernel or (lambda: kernel_of(context.root))
        self._listen = listen or (own_ears if context.root == Path("/") else list)
        self._kernel: Kernel | None = None
        self._trust = Trust()
        self._readings: Readings | None = None
        self._survey = Survey()
        self._fresh = threading.Event()
        self._checks: Checks | None = None
        self._untold = Untold(context.state_dir)
        self._slow_due = self._survey_due = float("-inf")

    def _make_checks(self) -> "Checks | None":
        """Give what compares functions with what they should be; None where nobody says how that is."""
        config, root = self._config, self._context.root
        if not (config.expectations or config.metadata == "on" or (config.metadata == "auto" and in_cloud(root))):
            return None
        from collectors.sriov.checks import Checks  # most nodes have no use for it

        every, address = config.metadata_every_seconds, config.metadata_address
        return Checks(root, config.metadata, address, every, config.expectations, self._clock)

    def check_options(self, *, attempt: bool) -> Iterator[Objection]:  # noqa: ARG002 - reading a file leaves no trace
        """Give what cannot work as configured."""
        from collectors.sriov.checks import objections

        yield from objections(self._config.metadata_address, self._config.expectations)

    def probe(self) -> str:
        """Give "" where there is a network function on the PCI bus, else what is missing."""
        return "" if read_ports(self._context.root) else "no network function is on a PCI bus here."

    def start(self) -> None:
        """Take what later looks are compared with. Raises NoDataError without a network function."""
        missing = self.probe()
        if missing:
            raise NoDataError(missing)
        self._kernel = self._make_kernel()
        self._readings = Readings(self._context.root, self._kernel, self._trust)
        self._slow_due = float("-inf")
        self._untold.load()
        self._checks = self._make_checks()
        self._look(self._kernel)

    def collect(self) -> Iterator[Item]:
        """Read every port and its functions. Raises PartialCollectError when some ports cannot be asked."""
        kernel, readings = self._open()
        now = self._clock()
        if not self._fresh.is_set() or now >= self._survey_due:
            self._look(kernel)
            readings.forget()
        slow = now >= self._slow_due
        if slow:
            self._slow_due = now + _SLOW_S
        found = self._survey
        namer, level = found.namer(), self._context.level()
        for port in found.ports:
            yield from readings.read(port, namer.port(port), namer.vfs(port), level, slow=slow)
        yield from self._cards(kernel, found, level)
        failed = [*readings.failed.values(), *([self._checks.problem] if self._checks and self._checks.problem else [])]
        if failed:
            self._fresh.clear()
            raise PartialCollectError("; ".join(failed[:8]), failed=len(failed))

    def _cards(self, kernel: Kernel, found: Survey, level: Level) -> Iterator[Reading]:
        """Give the rows of what watches cards, and of RDMA links."""
        if level < Level.STANDARD:
            return
        devices = found.devices()
        health = {address: several for (bus, address), several in read_health(kernel).items() if bus == PCI}
        yield from health_rows(health, devices)
        links, mine = self._links(found)
        for one in links:
            if one.name in mine:
                yield read_row(one, mine[one.name])

    def _links(self, found: Survey) -> tuple[list[RdmaLink], dict[str, str]]:
        """Give the RDMA links of this machine, and by name the devices whose they are."""
        links = read_links(self._context.root)
        return links, owners(links, found.devices(), found.interfaces()) if links else {}

    def describe(self) -> Iterator[Document]:
        """Give a document for every port and every virtual function."""
        kernel, readings = self._open()
        self._look(kernel)
        documents = self._documents(self._survey, kernel, readings)
        if self._checks is not None:
            documents = self._checks.marked(documents)
        yield from documents

    @property
    def survey(self) -> Survey:
        """What was found at the last look."""
        return self._survey

    def watch(self, emit: Emit, stopping: threading.Event) -> None:
        """Hear of changes from the kernel, and look by oneself now and then; emit at once what changed.

        First what an earlier process found and did not tell, and what changed since it watched, in this boot.
        """
        kernel, ears = self._make_kernel(), self._listen()
        readings = Readings(self._context.root, kernel, self._trust)
        try:
            keep = Keep(self._context.state_dir, self._context.root, self._untold)
            kept = keep.load()
            before, drift = kept or (self._survey, Drift())
            due = self._clock()
            if self._checks is not None:
                self._checks.drift = drift
            if kept is None:
                keep.save(before, drift)
                due += self._config.rescan_every_seconds
            self._untold.hand_on(emit)
            while not stopping.is_set():
                heard = not self._due() and wait(ears, _indexes(before), _LOOK_S, stopping, self._clock)
                if stopping.is_set() or not (heard or self._clock() >= due or self._due()):
                    continue
                due = self._clock() + self._config.rescan_every_seconds
                after = look(self._context.root, kernel, before)
                events = list(changes(before, after))
                before = after
                if events:
                    self._fresh.clear()
                events += self._check(after, kernel, readings)
                self._untold.extend(events)
                keep.save(after, self._checks.drift if self._checks else drift)
                self._untold.hand_on(emit)
        finally:
            kernel.close()
            for ear in ears:
                ear.close()

    def stop(self) -> None:
        """Close what is asked."""
        kernel, self._kernel = self._kernel, None
        self._readings = None
        if kernel is not None:
            kernel.close()

    def _open(self) -> tuple[Kernel, Readings]:
        assert self._kernel is not None
        assert self._readings is not None
        return self._kernel, self._readings

    def _look(self, kernel: Kernel) -> None:
        self._fresh.set()  # before the look: what changes meanwhile is looked at again
        self._survey_due = self._clock() + self._config.rescan_every_seconds
        self._survey = look(self._context.root, kernel, self._survey)
        self._trust.keep({(vf.address, vf.inode) for port in self._survey.ports for vf in port.vfs})

    def _check(self, found: Survey, kernel: Kernel, readings: Readings) -> list[Event]:
        """Compare with what should be."""
        if self._checks is None:
            return []

        def mac_of(vf: VirtualPort, told: VirtualFunction | None) -> str:
            return (told.mac if told else "") or _own_mac(kernel, vf)

        return self._checks.look(found, mac_of, lambda: self._documents(found, kernel, readings))

    def _due(self) -> bool:
        return self._checks is not None and self._checks.due

    def _documents(self, found: Survey, kernel: Kernel, readings: Readings) -> Iterator[Document]:
        namer, root = found.namer(), self._context.root
        cards = {address: card for (bus, address), card in read_cards(kernel).items() if bus == PCI}
        links, mine = self._links(found)
        for port in found.ports:
            link = found.links.get(port.address)
            card = cards.get(port.address, Card())
            facts: dict[str, Value | None] = {}
            driver = read_driver(kernel, port.interface.name if port.interface else "")
            if port.interface is not None:
                done, off = offloads(read_features(kernel, port.interface.name))
                facts = {"network_offloads": done, "network_offloads_off": off}
                facts["link_rate_bytes_per_second"] = link_rate(root, port.interface.name)
                facts["duplex"] = duplex(root, port.interface.name)
            counted = self._trust.counts(port.driver)
            if port.total_vfs:
                facts["vf_counters"] = "port" if counted else "none"
            facts |= card_words(card) | rdma_words(one for one in links if mine.get(one.name) == namer.port(port))
            yield describe_port(port, link, namer, facts, driver, wire=readings.symbol_errors(port))
            told = found.told(port)
            for vf in port.vfs:
                mac = _own_mac(kernel, vf)
                name = namer.vf(port, vf)
                more = function_words(card.port_of(vf.index, int(port.address[-1])))
                more |= rdma_words(one for one in links if mine.get(one.name) == name)
                yield describe_vf(port, vf, told.get(vf.index), namer, more, counted=counted, own_mac=mac)


def _own_mac(kernel: Kernel, vf: VirtualPort) -> str:
    """Give the MAC address of a function's own interface; "" when the host does not have it."""
    if vf.interface is None:
        return ""
    try:
        return read_link(kernel, vf.interface.index, vfs=False, counters=False).mac
    except (OSError, NetlinkError):
        return ""


def _indexes(found: Survey) -> frozenset[int]:
    functions: list[Port | VirtualPort] = [*found.ports, *(vf for port in found.ports for vf in port.vfs)]
    return frozenset(one.interface.index for one in functions if one.interface is not None)
