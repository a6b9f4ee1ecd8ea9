"""What there is: a walk over the resources of a BMC, from its root along the links that matter here.

A walk knows where it is, so that one which takes longer than a BMC may be asked at once goes on where it stopped. It
never reads a resource twice, never leaves `/redfish/`, and ends at a limit, however a BMC links its resources.

Source: DMTF DSP0266, 8.2 (resource tree); schema bundle 2024.3 for the properties of each schema.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from collectors.redfish.client import Client
from collectors.redfish.errors import BmcError
from collectors.redfish.resource import ROOT, Resource, kind, link, links, member, uri

MOST: Final = 6000
"""Resources of one walk."""
_SKIPPED: Final = ("settings", "sd", "pending")
"""Members that say what is to be after the next reset."""

COLLECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "ServiceRoot": ("Systems", "Chassis", "Managers"),
    "UpdateService": ("FirmwareInventory",),
    "ComputerSystem": ("Processors", "Memory", "Storage", "LogServices"),
    "Manager": ("LogServices",),
    "Chassis": ("NetworkAdapters", "PCIeDevices", "Sensors", "LogServices"),
    "Processor": ("Ports",),
    "PowerSubsystem": ("PowerSupplies",),
    "ThermalSubsystem": ("Fans",),
    "LeakDetection": ("LeakDetectors",),
    "Storage": ("Controllers",),
    "NetworkAdapter": ("Ports", "NetworkPorts", "NetworkDeviceFunctions"),
    "PCIeDevice": ("PCIeFunctions",),
    "TelemetryService": ("MetricReports",),
}
"""By schema, the properties that point to collections whose members are looked at."""
SINGLE: Final[Mapping[str, tuple[str, ...]]] = {
    "ServiceRoot": ("UpdateService", "EventService", "TelemetryService"),
    "Chassis": ("PowerSubsystem", "ThermalSubsystem", "Power", "Thermal", "EnvironmentMetrics", "PCIeSlots"),
    "PowerSupply": ("Metrics",),
    "ThermalSubsystem": ("ThermalMetrics", "LeakDetection"),
}
"""By schema, the properties that point to one resource."""
LISTS: Final[Mapping[str, tuple[str, ...]]] = {
    "ComputerSystem": ("PCIeDevices", "PCIeFunctions"),
    "Storage": ("Drives",),
    "Chassis": ("Drives",),
}
"""By schema, the properties that list resources one by one, also within `Links`."""
_NEVER_WHOLE: Final = frozenset({"Sensors", "MetricReports", "LogServices"})
"""Collections that others read, and of which a walk only says that they are there."""
_FRAME: Final = frozenset(
    {
        *("Systems", "Chassis", "Managers", "EventService", "TelemetryService", "PowerSubsystem", "ThermalSubsystem"),
        *("PowerSupplies", "Fans", "Metrics", "ThermalMetrics", "EnvironmentMetrics", "Power", "Thermal"),
        *("LeakDetection", "LeakDetectors"),
    }
)
"""Properties that are followed first: what is behind them says where there is something to be measured."""


class Walk:
    """One walk over one BMC."""

    def __init__(self, client: Client, found: Callable[[Resource], None]) -> None:
        """Begin at the root; `found` is given every resource."""
        self._client = client
        self._found = found
        self._first: deque[tuple[str, bool]] = deque()
        self._later: deque[tuple[str, bool]] = deque()
        self._seen: set[str] = {ROOT}
        self.collections: dict[str, list[str]] = {name: [] for name in _NEVER_WHOLE}
        """Where there are collections of sensors, of metric reports, and of logs."""
        self.gaps = 0
        """Resources that could not be read this time: what is missing then need not be gone."""
        self._begun = False

    @property
    def framed(self) -> bool:
        """Whether all is known that says where there is something to be measured."""
        return self._begun and not self._first

    def go_on(self, until: Callable[[], bool]) -> bool:
        """Walk until the end, which gives True, or until `until` says so. Raises BmcError, and may go on after it."""
        if not self._begun:
            self._take(self._client.read_root())
            self._begun = True
        while self._first or self._later:
            if until():
                return False
            queue = self._first or self._later
            path, collection = queue[0]
            lost = self._client.faults.lost
            try:
                for resource in self._read(path, collection=collection):
                    self._take(resource)
            except BmcError:
                self.gaps += 1
                raise
            self.gaps += self._client.faults.lost - lost
            queue.remove((path, collection))
        return True

    def _read(self, path: str, *, collection: bool) -> Iterator[Resource]:
        if collection:
            yield from self._client.members(path, keep=True)
        else:
            resource = self._client.get(path, keep=True)
            if resource is not None:
                yield resource

    def _take(self, resource: Resource) -> None:
        """Hand on a resource, and note where it leads."""
        if uri(resource) and uri(resource) != ROOT:
            self._seen.add(uri(resource))
        self._found(resource)
        schema = kind(resource)
        for name in COLLECTIONS.get(schema, ()):
            self._note(link(resource, name), name, collection=True)
        for name in SINGLE.get(schema, ()):
            self._note(link(resource, name), name)
        for name in LISTS.get(schema, ()):
            for place in (*links(resource, name), *links(member(resource, "Links"), name)):
                self._note(place, name)

    def _note(self, path: str, name: str, *, collection: bool = False) -> None:
        if not path or path in self._seen or path.rpartition("/")[2].lower() in _SKIPPED:
            return
        if len(self._seen) >= MOST:
            self._client.faults.add("flood", f"more than {MOST} resources")
            return
        self._seen.add(path)
        if name in _NEVER_WHOLE:
            self.collections[name].append(path)
        else:
            (self._first if name in _FRAME else self._later).append((path, collection))
