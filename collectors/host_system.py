"""The machine as a whole: load, uptime, open files, tasks by state, and pressure."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar, Final

from collectors._declare import Declare
from collectors._procfs import RootedFile, decimal, integer, names, number_after, read_bytes, read_integer, seconds
from collectors.host_section import HostConfig, Look
from collectors.node_identity import read_boot_id
from schemas.metrics import Category, MetricSpec, ValueType
from schemas.rows import FieldValue, Item, Reading
from schemas.verbosity import Level


def _system_metrics() -> tuple[MetricSpec, ...]:
    load = Declare("load", "/proc/loadavg", Category.LOAD)
    system = Declare("system", "/proc/uptime, /proc/stat, /proc/sys")
    number = ValueType.FLOAT
    mean = "Mean number of tasks running or waiting for a disk over the last"
    return (
        load.gauge("average_1m", f"{mean} minute.", Level.ESSENTIAL, column=number),
        load.gauge("average_5m", f"{mean} 5 minutes.", column=number),
        load.gauge("average_15m", f"{mean} 15 minutes.", column=number),
        load.gauge("runnable", "Tasks that are ready to run or running now."),
        load.gauge("threads", "Threads that exist."),
        system.gauge("uptime_seconds", "Time since the kernel started, sleep included.", Level.ESSENTIAL),
        system.gauge("boot_time_seconds", "When the kernel started, seconds since 1970 by its clock."),
        system.text("boot_id", "Random id of this run of the kernel."),
        system.gauge("open_files", "File handles that the kernel has given out."),
        system.gauge("open_files_limit", "File handles that the kernel gives out at most; absent when unlimited."),
        system.gauge("threads_limit", "Threads that the kernel allows at most."),
        system.gauge("process_ids_limit", "The largest process id plus one."),
    )


class SystemSection:
    """Reads load and uptime each time, limits and boot id now and then."""

    METRICS: ClassVar[tuple[MetricSpec, ...]] = _system_metrics()

    def __init__(self, root: Path) -> None:
        self._root = root
        self._load = RootedFile(root / "proc/loadavg")
        self._uptime = RootedFile(root / "proc/uptime")
        self._files = RootedFile(root / "proc/sys/fs/file-nr")

    def start(self) -> None:
        """Nothing to compare with."""

    def read(self, look: Look) -> Iterable[Item]:
        """Give load and system."""
        load = _load(self._load.read() or b"")
        if load:
            yield Reading("load", load)
        fields: dict[str, FieldValue] = {}
        words = (self._uptime.read() or b"").split()
        if words:
            fields["uptime_seconds"] = decimal(words[0])
        counts = (self._files.read() or b"").split()
        if len(counts) == 3:
            fields["open_files"] = integer(counts[0])
            limit = integer(counts[2])
            fields["open_files_limit"] = limit if limit is not None and limit < 2**62 else None
        if look.slow and look.level >= Level.STANDARD:
            fields |= self._lasting()
        if any(value is not None for value in fields.values()):
            yield Reading("system", fields)

    def close(self) -> None:
        """Close every file."""
        for file in (self._load, self._uptime, self._files):
            file.close()

    def _lasting(self) -> dict[str, FieldValue]:
        booted = number_after(read_bytes(self._root / "proc/stat") or b"", b"\nbtime ")
        return {
            "boot_time_seconds": None if booted is None else float(booted),
            "boot_id": read_boot_id(self._root) or None,
            "threads_limit": read_integer(self._root / "proc/sys/kernel/threads-max"),
            "process_ids_limit": read_integer(self._root / "proc/sys/kernel/pid_max"),
        }


def _load(data: bytes) -> dict[str, FieldValue]:
    words = data.split()
    if len(words) < 4:
        return {}
    runnable, _, threads = words[3].partition(b"/")
    return {
        "average_1m": decimal(words[0]),
        "average_5m": decimal(words[1]),
        "average_15m": decimal(words[2]),
        "runnable": integer(runnable),
        "threads": integer(threads),
    }


_RESOURCES: Final = ("cpu", "memory", "io", "irq")


def _pressure_metrics() -> tuple[MetricSpec, ...]:
    pressure = Declare("pressure", "/proc/pressure, Documentation/accounting/psi.rst", Category.LOAD, ("resource",))
    specs: list[MetricSpec] = []
    for share, who in (("some", "at least one task"), ("full", "all tasks that had work")):
        absent = "absent where the kernel does not tell"
        specs += [
            pressure.gauge(
                f"{share}_{span}_ratio",
                f"Share of the last {span} in which {who} waited for the resource, 0 to 1; {absent}.",
            )
            for span in ("10s", "60s", "300s")
        ]
        specs.append(pressure.counter(f"{share}_seconds_total", f"Time in which {who} waited; {absent}."))
    return tuple(specs)


class PressureSection:
    """Reads pressure stall information; silent where the kernel has none or has it switched off."""

    METRICS: ClassVar[tuple[MetricSpec, ...]] = _pressure_metrics()

    def __init__(self, root: Path) -> None:
        self._files = {name: RootedFile(root / "proc/pressure" / name) for name in _RESOURCES}

    def start(self) -> None:
        """Nothing to compare with."""

    def read(self, look: Look) -> Iterable[Item]:
        """Give one row a resource."""
        if look.level < Level.STANDARD:
            return
        for resource, file in self._files.items():
            data = file.read()
            fields = _pressure(data) if data else None
            if fields:
                yield Reading("pressure", fields, attributes={"resource": resource})

    def close(self) -> None:
        """Close every file."""
        for file in self._files.values():
            file.close()


_PRESSURE_FIELDS: Final = {
    b"avg10": "10s_ratio",
    b"avg60": "60s_ratio",
    b"avg300": "300s_ratio",
}


def _pressure(data: bytes) -> dict[str, FieldValue]:
    """Read lines such as `some avg10=1.00 avg60=1.69 avg300=2.38 total=56270773` (percent and microseconds)."""
    fields: dict[str, FieldValue] = {}
    for line in data.split(b"\n"):
        share, _, rest = line.partition(b" ")
        if share not in (b"some", b"full"):
            continue
        word = share.decode()
        for pair in rest.split():
            key, _, value = pair.partition(b"=")
            if key == b"total":
                fields[f"{word}_seconds_total"] = seconds(integer(value), 1e6)
            elif key in _PRESSURE_FIELDS:
                percent = decimal(value)
                fields[f"{word}_{_PRESSURE_FIELDS[key]}"] = None if percent is None else min(1.0, percent / 100)
    return fields


_STATES: Final = {
    b"R": "running",
    b"S": "sleeping",
    b"D": "blocked",
    b"Z": "zombie",
    b"T": "stopped",
    b"t": "stopped",
    b"I": "idle",
}


def _process_metrics() -> tuple[MetricSpec, ...]:
    processes = Declare("processes", "/proc/<pid>/stat, proc(5)", Category.LOAD)
    return (
        processes.gauge("total", "Processes that exist, kernel threads among them."),
        processes.gauge("running", "Processes running or ready to run."),
        processes.gauge("sleeping", "Processes that wait and can be interrupted."),
        processes.gauge("blocked", "Processes that wait, as for a disk, and cannot be interrupted."),
        processes.gauge("zombie", "Processes that ended and that nobody has waited for."),
        processes.gauge("stopped", "Processes stopped by a signal or a debugger."),
        processes.gauge("idle", "Kernel threads with nothing to do."),
        processes.gauge("other", "Processes in a state that is none of these.", Level.DETAILED),
    )


class ProcessSection:
    """Walks through all processes, seldom: the walk costs about 10 us a process."""

    METRICS: ClassVar[tuple[MetricSpec, ...]] = _process_metrics()

    def __init__(self, root: Path, config: HostConfig, clock: Callable[[], float]) -> None:
        self._proc = root / "proc"
        self._every = config.processes_every_seconds
        self._clock = clock
        self._due = float("-inf")

    def start(self) -> None:
        """Let the next reading walk."""
        self._due = float("-inf")

    def read(self, look: Look) -> Iterable[Item]:
        """Give the counts when they are due."""
        now = self._clock()
        if look.level < Level.STANDARD or now < self._due:
            return
        self._due = now + self._every
        counts = dict.fromkeys(("total", *_STATES.values(), "other"), 0)
        for name in names(self._proc):
            if name.isdecimal():
                state = _state(read_bytes(f"{self._proc}/{name}/stat"))
                if state:
                    counts["total"] += 1
                    counts[state] += 1
        if counts["total"]:
            yield Reading("processes", counts)

    def close(self) -> None:
        """Nothing is open."""


def _state(stat: bytes | None) -> str:
    """Give the word for the state in `<pid> (<name>) <state> ...`; "" for a process that has gone."""
    if not stat:
        return ""
    after = stat.rpartition(b")")[2].split(None, 1)  # the name may hold anything, parentheses and spaces too
    return _STATES.get(after[0], "other") if after else ""
