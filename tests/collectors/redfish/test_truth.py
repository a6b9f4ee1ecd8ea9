"""What the recorded machines measured is what the rows say: each sensor once, its reading times its unit.

What is expected is found by a walk of this file's own over the recorded bytes, along every link there is, and by a
table of units of its own; no code of the collector has a part in it.
"""

import functools
import json
import math
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

import pytest

from schemas.rows import Reading
from tests.collectors.redfish.reading import Reads
from tests.fakes.redfish import RECORDED, Options, Simulator, Tree, made, recorded

UNITS = {
    "Cel": ("bmc_temperature", "temperature_celsius", 1.0),
    "C": ("bmc_temperature", "temperature_celsius", 1.0),
    "W": ("bmc_sensor", "power_watts", 1.0),
    "Watts": ("bmc_sensor", "power_watts", 1.0),
    "V": ("bmc_sensor", "voltage_volts", 1.0),
    "A": ("bmc_sensor", "current_amperes", 1.0),
    "J": ("bmc_sensor", "energy_joules", 1.0),
    "Hz": ("bmc_sensor", "frequency_hertz", 1.0),
    "RPM": ("bmc_sensor", "speed_rpm", 1.0),
    "%": ("bmc_sensor", "share_ratio", 0.01),
    "Pa": ("bmc_sensor", "pressure_pascals", 1.0),
    "kPa": ("bmc_sensor", "pressure_pascals", 1000.0),
    "CFM": ("bmc_sensor", "flow_cubic_meters_per_second", 0.028316846592 / 60),
    "[ft_i]3/min": ("bmc_sensor", "flow_cubic_meters_per_second", 0.028316846592 / 60),
    "": ("bmc_sensor", "value", 1.0),
}
"""A cubic foot is 0.028316846592 cubic metres. A unit said to be empty is none: Lenovo's states, and its CPUs' distance
to their limit, in the sensors' type only called temperatures."""
TYPES = {
    "Temperature": "Cel",
    "Power": "W",
    "Voltage": "V",
    "Current": "A",
    "EnergyJoules": "J",
    "Rotational": "RPM",
    None: "",
}
"""What a sensor that does not name its unit reads in: DSP2046, Sensor, ReadingType."""
GONE = {"Absent", "Disabled", "UnavailableOffline"}

COUNTS = {
    "dell": {
        "temperature_celsius": 6,
        "voltage_volts": 8,
        "power_watts": 5,
        "speed_rpm": 6,
        "share_ratio": 4,
        "current_amperes": 2,
        "frequency_hertz": 2,
    },
    "lenovo": {
        "temperature_celsius": 12,
        "voltage_volts": 8,
        "power_watts": 12,
        "speed_rpm": 10,
        "flow_cubic_meters_per_second": 1,
        "value": 186,
    },
    "nvidia_dpu": {"temperature_celsius": 2, "voltage_volts": 16},
    "nvidia_viking": {
        "temperature_celsius": 270,
        "voltage_volts": 42,
        "power_watts": 74,
        "speed_rpm": 36,
        "current_amperes": 3,
        "energy_joules": 18,
        "pressure_pascals": 1,
        "value": 29,
    },
    "made": {
        "temperature_celsius": 6,
        "voltage_volts": 1,
        "power_watts": 3,
        "speed_rpm": 2,
        "share_ratio": 2,
        "current_amperes": 1,
        "energy_joules": 1,
        "pressure_pascals": 1,
        "flow_cubic_meters_per_second": 1,
    },
}
"""Sensors that read a number, by column."""


def links(value: Any) -> Iterator[str]:
    """Give every link within a value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in {"@odata.id", "Members@odata.nextLink"} and isinstance(inner, str):
                yield inner.partition("#")[0].rstrip("/")
            else:
                yield from links(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from links(inner)


@functools.cache
def walk(tree: Tree) -> dict[str, Any]:
    """Give every resource that can be reached from the root, decoded, by path; what is no JSON leads nowhere."""
    found: dict[str, Any] = {}
    waiting = deque(["/redfish/v1"])
    while waiting:
        path = waiting.popleft()
        if path in found or path not in tree:
            continue
        try:
            found[path] = json.loads(tree[path])
        except ValueError:
            found[path] = None
        waiting.extend(links(found[path]))
    return found


def expected(tree: Tree) -> dict[str, tuple[str, str, float]]:
    """Give by `<chassis>/<sensor>` the measurement, column and value of each sensor that reads a number."""
    result = {}
    for path, resource in walk(tree).items():
        if not isinstance(resource, dict) or not resource.get("@odata.type", "").startswith("#Sensor."):
            continue
        reading = resource.get("Reading")
        gone = resource.get("Status", {}).get("State") in GONE
        if gone or isinstance(reading, bool) or not isinstance(reading, int | float):
            continue
        unit = resource.get("ReadingUnits")
        measurement, column, factor = UNITS[TYPES[resource.get("ReadingType")] if unit is None else unit]
        _, _, _, _, chassis, _, sensor = path.split("/")
        result[f"{chassis}/{sensor}"] = (measurement, column, reading * factor)
    return result


def told(rows: list[Reading]) -> dict[str, list[tuple[str, str, float]]]:
    """Give by sensor what rows say of it."""
    result: dict[str, list[tuple[str, str, float]]] = {}
    for row in rows:
        if row.measurement in {"bmc_temperature", "bmc_sensor"}:
            ((column, value),) = row.fields.items()
            assert isinstance(value, float)
            result.setdefault(str(row.attributes["sensor"]), []).append((row.measurement, column, value))
    return result


def reported(tree: Tree) -> dict[str, set[float]]:
    """Give by `<chassis>/<sensor>` what metric reports say that it read: they were made at other moments."""
    result: dict[str, set[float]] = {}
    for path, resource in walk(tree).items():
        if isinstance(resource, dict) and "/MetricReports/" in path:
            for value in resource["MetricValues"]:
                steps = value.get("MetricProperty", "").partition("#")[0].split("/")
                if len(steps) == 7 and steps[5] == "Sensors":
                    result.setdefault(f"{steps[4]}/{steps[6]}", set()).add(float(value["MetricValue"]))
    return result


def compare(tree: Tree, rows: list[Reading], beside: dict[str, set[float]] | None = None) -> None:
    """Check that rows say of each sensor what it reads, or what stands `beside`, once, and nothing of any other."""
    right, said, beside = expected(tree), told(rows), beside or {}
    assert right.keys() == said.keys()
    assert [] == [name for name, values in said.items() if len(values) != 1]
    wrong = {
        name: (right[name], value)
        for name, (value,) in said.items()
        if right[name][:2] != value[:2]
        or not (math.isclose(right[name][2], value[2], rel_tol=1e-12) or value[2] in beside.get(name, ()))
    }
    assert {} == wrong


def tree_of(name: str) -> Tree:
    """Give a machine by its name."""
    return made(name) if name == "made" else recorded(name)


@pytest.mark.parametrize("name", [*RECORDED, "made"])
def test_as_many_sensors_read_a_number_as_were_counted(name: str) -> None:
    assert COUNTS[name] == Counter(column for _, column, _ in expected(tree_of(name)).values())


@pytest.mark.parametrize("name", [*RECORDED, "made"])
def test_no_sensor_is_out_of_reach(name: str) -> None:
    tree = tree_of(name)
    there = {path for path in tree if path.rpartition("/")[0].endswith("/Sensors") and b'"#Sensor.' in tree[path]}
    assert there == {path for path in walk(tree) if path.rpartition("/")[0].endswith("/Sensors")}


@pytest.mark.parametrize("name", [*RECORDED, "made"])
def test_each_sensor_is_one_row_of_what_it_reads_in_every_reading(simulator: Simulator, name: str) -> None:
    tree = tree_of(name)
    with Reads(simulator.add(tree)) as reads:
        compare(tree, reads.rows())
        compare(tree, reads.rows())


@pytest.mark.parametrize("name", [*RECORDED, "made"])
def test_so_it_is_of_a_bmc_that_cannot_expand_but_for_what_its_reports_say(simulator: Simulator, name: str) -> None:
    tree = tree_of(name)
    with Reads(simulator.add(tree, Options(expand=False))) as reads:
        compare(tree, reads.rows())
        asked = len(reads.bmc.requests)
        compare(tree, reads.rows(), reported(tree))
        assert len(reads.bmc.requests) - asked < asked


def test_a_collection_that_comes_in_pages_is_read_to_its_end(simulator: Simulator) -> None:
    tree = tree_of("lenovo")
    with Reads(simulator.add(tree, Options(page=50))) as reads:
        compare(tree, reads.rows())


@pytest.mark.parametrize("name", ["dell", "lenovo", "nvidia_dpu"])
def test_machines_that_have_the_old_schemas_alone_are_read_by_them(simulator: Simulator, name: str) -> None:
    tree = tree_of(name)
    bmc = simulator.add(tree)
    right: Counter[tuple[str, float]] = Counter()
    for path, resource in walk(tree).items():
        if not isinstance(resource, dict) or path.count("/") != 4 or "/Chassis/" not in path:
            continue
        bmc.put(path, {key: value for key, value in resource.items() if key not in NEW})
        for one in _old(tree, path, "Thermal", "Temperatures"):
            right["bmc_temperature", one["ReadingCelsius"]] += 1
        for one in _old(tree, path, "Power", "Voltages"):
            right["bmc_sensor", one["ReadingVolts"]] += 1
        for one in _old(tree, path, "Thermal", "Fans"):
            right["bmc_fan", one["Reading"]] += 1
        for one in _old(tree, path, "Power", "PowerSupplies"):
            right["bmc_psu", one["PowerInputWatts"]] += 1
    columns = {
        "bmc_temperature": "temperature_celsius",
        "bmc_sensor": "voltage_volts",
        "bmc_fan": "speed_rpm",
        "bmc_psu": "input_watts",
    }
    with Reads(bmc) as reads:
        for _ in range(2):
            rows = [one for one in reads.rows() if one.measurement in columns]
            assert right == Counter((one.measurement, one.fields[columns[one.measurement]]) for one in rows)


NEW = {"Sensors", "ThermalSubsystem", "PowerSubsystem", "EnvironmentMetrics"}


def _old(tree: Tree, chassis: str, schema: str, name: str) -> list[Any]:
    """Give the entries of a list of an old schema that read something."""
    told = json.loads(tree.get(f"{chassis}/{schema}", b"{}"))
    readings = ("ReadingCelsius", "ReadingVolts", "Reading", "PowerInputWatts")
    return [
        one
        for one in told.get(name, [])
        if one.get("Status", {}).get("State") not in GONE and any(one.get(key) is not None for key in readings)
    ]


SENSORS = "/redfish/v1/Chassis/Box/Sensors"


def one_sensor(rows: list[Reading], name: str = "Inlet") -> list[tuple[str, str, float]]:
    """Give what rows say of one sensor."""
    return told(rows).get(f"Box/{name}", [])


@pytest.mark.parametrize("expand", [True, False], ids=["expanded", "one by one"])
@pytest.mark.parametrize("reading", [None, "nan", "N/A", [24.5], {"Reading": 24.5}, True, -4000.0, 1e9])
def test_what_is_no_measurement_is_no_row_and_the_next_one_is(
    simulator: Simulator, expand: bool, reading: object
) -> None:
    bmc = simulator.add(made("made"), Options(expand=expand))
    with Reads(bmc) as reads:
        before = reads.rows()
        bmc.change(f"{SENSORS}/CPU_0_Temp", Reading=reading)
        without = reads.rows()
        assert [] == one_sensor(without, "CPU_0_Temp")
        assert len(told(before)) - 1 == len(told(without))
        bmc.change(f"{SENSORS}/CPU_0_Temp", Reading=52.5)
        assert [("bmc_temperature", "temperature_celsius", 52.5)] == one_sensor(reads.rows(), "CPU_0_Temp")


@pytest.mark.parametrize("expand", [True, False], ids=["expanded", "one by one"])
def test_a_unit_that_changes_is_converted_from_then_on(simulator: Simulator, expand: bool) -> None:
    bmc = simulator.add(made("made"), Options(expand=expand))
    with Reads(bmc) as reads:
        reads.rows()
        bmc.change(f"{SENSORS}/CPU_0_Temp", Reading=122.0, ReadingUnits="[degF]")
        ((_, column, value),) = one_sensor(reads.rows(), "CPU_0_Temp")
        assert "temperature_celsius" == column
        assert math.isclose(50.0, value)


@pytest.mark.parametrize("expand", [True, False], ids=["expanded", "one by one"])
def test_a_sensor_that_vanishes_takes_its_row_along_and_no_other(simulator: Simulator, expand: bool) -> None:
    bmc = simulator.add(made("made"), Options(expand=expand))
    with Reads(bmc) as reads:
        before = told(reads.rows())
        bmc.remove(f"{SENSORS}/CPU_0_Temp")
        after = told(reads.rows())
        assert before.keys() - {"Box/CPU_0_Temp"} == after.keys()


def test_a_sensor_that_is_said_to_be_absent_is_no_row_whatever_it_reads(simulator: Simulator) -> None:
    bmc = simulator.add(made("made"))
    with Reads(bmc) as reads:
        for state in sorted(GONE):
            bmc.change(f"{SENSORS}/CPU_0_Temp", Reading=0, Status={"State": state})
            assert [] == one_sensor(reads.rows(), "CPU_0_Temp")


QUOTED = {
    "InputPowerWatts": "input_watts",
    "OutputPowerWatts": "output_watts",
    "InputVoltage": "input_volts",
    "InputCurrentAmps": "input_amperes",
    "TemperatureCelsius": "temperature_celsius",
}
"""Of PowerSupplyMetrics, and the columns of `bmc_psu`."""
PARTS = {"dell": (6, 2), "lenovo": (10, 4), "nvidia_dpu": (0, 0), "nvidia_viking": (36, 6), "made": (2, 2)}
"""Fans and power supplies that are there."""


def there(tree: Tree, folder: str) -> dict[str, Any]:
    """Give the parts below a folder that are not absent, by `<chassis>/<id>`."""
    found = {}
    for path, resource in walk(tree).items():
        steps = path.split("/")
        if len(steps) == 8 and steps[6] == folder and resource.get("Status", {}).get("State") not in GONE:
            found[f"{steps[4]}/{steps[7]}"] = resource
    return found


def said_of(tree: Tree, quoted: Any) -> set[float]:
    """Give what a resource quotes of a sensor, and what the sensor itself read some seconds earlier or later."""
    if not isinstance(quoted, dict):
        return set()
    source = walk(tree).get(str(quoted.get("DataSourceUri")).partition("#")[0]) or {}
    return {value for value in (quoted.get("Reading"), source.get("Reading")) if value is not None}


@pytest.mark.parametrize("name", [*RECORDED, "made"])
def test_each_fan_and_each_supply_is_one_row_of_what_it_and_its_sensors_say(simulator: Simulator, name: str) -> None:
    tree = tree_of(name)
    fans, supplies = there(tree, "Fans"), there(tree, "PowerSupplies")
    assert PARTS[name] == (len(fans), len(supplies))
    with Reads(simulator.add(tree)) as reads:
        for _ in range(2):
            rows = reads.rows()
            turning = {one.device.removeprefix("fan:b/"): one.fields for one in rows if one.measurement == "bmc_fan"}
            feeding = {one.device.removeprefix("psu:b/"): one.fields for one in rows if one.measurement == "bmc_psu"}
            assert (fans.keys(), supplies.keys()) == (turning.keys(), feeding.keys())
            assert PARTS[name] == tuple(
                len([one for one in rows if one.measurement == each]) for each in ("bmc_fan", "bmc_psu")
            )
            for part, fan in fans.items():
                speed = fan.get("SpeedPercent", {})
                said = said_of(tree, speed) | {speed.get("SpeedRPM")}
                assert turning[part].get("speed_rpm") in said | {None}
                ratio = turning[part].get("speed_ratio")
                assert ratio is None or any(one is not None and math.isclose(one / 100, float(ratio)) for one in said)
                assert {"speed_rpm", "speed_ratio"} & turning[part].keys()
            for part, supply in supplies.items():
                metrics = json.loads(tree[supply["Metrics"]["@odata.id"]])
                for property_, column in QUOTED.items():
                    right = said_of(tree, metrics.get(property_))
                    assert (feeding[part].get(column) in right) if right else (column not in feeding[part])
