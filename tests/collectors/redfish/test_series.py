"""One BMC has so many series and no more, and takes no more time and memory than it is given."""

from typing import Any

from collectors.redfish.client import Client
from collectors.redfish.config import Bmc as Address
from collectors.redfish.config import RedfishConfig
from collectors.redfish.connection import Trust
from collectors.redfish.reader import Reader
from collectors.redfish.sensors import Sensors
from collectors.redfish.series import MOST, Series
from schemas.rows import Reading
from tests.collectors.redfish.reading import Reads
from tests.fakes.redfish import Options, Simulator, made


def row(number: int) -> Reading:
    """Give the row of a sensor."""
    return Reading("bmc_temperature", {"celsius": 1.0}, "bmc:b", {"sensor": f"Box/{number}"})


def test_what_is_known_goes_on_and_no_more_are_taken_than_there_is_room_for() -> None:
    series = Series()
    assert all(series.admit(row(number)) for number in range(MOST))
    assert not any(series.admit(row(number)) for number in range(MOST, MOST + 100))
    assert all(series.admit(row(number)) for number in range(0, MOST, 97))


class Invents:
    """A client whose sensors have other names each time."""

    expands = True

    def __init__(self) -> None:
        self.given = 0
        self.client = Client(Address(address="https://b", name="b"), RedfishConfig(), Trust())
        self.bmc, self.faults = self.client.bmc, self.client.faults

    def listing(self, path: str) -> Any:
        for _ in range(4096):
            self.given += 1
            yield {"@odata.id": f"{path}/{self.given}", "Name": "x", "Reading": 1.0, "ReadingUnits": "Cel"}

    members = listing


def test_a_bmc_that_invents_sensors_without_end_is_cut_and_counted() -> None:
    client: Any = Invents()
    sensors = Sensors(client)
    rows = list(sensors.survey([f"/redfish/v1/Chassis/{number}/Sensors" for number in range(9)], [], {}))
    assert MOST == len(rows)
    assert client.given <= MOST + 9
    assert client.faults.counts["flood"]


def test_of_names_that_change_with_each_reading_only_so_many_become_series(simulator: Simulator) -> None:
    client: Any = Invents()
    reader = Reader(client, RedfishConfig())
    told = {row.attributes["sensor"] for _ in range(4) for row in reader._limited(sensors(client))}
    assert MOST == len(told)


def sensors(client: Any) -> Any:
    """Survey once."""
    return Sensors(client).survey(["/redfish/v1/Chassis/Box/Sensors"], [], {})


def test_a_survey_that_takes_too_long_hands_on_what_it_has_and_goes_on_the_next_time(simulator: Simulator) -> None:
    bmc = simulator.add(made("made"), Options(expand=False))
    with Reads(bmc) as whole:
        every = {str(one.attributes) for one in whole.rows() if "sensor" in one.attributes}
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 1.0
        return now

    with Reads(bmc, sweep_seconds=20.0) as slow:
        slow.reader = Reader(slow.client, slow.config, clock)
        found: list[set[str]] = []
        for _ in range(30):
            found.append({str(one.attributes) for one in slow.rows() if "sensor" in one.attributes})
    assert every == set().union(*found)
    first = next(one for one in found if one)
    assert first < every, "what is had is handed on before everything was looked at"
