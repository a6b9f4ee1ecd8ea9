"""Devices that programs describe: theirs alone, kept over restarts, gone when they say so or are silent too long."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from collectors.push.devices import MOST, Devices
from collectors.push.objects import DeviceWords
from collectors.push.refusal import RefusedError
from schemas.device import DeviceKind
from tests.collectors.push.harness import Running
from tests.collectors.push.test_pushing import ME

ROOF = {"id": "roof", "part": {"vendor": "Acme", "model": "Hub 8", "serial": "7"}, "location": "mast",
        "capabilities": {"channels": 8, "protocols": ["modbus"], "memory_bytes": 1024}}  # fmt: skip


def said(**more: Any) -> str:
    return json.dumps({"device": ROOF | more}) + "\n"


def test_device_is_described_under_its_pusher_and_its_rows_are_filed_under_it(tmp_path: Path) -> None:
    with Running(tmp_path) as running:
        rows = "roof,device=roof,channel=1 temperature_celsius=21.5\n"
        assert ["accepted rows=2 refused=0 limited=0"] == running.push(said() + rows)
        [document] = running.collector.describe()
        assert 1 == running.counts()[""]["devices"]
    assert f"sensor-hub:{ME}/roof" == document.device == running.rows[0]["device"]
    assert (DeviceKind.SENSOR_HUB, [f"push:{ME}/roof"]) == (document.kind, document.merge_keys)
    assert ("Acme", "7", "mast") == (document.part.vendor, document.part.serial, document.slot.location)
    assert {"channels": 8, "protocols": ["modbus"], "memory_bytes": 1024} == document.capabilities
    assert "1" == running.rows[0]["channel"]
    assert [("push.device.described", document.device)] == [(event.type, event.device) for event in running.events]


def test_only_what_changes_is_told(tmp_path: Path) -> None:
    with Running(tmp_path) as running:
        running.push(said() * 3 + said(capabilities={"channels": 16}) + '{"withdraw": "roof"}\n')
        assert [] == list(running.collector.describe())
    told = [event.type.rpartition(".")[2] for event in running.events]
    assert ["described", "described", "withdrawn"] == told


def test_what_was_answered_ok_is_there_after_a_restart(tmp_path: Path) -> None:
    with Running(tmp_path) as running:
        running.push(said() + "sync\n")
    with Running(tmp_path) as running:
        assert [f"sensor-hub:{ME}/roof"] == [document.device for document in running.collector.describe()]
        assert ["accepted rows=1 refused=0 limited=0"] == running.push("roof,device=roof a=1\n")


@pytest.mark.parametrize("content", ["", "nonsense", '[{"pusher": 5}]', "[" * 5000])
def test_file_that_cannot_be_read_is_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/devices.json").write_text(content)
    with Running(tmp_path) as running:
        assert [] == list(running.collector.describe())
        assert ["accepted rows=1 refused=0 limited=0"] == running.push(said())


class Clock:
    def __init__(self) -> None:
        self.now = 10**18

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def devices(tmp_path: Path, clock: Clock) -> Devices:
    return Devices(tmp_path / "devices.json", clock, logging.getLogger("test"))


def test_device_expires_when_its_pusher_is_silent_and_not_before(devices: Devices, clock: Clock) -> None:
    words = DeviceWords("roof", expires_seconds=60)
    devices.describe("service:weather", "root", words)
    clock.now += 59 * 10**9
    assert devices.describe("service:weather", "root", words) is None  # it says so again, and nothing is new
    clock.now += 59 * 10**9
    assert [] == devices.expire()
    clock.now += 10**9
    assert ["push.device.expired"] == [event.type for event in devices.expire()]
    assert [] == devices.documents()
    assert [] == devices.expire()


def test_expiry_holds_over_a_restart(devices: Devices, clock: Clock, tmp_path: Path) -> None:
    devices.describe("service:weather", "root", DeviceWords("roof", expires_seconds=60))
    assert devices.save()
    clock.now += 61 * 10**9
    again = Devices(tmp_path / "devices.json", clock, logging.getLogger("test"))
    again.load()
    assert 1 == len(again.documents())
    assert 1 == len(again.expire())


def test_pushers_do_not_see_one_anothers_devices(devices: Devices) -> None:
    devices.describe("service:weather", "root", DeviceWords("roof"))
    devices.describe("user:alice", "alice", DeviceWords("roof"))
    assert {"sensor-hub:service:weather/roof", "sensor-hub:user:alice/roof"} == {
        document.device for document in devices.documents()
    }
    devices.withdraw("user:alice", "roof")
    assert "sensor-hub:service:weather/roof" == devices.id_of("service:weather", "roof")
    with pytest.raises(RefusedError, match="user:alice has described no device 'roof'"):
        devices.id_of("user:alice", "roof")


def test_devices_of_one_pusher_are_bounded(devices: Devices) -> None:
    for number in range(MOST):
        devices.describe("service:weather", "root", DeviceWords(f"d{number}"))
    with pytest.raises(RefusedError, match="64 devices already"):
        devices.describe("service:weather", "root", DeviceWords("one-more"))
    assert devices.describe("service:weather", "root", DeviceWords("d0", location="x")) is not None
    assert devices.describe("user:alice", "alice", DeviceWords("d0")) is not None


def test_disk_that_takes_nothing_is_tried_again(tmp_path: Path, clock: Clock) -> None:
    devices = Devices(tmp_path / "away" / "devices.json", clock, logging.getLogger("test"))
    devices.describe("service:weather", "root", DeviceWords("roof"))
    assert not devices.save()
    (tmp_path / "away").mkdir()
    assert devices.save()
    assert (tmp_path / "away/devices.json").is_file()
