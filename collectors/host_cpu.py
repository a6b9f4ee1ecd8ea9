"""CPU time, by the machine and by the core, frequency, and what the scheduler counts."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Final

from collectors._declare import Declare
from collectors._procfs import RootedFile, integers, names, number_after, ratio, read_bytes, read_integer
from collectors.host_section import Look
from schemas.metrics import Category, MetricSpec
from schemas.rows import FieldValue, Item, Reading
from schemas.verbosity import Level

_TICKS: Final = float(os.sysconf("SC_CLK_TCK"))
_MODES: Final = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice")
_FIELDS: Final = tuple(f"{mode}_seconds_total" for mode in _MODES)
_ACCOUNTED: Final = 8
"""The modes that add up to all time; `guest` is inside `user`, `guest_nice` inside `nice`."""
_IDLE, _IOWAIT, _STEAL = 3, 4, 7

_PROC_STAT = "/proc/stat, proc(5)"
_MEANINGS: Final = {
    "user": "in programs, virtual machines included",
    "nice": "in programs of lowered priority",
    "system": "in the kernel",
    "idle": "doing nothing",
    "iowait": "doing nothing while a disk was waited for; may go back a little",
    "irq": "serving interrupts",
    "softirq": "serving softirqs",
    "steal": "taken by the hypervisor for others",
    "guest": "running virtual machines; part of user",
    "guest_nice": "running virtual machines of lowered priority; part of nice",
}

Times = list[int | None]


def _metrics() -> tuple[MetricSpec, ...]:
    cpu = Declare("cpu", _PROC_STAT, Category.LOAD)
    core = Declare("cpu_core", _PROC_STAT, Category.LOAD, ("cpu",), Level.DETAILED)
    kernel = Declare("kernel", _PROC_STAT, Category.LOAD)
    frequency = "/sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq, else /proc/cpuinfo"
    since = "since the reading before; absent at the first"
    return (
        cpu.gauge("usage_ratio", f"Share of all cores' time spent busy, 0 to 1, {since}.", Level.ESSENTIAL),
        cpu.gauge("iowait_ratio", f"Share of time idle while a disk was waited for, 0 to 1, {since}."),
        cpu.gauge("steal_ratio", f"Share of time that the hypervisor gave to others, 0 to 1, {since}."),
        cpu.gauge("cores", "Logical CPUs that are online.", Level.ESSENTIAL),
        *(
            cpu.counter(field, f"Time {_MEANINGS[mode]}, all cores.")
            for mode, field in zip(_MODES, _FIELDS, strict=True)
        ),
        Declare("cpu", frequency, Category.LOAD).gauge(
            "frequency_hertz", "Mean frequency of the cores; absent where neither driver nor processor tells."
        ),
        core.gauge("usage_ratio", f"Share of the core's time spent busy, 0 to 1, {since}."),
        *(
            core.counter(field, f"Time {_MEANINGS[mode]}, this core.")
            for mode, field in zip(_MODES, _FIELDS, strict=True)
        ),
        Declare("cpu_core", frequency, Category.LOAD, ("cpu",), Level.DETAILED).gauge(
            "frequency_hertz", "Frequency of the core; absent where neither driver nor processor tells."
        ),
        kernel.counter("context_switches_total", "Switches from one task to another."),
        kernel.counter("interrupts_total", "Interrupts served."),
        kernel.counter("softirqs_total", "Softirqs served."),
        kernel.counter("forks_total", "Processes and threads made."),
        kernel.gauge("tasks_running", "Tasks running or ready to run.", Level.ESSENTIAL),
        kernel.gauge("tasks_blocked", "Tasks that wait for a disk and cannot be interrupted.", Level.ESSENTIAL),
    )


class CpuSection:
    """Reads `/proc/stat` once a collection, and the frequencies now and then."""

    METRICS: ClassVar[tuple[MetricSpec, ...]] = _metrics()

    def __init__(self, root: Path) -> None:
        self._root = root
        self._stat = RootedFile(root / "proc/stat")
        self._total: Times = []
        self._cores: dict[str, Times] = {}

    def start(self) -> None:
        """Take the times that the first usage is measured from."""
        self._cores = {}
        self._total = []
        data = self._stat.read()
        if data is not None:
            self._total = _times(data)

    def read(self, look: Look) -> Iterable[Item]:
        """Give cpu and kernel, and at level detailed every core."""
        data = self._stat.read()
        if data is None:
            return
        frequencies = self._frequencies() if look.slow and look.level >= Level.STANDARD else {}
        yield self._machine(data, frequencies)
        yield Reading(
            "kernel",
            {
                "context_switches_total": number_after(data, b"\nctxt "),
                "interrupts_total": number_after(data, b"\nintr "),
                "softirqs_total": number_after(data, b"\nsoftirq "),
                "forks_total": number_after(data, b"\nprocesses "),
                "tasks_running": number_after(data, b"\nprocs_running "),
                "tasks_blocked": number_after(data, b"\nprocs_blocked "),
            },
        )
        if look.level >= Level.DETAILED:
            yield from self._each_core(data, frequencies)
        elif self._cores:
            self._cores = {}

    def close(self) -> None:
        """Close `/proc/stat`."""
        self._stat.close()

    def _machine(self, data: bytes, frequencies: dict[str, float]) -> Reading:
        before, now = self._total, _times(data)
        self._total = now
        fields = _seconds(now)
        fields["usage_ratio"], fields["iowait_ratio"], fields["steal_ratio"] = _shares(before, now)
        fields["cores"] = data.count(b"\ncpu") or None
        if frequencies:
            fields["frequency_hertz"] = sum(frequencies.values()) / len(frequencies)
        return Reading("cpu", fields)

    def _each_core(self, data: bytes, frequencies: dict[str, float]) -> Iterator[Reading]:
        before, self._cores = self._cores, {}
        for line in data.split(b"\n"):
            if not line.startswith(b"cpu"):
                if self._cores:
                    break
                continue
            words = line.split()
            cpu = words[0][3:].decode("ascii", "replace")
            if not cpu.isdecimal():
                continue
            now = self._cores[cpu] = integers(words[1:11])
            fields = _seconds(now)
            fields["usage_ratio"] = _shares(before.get(cpu, []), now)[0]
            if cpu in frequencies:
                fields["frequency_hertz"] = frequencies[cpu]
            yield Reading("cpu_core", fields, attributes={"cpu": cpu})

    def _frequencies(self) -> dict[str, float]:
        """By logical CPU, in hertz; empty where nobody tells."""
        folder = self._root / "sys/devices/system/cpu"
        found = {}
        for name in names(folder):
            if name.startswith("cpu") and name[3:].isdecimal():
                kilohertz = read_integer(f"{folder}/{name}/cpufreq/scaling_cur_freq")
                if kilohertz:
                    found[name[3:]] = kilohertz * 1000.0
        return found or _cpuinfo_frequencies(read_bytes(self._root / "proc/cpuinfo") or b"")


def _times(data: bytes) -> Times:
    """Give the ticks of the first line, which is the whole machine's; empty when the line is not there."""
    words = data[: data.find(b"\n")].split()
    return integers(words[1:11]) if words and words[0] == b"cpu" else []


def _seconds(times: Times) -> dict[str, FieldValue]:
    fields: dict[str, FieldValue] = {}
    for field, ticks in zip(_FIELDS, times, strict=False):
        if ticks is not None:
            fields[field] = ticks / _TICKS
    return fields


def _shares(before: Times, now: Times) -> tuple[float | None, float | None, float | None]:
    """Give busy, iowait and steal as shares of the time between; None when a time is unknown or none has passed.

    A mode that went back (iowait does so, and all do over a CPU's absence) counts as not having moved.
    """
    spent = []
    for old, new in zip(before[:_ACCOUNTED], now[:_ACCOUNTED], strict=False):
        if old is None or new is None:
            return None, None, None
        spent.append(max(0, new - old))
    whole = sum(spent)
    if len(spent) <= _IDLE or not whole:
        return None, None, None
    waited = spent[_IOWAIT] if len(spent) > _IOWAIT else 0
    stolen = ratio(spent[_STEAL], whole) if len(spent) > _STEAL else None
    return (
        ratio(whole - spent[_IDLE] - waited, whole),
        ratio(waited, whole) if len(spent) > _IOWAIT else None,
        stolen,
    )


def _cpuinfo_frequencies(data: bytes) -> dict[str, float]:
    found: dict[str, float] = {}
    cpu = ""
    for line in data.split(b"\n"):
        key, _, value = line.partition(b":")
        key = key.strip()
        if key == b"processor":
            cpu = value.strip().decode("ascii", "replace")
        elif key == b"cpu MHz" and cpu:
            whole, _, part = value.strip().partition(b".")
            if whole.isdigit() and part.isdigit():
                found[cpu] = float(value) * 1e6
    return found
