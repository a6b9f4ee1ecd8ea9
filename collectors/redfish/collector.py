"""BMCs, as the host drives them: the poller's threads read, `watch` hands on what they read, `collect` sums up.

Every BMC is a subject of its own, `bmc:<name>`, but for this machine's own. What one of them does, or does not do,
harms no other.
"""

import logging
import re
import resource
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from collectors.contract import Context, Emit, Objection
from collectors.expected import drift_events, objections
from collectors.metrics_bmc import (
    BMC_FAN_METRICS,
    BMC_LEAK_METRICS,
    BMC_METRICS,
    BMC_PSU_METRICS,
    BMC_READER_METRICS,
    BMC_SENSOR_METRICS,
    BMC_TEMPERATURE_METRICS,
)
from collectors.metrics_bmc_parts import BMC_MEMORY_METRICS, BMC_PORT_METRICS, BMC_PROCESSOR_METRICS
from collectors.redfish.access import ACCESS_EVENTS
from collectors.redfish.alerts import EVENTS as ALERT_EVENTS
from collectors.redfish.changes import PART_EVENTS
from collectors.redfish.client import Client
from collectors.redfish.config import Bmc, RedfishConfig, listed
from collectors.redfish.connection import Connect, Trust, connect_tcp
from collectors.redfish.keeping import Keeping
from collectors.redfish.logs import LOG_EVENTS
from collectors.redfish.pace import Pace
from collectors.redfish.poller import Poller
from collectors.redfish.power import POWER_EVENTS
from collectors.redfish.unit import Unit
from schemas.device import Document
from schemas.errors import ConfigError, NoDataError, PartialCollectError, StartupError
from schemas.events import EventSpec
from schemas.metrics import MetricSpec
from schemas.rows import Item

if TYPE_CHECKING:
    from collectors.redfish.callbacks import Callbacks

PLACE: Final = re.compile(r".+:[0-9]{1,5}\Z")
_LOOK_S: Final = 0.25
"""The longest wait before `stopping` is looked at."""
_END_S: Final = 1.0
"""How long `stop` waits for threads, and for BMCs that are to end a session."""
_NAMED: Final = 5
"""BMCs that an error names."""


class RedfishCollector:
    """Reads BMCs over the network: sensors, power, fans, parts, logs and events, of one machine or of a thousand."""

    name: ClassVar[str] = "redfish"
    METRICS: ClassVar[tuple[MetricSpec, ...]] = (
        *BMC_METRICS,
        *BMC_TEMPERATURE_METRICS,
        *BMC_SENSOR_METRICS,
        *BMC_FAN_METRICS,
        *BMC_PSU_METRICS,
        *BMC_LEAK_METRICS,
        *BMC_PROCESSOR_METRICS,
        *BMC_MEMORY_METRICS,
        *BMC_PORT_METRICS,
        *BMC_READER_METRICS,
    )
    EVENTS: ClassVar[tuple[EventSpec, ...]] = (
        *ACCESS_EVENTS,
        *POWER_EVENTS,
        *PART_EVENTS,
        *drift_events("redfish", "Machines or their parts"),
        *LOG_EVENTS,
        *ALERT_EVENTS,
    )
    Config: ClassVar[type[RedfishConfig]] = RedfishConfig

    def __init__(
        self,
        config: RedfishConfig,
        context: Context,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
        connect: Connect = connect_tcp,
    ) -> None:
        """Prepare. `connect` opens a connection to a BMC."""
        self._config, self._context = config, context
        self._clock, self._wall_ns, self._connect = clock, wall_ns, connect
        self._poller: Poller | None = None
        self._keeping: Keeping | None = None
        self._trust = Trust(ca_file=config.ca_file)
        self._pace = Pace(config.requests_per_second, clock)
        self._bmcs: dict[str, Bmc] = {}
        self._changed: tuple[int, int] = (0, 0)
        self._problem = ""

    def probe(self) -> str:
        """Give "" where BMCs are named."""
        if self._config.bmcs or self._config.file:
            return ""
        return "No BMC is named: write [[collectors.redfish.bmcs]] with an `address`, or `file`."

    def check_options(self, *, attempt: bool) -> Iterator[Objection]:
        """Say what is wrong with the list. No BMC is asked, whatever `attempt` says: it counts who fails to log in."""
        del attempt
        yield from objections(self._config.expectations)
        if self._config.callback_listen and not PLACE.match(self._config.callback_listen):
            yield Objection("callback_listen", f"{self._config.callback_listen!r} is not <host>:<port>")
        try:
            bmcs = listed(self._config)
        except ConfigError as error:
            yield Objection("file" if self._config.file else "bmcs", str(error))
            return
        for bmc in bmcs:
            if bmc.url.startswith("http://") and bmc.password and not _is_here(bmc.url):
                yield Objection("bmcs", f"{bmc.label}: http sends its password for all to read: write https://")
                return
        if self._config.ca_file and not Path(self._config.ca_file).is_file():
            yield Objection("ca_file", f"there is no file {self._config.ca_file!r}: name the authorities, in PEM")

    def start(self) -> None:
        """Begin to read. Raises NoDataError when no BMC is named, StartupError when the list cannot be read."""
        self.stop()
        missing = self.probe()
        if missing:
            raise NoDataError(missing)
        self._changed = self._stamp()
        try:
            bmcs = listed(self._config)
        except ConfigError as error:
            raise StartupError(str(error)) from error
        if not bmcs:
            raise NoDataError(f"{self._config.file} names no BMC.")
        state_dir = self._context.state_dir
        self._keeping = None if state_dir is None else Keeping(state_dir)
        self._poller = Poller(self._config.at_once, self._config.every_seconds, clock=self._clock, log=self._log)
        if self._config.callback_listen:
            self._poller.callbacks = self._callbacks(self._poller)
        self._bmcs, self._problem = {}, ""
        _make_room(2 * len(bmcs))
        self._take(bmcs)

    def collect(self) -> Iterator[Item]:
        """Look whether the list has changed, and say who cannot be read: rows come by `watch`, as they are read.

        Raises PartialCollectError when some cannot.
        """
        self._look_at_list()
        if self._poller is None:
            return
        if self._problem:
            raise PartialCollectError(self._problem, failed=1)
        failing = [unit for unit in self._poller.units if unit.access.reason]
        if failing:
            text = "; ".join(f"{unit.bmc.label}: {unit.access.reason}" for unit in failing[:_NAMED])
            more = f" and {len(failing) - _NAMED} more" if len(failing) > _NAMED else ""
            whole = f"{len(failing)} of {len(self._bmcs)} BMCs cannot be read: {text}{more}"
            raise PartialCollectError(whole, failed=len(failing))
        unkept = [unit for unit in self._poller.units if unit.client.unkept]
        if unkept:
            raise PartialCollectError(
                f"session and certificate of {len(unkept)} of {len(self._bmcs)} BMCs cannot be written, such as"
                f" {unkept[0].bmc.label}: {unkept[0].client.unkept}; the next start logs in anew, and with"
                " `tls` first believes whatever certificate it is shown",
                failed=len(unkept),
            )
        restricted = [unit for unit in self._poller.units if unit.client.denied]
        if restricted:
            first = restricted[0]
            raise PartialCollectError(
                f"{len(restricted)} of {len(self._bmcs)} BMCs do not let the user read everything, such as"
                f" {first.bmc.label}: {next(iter(list(first.client.denied)), '')}; give it the role ReadOnly there",
                failed=len(restricted),
            )
        yield from ()

    def describe(self) -> Iterator[Document]:
        """Give the documents of this machine's own BMC; those of others are told as theirs, by `watch`."""
        if self._poller is not None:
            for unit in self._poller.units:
                yield from unit.documents

    def watch(self, emit: Emit, stopping: threading.Event) -> None:
        """Hand on what was read, until it is time to stop."""
        poller = self._poller
        if poller is None:
            return
        while not stopping.is_set():
            items = poller.take(_LOOK_S)
            if items:
                emit(items)

    def stop(self) -> None:
        """Hang up. Sessions are kept for the next start where there is a folder to keep them in, else ended."""
        poller, self._poller = self._poller, None
        if poller is None:
            return
        units = poller.units
        poller.close(_END_S)
        if self._keeping is None:
            _end_sessions(units)
        for unit in units:
            unit.client.close()

    # --- the list -----------------------------------------------------------------------------------------------------

    @property
    def _log(self) -> logging.Logger:
        return self._context.log

    def _take(self, bmcs: tuple[Bmc, ...]) -> None:
        """Read these and no others: those that are as they were go on undisturbed."""
        assert self._poller is not None
        wanted = {bmc.label: bmc for bmc in bmcs}
        changed = [label for label, bmc in self._bmcs.items() if wanted.get(label) != bmc]
        gone = self._poller.remove(changed)
        for unit in gone:
            if unit.bmc.label in wanted:
                unit.client.keep_no_more()  # what is kept by its name is the new one's
        units = {label: self._unit(bmc) for label, bmc in wanted.items() if self._bmcs.get(label) != bmc}
        for unit in gone:
            self._poller.part(unit, partial(_part_with, unit, units.get(unit.bmc.label), self._keeping))
            if unit.bmc.label not in wanted:
                self._poller.put([unit.nothing_there()])
        self._bmcs = wanted
        threading.Thread(
            target=_begin, args=(self._poller, [*units.values()]), name="redfish list", daemon=True
        ).start()

    def _callbacks(self, poller: Poller) -> "Callbacks":
        from collectors.redfish.callbacks import Callbacks, context_of  # most have no use for a server

        config = self._config
        try:
            context = context_of(config.callback_certificate, config.callback_key)
            return Callbacks(config.callback_listen, config.callback_address, poller.put, poller.hurry, context)
        except (OSError, ValueError) as error:
            raise StartupError(f"callback_listen {config.callback_listen}: {error}") from error

    def _unit(self, bmc: Bmc) -> Unit:
        client = Client(
            bmc,
            self._config,
            self._trust,
            keeping=self._keeping,
            pace=self._pace,
            clock=self._clock,
            connect=self._connect,
        )
        return Unit(
            client,
            self._config,
            keeping=self._keeping,
            positions=self._context.positions,
            clock=self._clock,
            wall_ns=self._wall_ns,
            log=self._log,
        )

    def _look_at_list(self) -> None:
        stamp = self._stamp()
        if stamp == self._changed or self._poller is None:
            return
        self._changed = stamp
        try:
            self._take(listed(self._config))
            self._problem = ""
        except ConfigError as error:
            self._problem = f"{error}; what was read of the list before goes on"

    def _stamp(self) -> tuple[int, int]:
        """Give what tells one state of the list's file from another; (0, 0) when there is none."""
        if not self._config.file:
            return 0, 0
        try:
            found = Path(self._config.file).stat()
        except OSError:
            return 0, 0
        return found.st_mtime_ns, found.st_size


def _make_room(connections: int) -> None:
    """Let this process have so many connections, as far as it may: beyond the limit BMCs would seem unreachable."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + 256
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _begin(poller: Poller, units: list[Unit]) -> None:
    """Tell what was known of BMCs before, so that nothing is taken for gone, and read them from then on."""
    for unit in units:
        before = list(unit.remembered())
        if before:
            poller.put(before)
    poller.add(units)


def _part_with(unit: Unit, new: Unit | None, keeping: Keeping | None) -> None:
    """Leave nothing at a BMC that is read no more but what a `new` unit of its name goes on with; keep nothing else."""
    if new is not None and keeping is not None and (new.bmc.url, new.bmc.user) == (unit.bmc.url, unit.bmc.user):
        unit.part_from(new)
        return
    unit.part()
    if new is None and keeping is not None:
        keeping.forget(unit.bmc)


def _end_sessions(units: list[Unit]) -> None:
    """End what sessions can be ended in a second, all at once."""
    threads = [threading.Thread(target=unit.client.log_out, args=(_END_S,), daemon=True) for unit in units[:64]]
    for thread in threads:
        thread.start()
    end = time.monotonic() + _END_S
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))


def _is_here(url: str) -> bool:
    """Whether an address is on this machine: nobody else listens."""
    host = url.partition("://")[2]
    return host.startswith(("127.", "localhost", "[::1]"))
