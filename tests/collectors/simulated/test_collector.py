"""The collector `simulated` runs one simulated node inside an ordinary agent."""

import logging
from pathlib import Path

import pytest

from collectors.contract import Context, DescribesDevices
from collectors.simulated import SimulatedCollector, SimulatedConfig, default_fleet
from schemas.errors import StartupError
from schemas.rows import Parcel
from schemas.verbosity import Level
from tests.collectors.simulated.help import SECOND, START

CASES = Path(__file__).parents[2] / "cases" / "simulated"


def collector(level: Level = Level.DEBUG, *, fleet: str = "", node: str = "sim-0001") -> SimulatedCollector:
    context = Context(subject="this-machine", log=logging.getLogger("test"), level=lambda: level)
    clock = iter(range(START, START + 100 * SECOND, SECOND))
    return SimulatedCollector(SimulatedConfig(fleet=fleet, node=node), context, wall_ns=lambda: next(clock))


def test_rows_speak_about_the_simulated_node_not_about_this_machine() -> None:
    source = collector()
    source.start()
    rows = [item for _ in range(3) for item in source.collect() if isinstance(item, Parcel)]
    assert {parcel.block.subject for parcel in rows} == {default_fleet().nodes[0].id}


def test_the_level_in_force_is_obeyed() -> None:
    source = collector(Level.STANDARD)
    source.start()
    assert {item.level for item in source.collect() if isinstance(item, Parcel)} == {Level.ESSENTIAL, Level.STANDARD}


def test_it_describes_the_devices_of_the_configured_node() -> None:
    source = collector(fleet=str(CASES / "mixed_fleet" / "fleet.toml"), node="sim-0003")
    assert isinstance(source, DescribesDevices)
    source.start()
    assert [d.device for d in source.describe()] == [d.device for d in source.node.documents()]  # type: ignore[union-attr]
    assert source.node is not None
    assert source.node.hardware.type_name == "v100-shared"


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (SimulatedConfig(fleet="/nowhere.toml"), "cannot be read"),
        (SimulatedConfig(node="sim-1"), "no node 'sim-1'"),
        (SimulatedConfig(type="hgx"), "no type 'hgx'"),
    ],
)
def test_what_cannot_be_simulated_is_not_tried_again(config: SimulatedConfig, says: str) -> None:
    source = SimulatedCollector(config, Context(subject="this-machine", log=logging.getLogger("test")))
    with pytest.raises(StartupError, match=says) as raised:
        source.start()
    assert not raised.value.retry


def test_it_may_be_stopped_and_started_in_any_order() -> None:
    source = collector()
    source.stop()
    source.start()
    first = list(source.collect())
    source.stop()
    source.stop()
    with pytest.raises(StartupError):
        source.collect()
    source.start()
    assert len(first) == len(list(source.collect()))
