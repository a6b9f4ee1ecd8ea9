"""Reading the metrics of processors, memory and ports: one request each, so more seldom than sensors, and bit by bit.

A walk finds where they are; a round over all of them begins when it is due, and takes as many readings as it needs.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from collectors.redfish.client import Client
from collectors.redfish.naming import bmc_id, owner, part_id
from collectors.redfish.readings import Seen, sensor_name
from collectors.redfish.readings_metrics import memory_fields, port_fields, processor_fields, rows
from collectors.redfish.resource import Resource, absent, kind, link, links, member, text, uri
from schemas.device import DeviceKind
from schemas.rows import Reading

MOST: Final = 4096
"""Parts of one BMC whose metrics are read; the largest machine known has some 400."""
_ACCELERATORS: Final = frozenset({"gpu", "accelerator"})


class _Part(msgspec.Struct, frozen=True):
    """A part that has metrics."""

    schema: str
    device: str
    name: str
    metrics: str
    environment: str = ""


class Found:
    """The parts that a walk comes to."""

    def __init__(self, label: str) -> None:
        self._label = label
        self.parts: dict[str, _Part] = {}
        """By path."""
        self._gpus: dict[str, str] = {}

    def take(self, resource: Resource) -> None:
        """Note a resource if it has metrics; the processor that has a port comes before it."""
        schema, path = kind(resource), uri(resource)
        if schema == "Processor" and text(resource, "ProcessorType").lower() in _ACCELERATORS:
            self._gpus[path] = part_id(DeviceKind.GPU, self._label, path)
        if schema not in ("Processor", "Memory", "Port") or absent(resource) or len(self.parts) >= MOST:
            return
        environment = link(resource, "EnvironmentMetrics") if schema == "Processor" else ""
        metrics = link(resource, "Metrics")
        if path and (metrics or environment):
            device = self._device(schema, path, resource)
            self.parts[path] = _Part(schema, device, sensor_name(path), metrics, environment)

    def _device(self, schema: str, path: str, resource: Resource) -> str:
        if schema == "Port":
            return self._gpus.get(owner(path, "Ports"), bmc_id(self._label))
        if schema == "Memory":
            whose = links(member(resource, "Links"), "Processors")
            stacked = text(resource, "MemoryDeviceType").upper()[:3] == "HBM"
            if stacked and len(whose) == 1:
                return part_id(DeviceKind.GPU, self._label, whose[0])
            return bmc_id(self._label) if stacked else part_id(DeviceKind.MEMORY_MODULE, self._label, path)
        if path in self._gpus:
            return self._gpus[path]
        cpu = text(resource, "ProcessorType").lower() == "cpu"
        return part_id(DeviceKind.CPU, self._label, path) if cpu else bmc_id(self._label)


class Parts:
    """The metrics of the parts of one BMC."""

    def __init__(self, client: Client, found: Iterable[_Part]) -> None:
        self._client = client
        self._all = tuple(found)
        self._left: deque[_Part] = deque()

    @property
    def idle(self) -> bool:
        """Whether no round is left to be gone on with."""
        return not self._left

    def begin(self) -> None:
        """Begin a round."""
        self._left = deque(self._all)

    def read(self, seen: dict[str, Seen], until: Callable[[], bool]) -> Iterator[Reading]:
        """Yield rows until the end of the round, or `until` says so, but one part's in any case. Raises BmcError."""
        while self._left:
            yield from self._rows(self._left[0], seen)
            self._left.popleft()
            if until():
                return

    def _rows(self, part: _Part, seen: dict[str, Seen]) -> Iterator[Reading]:
        metrics = self._get(part.metrics)
        if part.schema == "Processor":
            fields = processor_fields(metrics, self._get(part.environment), seen)
            yield from rows("bmc_processor", fields, part.device, "processor", part.name)
        elif part.schema == "Memory":
            yield from rows("bmc_memory", memory_fields(metrics), part.device, "module", part.name)
        else:
            yield from rows("bmc_port", port_fields(metrics), part.device, "port", part.name)

    def _get(self, path: str) -> Resource:
        found = self._client.get(path) if path else None
        return {} if found is None or absent(found) else found
