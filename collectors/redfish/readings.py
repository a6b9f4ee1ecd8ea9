"""Rows of sensors: one for each that reads a number, whatever its unit.

What a resource says of a part by quoting a sensor (an excerpt with `DataSourceUri`) is taken from the sensor's own
reading where that is known, so that one reading of a BMC says one thing only.

Source: DMTF Sensor schema 1.10; DSP0266, 11.3 (excerpts).
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from collectors.redfish.errors import Faults
from collectors.redfish.naming import bmc_id
from collectors.redfish.resource import Resource, absent, canonical, member, number, text, uri
from collectors.redfish.units import Sense, sense_of
from schemas.rows import Reading

_PREFIX: Final = 3
"""Of `/redfish/v1/`: empty, `redfish`, `v1`."""
_MOST_NAME: Final = 200
WORDS: Final = {"ok": "ok", "warning": "warning", "critical": "critical"}


class Seen(msgspec.Struct, frozen=True):
    """What a sensor read."""

    sense: Sense
    value: float
    context: str = ""
    """Its PhysicalContext in small letters; "" when it does not say."""


Numbers = Mapping[str, Seen]
"""What the sensors read this time, by their path."""


def sensor_name(path: str) -> str:
    """Give what the attribute `sensor` calls the sensor at a path: `<chassis>/<id>`, one of its BMC's alone."""
    return "/".join(canonical(path).split("/")[_PREFIX:][1::2])[:_MOST_NAME]


def read_sensor(sensor: Resource, faults: Faults) -> Seen | None:
    """Give what a sensor reads; None when it is absent or off, reads nothing, or reads what cannot be (a fault)."""
    found = sensor.get("Reading")
    if found is None or absent(sensor):
        return None
    sense = sense_of(sensor)
    value = sense.value(found)
    if value is None:
        if number(found) is not None:
            faults.add("impossible", f"{uri(sensor)} reads {found!r:.40}")
        elif not (isinstance(found, str) and found.strip().lower() in _NO_NUMBERS):
            faults.add("type", f"{uri(sensor)} reads {found!r:.40}")
        return None
    return Seen(sense, value, text(sensor, "PhysicalContext").lower())


_NO_NUMBERS: Final = frozenset({"", "nan", "n/a", "na", "null", "none", "unknown"})
"""Texts by which some BMCs say that there is no reading."""


def sensor_row(label: str, path: str, seen: Seen) -> Reading:
    """Give the row of a sensor of the BMC that goes by `label`."""
    sense = seen.sense
    return Reading(sense.measurement, {sense.field: seen.value}, bmc_id(label), {"sensor": sensor_name(path)})


def rows_of(label: str, sensors: Iterable[Resource], faults: Faults, seen: dict[str, Seen]) -> Iterator[Reading]:
    """Yield the rows of sensors that are not in `seen` yet, and note there what they read."""
    for sensor in sensors:
        path = uri(sensor)
        if not path or path in seen:
            continue
        found = read_sensor(sensor, faults)
        if found is not None:
            seen[path] = found
            yield sensor_row(label, path, found)


def excerpt(resource: Resource, name: str, numbers: Numbers) -> float | None:
    """Give the number that a resource quotes of a sensor, or says itself; None for none."""
    found = resource.get(name)
    if not isinstance(found, dict):
        return number(found)
    known = numbers.get(canonical(found.get("DataSourceUri")))
    return known.value if known is not None else number(found.get("Reading"))


def quotes(resource: Resource) -> Resource:
    """Give a resource with nothing but where it quotes from: what of it need not be read again to be known."""
    kept: Resource = {}
    for name, found in resource.items():
        if isinstance(found, dict) and canonical(found.get("DataSourceUri")):
            kept[name] = {"DataSourceUri": canonical(found["DataSourceUri"])}
    return kept


def quotes_all(resource: Resource, names: Iterable[str], numbers: Numbers) -> bool:
    """Whether what a resource says by `names` is known from sensors that were read this time."""
    said = [resource[name] for name in names if resource.get(name) is not None]
    sources = [canonical(one.get("DataSourceUri")) if isinstance(one, dict) else "" for one in said]
    return bool(sources) and all(source in numbers for source in sources)


def health(resource: Resource, name: str = "Health") -> str | None:
    """Give `ok`, `warning` or `critical`; None when a resource does not say, or says something else."""
    return WORDS.get(text(member(resource, "Status"), name).lower())
