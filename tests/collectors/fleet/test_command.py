"""`muster simulate`: faults by hand, and what it says when nobody is there or the fault cannot be."""

import pytest

from aggregator.cli import main
from schemas.verbosity import RowClass
from tests.collectors.fleet.conftest import Rig


@pytest.fixture
def fleet(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setenv("MUSTER_DATA_DIR", str(rig.folder))
    rig.start(2)
    rig.aggregator.until(lambda: rig.run is not None and all(one.runs for one in rig.run.nodes))
    return rig


def test_a_fault_happens_and_ends_after_its_time(fleet: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    assert fleet.run is not None
    node = fleet.run.nodes[1].node

    assert main(["simulate", "fault", "xid_119", "--node", "sim-0002", "--target", "1", "--for", "1s"]) == 0

    assert "sim-0002" in capsys.readouterr().out
    fleet.aggregator.until(lambda: len(fleet.aggregator.blocks(node.id, RowClass.EVENT)) >= 2)
    types = [block.strings["type"][-1] for block in fleet.aggregator.blocks(node.id, RowClass.EVENT)]
    assert types == ["nvml.gpu.lost", "nvml.gpu.back"]


def test_a_fault_can_be_ended(fleet: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    assert fleet.run is not None
    assert main(["simulate", "fault", "node_silent", "--node", "sim-0001"]) == 0
    fleet.aggregator.until(lambda: fleet.run is not None and fleet.run.nodes[0].node.silent)

    assert main(["simulate", "clear", "node_silent", "--node", "sim-0001", "-o", "json"]) == 0

    assert '"cleared": 1' in capsys.readouterr().out
    fleet.aggregator.until(lambda: fleet.run is not None and not fleet.run.nodes[0].node.silent)


def test_near_names_are_told(fleet: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "fault", "xid_78", "--node", "sim-0001"]) == 1
    assert "xid_79" in capsys.readouterr().err


def test_the_list_has_every_fault(fleet: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "list"]) == 0
    assert "thermal_runaway" in capsys.readouterr().out


def test_without_a_fleet_it_says_how_to_start_one(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MUSTER_DATA_DIR", str(tmp_path))

    assert main(["simulate", "list"]) == 1

    assert "muster up --simulate" in capsys.readouterr().err
