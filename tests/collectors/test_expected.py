"""What differs from the operator's expectations is told when it comes and when it is over, and stands in documents."""

import os
from pathlib import Path

import pytest

from collectors.expected import MOST_TOLD, Expected, drift_events, objections
from schemas.device import DeviceKind, Document, Part, Value
from schemas.events import check_events
from schemas.rows import Event, Severity

FILE = """
[[expect]]
kind = "bmc"
count = 1
must = {firmware = "7.0", "firmware_versions:BIOS" = "1.8.2"}

[[expect]]
kind = "vf"
count = 16
"""


def bmc(firmware: str = "7.0", **told: Value) -> Document:
    versions: Value = ["BIOS=1.8.2", "NIC=22=beta"]
    return Document("bmc:b1", DeviceKind.BMC, part=Part(firmware=firmware),
                    capabilities={"firmware_versions": versions, **told})  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "expected.toml"
    path.write_text(FILE)
    return path


@pytest.fixture
def expected(path: Path) -> Expected:
    return Expected("redfish", str(path), (DeviceKind.BMC,))


def types(events: list[Event]) -> list[tuple[str, object]]:
    return [(event.type, event.detail["kind"]) for event in events]


def test_a_device_that_is_as_expected_is_left_as_it_is(expected: Expected) -> None:
    assert ([bmc()], []) == expected.check([bmc()])


def test_what_differs_is_told_once_and_again_when_it_is_over(expected: Expected) -> None:
    [marked], events = expected.check([bmc("6.0")], "bmc:b1")
    assert ["firmware 6.0 instead of 7.0"] == marked.capabilities["drift"]
    [event] = events
    assert ("redfish.drift", Severity.WARNING, "bmc:b1", "bmc:b1") == (
        event.type, event.severity, event.device, event.subject
    )  # fmt: skip
    assert [] == expected.check([bmc("6.0")], "bmc:b1")[1]
    [clean], over = expected.check([bmc()], "bmc:b1")
    assert ("drift" in clean.capabilities, [("redfish.drift_over", "wrong-firmware")]) == (False, types(over))


def test_an_entry_of_a_list_is_expected_by_its_name(expected: Expected) -> None:
    [event] = expected.check([bmc(firmware_versions=["BIOS=1.8.1"])])[1]
    assert "bmc:b1: firmware_versions:BIOS 1.8.1 instead of 1.8.2" == event.message
    [event] = expected.check([bmc(firmware_versions=["NIC=1"])])[1][1:]
    assert "not told" in event.message


def test_subjects_are_held_against_the_file_each_for_itself(expected: Expected) -> None:
    assert 1 == len(expected.check([bmc("6.0")], "bmc:b1")[1])
    assert 1 == len(expected.check([bmc("6.0")], "bmc:b2")[1])
    assert [("redfish.drift", "wrong-count"), ("redfish.drift_over", "wrong-firmware")] == sorted(
        types(expected.check([], "bmc:b2")[1])
    )
    assert [] == expected.check([bmc("6.0")], "bmc:b1")[1]


def test_a_file_that_changes_is_read_again_and_one_that_is_broken_leaves_what_it_said(
    expected: Expected, path: Path
) -> None:
    expected.check([bmc()])
    path.write_text("[[expect]\n")
    assert ([bmc()], []) == expected.check([bmc()])
    assert "holds no expectations" in expected.problem
    path.write_text(FILE.replace("7.0", "8.0"))
    os.utime(path, ns=(1, 1))
    assert [("redfish.drift", "wrong-firmware")] == types(expected.check([bmc()])[1])
    assert "" == expected.problem
    path.unlink()
    assert [] == expected.check([bmc()])[1]
    assert "cannot be read" in expected.problem


def test_without_a_file_nothing_is_expected() -> None:
    assert ([bmc("1")], []) == Expected("redfish", "", (DeviceKind.BMC,)).check([bmc("1")])
    assert [] == list(objections(""))


def test_a_file_that_cannot_be_read_is_an_objection(tmp_path: Path) -> None:
    [objection] = objections(str(tmp_path / "none.toml"))
    assert "expectations" == objection.option


def test_of_many_differences_of_one_device_the_first_are_told(path: Path) -> None:
    words = ", ".join(f"w{number:02} = 1" for number in range(MOST_TOLD + 4))
    path.write_text(f'[[expect]]\nkind = "bmc"\nmust = {{{words}}}\n')
    [marked], events = Expected("redfish", str(path), (DeviceKind.BMC,)).check([bmc()])
    drift = marked.capabilities["drift"]
    assert isinstance(drift, list)
    assert (MOST_TOLD + 1, "and 4 more", MOST_TOLD + 4) == (len(drift), drift[-1], len(events))


def test_its_events_can_be_declared() -> None:
    assert {"nvme.drift", "nvme.drift_over"} == check_events(drift_events("nvme", "Drives")).keys()
