"""Against systemd itself, and against what systemctl says of it at the same time."""

import logging
import time
from pathlib import Path
from typing import Self

import pytest

from collectors.contract import Context
from collectors.service import ServiceCollector, ServiceConfig
from schemas.rows import Event, Reading
from tests.collectors.service.real_systemd import RealSystemd, missing

pytestmark = pytest.mark.skipif(missing() != "", reason=missing())

UNITS = {
    "steady.service": "ExecStart=sleep 1000",
    "mad.service": "ExecStart=sh -c 'sleep 0.2; exit 3'\nRestart=always\nRestartSec=100ms",
    "broken.service": "ExecStart=sh -c 'exit 7'",
}


class Watching:
    """Polls as the watch does, and keeps what it is told."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.collector.stop()

    def __init__(self, systemd: RealSystemd) -> None:
        context = Context(subject="node-1", log=logging.getLogger("test"), root=systemd.root)
        self.collector = ServiceCollector(ServiceConfig(rows_every_seconds=1), context)
        self.collector.start()
        self.told: list[Event] = []
        self.collector._manager.poll()

    def until(self, word: str, unit: str) -> Event:
        """Wait for an event, and give it."""
        end = time.monotonic() + 60
        while True:
            self.told += self.collector._manager.poll()
            for event in self.told:
                if (event.type, event.detail["unit"]) == (f"systemd.unit.{word}", unit):
                    return event
            assert time.monotonic() < end, f"{word} {unit} was not told: {[one.message for one in self.told]}"
            time.sleep(0.02)

    def row(self, unit: str) -> dict[str, object]:
        """Wait for the next row of a unit."""
        end = time.monotonic() + 60
        while True:
            self.told += self.collector._manager.poll()
            for item in self.collector.collect():
                if isinstance(item, Reading) and item.attributes.get("unit") == unit:
                    return dict(item.fields)
            assert time.monotonic() < end, f"no row of {unit}"
            time.sleep(0.05)


def test_what_happens_to_services_is_told_as_systemctl_says(tmp_path: Path) -> None:
    """R001-11: up, down, new, failed, restarted by somebody and by systemd itself."""
    with RealSystemd(tmp_path, UNITS) as systemd, Watching(systemd) as watching:
        systemd.ask("start", "steady.service")
        assert watching.until("new", "steady.service").detail["unit"] == "steady.service"
        watching.until("up", "steady.service")
        assert "active" == systemd.ask("is-active", "steady.service") == watching.row("steady.service")["state"]

        systemd.ask("stop", "steady.service")
        watching.until("down", "steady.service")

        systemd.ask("start", "broken.service")
        failed = watching.until("failed", "broken.service")
        assert ("exit-code", 7) == (failed.detail["result"], failed.detail["exit_status"])
        assert "failed" == systemd.ask("is-failed", "broken.service")

        systemd.ask("start", "mad.service")
        restarted = watching.until("restarted", "mad.service")
        assert "systemd started mad.service again" in restarted.message
        least = int(systemd.ask("show", "--value", "--property=NRestarts", "mad.service"))
        row = watching.row("mad.service")
        most = int(systemd.ask("show", "--value", "--property=NRestarts", "mad.service"))
        assert least <= int(str(row["restarts_total"])) <= most
        assert row["up"] is True
        mad = [event.type.rpartition(".")[2] for event in watching.told if event.detail["unit"] == "mad.service"]
        assert ["new", "up", "restarted"] == mad  # once a minute, however often it crashes


def test_restart_by_somebody_is_told_whether_it_was_seen_down_or_not(tmp_path: Path) -> None:
    with RealSystemd(tmp_path, UNITS) as systemd:
        systemd.ask("start", "steady.service")
        with Watching(systemd) as watching:
            systemd.ask("restart", "steady.service")
            end = time.monotonic() + 60
            while not watching.told:
                watching.told += watching.collector._manager.poll()
                assert time.monotonic() < end, "nothing was told"
                time.sleep(0.02)
            assert {event.type.rpartition(".")[2] for event in watching.told} & {"restarted", "down"}
