"""Every collector that `pyproject.toml` promises is there, and together they tell one story."""

import tomllib
from typing import Any

import pytest

from collectors.config import CollectorSection
from collectors.contract import GROUP
from collectors.registry import check_class, discover, load_factory
from schemas.metrics import Catalogue
from schemas.rows import CAPABILITY_METRICS, EVENT_METRICS, LOG_METRICS
from tests.needs import REPOSITORY

PROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
ENTRIES: dict[str, str] = PROJECT["entry-points"][GROUP]


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_point_names_a_collector_that_keeps_the_contract(name: str) -> None:
    collector = load_factory(ENTRIES[name])
    check_class(collector)
    assert name == collector.name


def test_what_is_installed_is_what_is_declared() -> None:
    """An editable install keeps the entry points of its day: `make setup` after a change of them."""
    assert ENTRIES == {
        entry.name: entry.factory for entry in discover().values() if entry.distribution == PROJECT["name"]
    }


def test_all_collectors_together_form_one_catalogue() -> None:
    """No metric is declared twice differently, no measurement has two shapes."""
    specs = [spec for factory in ENTRIES.values() for spec in load_factory(factory).METRICS]
    catalogue = Catalogue([*EVENT_METRICS, *LOG_METRICS, *CAPABILITY_METRICS, *specs])
    assert {spec.measurement for spec in specs} <= set(catalogue.measurements())


@pytest.mark.parametrize("name", ENTRIES)
def test_every_metric_says_what_it_means_and_where_it_comes_from(name: str) -> None:
    bare = [spec.name for spec in load_factory(ENTRIES[name]).METRICS if not (spec.meaning.strip() and spec.source)]
    assert [] == bare


@pytest.mark.parametrize("name", ENTRIES)
def test_no_option_of_a_collector_has_the_name_of_one_that_the_host_takes(name: str) -> None:
    """Both stand in `[collectors.<name>]`: the collector would never see its own."""
    own = set(load_factory(ENTRIES[name]).Config.__struct_fields__)
    assert set() == own & set(CollectorSection.__struct_fields__)


@pytest.mark.parametrize("command", PROJECT["scripts"])
def test_every_command_names_a_function(command: str) -> None:
    module, _, function = PROJECT["scripts"][command].partition(":")
    assert callable(getattr(__import__(module, fromlist=[function]), function))
