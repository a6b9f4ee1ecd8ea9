"""What a resource says becomes rows: units converted once, what is absent left out, what is quoted said once."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.redfish import reports
from collectors.redfish.documents import documents
from collectors.redfish.errors import Faults
from collectors.redfish.readings import Seen, excerpt, quotes, quotes_all, read_sensor, rows_of, sensor_name
from collectors.redfish.readings_board import board_row
from collectors.redfish.readings_parts import fan_row, leak_row, old_fans, old_sensors, old_supplies, supply_row
from collectors.redfish.units import sense_of
from schemas.rows import Reading

CHASSIS = "/redfish/v1/Chassis/Box"
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def sensor(name: str = "s", **values: Any) -> dict[str, Any]:
    return {"@odata.id": f"{CHASSIS}/Sensors/{name}", "Name": name, **values}


def seen(reading: float, units: str = "W", context: str = "") -> Seen:
    return Seen(sense_of({"ReadingUnits": units}), reading, context)


def read(**values: Any) -> tuple[str, float] | None:
    faults = Faults()
    found = read_sensor(sensor(**values), faults)
    return None if found is None else (found.sense.field, found.value)


@pytest.mark.parametrize(
    ("units", "reading", "field", "value"),
    [
        ("Cel", 40, "temperature_celsius", 40.0),
        ("degrees C", 40, "temperature_celsius", 40.0),
        ("[degF]", 212, "temperature_celsius", 100.0),
        ("K", 273.15, "temperature_celsius", 0.0),
        ("kW", 1.5, "power_watts", 1500.0),
        ("mW", 1500, "power_watts", 1.5),
        ("Watts", 5, "power_watts", 5.0),
        ("mV", 1200, "voltage_volts", 1.2),
        ("mA", 500, "current_amperes", 0.5),
        ("kW.h", 2, "energy_joules", 7_200_000.0),
        ("GHz", 2.5, "frequency_hertz", 2.5e9),
        ("RPM", 9000, "speed_rpm", 9000.0),
        ("%", 25, "share_ratio", 0.25),
        ("Percent", 250, "share_ratio", 2.5),
        ("kPa", 101.3, "pressure_pascals", 101300.0),
        ("L/min", 60, "flow_cubic_meters_per_second", 0.001),
        ("ms", 20, "time_seconds", 0.02),
        ("{tot}", 3, "value", 3.0),
        ("", 3, "value", 3.0),
    ],
)
def test_a_unit_is_converted_once(units: str, reading: float, field: str, value: float) -> None:
    found = read(Reading=reading, ReadingUnits=units, ReadingType="Power")
    assert found is not None
    assert field == found[0]
    assert pytest.approx(value) == found[1]


@pytest.mark.parametrize(
    ("kind", "field"),
    [("Temperature", "temperature_celsius"), ("EnergykWh", "energy_joules"), ("Made up", "value"), (None, "value")],
)
def test_where_no_unit_is_said_the_type_tells(kind: str | None, field: str) -> None:
    found = read(Reading=1, ReadingType=kind)
    assert found is not None
    assert field == found[0]


@pytest.mark.parametrize("state", ["Absent", "Disabled", "UnavailableOffline", "absent"])
def test_what_is_absent_is_no_zero(state: str) -> None:
    assert read(Reading=0, ReadingUnits="Cel", Status={"State": state}) is None


def test_zero_is_a_reading() -> None:
    assert ("temperature_celsius", 0.0) == read(Reading=0, ReadingUnits="Cel", Status={"State": "Enabled"})


@pytest.mark.parametrize("reading", [None, "nan", "N/A", ""])
def test_no_reading_is_absent_and_no_fault(reading: str | None) -> None:
    faults = Faults()
    assert read_sensor(sensor(Reading=reading, ReadingUnits="W"), faults) is None
    assert {} == faults.counts


@pytest.mark.parametrize(
    ("reading", "units", "fault"),
    [(True, "W", "type"), ([1], "W", "type"), ("warm", "Cel", "type"), (-300, "Cel", "impossible"),
     (-1, "RPM", "impossible"), (9e9, "Cel", "impossible")],
)  # fmt: skip
def test_what_cannot_be_is_a_counted_fault(reading: Any, units: str, fault: str) -> None:
    faults = Faults()
    assert read_sensor(sensor(Reading=reading, ReadingUnits=units), faults) is None
    assert {fault: 1} == faults.counts


def test_a_number_that_came_as_a_text_is_one() -> None:
    assert ("power_watts", 10305416020.0) == read(Reading="10305416020.000000", ReadingUnits="W")


def test_one_sensor_in_two_collections_is_one_row() -> None:
    noted: dict[str, Seen] = {}
    again = sensor(Reading=1, ReadingUnits="W")
    rows = list(rows_of("b", [again, again, sensor("t", Reading=2, ReadingUnits="V")], Faults(), noted))
    assert [("bmc_sensor", "Box/s"), ("bmc_sensor", "Box/t")] == [
        (row.measurement, row.attributes["sensor"]) for row in rows
    ]
    assert {"bmc:b"} == {row.device for row in rows}
    assert "Box/s" == sensor_name(f"{CHASSIS}/Sensors/s")


def test_what_is_quoted_is_what_the_sensor_read() -> None:
    said = {
        "InputPowerWatts": {"Reading": 1, "DataSourceUri": f"{CHASSIS}/Sensors/in/"},
        "OutputPowerWatts": {"Reading": 90},
    }
    numbers = {f"{CHASSIS}/Sensors/in": seen(100.0)}
    supply = {"@odata.id": f"{CHASSIS}/PowerSubsystem/PowerSupplies/1", "Status": {"Health": "Warning"}}
    row = supply_row("b", supply, said, numbers)
    assert row is not None
    assert {"input_watts": 100.0, "output_watts": 90.0, "health": "warning"} == row.fields
    assert (1.0, 100.0) == (excerpt(said, "InputPowerWatts", {}), excerpt(quotes(said), "InputPowerWatts", numbers))
    assert quotes_all(quotes(said), ["InputPowerWatts"], numbers)
    assert not quotes_all(said, ["InputPowerWatts", "OutputPowerWatts"], numbers)


def test_a_fans_percentage_that_is_its_speed_is_none() -> None:
    fan = {"@odata.id": f"{CHASSIS}/ThermalSubsystem/Fans/1", "SpeedPercent": {"Reading": 6431, "SpeedRPM": 6431}}
    row = fan_row("b", fan, {})
    assert row is not None
    assert {"speed_rpm": 6431.0} == row.fields
    row = fan_row("b", {**fan, "SpeedPercent": {"Reading": 40, "SpeedRPM": 6431}}, {})
    assert row is not None
    assert {"speed_rpm": 6431.0, "speed_ratio": 0.4} == row.fields
    assert fan_row("b", {**fan, "Status": {"State": "Absent"}}, {}) is None


def test_a_leak_is_seen_where_there_is_a_detector() -> None:
    path = f"{CHASSIS}/ThermalSubsystem/LeakDetection/LeakDetectors/Tray"
    row = leak_row("b", {"@odata.id": path, "DetectorState": "Critical", "Status": {"Health": "OK"}})
    assert row is not None
    assert ({"state": "critical"}, {"detector": "Box/Tray"}) == (row.fields, row.attributes)
    assert leak_row("b", {"@odata.id": path, "DetectorState": "OK", "Status": {"State": "Absent"}}) is None
    assert leak_row("b", {"@odata.id": path, "DetectorState": 5}) is None


OLD_THERMAL = {
    "@odata.id": f"{CHASSIS}/Thermal",
    "Temperatures": [
        {"Name": "CPU 1 Temp", "ReadingCelsius": 37, "MemberId": "0"},
        {"Name": "Ambient", "ReadingCelsius": 22, "MemberId": "1"},
        {"Name": "Empty slot", "ReadingCelsius": 0, "MemberId": "2", "Status": {"State": "Absent"}},
        {"Name": "No reading", "ReadingCelsius": None, "MemberId": "3"},
        "no object",
    ],
    "Fans": [
        {"Name": "Fan 1", "Reading": 5000, "ReadingUnits": "RPM", "MemberId": "0", "Status": {"Health": "OK"}},
        {"Name": "Fan 2", "Reading": 40, "ReadingUnits": "Percent", "MemberId": "1"},
        {"Name": "Fan 3", "Reading": 0, "MemberId": "2", "Status": {"State": "Absent"}},
    ],
}
OLD_POWER = {
    "@odata.id": f"{CHASSIS}/Power",
    "Voltages": [{"Name": "12V", "ReadingVolts": 12.1, "MemberId": "0"}],
    "PowerSupplies": [
        {"MemberId": "0", "PowerInputWatts": 100, "LineInputVoltage": 230, "LastPowerOutputWatts": 635},
        {"MemberId": "1", "PowerInputWatts": 50, "Status": {"State": "Absent"}},
    ],
    "PowerControl": [{"PowerConsumedWatts": 99}, {"PowerConsumedWatts": 5}],
}


def test_what_only_the_old_schemas_have_is_read_of_them() -> None:
    noted: dict[str, Seen] = {}
    rows = list(old_sensors("b", OLD_THERMAL, {"cpu1temp"}, Faults(), noted))
    assert [({"temperature_celsius": 22.0}, {"sensor": "Box/Ambient"})] == [
        (row.fields, row.attributes) for row in rows
    ]
    [volts] = old_sensors("b", OLD_POWER, (), Faults(), noted)
    assert ({"voltage_volts": 12.1}, {"sensor": "Box/12V"}) == (volts.fields, volts.attributes)
    assert [{"speed_rpm": 5000.0, "health": "ok"}, {"speed_ratio": 0.4}] == [
        row.fields for row in old_fans("b", OLD_THERMAL)
    ]
    assert [{"input_watts": 100.0, "input_volts": 230.0}] == [row.fields for row in old_supplies("b", OLD_POWER)]


def old_temperatures(*entries: dict[str, Any], known: tuple[str, ...] = ()) -> dict[str, float]:
    """Give what entries of a list of the old schema read, by what their sensors are called."""
    resource = {"@odata.id": f"{CHASSIS}/Thermal", "Temperatures": list(entries)}
    rows = list(old_sensors("b", resource, known, Faults(), {}))
    told = {str(row.attributes["sensor"]): row.fields["temperature_celsius"] for row in rows}
    assert len(rows) == len(told)
    return told  # type: ignore[return-value]


def test_entries_of_one_name_are_told_apart_by_their_numbers_even_while_one_is_absent() -> None:
    first: dict[str, Any] = {"Name": "Temp", "ReadingCelsius": 30, "MemberId": "7"}
    second: dict[str, Any] = {"Name": "Temp", "ReadingCelsius": 40, "MemberId": "9"}
    other: dict[str, Any] = {"Name": "Inlet", "ReadingCelsius": 20, "MemberId": "10"}
    assert {"Box/Temp:7": 30.0, "Box/Temp:9": 40.0, "Box/Inlet": 20.0} == old_temperatures(first, second, other)
    gone = {**first, "Status": {"State": "Absent"}}
    assert {"Box/Temp:9": 40.0, "Box/Inlet": 20.0} == old_temperatures(gone, second, other)
    alike = old_temperatures(first, {**second, "MemberId": "7"})
    assert {"Box/Temp:7:0": 30.0, "Box/Temp:7:1": 40.0} == alike


def test_what_has_no_name_or_none_in_latin_letters_is_no_known_sensor() -> None:
    unnamed, foreign = {"ReadingCelsius": 30, "MemberId": "7"}, {"Name": "\u6e29\u5ea6", "ReadingCelsius": 40}
    assert {"Box/7": 30.0, "Box/\u6e29\u5ea6": 40.0} == old_temperatures(unnamed, foreign, known=("", "cpu1temp"))


NAMES = st.lists(st.sampled_from(["", "a", "A", "b:0", "\u6e29", "x" * 90]), max_size=8)


@given(NAMES, NAMES)
def test_each_entry_of_an_old_list_is_exactly_one_row(names: list[str], numbers: list[str]) -> None:
    entries = [
        {"Name": name, "MemberId": number, "ReadingCelsius": at}
        for at, (name, number) in enumerate(zip(names, numbers, strict=False))
    ]
    assert list(map(float, range(len(entries)))) == sorted(old_temperatures(*entries, known=("",)).values())


class TestBoard:
    def board(self, **more: Any) -> Reading:
        given: dict[str, Any] = {"system": {}, "environment": {}, "thermal": {}, "power": {}, "numbers": {}} | more
        return board_row("b", **given)

    def test_what_nobody_says_is_absent(self) -> None:
        assert {} == self.board().fields

    def test_its_health_is_that_of_the_whole(self) -> None:
        status = {"Health": "OK", "HealthRollup": "Critical"}
        row = self.board(system={"PowerState": "PoweringOn", "Status": status})
        assert {"power_state": "powering_on", "health": "critical"} == row.fields

    def test_power_is_said_of_the_whole_else_the_sum_of_supplies_that_all_tell(self) -> None:
        supplies = [Reading("bmc_psu", {"input_watts": 10.0}), Reading("bmc_psu", {"input_watts": 20.0})]
        environment = {"PowerWatts": {"Reading": 55}}
        assert 55.0 == self.board(environment=environment, power=OLD_POWER).fields["system_power_watts"]
        assert 99.0 == self.board(power=OLD_POWER, supplies=supplies).fields["system_power_watts"]
        assert 30.0 == self.board(supplies=supplies).fields["system_power_watts"]
        silent = [*supplies, Reading("bmc_psu", {"health": "ok"})]
        assert "system_power_watts" not in self.board(supplies=silent).fields

    def test_air_is_of_the_one_sensor_that_is_there_and_of_none_where_all_say_so(self) -> None:
        one = {"a": seen(22.0, "Cel", "intake"), "b": seen(50.0, "Cel", "cpu")}
        assert {"inlet_temperature_celsius": 22.0} == self.board(numbers=one).fields
        assert {} == self.board(numbers={**one, "c": seen(23.0, "Cel", "intake")}).fields
        said = {"TemperatureSummaryCelsius": {"Intake": {"Reading": 20}, "Exhaust": {"Reading": 900}}}
        assert {"inlet_temperature_celsius": 20.0} == self.board(thermal=said, numbers=one).fields


class TestReports:
    KNOWN = frozenset({f"{CHASSIS}/Sensors/a", f"{CHASSIS}/Sensors/b"})

    def values(self, *found: Any) -> dict[str, float]:
        return {
            path[-1]: value for path, (value, _) in reports.values({"MetricValues": list(found)}, self.KNOWN).items()
        }

    def value(self, name: str, value: Any, **more: Any) -> dict[str, Any]:
        return {"MetricProperty": f"{CHASSIS}/Sensors/{name}#/Reading", "MetricValue": value, **more}

    def test_only_readings_of_known_sensors_count(self) -> None:
        other = {"MetricProperty": f"{CHASSIS}/Sensors/a#/PeakReading", "MetricValue": "9"}
        assert {"a": 1.5} == self.values(self.value("a", "1.5"), self.value("x", "2"), other, None, {"MetricValue": 3})

    def test_of_a_history_the_latest_counts(self) -> None:
        old, new = "2024-08-02T17:18:00+00:00", "2024-08-02T17:18:30+00:00"
        assert {"a": 2.0} == self.values(self.value("a", 2, Timestamp=new), self.value("a", 1, Timestamp=old))

    def test_what_is_stale_or_no_number_is_left_out(self) -> None:
        stale = self.value("a", "1", Oem={"Nvidia": {"MetricValueStale": True}})
        assert {} == self.values(stale, self.value("b", "nan"), self.value("b", "false"))

    def test_what_two_names_claim_nobody_has(self) -> None:
        assert {"b": 3.0} == self.values(
            self.value("a", 1, MetricId="x"), self.value("a", 2, MetricId="y"), self.value("b", 3, MetricId="z")
        )


@given(st.dictionaries(st.sampled_from(["Reading", "ReadingUnits", "ReadingType", "Status", "PhysicalContext"]), ANY))
def test_whatever_a_sensor_holds_it_is_read_or_it_is_not(values: dict[str, Any]) -> None:
    found = read_sensor(sensor(**values), Faults())
    assert found is None or isinstance(found.value, float)


@given(
    st.dictionaries(st.sampled_from(["Temperatures", "Voltages", "Fans", "PowerSupplies", "PowerControl"]), ANY), ANY
)
def test_whatever_the_old_schemas_hold_nothing_is_raised(values: dict[str, Any], speed: Any) -> None:
    resource = {"@odata.id": f"{CHASSIS}/Thermal", **values}
    list(old_sensors("b", resource, (), Faults(), {}))
    list(old_fans("b", resource))
    list(old_supplies("b", resource))
    fan_row("b", {"@odata.id": f"{CHASSIS}/Fans/1", "SpeedPercent": speed, "Status": speed}, {})
    supply_row("b", {"Status": speed}, {"InputPowerWatts": speed}, {})
    board_row(
        "b",
        {"Status": speed, "PowerState": speed},
        {"PowerWatts": speed},
        {"TemperatureSummaryCelsius": speed},
        resource,
        {},
    )
    reports.values({"MetricValues": speed}, frozenset())


def test_fans_and_supplies_of_a_list_without_ids_go_by_their_place_as_their_documents_do() -> None:
    thermal = {
        "@odata.id": "/redfish/v1/Chassis/1/Thermal", "@odata.type": "#Thermal.v1_1_0.Thermal",
        "Fans": [{"Name": "Fan A", "Reading": 3000}, {"Name": "Fan B", "Reading": 4000}],
    }  # fmt: skip
    power = {
        "@odata.id": "/redfish/v1/Chassis/1/Power", "@odata.type": "#Power.v1_1_0.Power",
        "PowerSupplies": [{"LineInputVoltage": 230}, {"MemberId": "x" * 40, "LineInputVoltage": 231}],
    }  # fmt: skip
    rows = [*old_fans("b", thermal), *old_supplies("b", power)]
    assert ["fan:b/1/0", "fan:b/1/1", "psu:b/1/0", f"psu:b/1/{'x' * 32}"] == [row.device for row in rows]
    found = documents("b", [thermal, power], own=False)
    assert {row.device for row in rows} == {one.device for one in found[1:]}
