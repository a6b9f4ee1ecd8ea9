"""One GPU of the fake: its state as keys, the usual ones also as attributes."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar, overload

ANY = 0xFFFFFFFF
"""Of the whole GPU and not of one MIG instance; also the scope "all links" of a field."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A value that is none: whoever asks for it gets this return code, `Answer(3)` "not supported"."""

    code: int


Value = int | float | str | bool | Answer | None
"""What a key may hold. None: the key is absent, so that NVML answers "not supported"."""

_T = TypeVar("_T", bound=Value)


def as_written(value: float | str | bool | Answer) -> str:
    """Give a value as the state file has it."""
    if isinstance(value, Answer):
        return f"!{value.code}"
    return str(int(value)) if isinstance(value, bool) else str(value)


class _Key(Generic[_T]):
    """An attribute that stands for one key of a GPU."""

    def __init__(self, key: str) -> None:
        self.key = key

    @overload
    def __get__(self, gpu: None, owner: type) -> "_Key[_T]": ...

    @overload
    def __get__(self, gpu: "Gpu", owner: type) -> Value: ...

    def __get__(self, gpu: "Gpu | None", owner: type) -> "_Key[_T] | Value":
        return self if gpu is None else gpu.get(self.key)

    def __set__(self, gpu: "Gpu", value: "_T | Answer | None") -> None:
        gpu.set(self.key, value)


class Gpu:
    """A GPU, by its slot. Keys that no attribute stands for are set by name: `gpu.set("pcie.bad_tlp", 3)`.

    Setting writes the state at once; `with fake.change():` puts several settings into one.
    """

    name = _Key[str]("name")
    uuid = _Key[str]("uuid")
    serial = _Key[str]("serial")
    vbios = _Key[str]("vbios")
    module_id = _Key[int]("module_id")
    temperature = _Key[int]("temperature.gpu")
    memory_temperature = _Key[int]("temperature.memory")
    temperature_margin = _Key[int]("temperature.margin")
    power = _Key[int]("power.usage")  # mW; `set_power` sets the fields as well
    power_limit = _Key[int]("power.limit.enforced")
    energy = _Key[int]("energy")  # mJ since the driver was loaded
    utilization = _Key[int]("utilization.gpu")
    memory_utilization = _Key[int]("utilization.memory")
    memory_used = _Key[int]("memory.used")
    memory_total = _Key[int]("memory.total")
    sm_clock = _Key[int]("clock.sm.current")
    memory_clock = _Key[int]("clock.memory.current")
    clock_reasons = _Key[int]("clock.reasons")
    pstate = _Key[int]("pstate")
    pcie_generation = _Key[int]("pcie.generation")
    pcie_width = _Key[int]("pcie.width")
    pcie_replay = _Key[int]("pcie.replay")
    persistence = _Key[bool]("persistence")
    compute_mode = _Key[int]("compute_mode")
    ecc_mode = _Key[bool]("ecc.mode")
    remap_pending = _Key[bool]("remapped.pending")
    remap_failure = _Key[bool]("remapped.failure")
    recovery_action = _Key[int]("recovery_action")
    fabric_state = _Key[int]("fabric.state")
    fabric_clique = _Key[int]("fabric.clique")

    def __init__(self, slot: int, state: dict[str, str], changed: Callable[[], None]) -> None:
        self.slot = slot
        self._prefix = f"gpu.{slot}."
        self._state = state
        self._changed = changed

    def get(self, key: str) -> Value:
        """Give what a key holds, or None. Whole numbers come as numbers, all else as text."""
        text = self._state.get(self._prefix + key)
        if text is None:
            return None
        if text.startswith("!"):
            return Answer(int(text[1:]))
        try:
            return int(text, 0)
        except ValueError:
            return text

    def set(self, key: str, value: Value) -> None:
        """Set one key; None takes it away, so that what it holds is not supported."""
        self.update({key: value})

    def update(self, values: "dict[str, Value]") -> None:
        """Set several keys at once."""
        for key, value in values.items():
            if value is None:
                self._state.pop(self._prefix + key, None)
            else:
                self._state[self._prefix + key] = as_written(value)
        self._changed()

    def names(self, beginning: str = "") -> Iterator[str]:
        """Give the names of the keys that are set and begin so."""
        start = self._prefix + beginning
        return iter([key.removeprefix(self._prefix) for key in self._state if key.startswith(start)])

    def set_power(self, milliwatts: int) -> None:
        """Set the power in all the ways in which it can be read."""
        self.update(dict.fromkeys(["power.usage", "power.gpu.instant", "power.gpu.average"], milliwatts))

    def set_field(
        self, field: int, value: float | Answer | None, *, scope: int | None = None, kind: str = "ull"
    ) -> None:
        """Let `nvmlDeviceGetFieldValues` say this of one field, whatever the state holds otherwise.

        Args:
            field: The number of the field, `NVML_FI_DEV_...`.
            value: The value, an answer in its place, or None to go back to the state.
            scope: The link or other scope; None for every scope.
            kind: The type of the value: `uint`, `ull`, `int`, `sll` or `double`.
        """
        key = f"field.{field}" if scope is None else f"field.{field}.{scope}"
        self.set(key, value if value is None or isinstance(value, Answer) else f"{kind}:{value}")

    def set_link(self, link: int, **values: Value) -> None:
        """Set keys of one NVLink: `set_link(3, state=0, recovery_events=505)`."""
        self.update({f"nvlink.{link}.{key}": value for key, value in values.items()})

    def set_ecc(self, *, location: str, uncorrected: bool, volatile: int = 0, aggregate: int = 0) -> None:
        """Set the counters of one location (`dram`, `sram`, `l1`, `l2`, `register`, ...) and keep the totals right."""
        kind = "uncorrected" if uncorrected else "corrected"
        values: dict[str, Value] = {}
        for counter, count in (("volatile", volatile), ("aggregate", aggregate)):
            begin = f"ecc.{counter}.{kind}."
            others = [key for key in self.names(begin) if key not in {f"{begin}total", f"{begin}{location}"}]
            values[f"{begin}{location}"] = count
            values[f"{begin}total"] = count + sum(int(str(self.get(key))) for key in others)
        self.update(values)

    def set_processes(self, mode: str, processes: "Iterable[Process]") -> None:
        """Say who runs: mode `compute`, `graphics` or `mps`."""
        self.set(f"process.{mode}", ";".join(process.as_written() for process in processes))

    def retire_page(self, address: int, *, double_bit: bool, at: int = 0) -> None:
        """Retire one page: `at` is its time in seconds since 1970."""
        key = f"retired.{int(double_bit)}"
        before = self._state.get(self._prefix + key, "")
        self.set(key, ";".join(filter(None, [before, f"{address:#x},{at}"])))


@dataclass(frozen=True, slots=True)
class Process:
    """A process on a GPU. Bytes of None: NVML says "not available"."""

    pid: int
    used: int | None = 0
    gi: int = ANY
    ci: int = ANY
    protected: int | None = None

    def as_written(self) -> str:
        """Give it as an item of `process.<mode>`."""
        used, protected = ("-" if size is None else str(size) for size in (self.used, self.protected))
        return f"{self.pid},{used},{self.gi},{self.ci},{protected}"
