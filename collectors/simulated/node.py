"""One simulated node: moves its physics on, and says what a real node with these devices would say."""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from collectors.simulated import drift
from collectors.simulated.documents import describe
from collectors.simulated.effects import Effects
from collectors.simulated.fault_log import events_of, records_of
from collectors.simulated.faults import Active, check_fault, effects_of, schedule
from collectors.simulated.hardware import Hardware
from collectors.simulated.machine import Machine
from collectors.simulated.partitions import Partition, why_not
from collectors.simulated.physics_dpu import running
from collectors.simulated.readings import Readings
from collectors.simulated.spec import Fault, Profile
from collectors.simulated.tables import Clock, event_parcel, log_parcels
from schemas.device import Document
from schemas.errors import ConfigError
from schemas.mig import read_plan
from schemas.rows import Event, LogRecord, Parcel
from schemas.verbosity import Level

VFIO: Final = "vfio-pci"


class SimulatedNode:
    """A node of a simulated fleet. Not safe for use from two threads at once."""

    def __init__(self, hardware: Hardware, profile: Profile = "full", host: "SimulatedNode | None" = None) -> None:
        """Make a node. `host`: of one that is a DPU, the node in which it sits."""
        light = profile == "load"
        self.hardware = hardware
        self._host = host
        self.profile = profile
        self.id = hardware.id
        """The node's id: the subject of all its rows. It follows from the fleet's seed and the node's name."""
        self.name = hardware.name
        self.boot_id = hardware.boot_id
        """Stays the same over restarts of the simulation: the machine that it stands for was not rebooted."""
        self.documents_revision = 0
        """Grows whenever `documents` would answer something else."""
        self.machine = Machine(hardware, light=light)
        self.effects = Effects()
        self._readings = Readings(hardware, self.machine, light=light)
        self._drivers: dict[str, str] = {}
        self._resets: dict[int, str] = {}
        """By DPU, why it was reset last."""
        self._drifts: set[drift.Standing] = set()
        self._partitions: tuple[Partition, ...] = ()
        self._waiting: list[Fault] = []
        self._active: list[Active] = []
        self._next_change = 0.0
        self._now: int | None = None
        self._stamped = -1
        self._kernel_lines = 0

    @property
    def silent(self) -> bool:
        """Whether a fault keeps the node from saying anything; its publisher should then send no heartbeat either.

        A DPU says nothing either while its host says that it does not run.
        """
        host = self._host
        return self.effects.silent or (host is not None and not running(host.effects, self.hardware.host_index))

    def step(self, now_ns: int, level: Level = Level.DEBUG) -> list[Parcel]:
        """Move the node on to `now_ns` (since 1970) and give what it has to say, up to `level`.

        With the first step the drivers are loaded, so to speak: counters start from 0 there. A step backwards in time
        moves nothing. Times of rows are distinct and grow from step to step. Log lines and events come before
        telemetry; what happens while a fault keeps the node silent is never told.
        """
        dt_ns = 0 if self._now is None else max(now_ns - self._now, 0)
        now_ns = now_ns if self._now is None else self._now + dt_ns
        self._now = now_ns
        if self._waiting:
            self._active += [active for fault in self._waiting for active in schedule(fault, now_ns)]
            self._waiting = []
            self._next_change = 0.0
        self.machine.advance(self.effects, now_ns, dt_ns)
        clock = Clock(max(now_ns, self._stamped + 1))
        parcels = list(self._changes(now_ns, clock, level))
        if self.silent:
            return []
        parcels.extend(self._readings.parcels(self.effects, now_ns, clock, level))
        self._stamped = clock.next_ns - 1
        return parcels

    def documents(self) -> list[Document]:
        """Give the capability documents of all devices that are there now."""
        return list(describe(self.hardware, self.effects))

    def inject(self, fault: Fault) -> None:
        """Let something go wrong, counted from the next step. Raises ConfigError when it cannot happen here."""
        self._check(fault)
        self._waiting.append(fault)

    def bind(self, addresses: Iterable[str], driver: str) -> None:
        """Give functions another driver than their own; "": their own again. NVIDIA's no longer reads what it lost."""
        drivers = self._drivers.copy()
        for address in addresses:
            drivers.pop(address, None)
            if driver:
                drivers[address] = driver
        if drivers != self._drivers:
            self._drivers = drivers
            self.effects = msgspec.structs.replace(self.effects, drivers=drivers)
            self.documents_revision += 1

    def divide(self, gpu: int, plan: str, generation: int) -> Partition | str:
        """Make a partition; the same again changes nothing. Why not, as a text, when the driver would refuse."""
        for one in self._partitions:
            if (one.gpu, str(one.plan), one.generation) == (gpu, plan, generation):
                return one
        problem = why_not(self.hardware, self._partitions, gpu, plan)
        found = read_plan(plan)
        if problem or found is None:
            return problem
        made = Partition(gpu, found, generation)
        self._divided((*self._partitions, made))
        return made

    def unite(self, gpu: int, plan: str) -> None:
        """Destroy a partition. Nothing happens when it is not there."""
        left = tuple(one for one in self._partitions if (one.gpu, str(one.plan)) != (gpu, plan))
        if left != self._partitions:
            self._divided(left)

    def _divided(self, partitions: tuple[Partition, ...]) -> None:
        self._partitions = partitions
        self.effects = msgspec.structs.replace(self.effects, partitions=partitions)
        self.documents_revision += 1

    def clear(self, name: str) -> int:
        """End all faults of a kind at the next step, whatever their duration; give how many. Raises ConfigError."""
        kind = check_fault(Fault(fault=name))
        names = {"link_flap", "link_down"} if kind.name == "link_flap" else {kind.name}
        cleared = [fault for fault in self._active if fault.kind.name in names and fault.end_ns]
        waiting = [fault for fault in self._waiting if fault.fault in names]
        for fault in cleared:
            fault.end_ns = 0
        self._active = [fault for fault in self._active if fault.begun or fault.end_ns]
        self._waiting = [fault for fault in self._waiting if fault.fault not in names]
        self._next_change = 0.0
        return len(cleared) + len(waiting)

    def _check(self, fault: Fault) -> None:
        """Check that a fault can happen here. Raises ConfigError."""
        kind, hardware = check_fault(fault), self.hardware
        counts = {
            "gpu": hardware.type.gpu.count,
            "nvme": hardware.type.nvme.count,
            "nic": hardware.type.nic.ports,
            "vf": sum(self.machine.net_plan.family),
            "dpu": hardware.type.dpu.count,
        }
        count = counts.get(kind.target, 1)
        where = f"{fault.fault}: {self.name}"
        if fault.target >= count:
            raise ConfigError(
                f"{where} has {count} of the kind {kind.target}, counted from 0; there is no {fault.target}"
            )
        if kind.needs_driver and hardware.type.gpu.driver == "vfio-pci":
            raise ConfigError(f"{where} has its GPUs bound to vfio-pci, where no driver would see that")
        links = self.machine.gpu_plan.links
        if kind.name == "nvlink_down" and (not links or fault.link >= links[fault.target]):
            raise ConfigError(f"{where} has no NVLink {fault.link} at GPU {fault.target}")

    def _changes(self, now_ns: int, clock: Clock, level: Level) -> Iterator[Parcel]:
        """Begin and end the faults that are due, and yield what there is to say of it."""
        if not self._active or now_ns < self._next_change:
            return
        events: list[Event] = []
        records: list[LogRecord] = []
        for fault in sorted(self._active, key=_when):
            if not fault.begun and fault.start_ns <= now_ns:
                fault.begun = True
                self.machine.begin(fault)
                self._note_reset(fault)
                self._say(fault, now_ns, events, records, recovery=False)
            if fault.begun and fault.end_ns <= now_ns:
                self._active.remove(fault)
                self.machine.end(fault)
                self._say(fault, now_ns, events, records, recovery=True)
        self.effects = effects_of(self._active)
        self.effects.reset_causes = self._resets.copy()
        self.effects.drivers = self._drivers.copy()
        self.effects.partitions = self._partitions
        events += self._drifted(now_ns)
        self.documents_revision += 1
        self._next_change = min(map(_when, self._active), default=0.0)
        yield from log_parcels(self.id, records, clock, level)
        if events:
            yield event_parcel(self.id, events, clock)

    def _drifted(self, now_ns: int) -> list[Event]:
        """Give the events of what differs since the change before, and of what no longer does."""
        hardware = self.hardware
        before, now = self._drifts, set(drift.standing(hardware, self.effects, drift.match(hardware, self.effects)))
        self._drifts = now
        told = [one.event(now_ns, over=False) for one in sorted(now - before)]
        return told + [one.event(now_ns, over=True) for one in sorted(before - now)]

    def _note_reset(self, fault: Active) -> None:
        """Remember why a DPU was reset."""
        if fault.kind.reset_cause:
            self._resets[fault.target] = fault.kind.reset_cause

    def _say(
        self, fault: Active, now_ns: int, events: list[Event], records: list[LogRecord], *, recovery: bool
    ) -> None:
        said = len(records)
        events += events_of(self.hardware, fault, now_ns, recovery=recovery)
        records += records_of(self.hardware, fault, now_ns, self._kernel_lines, recovery=recovery)
        self._kernel_lines += len(records) - said


def _when(fault: Active) -> float:
    """Give when a fault next changes: it begins, or it ends."""
    return fault.end_ns if fault.begun else fault.start_ns
