"""Parts that come, go, are changed, sicken or get other firmware are told; what could not be looked at is not gone."""

import msgspec
import pytest

from collectors.redfish.changes import PART_EVENTS, changes
from collectors.redfish.documents import documents
from collectors.redfish.resource import Resource, decode, uri
from schemas.device import Document
from schemas.events import check_events
from schemas.rows import Event, Severity
from tests.fakes.redfish import made


def tree() -> dict[str, Resource]:
    """Give the machine that was written by hand, by path."""
    found = [decode(body)[0] for body in made("made").values()]
    return {uri(one): one for one in found}


def described(resources: dict[str, Resource]) -> list[Document]:
    return documents("b1", resources.values(), own=False)


def compared(after: dict[str, Resource], *, whole: bool = True) -> list[Event]:
    """Compare the machine as it was with another look."""
    return list(changes(described(tree()), described(after), whole=whole, subject="bmc:b1"))


def supply(resources: dict[str, Resource]) -> Resource:
    """Give the first power supply."""
    return next(one for path, one in sorted(resources.items()) if "/PowerSupplies/" in path and "Metrics" not in path)


def test_nothing_is_told_of_a_machine_that_is_as_it_was_nor_of_a_first_look() -> None:
    assert [] == compared(tree())
    assert [] == list(changes([], described(tree()), whole=True))


def test_a_part_that_is_absent_now_is_gone_and_comes_back_as_new() -> None:
    after = tree()
    supply(after)["Status"] = {"State": "Absent"}
    [gone] = compared(after)
    assert ("redfish.part.gone", Severity.WARNING, "psu", "bmc:b1") == (
        gone.type, gone.severity, gone.detail["kind"], gone.subject
    )  # fmt: skip
    [new] = changes(described(after), described(tree()), whole=True)
    assert ("redfish.part.new", gone.device) == (new.type, new.device)


def test_what_a_look_could_not_read_is_not_gone() -> None:
    after = {path: one for path, one in tree().items() if "/PowerSupplies/" not in path}
    assert [] == compared(after, whole=False)
    assert {"redfish.part.gone"} == {event.type for event in compared(after)}


def test_another_serial_in_the_place_of_a_part_is_another_part() -> None:
    after = tree()
    before = supply(after)["SerialNumber"]
    supply(after)["SerialNumber"] = "OTHER1"
    [event] = compared(after)
    assert ("redfish.part.changed", "OTHER1", before) == (
        event.type, event.detail["serial"], event.detail["serial_before"]
    )  # fmt: skip


@pytest.mark.parametrize(("health", "severity"), [("Critical", Severity.CRITICAL), ("Warning", Severity.WARNING)])
def test_health_is_told_as_it_worsens_and_when_it_is_well_again(health: str, severity: Severity) -> None:
    after = tree()
    supply(after)["Status"] = {"State": "Enabled", "Health": health}
    [event] = compared(after)
    assert ("redfish.part.health", severity) == (event.type, event.severity)
    [back] = changes(described(after), described(tree()), whole=True)
    assert (Severity.NOTICE, "ok") == (back.severity, back.detail["health"])


def test_firmware_of_a_part_and_of_the_bmcs_list_is_told() -> None:
    after = tree()
    supply(after)["FirmwareVersion"] = "9.99"
    item = next(one for path, one in after.items() if "/FirmwareInventory/" in path)
    item["Version"] = "9.98"
    found = compared(after)
    assert {"redfish.firmware.changed"} == {event.type for event in found}
    assert {("9.99", None), ("9.98", uri(item).rpartition("/")[2])} == {
        (event.detail["version"], event.detail.get("item")) for event in found
    }


def test_events_say_no_more_than_is_declared() -> None:
    declared = check_events(PART_EVENTS)
    after = tree()
    supply(after).update(SerialNumber="OTHER1")
    for one in (*compared(after), *compared({})):
        assert one.detail.keys() <= set(declared[one.type].detail)
        msgspec.json.encode(dict(one.detail))
