"""Collectors are found by entry point, loaded when asked for, and harm nobody when they cannot be."""

import sys
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from collectors.registry import (
    ContractError,
    Entry,
    build_config,
    check_class,
    check_config,
    config_help,
    discover,
    factory_of,
    load,
    load_factory,
)
from collectors.testing import CHECKS, Case
from schemas.errors import ConfigError
from tests.collectors.runtime.fleet import Good


def offer(folder: Path, distribution: str, text: str) -> None:
    place = folder / f"{distribution}.dist-info"
    place.mkdir(parents=True)
    (place / "entry_points.txt").write_text(text)


def test_third_partys_collectors_are_found(plugin_path: Path) -> None:
    """R001-11: a source in a distribution of its own, installed by pip, is a collector like ours."""
    found = discover([str(plugin_path)])
    assert found == {
        "acme_broken": Entry("acme_broken", "acme_fans.broken:Broken", "acme-fans", "1.2.3"),
        "acme_fans": Entry("acme_fans", "acme_fans:Fans", "acme-fans", "1.2.3"),
    }


def test_discovering_imports_nothing(plugin_path: Path) -> None:
    discover([str(plugin_path)])
    assert "acme_fans" not in sys.modules


@pytest.fixture
def importable(plugin_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(plugin_path))
    return plugin_path


def test_broken_collector_of_a_distribution_leaves_its_siblings(importable: Path) -> None:
    """Promise 5: what one distribution breaks harms only that."""
    with pytest.raises(ModuleNotFoundError, match="acme_hardware_library"):
        load("acme_broken")
    assert load("acme_fans").name == "acme_fans"
    with pytest.raises(ConfigError, match=r"collectors\.acme_broken: .* cannot be loaded: ModuleNotFoundError"):
        check_config("acme_broken", {})


def test_third_partys_collector_keeps_the_contract(importable: Path, tmp_path: Path) -> None:
    (tmp_path / "fans").write_text("900\n-\n0\n")
    for check in CHECKS:
        check(Case(load("acme_fans"), root=tmp_path))


def test_our_names_are_ours_and_otherwise_the_first_on_the_path_wins(tmp_path: Path) -> None:
    offer(tmp_path / "a", "zzz-1", "[muster.collectors]\nhost = zzz:Host\nfan = zzz:Fan\n")
    offer(tmp_path / "b", "rackmuster-0.1", "[muster.collectors]\nhost = collectors.host:HostCollector\nfan=ours:Fan\n")
    offer(tmp_path / "c", "late-1", "[muster.collectors]\nother = first:Other\n")
    offer(tmp_path / "d", "later-1", "[muster.collectors]\nother = second:Other\n")
    found = discover([str(tmp_path / name) for name in "abcd"])
    assert {name: entry.factory for name, entry in found.items()} == {
        "fan": "ours:Fan",
        "host": "collectors.host:HostCollector",
        "other": "first:Other",
    }


def test_files_that_are_no_entry_points_are_passed_over(tmp_path: Path) -> None:
    offer(
        tmp_path,
        "odd-1",
        "; a comment\n[muster.collectors]\n# more\nno target\nempty =\nplain = module\nx = a:B [extra]\n",
    )
    (tmp_path / "bytes-1.dist-info").mkdir()
    (tmp_path / "bytes-1.dist-info" / "entry_points.txt").write_bytes(b"\xff\xfe")
    assert discover([str(tmp_path), str(tmp_path / "nowhere")]) == {"x": Entry("x", "a:B", "odd", "1")}


def test_unknown_name_is_told_with_near_names() -> None:
    entries = {"syslog": Entry("syslog", "a:B", "x", "1")}
    with pytest.raises(ConfigError, match=r"collectors\.sislog: no collector .* Did you mean 'syslog'\?"):
        factory_of("sislog", entries)
    assert factory_of("module:Class", {}) == "module:Class"


class Target(msgspec.Struct, frozen=True):
    """A target."""

    address: str = ""
    """Where."""
    port: int = 443
    """Which."""


class Config(msgspec.Struct, frozen=True):
    """Options."""

    seconds: float = 1.0
    """How long."""
    targets: list[Target] = []
    """Which,
    over two lines."""
    named: dict[str, Target] = {}
    silent: bool = False

    def __post_init__(self) -> None:
        if self.seconds < 0:
            raise ValueError("seconds: below 0")


class Polling(Good):
    Config: ClassVar[type[Any]] = Config


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"seconz": 1}, r"collectors\.fan\.seconz: unknown option\. Did you mean 'seconds'\?"),
        ({"zzz": 1}, r"collectors\.fan\.zzz: unknown option\. Options here: seconds, targets, named, silent\."),
        ({"targets": [{}, {"prot": 1}]}, r"collectors\.fan\.targets\[1\]\.prot: unknown option\. Did you mean 'port'"),
        (
            {"named": {"a": {"addresz": ""}}},
            r"collectors\.fan\.named\.a\.addresz: unknown option\. Did you mean 'address'",
        ),
        ({"seconds": "5"}, r"collectors\.fan\.seconds: must be a number, such as seconds = 1\.5; this is a text"),
        (
            {"targets": [{"port": "x"}]},
            r"collectors\.fan\.targets\[0\]\.port: must be a whole number, such as port = 5; this is a text",
        ),
        ({"targets": ["x"]}, r"collectors\.fan\.targets\[0\]: each entry of the list is a table"),
        ({"seconds": -1.0}, r"collectors\.fan: seconds: below 0"),
    ],
)
def test_configuration_that_does_not_fit_is_told_by_place(written: dict[str, Any], message: str) -> None:
    """Promise 8: a clear error, with a suggestion."""
    with pytest.raises(ConfigError, match=message):
        build_config("fan", Polling, written)


def test_every_unknown_option_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        build_config("fan", Polling, {"a": 1, "targets": [{"b": 2}]})
    assert len(raised.value.places) == 2


def test_configuration_that_fits_is_converted() -> None:
    assert build_config("fan", Polling, {"seconds": 2, "targets": [{"port": 1}]}) == Config(2.0, [Target(port=1)])
    assert build_config("fan", Polling, {"seconds": "2.5"}, strict=False) == Config(2.5)


def test_help_of_a_field_is_its_docstring() -> None:
    assert config_help(Config) == {
        "seconds": "How long.",
        "targets": "Which,\nover two lines.",
        "named": "",
        "silent": "",
    }


def bad(**members: Any) -> type[Any]:
    return type("Bad", (Good,), members)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"name": "Not Snake"}, "`name` must be a word"),
        ({"METRICS": [*Good.METRICS]}, "METRICS must be a tuple"),
        ({"METRICS": ("fan.speed",)}, "METRICS must be a tuple"),
        ({"Config": dict}, "Config must be"),
        ({"collect": None}, "no method `collect`"),
        ({"isolation": 3}, "`isolation` must be a word"),
    ],
)
def test_class_that_is_no_collector_is_refused(members: dict[str, Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_class(bad(**members))


def test_factory_that_names_no_class_is_refused() -> None:
    with pytest.raises(ContractError, match="does not name a class"):
        load_factory("tests.collectors.runtime.fleet:metric")
    with pytest.raises(ContractError, match="does not name a class"):
        load_factory("tests.collectors.runtime.fleet:Nobody")
