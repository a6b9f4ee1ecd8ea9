"""What metric reports say that a BMC sends by itself is a row at once, and each value is told once however it comes."""

import copy
from collections import Counter
from typing import Any

import pytest

from collectors.redfish.heard_reports import HeardReports
from collectors.redfish.readings import Seen
from collectors.redfish.units import sense_of
from schemas.rows import Reading
from tests.collectors.redfish.reading import Reads
from tests.collectors.redfish.running import Running, address
from tests.fakes.redfish import Bmc, Options, Simulator, made

REPORT = "/redfish/v1/TelemetryService/MetricReports/Platform"
SENSORS = "/redfish/v1/Chassis/Box/Sensors"
INLET = f"{SENSORS}/Inlet"
PATIENCE = 30.0


def report(bmc: Bmc, minute: int, inlet: float) -> dict[str, Any]:
    """Give its report as of a minute; the inlet's value is another than before."""
    told = copy.deepcopy(bmc.resource(REPORT))
    assert told is not None
    for value in told["MetricValues"]:
        value["Timestamp"] = f"2026-11-01T13:{minute:02}:00+00:00"
        if value["MetricProperty"].startswith(INLET):
            value["MetricValue"] = str(inlet)
    return told


def sensors(rows: list[Reading]) -> Counter[str]:
    """Count rows by sensor."""
    return Counter(str(row.attributes["sensor"]) for row in rows if "sensor" in row.attributes)


def inlet(rows: list[Reading]) -> list[object]:
    """Give what rows say of the inlet."""
    return [row.fields["temperature_celsius"] for row in rows if row.attributes.get("sensor") == "Box/Inlet"]


@pytest.mark.parametrize("expand", [True, False])
def test_a_value_is_told_as_it_comes_and_not_read_again(simulator: Simulator, *, expand: bool) -> None:
    bmc = simulator.add(made("made"), Options(expand=expand))
    with Reads(bmc, every_seconds=3600.0) as reads:
        whole = sensors(reads.rows())
        assert [] == reads.reader.hear(report(bmc, 1, 25.0)), "what its sensors mean is not known yet"
        assert whole == sensors(reads.rows())
        came = reads.reader.hear(report(bmc, 2, 26.0))
        assert [26.0] == inlet(came)
        assert set(sensors(came)) <= set(whole)
        asked = len(bmc.requests)
        rest = sensors(reads.rows())
        assert whole == rest + sensors(came), "each sensor once: by the report, or read"
        if not expand:
            assert not any(target.startswith(INLET) for _, target, _ in bmc.requests[asked:])


def test_the_same_report_twice_is_told_once() -> None:
    now = [100.0]
    heard = HeardReports("b", 60.0, lambda: now[0])
    value = {"MetricProperty": f"{INLET}#/Reading", "MetricValue": "24.5"}
    told = {"Timestamp": "2026-11-01T13:00:00Z", "MetricValues": [value]}
    assert [] == heard.hear(told)
    heard.learn({INLET: Seen(sense_of({"ReadingUnits": "Cel"}), 24.0)})
    assert [24.5] == inlet(heard.hear(told))
    now[0] += 10.0
    assert [] == heard.hear(told)
    assert [] == heard.hear({**told, "MetricValues": [{**value, "Timestamp": "2026-11-01T13:00:00Z"}]})
    assert not heard.is_new(INLET, "2026-11-01T13:00:00Z"), "nor by a report that is polled"
    later = {"Timestamp": "2026-11-01T13:01:00Z", "MetricValues": [{**value, "MetricValue": "25.5"}]}
    assert [25.5] == inlet(heard.hear(later))
    assert [] == heard.hear({**later, "Timestamp": "2026-11-01T13:02:00Z"}), "not more than one in a second"
    assert {INLET} == set(heard.now())
    now[0] += 61.0
    assert {} == heard.now(), "what was not heard of for long is read again"


@pytest.mark.parametrize("value", ["nan", None, True, -4000.0, {}, "1e400"])
def test_what_is_no_measurement_is_no_row(value: object) -> None:
    heard = HeardReports("b", 60.0)
    heard.hear({})
    heard.learn({INLET: Seen(sense_of({"ReadingUnits": "Cel"}), 24.0)})
    assert [] == heard.hear({"MetricValues": [{"MetricProperty": INLET, "MetricValue": value}]})
    assert [24.5] == inlet(heard.hear({"MetricValues": [{"MetricProperty": INLET, "MetricValue": 24.5}]}))


@pytest.mark.parametrize("asked", [True, False])
def test_reports_on_the_stream_are_rows_of_the_bmc(simulator: Simulator, *, asked: bool) -> None:
    bmc = simulator.add(made("made"))
    bmc.change("/redfish/v1/EventService", SSEFilterPropertiesSupported={"EventFormatType": True})
    with Running(address(bmc, "b"), stream_reports=asked) as running:
        running.until(lambda: bmc.events.streams and running.rows("bmc_temperature"), "a stream")
        filtered = any("EventFormatType" in target for _, target, _ in bmc.requests)
        assert asked == (not filtered)
        minute = iter(range(60))

        def heard() -> bool:
            bmc.put(REPORT, report(bmc, next(minute), 77.25))
            bmc.events.report(REPORT)
            running.until(lambda: len(running.states("bmc:b")) > len(before), "another reading")
            return 77.25 in inlet(running.rows("bmc_temperature", "bmc:b"))

        before = running.states("bmc:b")
        running.until(heard, "the report's value")
