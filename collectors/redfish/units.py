"""Which column a sensor's number belongs in, and what it is to be multiplied by: units are converted here, once.

A BMC that says a unit is believed, whatever it calls the type of the sensor: some call power a current, and the speed
of fans an air flow. A unit that is said to be empty is none: such a sensor tells a state, as an 0 of the type
Temperature that means "not too hot". Only where nothing is said of a unit does the type tell.

Source: DMTF Sensor schema 1.10 (ReadingUnits: UCUM; ReadingType and the unit of each).
"""

from typing import Final

import msgspec

from collectors.redfish.resource import Resource, number


class Sense(msgspec.Struct, frozen=True):
    """What the numbers of a sensor mean: `number * factor + offset` is the column's value."""

    measurement: str
    field: str
    factor: float = 1.0
    offset: float = 0.0
    least: float = float("-inf")
    """What is below cannot be, in the column's unit."""
    most: float = float("inf")

    def value(self, found: object) -> float | None:
        """Give the column's value; None for what is no number, and for what cannot be."""
        read = number(found)
        if read is None:
            return None
        value = read if self.factor == 1.0 and not self.offset else read * self.factor + self.offset
        return value if self.least <= value <= self.most else None


def _celsius(factor: float = 1.0, offset: float = 0.0) -> Sense:
    return Sense("bmc_temperature", "temperature_celsius", factor, offset, -273.15, 2000.0)


def _sensor(field: str, factor: float = 1.0, least: float = float("-inf")) -> Sense:
    return Sense("bmc_sensor", field, factor, 0.0, least)


PLAIN: Final = _sensor("value")
"""Of no unit, or of one that is not converted."""
_CFM: Final = 0.3048**3 / 60
_SAID: Final[dict[str, Sense]] = {
    "Cel": _celsius(),
    "[degF]": _celsius(5 / 9, -32 * 5 / 9),
    "K": _celsius(1.0, -273.15),
    "mCel": _celsius(0.001),
    "W": _sensor("power_watts"),
    "kW": _sensor("power_watts", 1e3),
    "mW": _sensor("power_watts", 1e-3),
    "V": _sensor("voltage_volts"),
    "mV": _sensor("voltage_volts", 1e-3),
    "kV": _sensor("voltage_volts", 1e3),
    "A": _sensor("current_amperes"),
    "mA": _sensor("current_amperes", 1e-3),
    "J": _sensor("energy_joules"),
    "kJ": _sensor("energy_joules", 1e3),
    "mJ": _sensor("energy_joules", 1e-3),
    "W.h": _sensor("energy_joules", 3.6e3),
    "kW.h": _sensor("energy_joules", 3.6e6),
    "Hz": _sensor("frequency_hertz", least=0.0),
    "kHz": _sensor("frequency_hertz", 1e3, 0.0),
    "MHz": _sensor("frequency_hertz", 1e6, 0.0),
    "GHz": _sensor("frequency_hertz", 1e9, 0.0),
    "RPM": _sensor("speed_rpm", least=0.0),
    "{rev}/min": _sensor("speed_rpm", least=0.0),
    "%": _sensor("share_ratio", 0.01),
    "Pa": _sensor("pressure_pascals"),
    "kPa": _sensor("pressure_pascals", 1e3),
    "hPa": _sensor("pressure_pascals", 1e2),
    "bar": _sensor("pressure_pascals", 1e5),
    "[psi]": _sensor("pressure_pascals", 6894.757293168),
    "mm[Hg]": _sensor("pressure_pascals", 133.322387415),
    "[ft_i]3/min": _sensor("flow_cubic_meters_per_second", _CFM),
    "m3/min": _sensor("flow_cubic_meters_per_second", 1 / 60),
    "L/min": _sensor("flow_cubic_meters_per_second", 1e-3 / 60),
    "L/s": _sensor("flow_cubic_meters_per_second", 1e-3),
    "s": _sensor("time_seconds"),
    "ms": _sensor("time_seconds", 1e-3),
    "us": _sensor("time_seconds", 1e-6),
}
"""By unit as UCUM writes it, large and small letters told apart."""
_SPOKEN: Final[dict[str, str]] = {
    "c": "Cel",
    "cel": "Cel",
    "celsius": "Cel",
    "degc": "Cel",
    "degrees c": "Cel",
    "degreescelsius": "Cel",
    "f": "[degF]",
    "fahrenheit": "[degF]",
    "degf": "[degF]",
    "kelvin": "K",
    "w": "W",
    "watt": "W",
    "watts": "W",
    "kilowatts": "kW",
    "v": "V",
    "volt": "V",
    "volts": "V",
    "millivolts": "mV",
    "a": "A",
    "amp": "A",
    "amps": "A",
    "ampere": "A",
    "amperes": "A",
    "j": "J",
    "joule": "J",
    "joules": "J",
    "wh": "W.h",
    "kwh": "kW.h",
    "hz": "Hz",
    "hertz": "Hz",
    "khz": "kHz",
    "mhz": "MHz",
    "ghz": "GHz",
    "rpm": "RPM",
    "percent": "%",
    "pct": "%",
    "pascal": "Pa",
    "pascals": "Pa",
    "pa": "Pa",
    "psi": "[psi]",
    "cfm": "[ft_i]3/min",
    "lpm": "L/min",
    "seconds": "s",
    "sec": "s",
}
"""As vendors write it."""
_TYPED: Final[dict[str, str]] = {
    "temperature": "Cel",
    "power": "W",
    "voltage": "V",
    "current": "A",
    "energyjoules": "J",
    "energywh": "W.h",
    "energykwh": "kW.h",
    "frequency": "Hz",
    "rotational": "RPM",
    "percent": "%",
    "humidity": "%",
    "pressure": "Pa",
    "pressurepa": "Pa",
    "pressurekpa": "kPa",
    "barometric": "mm[Hg]",
    "airflow": "[ft_i]3/min",
    "airflowcmm": "m3/min",
    "liquidflow": "L/s",
    "liquidflowlpm": "L/min",
}
"""By ReadingType, what the schema says of its unit."""


def sense_of(sensor: Resource) -> Sense:
    """Give what the numbers of a sensor mean."""
    units, reading_type = sensor.get("ReadingUnits"), sensor.get("ReadingType")
    if isinstance(units, str):
        said = units.strip()
        return _SAID.get(said) or _SAID.get(_SPOKEN.get(said.lower(), ""), PLAIN)
    if isinstance(reading_type, str):
        return _SAID.get(_TYPED.get(reading_type.strip().lower(), ""), PLAIN)
    return PLAIN
