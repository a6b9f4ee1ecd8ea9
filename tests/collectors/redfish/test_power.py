"""Power, boot and resets of a machine are told as they change, also while nobody looked; off comes with proof."""

from typing import Any

import msgspec
import pytest

from collectors.redfish.power import BOOT_SECONDS, PowerWatch
from collectors.redfish.resource import Resource, decode
from schemas.evidence import PowerReadback
from schemas.rows import Event, Item, Position, Severity
from tests.fakes.redfish import recorded

UUID = "4c4c4544-0035-3410-8050-c6c04f314733"
SECOND = 1_000_000_000


class Clock:
    """A clock that stands."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def system(power: str = "On", **more: Any) -> Resource:
    """Make what a ComputerSystem says."""
    return {"UUID": UUID.upper(), "PowerState": power, **more}


def booted(state: str, oem: str | None = None) -> dict[str, Any]:
    """Make its boot progress."""
    return {"BootProgress": {"LastState": state, **({"OemLastState": oem} if oem else {})}}


def events(items: list[Item]) -> list[Event]:
    """Give the events alone."""
    return [one for one in items if isinstance(one, Event)]


def look(watch: PowerWatch, seen: Resource, manager: Resource | None = None, read_ns: int = 0) -> list[Event]:
    """Look once; give the events."""
    return events(list(watch.look(seen, manager or {}, read_ns)))


@pytest.fixture
def watch() -> PowerWatch:
    return PowerWatch("b1", "bmc:b1", "bmc:b1", clock=Clock())


def test_a_first_look_tells_nothing_and_keeps_what_it_saw(watch: PowerWatch) -> None:
    [position] = watch.look(system(), {}, 0)
    assert isinstance(position, Position)
    assert ("b1 power", {"state": "On"}) == (position.source, msgspec.json.decode(position.value))
    assert {"power_state": "on"} == watch.words


def test_a_machine_that_is_switched_off_is_told_with_the_proof_that_it_is_off(watch: PowerWatch) -> None:
    look(watch, system())
    [event] = look(watch, system("Off"), read_ns=7 * SECOND)
    assert ("redfish.power", Severity.WARNING, "bmc:b1", "bmc:b1") == (
        event.type, event.severity, event.device, event.subject
    )  # fmt: skip
    proof = msgspec.json.decode(str(event.detail["evidence"]), type=PowerReadback)
    assert PowerReadback(UUID, "Off", 7 * SECOND) == proof
    assert ("off", "on") == (event.detail["power_state"], event.detail["power_state_before"])
    assert "off" == watch.words["power_state"]


def test_a_machine_whose_uuid_is_a_placeholder_proves_nothing(watch: PowerWatch) -> None:
    look(watch, {"PowerState": "On"})
    [event] = look(watch, {"PowerState": "Off", "UUID": "00000000-0000-0000-0000-000000000000"})
    assert {"power_state", "power_state_before"} == event.detail.keys()


def test_nothing_is_told_while_nothing_changes(watch: PowerWatch) -> None:
    look(watch, system(**booted("OSRunning")))
    assert [] == list(watch.look(system(**booted("OSRunning")), {}, 1))


def test_a_bmc_that_does_not_say_changes_nothing(watch: PowerWatch) -> None:
    look(watch, system())
    for silent in ({}, {"PowerState": None}, {"PowerState": 3}, {"PowerState": "Sideways"}):
        assert [] == look(watch, silent)
    assert "on" == watch.words["power_state"]


def test_what_changed_while_nobody_looked_is_told_by_the_next_look(watch: PowerWatch) -> None:
    [position] = [one for one in watch.look(system(), {}, 0) if isinstance(one, Position)]
    later = PowerWatch("b1", "bmc:b1", position=position.value)
    assert ["redfish.power"] == [event.type for event in look(later, system("Off"))]


@pytest.mark.parametrize("position", ["", "{", "[]", '{"state": 3}'])
def test_a_position_that_cannot_be_read_is_a_first_look(position: str) -> None:
    assert [] == look(PowerWatch("b1", "bmc:b1", position=position), system("Off"))


@pytest.mark.parametrize(
    ("between", "cause"), [(["On"], "host-reset"), (["Off", "On"], "host-power-cycle"), (["Off"], "host-power-cycle")]
)
def test_a_reset_and_a_power_cycle_are_told_apart(watch: PowerWatch, between: list[str], cause: str) -> None:
    look(watch, system(LastResetTime="2024-06-11T00:14:47-05:00"))
    for power in between:
        look(watch, system(power, LastResetTime="2024-06-11T00:14:47-05:00"))
    found = look(watch, system(LastResetTime="2024-06-11T01:00:00-05:00"))
    [event] = [one for one in found if one.type == "redfish.machine_reset"]
    assert (cause, 1718085600 * SECOND) == (event.detail["reset_cause"], event.source_time_ns)
    assert cause == watch.words["reset_cause"]
    assert [] == look(watch, system(LastResetTime="2024-06-11T01:00:00-05:00"))


def test_a_clock_that_was_never_set_tells_of_no_reset(watch: PowerWatch) -> None:
    look(watch, system(LastResetTime="1970-01-01T00:00:00+00:00"))
    assert [] == look(watch, system(LastResetTime="1970-01-01T01:00:00+00:00"))


def test_a_reset_of_the_bmc_itself_is_told(watch: PowerWatch) -> None:
    look(watch, system(), {"LastResetTime": "2024-03-08T20:38:30-06:00"})
    [event] = look(watch, system(), {"LastResetTime": "2024-03-09T20:38:30-06:00"})
    assert ("redfish.bmc.reset", Severity.WARNING) == (event.type, event.severity)


def test_boot_is_told_step_by_step_and_one_that_never_ends_once() -> None:
    clock = Clock()
    watch = PowerWatch("b1", "bmc:b1", clock=clock)
    look(watch, system(**booted("OSRunning")))
    told = [look(watch, system(**booted(step))) for step in ("PrimaryProcessorInitializationStarted", "OSBootStarted")]
    assert [["redfish.boot"], ["redfish.boot"]] == [[one.type for one in found] for found in told]
    clock.now = BOOT_SECONDS - 1
    assert [] == look(watch, system(**booted("OSBootStarted")))
    clock.now = BOOT_SECONDS + 1
    [stuck] = look(watch, system(**booted("OSBootStarted")))
    assert ("redfish.boot.stuck", Severity.ERROR, "OSBootStarted") == (
        stuck.type, stuck.severity, stuck.detail["boot_progress"]
    )  # fmt: skip
    assert [] == look(watch, system(**booted("OSBootStarted")))
    look(watch, system(**booted("OSRunning")))
    clock.now = 3 * BOOT_SECONDS
    assert [] == look(watch, system(**booted("OSRunning")))


def test_a_bluefield_whose_state_is_its_vendors_own_is_not_stuck() -> None:
    """BootProgress of a real card: LastState OEM, OemLastState OsIsRunning."""
    clock = Clock()
    watch = PowerWatch("b1", "bmc:b1", clock=clock)
    dpu = decode(recorded("nvidia_dpu")["/redfish/v1/Systems/Bluefield"])[0]
    look(watch, dpu)
    clock.now = 3 * BOOT_SECONDS
    assert [] == look(watch, dpu)
    assert {"power_state": "on", "boot_progress": "OsIsRunning"} == watch.words


def test_a_time_that_is_reckoned_anew_each_time_is_no_reset(watch: PowerWatch) -> None:
    """OpenBMC takes the uptime from the clock: the same reset is a second earlier or later."""
    for second in (30, 31, 29, 31, 32):
        assert [] == look(watch, system(), {"LastResetTime": f"2024-03-08T20:38:{second}-06:00"})
