"""`muster demo` lists what there is, and refuses what there is not."""

import pytest

from aggregator.cli import main
from aggregator.demo import SCENARIOS


def test_without_a_scenario_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    assert all(name in out and scenario.title in out for name, scenario in SCENARIOS.items())


def test_a_scenario_that_there_is_not_is_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["demo", "999"])
    assert left.value.code == 2
    err = capsys.readouterr().err
    assert all(name in err for name in SCENARIOS)
