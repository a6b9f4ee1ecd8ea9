"""A fleet file says what it means, and every mistake in it is told with its place."""

import json
from collections import Counter
from pathlib import Path

import pytest

from collectors.simulated import Fleet, default_fleet
from schemas.errors import ConfigError
from tests.collectors.simulated.help import START

CASES = Path(__file__).parents[2] / "cases" / "simulated"


@pytest.mark.parametrize("case", sorted(path.parent.name for path in CASES.glob("*/expected_error.txt")))
def test_a_mistake_is_told_with_file_key_and_what_was_meant(case: str) -> None:
    folder = CASES / case
    with pytest.raises(ConfigError) as raised:
        Fleet.from_text((folder / "fleet.toml").read_text(), "fleet.toml")
    assert (folder / "expected_error.txt").read_text().splitlines() == list(raised.value.places)


@pytest.mark.parametrize("case", sorted(path.parent.name for path in CASES.glob("*/expected.json")))
def test_a_fleet_is_what_its_file_says(case: str) -> None:
    fleet = Fleet.from_file(CASES / case / "fleet.toml")
    expected = json.loads((CASES / case / "expected.json").read_text())
    counted = {}
    for node in fleet.nodes:
        node.step(START)
        kinds = Counter(document.kind.value for document in node.documents())
        counted[node.name] = {kind: kinds[kind] for kind in ("gpu", "nvme", "nic", "vf")}
    assert expected == counted


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read"):
        Fleet.from_file(Path("/nowhere.toml"))


def test_an_empty_file_is_one_node_of_the_built_in_type() -> None:
    """R004-11: fake GPUs without any hardware, and without writing a file first."""
    assert [(node.name, node.id) for node in Fleet.from_text("").nodes] == [
        (node.name, node.id) for node in default_fleet().nodes
    ]


def test_nodes_are_found_by_name_and_id() -> None:
    fleet = default_fleet(12)
    assert fleet.node("sim-0012") is fleet.nodes[11]
    assert fleet.node(fleet.nodes[4].id) is fleet.nodes[4]
    with pytest.raises(ConfigError, match="Did you mean 'sim-0012'"):
        fleet.node("sim-012")


def test_an_unknown_built_in_type_is_refused() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'hgx-h100'"):
        default_fleet(1, node_type="hgx-h1000")
