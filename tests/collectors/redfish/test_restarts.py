"""What a BMC does not have yet while it boots is not gone, and is looked for again."""

from collections.abc import Iterator
from typing import Any

import pytest

from collectors.redfish.client import Client
from collectors.redfish.config import Bmc as Address
from collectors.redfish.config import RedfishConfig
from collectors.redfish.connection import Trust
from collectors.redfish.unit import Unit
from schemas.rows import Described, Event, Item, Reading
from tests.fakes.redfish import Bmc, Simulator, Status, made


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Boots:
    """A unit that is read by hand, and the BMC behind it."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator, self.clock = simulator, Clock()
        self.bmc: Bmc = simulator.add(made("made"))
        address = Address(address=self.bmc.url, name="b", user=self.bmc.user, password=self.bmc.password)
        config = RedfishConfig(answer_seconds=5.0, logs=False)
        self.client = Client(address, config, Trust(ca_file=""))
        self.unit = Unit(self.client, config, clock=self.clock)

    def read(self) -> list[Item]:
        """Read once, a minute after the last time."""
        self.clock.now += 60.0
        return list(self.unit.read())


@pytest.fixture
def boots(simulator: Simulator) -> Iterator[Boots]:
    made = Boots(simulator)
    yield made
    made.client.log_out()


def sensors(items: list[Item]) -> int:
    """Count the rows of sensors."""
    return sum(isinstance(one, Reading) and "sensor" in one.attributes for one in items)


def described(items: list[Item]) -> list[Described]:
    """Give what was described."""
    return [one for one in items if isinstance(one, Described)]


def test_what_a_booting_bmc_has_not_yet_is_not_gone_and_is_there_when_it_has_booted(boots: Boots) -> None:
    first = boots.read()
    whole = described(first)[-1]
    assert whole.whole
    boots.simulator.disappear(boots.bmc)
    for _ in range(3):
        boots.read()
    boots.bmc.faults.add(Status(404), path="/redfish/v1/Chassis/*")
    boots.simulator.reappear(boots.bmc)
    back = boots.read()
    assert "redfish.bmc.back" in {one.type for one in back if isinstance(one, Event)}
    assert not any(one.whole for one in described(back)), "what it has not yet is not gone"
    boots.bmc.faults.clear()
    later = [boots.read() for _ in range(6)]
    assert sensors(later[-1]) == sensors(first)
    last = [one for items in later for one in described(items)][-1]
    assert last.whole
    assert {one.device for one in last.documents} == {one.device for one in whole.documents}
    asked = len(boots.bmc.requests)
    boots.read()
    calm = len(boots.bmc.requests) - asked
    boots.read()
    assert len(boots.bmc.requests) - asked == 2 * calm, "then it is looked at as before, once in an hour"


def test_an_agent_that_starts_while_a_bmc_boots_looks_again_soon(boots: Boots) -> None:
    boots.bmc.faults.add(Status(404), path="/redfish/v1/Chassis/*")
    first = boots.read()
    assert sensors(first) == 0
    assert not any(one.whole for one in described(first)), "what it has not yet is not gone"
    boots.bmc.faults.clear()
    later = [boots.read() for _ in range(6)]
    assert sensors(later[-1]) > 0
    assert [one for items in later for one in described(items)][-1].whole


@pytest.mark.parametrize(
    ("manager", "soon"),
    [
        ({"DateTime": "2026-11-22T10:00:00+00:00", "LastResetTime": "2026-11-20T10:00:00+00:00"}, False),
        ({"DateTime": "2020-01-01T01:04:00+01:00", "LastResetTime": "2020-01-01T00:00:00Z"}, True),
        ({"Status": {"State": "Starting"}}, True),
        ({"DateTime": "1970-01-01T00:00:00", "LastResetTime": 7}, True),
        ({}, True),
    ],
    ids=["runs for days", "runs for minutes", "starts", "does not know", "does not say"],
)
def test_what_is_missing_for_good_is_looked_at_again_unless_the_bmc_has_run_for_long(
    boots: Boots, manager: dict[str, Any], soon: bool
) -> None:
    boots.bmc.change("/redfish/v1/Managers/BMC", **({"DateTime": None, "LastResetTime": None} | manager))
    boots.bmc.faults.add(Status(404), path="/redfish/v1/UpdateService")
    whole = [bool(one.whole) for _ in range(8) for one in described(boots.read())]
    assert soon == (not whole[0])
    assert whole[-1] == (manager.get("Status") is None and not str(manager.get("DateTime")).startswith("2020"))


def test_a_bmc_that_says_for_ever_that_it_starts_is_not_believed_for_ever(boots: Boots) -> None:
    boots.bmc.change("/redfish/v1/Managers/BMC", Status={"State": "Starting"})
    whole = [one.whole for _ in range(20) for one in described(boots.read())]
    assert [False, True] == [whole[0], whole[-1]]
    asked = len(boots.bmc.requests)
    boots.read()
    calm = len(boots.bmc.requests) - asked
    for _ in range(8):
        boots.read()
    assert len(boots.bmc.requests) - asked <= 10 * calm, "and walked over no more than once in an hour"
