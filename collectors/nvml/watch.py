"""Waits for what the driver tells by itself, and hands on what readings found.

A wait that fails comes back at once, again and again, and is paused after: else one lost GPU would take a whole core.
Source: NVML API reference, Event Handling Methods.
"""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

from collectors._untold import Untold
from collectors.contract import Emit
from collectors.nvml.events import event, xid_event
from collectors.nvml.gpus import Gpu
from collectors.nvml.library import TIMEOUT, Nvml, Outcome, driver_gone, outcome_of
from schemas.errors import NewProcessError
from schemas.rows import Event, Item, Reading, Severity

_WAIT_MS: Final = 500
_SOON_S: Final = 0.05
"""A wait that ends sooner without an event was none."""
_PAUSE_S: Final = 1.0
_MOST_PAUSE_S: Final = 30.0
_XID, _STORM = 0x8, 0x200
_RETIRED, _RETIREMENT_FAILED = 0x400, 0x800
_POISON, _FATAL_POISON = 0x1000, 0x2000
_UNAVAILABLE: Final = 0x4000
_READ: Final = 0x2 | 0x100 | 0x8000
"""Double bit errors, partitions, what a GPU needs: the reading that follows tells more of them."""
_WANTED: Final = _READ | _XID | _STORM | _RETIRED | _RETIREMENT_FAILED | _POISON | _FATAL_POISON | _UNAVAILABLE
"""Not clocks and performance states, which change all the time, nor each corrected error, which is counted."""


class Watch:
    """The event set of all GPUs."""

    def __init__(self, nvml: Nvml, gpus: Callable[[], list[Gpu]], found: Untold, each: Callable[[], None]) -> None:
        """Prepare. `gpus` gives those that are there now, `found` is what readings noticed; `each` is called each turn.

        What `each` raises ends the watch.
        """
        self._each = each
        self._nvml = nvml
        self._gpus = gpus
        self._found = found
        self._set: Any = None
        self._registered: tuple[str, ...] = ()
        self._by_handle: dict[object, Gpu] = {}
        self._pause = 0.0
        self._counts: Counter[tuple[str, int]] = Counter()
        self._failing = False
        self._twice: Counter[tuple[object, ...]] = Counter()
        """What the set before told while this one was made: this one may have it too."""

    def run(self, emit: Emit, stopping: threading.Event) -> None:
        """Wait and emit until `stopping`. Raises NewProcessError when the driver is gone."""
        try:
            while not stopping.is_set():
                self._each()
                self._found.hand_on(emit)
                if self._pause:
                    stopping.wait(self._pause)
                    if stopping.is_set():
                        break
                if not self._ready(emit):
                    stopping.wait(_WAIT_MS / 1000)
                    continue
                self._wait(emit, stopping)
            self._found.hand_on(emit)
        finally:
            self._free()

    def _ready(self, emit: Emit) -> bool:
        """Have a set of all GPUs that answer; false when the driver tells nothing of any."""
        gpus = [gpu for gpu in self._gpus() if not gpu.lost]
        wanted = tuple(gpu.identity.uuid for gpu in gpus)
        if self._set is None or self._failing or wanted != self._registered:
            self._registered, self._failing = wanted, False
            self._renew(gpus, emit)
        return bool(self._by_handle)

    def _renew(self, gpus: list[Gpu], emit: Emit) -> None:
        """Make a set in the place of one, which is heard to its end: what comes meanwhile, one of them has, or both."""
        before, known = self._set, self._by_handle
        for data in self._waiting(before):
            self._take(data, known, emit)
        self._set, self._by_handle = None, {}
        self._register(gpus)
        for data in self._waiting(before):
            self._take(data, known, emit)
            self._twice[_same(data)] += 1
        self._let_go(before)

    def _waiting(self, events: Any) -> Iterator[Any]:
        """Yield what a set has, without waiting."""
        while events is not None:
            try:
                yield self._nvml.nvmlEventSetWait_v2(events, 0)
            except self._nvml.NVMLError:
                return

    def _register(self, gpus: list[Gpu]) -> None:
        nvml = self._nvml
        try:
            self._set = nvml.nvmlEventSetCreate()
        except (nvml.NVMLError, AttributeError) as error:
            self._refused(error)
            return
        for gpu in gpus:
            try:
                supported = nvml.nvmlDeviceGetSupportedEventTypes(gpu.asker.handle) & _WANTED
                if supported:
                    nvml.nvmlDeviceRegisterEvents(gpu.asker.handle, supported, self._set)
                    self._by_handle[_key(gpu.asker.handle)] = gpu
            except nvml.NVMLError as error:
                self._refused(error)

    def _refused(self, error: Any) -> None:
        """A GPU without events is read all the same. Raises NewProcessError when it is the driver that is gone."""
        if outcome_of(getattr(error, "value", 13)) is Outcome.DRIVER:
            raise NewProcessError(driver_gone(error)) from error

    def _wait(self, emit: Emit, stopping: threading.Event) -> None:
        nvml = self._nvml
        began = time.monotonic()
        try:
            data = nvml.nvmlEventSetWait_v2(self._set, _WAIT_MS)
        except nvml.NVMLError as error:
            self._failed(error, time.monotonic() - began)
            return
        self._pause = 0.0
        if self._twice[_same(data)] > 0:
            self._twice[_same(data)] -= 1
        elif not stopping.is_set():
            self._take(data, self._by_handle, emit)

    def _take(self, data: Any, known: dict[object, Gpu], emit: Emit) -> None:
        gpu = known.get(_key(data.device))
        if gpu is None:  # a partition's handle, or one of a library that gives others each time
            gpu = self._named(data.device)
        if gpu is not None:
            gpu.urgent = True
            emit(self._items(gpu, data))

    def _failed(self, error: Any, took: float) -> None:
        self._twice.clear()
        if error.value == TIMEOUT:
            self._pause = 0.0 if took > _SOON_S else _PAUSE_S
            return
        self._refused(error)
        self._pause = min(_MOST_PAUSE_S, max(_PAUSE_S, 2 * self._pause))
        for gpu in self._by_handle.values():  # the next reading finds out which one it is
            gpu.urgent = True
        self._failing = True  # what it has of other GPUs is heard when another set is in its place

    def _named(self, handle: object) -> Gpu | None:
        try:
            uuid = self._nvml.nvmlDeviceGetUUID(handle)
        except self._nvml.NVMLError:
            return None
        return next((gpu for gpu in self._gpus() if gpu.identity.uuid == uuid), None)

    def _items(self, gpu: Gpu, data: Any) -> list[Item]:
        kind, value = int(data.eventType), int(data.eventData)
        if kind == _XID:
            self._counts[gpu.device, value] += 1
            count = {"seen_total": self._counts[gpu.device, value]}
            told = xid_event(gpu, value, data.gpuInstanceId, data.computeInstanceId)
            return [told, Reading("gpu_xid", count, gpu.device, {"code": str(value)})]
        return [] if kind & _READ else [_event(gpu, kind)]

    def _free(self) -> None:
        events, self._set = self._set, None
        self._by_handle = {}
        self._let_go(events)

    def _let_go(self, events: Any) -> None:
        if events is not None:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlEventSetFree(events)


def _same(data: Any) -> tuple[object, ...]:
    """Give what makes two events of two sets one."""
    return _key(data.device), data.eventType, data.eventData, data.gpuInstanceId, data.computeInstanceId


def _event(gpu: Gpu, kind: int) -> Event:
    match kind:
        case 0x200:
            return event("nvml.ecc.storm", gpu, "has very many corrected memory errors", Severity.WARNING)
        case 0x400:
            return event("nvml.memory.retired", gpu, "gave up a part of its memory", Severity.WARNING)
        case 0x800:
            return event("nvml.memory.retirement_failed", gpu, "could not give up bad memory", Severity.CRITICAL)
        case 0x1000 | 0x2000:
            fatal = kind == _FATAL_POISON
            severity = Severity.CRITICAL if fatal else Severity.ERROR
            return event("nvml.memory.poisoned", gpu, "read bad memory", severity, {"fatal": fatal})
    return event("nvml.gpu.unavailable", gpu, "cannot be used, the driver says", Severity.CRITICAL)


def _key(handle: object) -> object:
    """Give what tells one device's handle from another's: where it points to."""
    from ctypes import ArgumentError, c_void_p, cast

    try:
        return cast(handle, c_void_p).value  # type: ignore[arg-type]
    except (ArgumentError, TypeError):
        return handle
