"""Reading what a BMC says of the machine and of its fans and power supplies, where a walk has found it.

Where these quote sensors that were read anyway, they are not asked again: of most machines a system, a list of fans and
one of supplies is all that is left to read. What there is no time for comes first the next time.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final

import msgspec

from collectors.redfish.client import Client, is_whole
from collectors.redfish.machine import machine_of
from collectors.redfish.readings import Seen, quotes, quotes_all
from collectors.redfish.readings_board import board_row
from collectors.redfish.readings_parts import (
    METRIC_FIELDS,
    fan_row,
    leak_row,
    old_fans,
    old_sensors,
    old_supplies,
    supply_row,
)
from collectors.redfish.resource import Resource, kind, link, links, member, number, objects, uri
from schemas.rows import Reading

_ENDS: Final = ("Intake", "Exhaust")
_EVERY: Final = 10
"""Of BMCs that give members one by one, fans and supplies whose sensors are known are read at each such turn."""


class _Quoting(msgspec.Struct):
    """A resource that may be known from sensors alone."""

    path: str
    quoted: Resource


class _Reading(msgspec.Struct):
    """One reading, as far as it has come."""

    seen: dict[str, Seen]
    """What the sensors read this time."""
    until: Callable[[], bool]
    whole: bool
    """Whether fans and supplies are read though their sensors are known."""
    begun: bool = False
    """Whether one part at least was read, without which it would come to no end."""
    stopped: bool = False
    """Whether something was left for lack of time."""
    supplies: list[Reading] = []
    power: Resource = {}
    """Of the machine's chassis, the old schema."""


_Job = Callable[[_Reading], Iterator[Reading]]
"""Reads one collection, or one resource of the old schemas."""


class Board:
    """The board of one BMC, as far as it was found. Made anew by each walk."""

    def __init__(self, client: Client, resources: Iterable[Resource], names: set[str]) -> None:
        """Find what is to be read among `resources`; `names`: what sensors are called, by `plain_name`."""
        self._client = client
        self._label = client.bmc.label
        self._names = names
        self._turn = 0
        found: dict[str, list[Resource]] = {}
        for resource in resources:
            found.setdefault(kind(resource), []).append(resource)
        machine = machine_of(found)
        self._system, self.manager = uri(machine.system), uri(machine.manager)
        self.system: Resource = {}
        """The machine's ComputerSystem, as it was read last; {} before, and when there is none."""
        chassis = _main_chassis(found, self._system)
        metrics = {uri(one): one for one in found.get("PowerSupplyMetrics", ())}
        self._supplies = _folders(found.get("PowerSupply", ()))
        self._metrics = {
            uri(one): _Quoting(link(one, "Metrics"), quotes(metrics.get(link(one, "Metrics"), {})))
            for one in found.get("PowerSupply", ())
            if link(one, "Metrics")
        }
        self._fans = _folders(found.get("Fan", ()))
        self._speeds = {uri(one): quotes(one) for one in found.get("Fan", ())}
        self._leaks = _folders(found.get("LeakDetector", ()))
        self._environment = _quoting(found.get("EnvironmentMetrics", ()), chassis, "")
        self._thermal = _quoting(found.get("ThermalMetrics", ()), chassis, "TemperatureSummaryCelsius")
        self._old_thermal = [uri(one) for one in found.get("Thermal", ()) if self._needs_thermal(one)]
        self._old_power = [uri(one) for one in found.get("Power", ()) if self._needs_power(one, chassis)]
        self._main_power = next((path for path in self._old_power if path.rpartition("/")[0] in chassis), "")
        self._jobs = deque(self._all_jobs())
        self._done: set[str] = set()
        """What was read of the first job, when the time did not suffice for the rest of it."""

    def read(self, seen: dict[str, Seen], until: Callable[[], bool] = lambda: False) -> Iterator[Reading]:
        """Yield the rows, that of the machine last; what is left when `until` says so comes first the next time.

        `seen`: what the sensors read this time, to which the old schemas add. Raises BmcError.
        """
        self._turn += 1
        now = _Reading(seen, until, self._client.expands or self._turn % _EVERY == 1)
        all_supplies = not self._done
        self.system = (self._client.get(self._system) if self._system else None) or {}
        for _ in range(len(self._jobs)):
            yield from self._jobs[0](now)
            if now.stopped:
                self._client.faults.add("slow", "not all fans and supplies could be read in the time that there is")
                break
            self._jobs.rotate(-1)
            self._done.clear()
        all_supplies = all_supplies and not now.stopped  # the sum of some is not what the machine takes
        environment = self._of(self._environment, ("PowerWatts",), now)
        supplies = now.supplies if all_supplies else ()
        row = board_row(self._label, self.system, environment, self._air(now), now.power, seen, supplies)
        if row.fields:
            yield row

    def _all_jobs(self) -> Iterator[_Job]:
        for folder, paths in self._fans.items():
            yield partial(self._read_fans, folder, paths)
        for folder in self._leaks:
            yield partial(self._read_leaks, folder)
        for folder, paths in self._supplies.items():
            yield partial(self._read_supplies, folder, paths)
        for path in self._old_power:
            yield partial(self._read_old_power, path)
        for path in self._old_thermal:
            yield partial(self._read_old_thermal, path)

    def _read_fans(self, folder: str, paths: list[str], now: _Reading) -> Iterator[Reading]:
        for fan in self._parts(folder, paths, self._speeds, ("SpeedPercent",), now):
            row = fan_row(self._label, fan, now.seen)
            if row is not None:
                yield row

    def _read_leaks(self, folder: str, now: _Reading) -> Iterator[Reading]:
        for detector in self._members(folder, now):
            row = leak_row(self._label, detector)
            if row is not None:
                yield row

    def _read_supplies(self, folder: str, paths: list[str], now: _Reading) -> Iterator[Reading]:
        quoted = {path: one.quoted for path, one in self._metrics.items()}
        for supply in self._parts(folder, paths, quoted, METRIC_FIELDS, now):
            metrics = self._of(self._metrics.get(uri(supply)), METRIC_FIELDS, now)
            row = supply_row(self._label, supply, metrics, now.seen)
            if row is not None:
                now.supplies.append(row)
                yield row

    def _read_old_power(self, path: str, now: _Reading) -> Iterator[Reading]:
        resource = None if self._over(now) else self._client.get(path)
        now.begun = True
        if resource is not None:
            yield from old_sensors(self._label, resource, self._names, self._client.faults, now.seen)
            if not self._supplies:
                found = list(old_supplies(self._label, resource))
                now.supplies += found
                yield from found
            if path == self._main_power:
                now.power = resource

    def _read_old_thermal(self, path: str, now: _Reading) -> Iterator[Reading]:
        resource = None if self._over(now) else self._client.get(path)
        now.begun = True
        if resource is not None:
            yield from old_sensors(self._label, resource, self._names, self._client.faults, now.seen)
            if not self._fans:
                yield from old_fans(self._label, resource)

    def _parts(
        self, folder: str, paths: Iterable[str], quoted: dict[str, Resource], names: Iterable[str], now: _Reading
    ) -> Iterator[Resource]:
        """Yield the parts of a folder that were not read yet, until there is no more time."""
        yield from self._members(folder, now) if now.whole else self._each(paths, quoted, names, now)

    @staticmethod
    def _over(now: _Reading) -> bool:
        """Whether no more is to be read: something is left then."""
        now.stopped = now.begun and now.until()
        return now.stopped

    def _members(self, folder: str, now: _Reading) -> Iterator[Resource]:
        if self._over(now):
            return
        for one in self._client.listing(folder):
            path = uri(one)
            if path in self._done:
                continue
            if self._over(now):
                return
            resource = one if is_whole(one) else self._client.get(path)
            now.begun = True
            self._done.add(path)
            if resource is not None:
                yield resource

    def _each(
        self, paths: Iterable[str], quoted: dict[str, Resource], names: Iterable[str], now: _Reading
    ) -> Iterator[Resource]:
        """Yield parts one by one; of those whose sensors are known no more than what these say."""
        for path in paths:
            if path in self._done:
                continue
            if self._over(now):
                return
            known = quoted.get(path, {})
            resource = {**known, "@odata.id": path} if quotes_all(known, names, now.seen) else self._client.get(path)
            now.begun = True
            self._done.add(path)
            if resource is not None:
                yield resource

    def _of(self, one: _Quoting | None, names: Iterable[str], now: _Reading) -> Resource:
        """Give a resource, from what it quotes where that is known, else from the BMC; {} for none, or no time."""
        if one is None:
            return {}
        if quotes_all(one.quoted, names, now.seen):
            return one.quoted
        return ({} if now.until() else self._client.get(one.path)) or {}

    def _air(self, now: _Reading) -> Resource:
        one = self._thermal
        if one is None:
            return {}
        if quotes_all(one.quoted, _ENDS, now.seen):
            return {"TemperatureSummaryCelsius": one.quoted}
        return ({} if now.until() else self._client.get(one.path)) or {}

    def _needs_thermal(self, thermal: Resource) -> bool:
        """Whether the old schema has something that the new ones have not."""
        rows = old_sensors(self._label, thermal, self._names, self._client.faults, {})
        return any(True for _ in rows) or (not self._fans and any(True for _ in old_fans(self._label, thermal)))

    def _needs_power(self, power: Resource, chassis: list[str]) -> bool:
        rows = old_sensors(self._label, power, self._names, self._client.faults, {})
        if any(True for _ in rows) or (not self._supplies and any(True for _ in old_supplies(self._label, power))):
            return True
        first = next(objects(power, "PowerControl"), {})
        whole = self._environment is None and uri(power).rpartition("/")[0] in chassis
        return whole and number(first.get("PowerConsumedWatts")) is not None


def _main_chassis(found: dict[str, list[Resource]], system: str) -> list[str]:
    """Give the paths of the chassis that are the machine's, the first first."""
    for one in found.get("ComputerSystem", ()):
        if uri(one) == system:
            listed = links(member(one, "Links"), "Chassis")
            if listed:
                return listed
    return [uri(one) for one in found.get("Chassis", ())]


def _folders(parts: Iterable[Resource]) -> dict[str, list[str]]:
    """Give the paths of parts by that of their collection."""
    folders: dict[str, list[str]] = {}
    for part in parts:
        path = uri(part)
        if path:
            folders.setdefault(path.rpartition("/")[0], []).append(path)
    return folders


def _quoting(resources: Iterable[Resource], chassis: list[str], name: str) -> _Quoting | None:
    """Give the resource that is of the machine's chassis, if any of them says something (in its object `name`)."""
    of: dict[str, Resource] = {}
    for one in resources:
        told = member(one, name) if name else one
        if name and not told:
            continue
        for each in chassis:
            if uri(one).startswith(f"{each}/"):
                of.setdefault(each, one)
    for each in chassis:
        if each in of:
            return _Quoting(uri(of[each]), quotes(member(of[each], name) if name else of[each]))
    return None
