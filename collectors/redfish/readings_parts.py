"""Rows of fans, supplies and leak detectors, from schemas old and new; and of sensors that only the old ones have.

Source: DMTF schemas Fan 1.5, PowerSupply 1.6, PowerSupplyMetrics 1.1, LeakDetector 1.2; Thermal 1.7 and Power 1.7
(deprecated, and all that many machines have).
"""

import re
from collections import Counter
from collections.abc import Container, Iterator
from typing import Final

from collectors.redfish.errors import Faults
from collectors.redfish.naming import bmc_id, entry_id, own_id, owner, part_id
from collectors.redfish.readings import WORDS, Numbers, Seen, excerpt, health, sensor_name
from collectors.redfish.resource import Resource, absent, canonical, member, number, objects, text, uri
from collectors.redfish.units import sense_of
from schemas.device import DeviceKind
from schemas.rows import FieldValue, Reading

METRIC_FIELDS: Final = {
    "InputPowerWatts": "input_watts",
    "OutputPowerWatts": "output_watts",
    "InputVoltage": "input_volts",
    "InputCurrentAmps": "input_amperes",
    "TemperatureCelsius": "temperature_celsius",
}
"""Of PowerSupplyMetrics."""
_OLD_SUPPLY: Final = {
    "PowerInputWatts": "input_watts",
    "PowerOutputWatts": "output_watts",
    "LineInputVoltage": "input_volts",
}
"""Of the members of `Power.PowerSupplies`."""
_MEASURED: Final = ("ReadingCelsius", "ReadingVolts")
_SIMPLE: Final = re.compile(r"[^a-z0-9]")


def plain_name(name: str) -> str:
    """Give a sensor's name as it is compared: one BMC writes it differently in two schemas."""
    return _SIMPLE.sub("", name.lower())


def fan_row(label: str, fan: Resource, numbers: Numbers) -> Reading | None:
    """Give the row of a resource Fan; None when it is absent or says nothing."""
    if absent(fan):
        return None
    speed = member(fan, "SpeedPercent")
    rpm, share = number(speed.get("SpeedRPM")), number(speed.get("Reading"))
    known = numbers.get(canonical(speed.get("DataSourceUri")))
    if known is not None and known.sense.field == "speed_rpm":
        rpm = known.value
    if known is not None and known.sense.field == "share_ratio":
        share = known.value * 100
    fields: dict[str, FieldValue] = {
        "speed_rpm": rpm if rpm is not None and rpm >= 0 else None,
        "speed_ratio": _share(share, rpm),
        "health": health(fan),
    }
    return _row("bmc_fan", fields, part_id(DeviceKind.FAN, label, uri(fan)))


def supply_row(label: str, supply: Resource, metrics: Resource, numbers: Numbers) -> Reading | None:
    """Give the row of a PowerSupply and its Metrics ({} where it has none); None when it is absent or says nothing."""
    if absent(supply):
        return None
    fields: dict[str, FieldValue] = {
        field: excerpt(metrics, name, numbers) for name, field in METRIC_FIELDS.items() if not absent(metrics)
    }
    fields["health"] = health(supply)
    return _row("bmc_psu", fields, part_id(DeviceKind.PSU, label, uri(supply)))


def leak_row(label: str, detector: Resource) -> Reading | None:
    """Give the row of a LeakDetector; None when it is absent or says nothing."""
    state = WORDS.get(text(detector, "DetectorState").lower()) or health(detector)
    if absent(detector) or state is None:
        return None
    chassis = owner(uri(detector), "ThermalSubsystem").rpartition("/")[2]
    return Reading("bmc_leak", {"state": state}, bmc_id(label), {"detector": f"{chassis}/{own_id(detector)}"[:200]})


def old_fans(label: str, thermal: Resource) -> Iterator[Reading]:
    """Yield the rows of fans of a resource Thermal."""
    for at, fan in enumerate(objects(thermal, "Fans")):
        speed = number(fan.get("Reading"))
        if absent(fan):
            continue
        percent = text(fan, "ReadingUnits").lower() in ("percent", "%")
        fields: dict[str, FieldValue] = {"health": health(fan)}
        if speed is not None and speed >= 0:
            fields["speed_ratio" if percent else "speed_rpm"] = speed / 100 if percent else speed
        row = _row("bmc_fan", fields, part_id(DeviceKind.FAN, label, uri(thermal), entry_id(fan, at)))
        if row is not None:
            yield row


def old_supplies(label: str, power: Resource) -> Iterator[Reading]:
    """Yield the rows of the power supplies of a resource Power."""
    for at, supply in enumerate(objects(power, "PowerSupplies")):
        if absent(supply):
            continue
        fields: dict[str, FieldValue] = {field: number(supply.get(name)) for name, field in _OLD_SUPPLY.items()}
        fields["health"] = health(supply)
        row = _row("bmc_psu", fields, part_id(DeviceKind.PSU, label, uri(power), entry_id(supply, at)))
        if row is not None:
            yield row


def old_sensors(
    label: str, resource: Resource, known: Container[str], faults: Faults, seen: dict[str, Seen]
) -> Iterator[Reading]:
    """Yield the rows of temperatures and voltages of a resource Thermal or Power that are no sensors of their own.

    `known`: the names of those that are, by `plain_name`.
    """
    where = uri(resource)
    for name, property_, units in (("Temperatures", _MEASURED[0], "Cel"), ("Voltages", _MEASURED[1], "V")):
        entries = list(objects(resource, name))
        for one, own in zip(entries, _names(entries), strict=True):
            found, said = one.get(property_), text(one, "Name")
            plain = plain_name(said)  # "" of one without a name, or in letters that are not compared
            if found is None or absent(one) or (plain and plain in known):
                continue
            sense = sense_of({"ReadingUnits": units})
            value = sense.value(found)
            if value is None:
                faults.add(
                    "impossible" if number(found) is not None else "type", f"{where} {said!r:.60}: {found!r:.40}"
                )
                continue
            chassis = where.rpartition("/")[0]
            place = f"{chassis}/{name}/{own}"
            if place in seen or canonical(one.get("DataSourceUri")) in seen:
                continue
            seen[place] = Seen(sense, value, text(one, "PhysicalContext").lower())
            yield Reading(
                sense.measurement, {sense.field: value}, bmc_id(label), {"sensor": f"{sensor_name(chassis)}/{own}"}
            )


def _names(entries: list[Resource]) -> list[str]:
    """Give the names of entries within their list: what people call them, and their numbers where two have one name.

    Whether they read something or not: else one would take the other's name as soon as that is absent.
    """
    names = [_own(one, at) for at, one in enumerate(entries)]
    for number_of in (entry_id, lambda _, at: str(at)):
        times = Counter(names)
        names = [name if times[name] == 1 else f"{name}:{number_of(entries[at], at)}" for at, name in enumerate(names)]
    return names


def _own(one: Resource, index: int) -> str:
    """Give what people call an entry of a list, since its number moves; its number where it has no name."""
    said = (text(one, "Name") or text(one, "MemberId") or str(index)).replace("/", "_")
    return "".join(char if char.isprintable() else "_" for char in said)[:80]


def _share(percent: float | None, rpm: float | None) -> float | None:
    """Give a fan's percentage as a share, if it is one: some BMCs write the speed itself there."""
    return percent / 100 if percent is not None and 0 <= percent <= 100 and percent != rpm else None


def _row(measurement: str, fields: dict[str, FieldValue], device: str) -> Reading | None:
    told = {name: value for name, value in fields.items() if value is not None}
    return Reading(measurement, told, device) if told else None
