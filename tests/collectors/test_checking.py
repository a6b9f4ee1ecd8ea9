"""Options are checked with what only their collector knows; one that cannot even say so stops no other."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from collectors.checking import check_agent
from collectors.config import load_agent_config
from collectors.contract import Context, Objection
from collectors.settings import load_settings
from schemas.metrics import MetricSpec


class FanConfig(msgspec.Struct, frozen=True):
    fans: int = 1
    """How many."""


class Fan:
    """Knows how many fans there can be."""

    name: ClassVar[str] = "fan"
    METRICS: ClassVar[tuple[MetricSpec, ...]] = ()
    Config: ClassVar[type[Any]] = FanConfig

    def __init__(self, config: FanConfig, context: Context) -> None:
        self.config, self.context = config, context

    def check_options(self, *, attempt: bool) -> Iterable[Objection]:
        if self.config.fans > 2:
            yield Objection("fans", f"{self.config.fans} are too many: name at most 2")
        if attempt and not (self.context.root / "fan").exists():
            yield Objection("", "there is no fan here")

    def start(self) -> None:
        raise AssertionError("checking starts nothing")

    collect = stop = start


class Broken(Fan):
    """Fails while it checks."""

    def check_options(self, *, attempt: bool) -> Iterable[Objection]:
        raise RuntimeError(f"no idea (attempt: {attempt})")


def told(tmp_path: Path, text: str, *, attempt: bool = False, env: dict[str, str] | None = None) -> list[str]:
    path = tmp_path / "muster.toml"
    path.write_text(text)
    classes: dict[str, type[Any]] = {"fan": Fan, "broken": Broken}
    known = {name: one.Config for name, one in classes.items()} | {"host": None, "syslog": None}
    env = {} if env is None else env
    found = check_agent(
        load_agent_config(path, known, env), load_settings(path, env), classes, attempt=attempt, root=tmp_path
    )
    return [line.removeprefix(f"{path}:") for line in found]


def test_an_objection_is_told_where_its_option_was_written(tmp_path: Path) -> None:
    assert ["3: collectors.fan.fans: 5 are too many: name at most 2"] == told(
        tmp_path, "[agent]\n[collectors.fan]\nfans = 5\n"
    )
    variable = "MUSTER_COLLECTORS__FAN__FANS"
    assert [f"{variable}: collectors.fan.fans: 7 are too many: name at most 2"] == told(
        tmp_path, "", env={variable: "7"}
    )


def test_what_leaves_traces_or_takes_time_is_tried_only_when_asked_for(tmp_path: Path) -> None:
    text = "[collectors.fan]\nfans = 2\n"
    assert [] == told(tmp_path, text)
    assert ["1: collectors.fan: there is no fan here"] == told(tmp_path, text, attempt=True)


def test_a_collector_that_cannot_check_is_told_and_the_others_are_checked(tmp_path: Path) -> None:
    lines = told(tmp_path, "[collectors.broken]\n[collectors.fan]\nfans = 5\n")
    assert [
        "1: collectors.broken: cannot be checked: RuntimeError: no idea (attempt: False)",
        "3: collectors.fan.fans: 5 are too many: name at most 2",
    ] == lines


def test_what_is_switched_off_is_not_checked(tmp_path: Path) -> None:
    assert [] == told(tmp_path, "[collectors.fan]\nenabled = false\nfans = 5\n")
