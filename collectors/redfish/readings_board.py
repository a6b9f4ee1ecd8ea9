"""The row of a BMC itself: what it says of the whole machine.

Source: DMTF schemas ComputerSystem 1.22, EnvironmentMetrics 1.3, ThermalMetrics 1.3, Power 1.7.
"""

from collections.abc import Iterable
from typing import Final

from collectors.redfish.naming import bmc_id
from collectors.redfish.power import powered
from collectors.redfish.readings import Numbers, excerpt, health
from collectors.redfish.resource import Resource, absent, member, number, objects, text
from schemas.rows import FieldValue, Reading

_POWER: Final = {
    "on": "on",
    "off": "off",
    "poweringon": "powering_on",
    "poweringoff": "powering_off",
    "paused": "paused",
}


def board_row(
    label: str,
    system: Resource,
    environment: Resource,
    thermal: Resource,
    power: Resource,
    numbers: Numbers,
    supplies: Iterable[Reading] = (),
) -> Reading:
    """Give the row `bmc`.

    Args:
        label: The name that the BMC goes by.
        system: The machine's ComputerSystem; {} when nothing is known, as of all the others.
        environment: EnvironmentMetrics of its chassis.
        thermal: ThermalMetrics of its chassis.
        power: Power of its chassis, the old schema.
        numbers: What the sensors read.
        supplies: The rows of its power supplies.
    """
    fields: dict[str, FieldValue] = {
        "power_state": _POWER.get(text(system, "PowerState").lower()),
        "boot_progress": powered(system, {}).boot or None,
        "health": health(system, "HealthRollup") or health(system),
        "system_power_watts": _watts(environment, power, numbers, supplies),
        "inlet_temperature_celsius": _air("Intake", thermal, numbers),
        "outlet_temperature_celsius": _air("Exhaust", thermal, numbers),
    }
    return Reading("bmc", {name: value for name, value in fields.items() if value is not None}, bmc_id(label))


def _watts(environment: Resource, power: Resource, numbers: Numbers, supplies: Iterable[Reading]) -> float | None:
    """Give the machine's power: as it is said of the whole, else what all supplies take together."""
    said = excerpt(environment, "PowerWatts", numbers)
    if said is None:
        for control in objects(power, "PowerControl"):
            said = None if absent(control) else number(control.get("PowerConsumedWatts"))
            break  # the first is the whole machine's
    if said is None:
        each = [row.fields.get("input_watts") for row in supplies]
        if each and None not in each:
            said = sum(float(one) for one in each if one is not None)
    return said if said is not None and said >= 0 else None


def _air(end: str, thermal: Resource, numbers: Numbers) -> float | None:
    """Give the temperature of the air at an end: as it is said, else of the one sensor that is there.

    Of several none is taken: there are BMCs that say of every sensor that it is at the intake.
    """
    said = excerpt(member(thermal, "TemperatureSummaryCelsius"), end, numbers)
    if said is None:
        at_end = [
            one.value
            for one in numbers.values()
            if one.context == end.lower() and one.sense.measurement == "bmc_temperature"
        ]
        said = at_end[0] if len(at_end) == 1 else None
    return said if said is not None and -100 <= said <= 300 else None
