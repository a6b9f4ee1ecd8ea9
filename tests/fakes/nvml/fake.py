"""The script's side of the fake: a folder with the library, its state, and what can be done to it."""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ctypes import CDLL
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Self

from tests.fakes.nvml import profiles
from tests.fakes.nvml.build import library
from tests.fakes.nvml.control import Control
from tests.fakes.nvml.gpu import ANY, Gpu, Value, as_written
from tests.fakes.nvml.mig import MigInstance, lay_out

MOST_GPUS = 64
"""As many as an event set of the library has room for: `c/events.c`."""

GPU_IS_LOST = 15
RESET_REQUIRED = 16
DRIVER_NOT_LOADED = 9
XID = 0x8
"""The event type of an Xid: `nvmlEventTypeXidCriticalError`."""


class FakeNvml:
    """A machine with GPUs, seen through NVML by every process whose `LD_LIBRARY_PATH` is that of `env`."""

    def __init__(self, folder: Path, *, gpus: int = 8, missing: Iterable[str] = ()) -> None:
        if gpus > MOST_GPUS:
            raise ValueError(f"{gpus} GPUs: an event set of the fake has room for {MOST_GPUS}")
        self.folder = folder / "nvml"
        self.folder.mkdir()
        self.library = self.folder / "libnvidia-ml.so.1"
        shutil.copyfile(library(missing), self.library)
        self._control = Control(self.folder / "control")
        self._state = profiles.system() | profiles.topology(gpus) | {"gpu.count": str(gpus)}
        for slot in range(gpus):
            self._state |= {f"gpu.{slot}.{key}": value for key, value in profiles.h100(slot, gpus).items()}
        self.gpus = [Gpu(slot, self._state, self._changed) for slot in range(gpus)]
        self._batches = 0
        self._changed()

    @classmethod
    def build(cls, folder: Path, *, gpus: int = 8, missing: Iterable[str] = ()) -> Self:
        """Make one in a folder of its own below `folder`, without the `missing` functions (an older driver)."""
        return cls(folder, gpus=gpus, missing=missing)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the control page. Processes that have it go on with the last state."""
        self._control.close()

    # ---------------------------------------------------------------------------------------- who sees it

    @property
    def env(self) -> dict[str, str]:
        """The variables that a process needs to find this NVML before any other."""
        before = os.environ.get("LD_LIBRARY_PATH")
        return {"LD_LIBRARY_PATH": f"{self.folder}:{before}" if before else str(self.folder)}

    @contextmanager
    def binding(self) -> Iterator[ModuleType]:
        """Give the real `pynvml` of this process, looking at this machine and not yet initialised."""
        import pynvml

        before = pynvml.nvmlLib
        pynvml._nvmlGetFunctionPointer_cache.clear()
        pynvml.nvmlLib = CDLL(str(self.library))
        try:
            yield pynvml
        finally:
            pynvml.nvmlLib = before
            pynvml._nvmlGetFunctionPointer_cache.clear()

    def remove_library(self) -> None:
        """Take the library away, as on a machine without a driver."""
        self.library.unlink()

    # ---------------------------------------------------------------------------------------- state

    def get(self, key: str) -> str | None:
        """Give a key of the whole machine as it is written."""
        return self._state.get(key)

    def set(self, key: str, value: Value) -> None:
        """Set a key of the whole machine: `fake.set("driver.version", "550.90.07")`; None takes it away."""
        self._put({key: value})

    def _put(self, values: Mapping[str, Value]) -> None:
        for key, value in values.items():
            if value is None:
                self._state.pop(key, None)
            else:
                self._state[key] = as_written(value)
        self._changed()

    @contextmanager
    def change(self) -> Iterator[None]:
        """Make all changes of the block visible at once."""
        self._batches += 1
        try:
            yield
        finally:
            self._batches -= 1
            self._changed()

    def _changed(self) -> None:
        if self._batches:
            return
        made = self.folder / "state.new"
        made.write_text("".join(f"{key}={value}\n" for key, value in self._state.items()))
        made.replace(self.folder / "state")
        self._control.state_replaced()

    def set_mig(self, gpu: int, instances: Sequence[MigInstance] | None) -> None:
        """Give a GPU this MIG layout, None for MIG off."""
        lay_out(self.gpus[gpu], instances)

    def set_topology(self, one: int, other: int, *, level: int | None = None, **p2p: int | None) -> None:
        """Say how two GPUs are joined: the common ancestor, and p2p `read`, `write`, `nvlink`, `atomics`, `pci`."""
        pair = f"{min(one, other)}.{max(one, other)}"
        values: dict[str, Value] = {} if level is None else {f"topology.{pair}": level}
        self._put(values | {f"p2p.{name}.{pair}": status for name, status in p2p.items()})

    # ---------------------------------------------------------------------------------------- events

    def event(self, gpu: int, kind: int, data: int = 0, *, gi: int = ANY, ci: int = ANY) -> None:
        """Tell an event to every event set that has registered for it by now."""
        self._control.tell(kind=kind, data=data, slot=gpu, gi=gi, ci=ci)

    def xid(self, gpu: int, code: int, *, gi: int = ANY, ci: int = ANY) -> None:
        """Tell an Xid, of one MIG instance if given."""
        self.event(gpu, XID, code, gi=gi, ci=ci)

    # ---------------------------------------------------------------------------------------- faults of GPUs

    def lose(self, gpu: int, code: int = GPU_IS_LOST) -> None:
        """Let a GPU fall off the bus: it is still counted, all calls on it answer "lost", event waits too, at once."""
        self._put({f"gpu.{gpu}.return": code, f"gpu.{gpu}.handle.return": code})

    def require_reset(self, gpu: int) -> None:
        """Let every call on a GPU answer "reset required"; handles are still handed out."""
        self._put({f"gpu.{gpu}.return": RESET_REQUIRED})

    def unplug(self, gpu: int, code: int = GPU_IS_LOST) -> None:
        """Take a GPU away (hot-unplug, or bound to vfio): not counted, indices move up, old handles answer `code`."""
        self._put({f"gpu.{gpu}.return": code, f"gpu.{gpu}.present": 0})

    def restore(self, gpu: int) -> None:
        """Give a GPU back, whole, as it was."""
        self._put({f"gpu.{gpu}.return": None, f"gpu.{gpu}.handle.return": None, f"gpu.{gpu}.present": 1})

    # ---------------------------------------------------------------------------------------- faults of the driver

    def init_returns(self, code: int) -> None:
        """Let `nvmlInit` answer this, 0 for success; sessions that are open go on."""
        self._put({"init.return": code or None})

    def all_return(self, code: int) -> None:
        """Let every call answer this, 0 for an end of it; `nvmlErrorString` and `nvmlShutdown` excepted."""
        self._put({"driver.return": code or None})

    def reload_driver(self, version: str) -> None:
        """Put another driver under the processes: who had NVML open gets "version mismatch", new ones do not."""
        generation = int(self._state["driver.generation"]) + 1
        self._put({"driver.version": version, "driver.generation": generation})

    # ---------------------------------------------------------------------------------------- faults of calls

    def returns(self, function: str, code: int, *, gpu: int | None = None, times: int | None = None) -> None:
        """Let a function (`*`: all) answer this code, on one GPU or everywhere; with `times`, only its next calls."""
        until = None if times is None else self.calls(function) + times
        begin = _call(function, gpu)
        self._put({f"{begin}.return": code, f"{begin}.until": until})

    def sleeps(self, function: str, seconds: float | None = None, *, gpu: int | None = None) -> None:
        """Let a function (`*`: all) take this long; None: for ever, that is until the fault is taken back."""
        self._put({f"{_call(function, gpu)}.sleep": "inf" if seconds is None else seconds})

    def crashes(self, function: str, *, gpu: int | None = None) -> None:
        """Let a function end its process by SIGSEGV."""
        self._put({f"{_call(function, gpu)}.crash": 1})

    def never_enough(self, function: str, *, gpu: int | None = None) -> None:
        """Let a list call answer "insufficient size" whatever the room, as when the list grows in between."""
        self._put({f"{_call(function, gpu)}.insufficient": 1})

    def heal(self, function: str | None = None, *, gpu: int | None = None) -> None:
        """Take back the faults of a function, on one GPU or those for all; without any name, all faults of calls."""
        begin = None if function is None else _call(function, gpu) + "."
        for key in list(self._state):
            if key.startswith(begin) if begin else "call." in key:
                del self._state[key]
        self._changed()

    # ---------------------------------------------------------------------------------------- what it cost

    def calls(self, function: str) -> int:
        """Give how often a function was called by all processes, refused calls too."""
        return self._control.calls(function)

    def forget_calls(self) -> None:
        """Begin to count anew."""
        self._control.forget_calls()


def _call(function: str, gpu: int | None) -> str:
    return f"call.{function}" if gpu is None else f"gpu.{gpu}.call.{function}"
