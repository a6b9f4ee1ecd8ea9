"""A BMC that is slow over its fans and supplies is read for its share of the time, and all of it in the end."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from collectors.redfish.client import Client
from collectors.redfish.config import Bmc as Address
from collectors.redfish.config import RedfishConfig
from collectors.redfish.connection import Trust
from collectors.redfish.reader import Reader
from schemas.rows import Reading
from tests.fakes.redfish import Bmc, Simulator, made

SWEEP = 20.0


class Slow:
    """A BMC that takes so long over each answer, by a clock of its own; members do not come with their collection."""

    def __init__(self, bmc: Bmc) -> None:
        self.now, self.each = 1000.0, 0.0
        config = RedfishConfig(answer_seconds=5.0, sweep_seconds=SWEEP, expand=False)
        address = Address(address=bmc.url, name="b", user=bmc.user, password=bmc.password)
        self.client = Client(address, config, Trust(), pace=self._answer, clock=lambda: self.now)
        self.reader = Reader(self.client, config, lambda: self.now)

    def read(self) -> list[Reading]:
        """Read once, a minute after the last time."""
        self.now += 60.0
        return list(self.reader.read())

    def _answer(self) -> None:
        self.now += self.each


@pytest.fixture
def bmc(simulator: Simulator) -> Bmc:
    bmc = simulator.add(made("made"))
    for path in bmc.paths():  # nothing is known from sensors: each part is a request
        found = bmc.resource(path) or {}
        if "#PowerSupplyMetrics" in str(found.get("@odata.type")) or "#Fan." in str(found.get("@odata.type")):
            for name, value in found.items():
                if isinstance(value, dict) and "DataSourceUri" in value:
                    plain: Any = {key: told for key, told in value.items() if key != "DataSourceUri"}
                    bmc.change(path, **{name: plain})
    return bmc


@pytest.fixture
def slow(bmc: Bmc) -> Iterator[Slow]:
    slow = Slow(bmc)
    yield slow
    slow.client.log_out()


def parts(rows: list[Reading]) -> set[str]:
    """Give the fans and supplies that were read."""
    return {row.device for row in rows if row.measurement in ("bmc_fan", "bmc_psu")}


def test_the_board_has_its_share_and_what_is_left_comes_first_the_next_time(slow: Slow) -> None:
    every = parts(slow.read())
    assert every == parts(slow.read())
    slow.each = SWEEP / 8  # two requests are the board's share
    read: Counter[str] = Counter()
    for _ in range(12):
        began = slow.now + 60.0
        rows = slow.read()
        assert slow.now - began <= SWEEP + 3 * slow.each  # the answer that is waited for, and what is asked before it
        assert parts(rows) < every
        assert [row.measurement for row in rows].count("bmc") == 1, "how the machine is, is always said"
        read.update(parts(rows))
    assert every == set(read)
    assert max(read.values()) - min(read.values()) <= 10


def test_the_power_of_some_supplies_is_not_the_machines(slow: Slow, bmc: Bmc) -> None:
    for path in bmc.paths():
        if "#EnvironmentMetrics" in str((bmc.resource(path) or {}).get("@odata.type")):
            bmc.change(path, PowerWatts=None)
    whole = [row.fields.get("system_power_watts") for row in slow.read() if row.measurement == "bmc"]
    assert whole[0] is not None
    slow.each = SWEEP / 8
    for _ in range(8):
        said = [row.fields.get("system_power_watts") for row in slow.read() if row.measurement == "bmc"]
        assert said[0] in (None, *whole)
    slow.each = 0.0
    slow.read()
    assert whole == [row.fields.get("system_power_watts") for row in slow.read() if row.measurement == "bmc"]
