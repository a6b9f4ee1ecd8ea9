"""Metric reports: many sensors in one answer, from BMCs that keep them.

A report says of each value where it comes from. Which sensor that is, and so its unit, is known from the sensors
themselves; a value of anything else is passed over. Of values with a history the last counts.

Source: DMTF schemas MetricReport 1.5, MetricDefinition 1.3. In the field NVIDIA marks values as stale in a property of
its own, some leave out the part after `#`, and Lenovo sends 2,880 values of each.
"""

from collections.abc import Container, Iterator
from typing import Any, Final

from collectors.redfish.resource import Resource, canonical, number, objects

_OF_SENSOR: Final = frozenset({"", "/Reading", "Reading"})
_LAST: Final = 20_000
"""Values of a report that are looked at."""


def values(report: Resource, sensors: Container[str]) -> dict[str, tuple[float, str]]:
    """Give, by the path of its sensor, each value that is one sensor's reading, and its time as the BMC writes it.

    What several values without a name of their own claim to be is left out: nobody knows which is meant.
    """
    found: dict[str, tuple[float, str]] = {}
    names: dict[str, str] = {}
    unclear: set[str] = set()
    for one in _some(report):
        said = one.get("MetricProperty")
        path = canonical(said)
        if path not in sensors or not isinstance(said, str) or said.partition("#")[2] not in _OF_SENSOR:
            continue
        name = one.get("MetricId")
        if isinstance(name, str) and names.setdefault(path, name) != name:
            unclear.add(path)
        read, when = number(one.get("MetricValue")), one.get("Timestamp")
        time = when if isinstance(when, str) else ""
        if read is None or _stale(one):
            continue
        before = found.get(path)
        if before is None or time >= before[1]:
            found[path] = (read, time)
    return {path: value for path, value in found.items() if path not in unclear}


def _some(report: Resource) -> Iterator[Resource]:
    for index, one in enumerate(objects(report, "MetricValues")):
        if index >= _LAST:
            return
        yield one


def _stale(value: Resource) -> bool:
    """Whether a vendor's own property says that a value is an old one."""
    oem: Any = value.get("Oem")
    for vendor in oem.values() if isinstance(oem, dict) else ():
        if isinstance(vendor, dict) and vendor.get("MetricValueStale") is True:
            return True
    return False
