"""What a BMC's logs, its stream, its power and its parts tell, as the collector hands it on: once each, and at once."""

import time
from pathlib import Path
from typing import Any

import msgspec

from schemas.device import Document
from schemas.evidence import PowerReadback
from schemas.rows import Severity
from tests.collectors.redfish.running import Running, address
from tests.fakes.redfish import Bmc, Simulator, made

SYSTEM = "/redfish/v1/Systems/System"
SEL = "/redfish/v1/Managers/BMC/LogServices/SEL/Entries"
SUPPLY = "/redfish/v1/Chassis/Box/PowerSubsystem/PowerSupplies/PSU_1"
UUID = "6d757374-6572-4000-8000-000000000001"
STREAM = "/redfish/v1/EventService"


def write(bmc: Bmc, number: int, message: str, **more: Any) -> None:
    """Let a BMC write an entry into its SEL."""
    entry = {
        "@odata.id": f"{SEL}/{number}", "@odata.type": "#LogEntry.v1_15_0.LogEntry", "Id": str(number),
        "Created": f"2026-11-01T12:00:{number:02}+00:00", "Severity": "OK", "Message": message, **more,
    }  # fmt: skip
    members = (bmc.resource(SEL) or {"Members": []})["Members"]
    bmc.put(f"{SEL}/{number}", entry)
    fill(bmc, [*members, entry])


def fill(bmc: Bmc, entries: list[Any]) -> None:
    """Set what its SEL holds."""
    bmc.put(SEL, {**(bmc.resource(SEL) or {}), "Members": entries, "Members@odata.count": len(entries)})


def board(running: Running) -> Document:
    """Give the latest document of the BMC itself."""
    return running.described("bmc:b")[-1].documents[0]


def ready(running: Running) -> None:
    """Wait until all is known of a BMC."""
    running.until(lambda: running.described("bmc:b") and len(running.positions()) >= 3, "documents and positions")


def test_entries_are_read_on_after_a_restart_and_old_ones_are_history(simulator: Simulator) -> None:
    bmc = simulator.add(made("made"))
    with Running(address(bmc, "b"), events=False) as running:
        ready(running)
        assert [] == running.records()
        write(bmc, 2, "Fan 2 failed", Severity="Critical", MessageId="Environmental.1.0.FanFailed")
        running.until(lambda: running.events("redfish.fan"))
        kept = running.positions()
    write(bmc, 3, "while nobody looked")
    with Running(address(bmc, "b"), events=False, positions=kept) as running:
        running.until(running.records)
        time.sleep(0.5)
        [record] = running.records()
        assert ("while nobody looked", "BMC/SEL", 3, "bmc:b") == (
            record.message, record.app, record.sequence, record.subject
        )  # fmt: skip
        assert [] == running.events("redfish.log.cleared")


def test_a_log_that_is_cleared_is_told(simulator: Simulator) -> None:
    bmc = simulator.add(made("made"))
    with Running(address(bmc, "b"), events=False) as running:
        ready(running)
        write(bmc, 2, "two")
        running.until(running.records)
        fill(bmc, [])
        [event] = running.until(lambda: running.events("redfish.log.cleared"))
        assert ("bmc:b", Severity.NOTICE) == (event.device, event.severity)


def test_one_happening_on_the_stream_and_in_the_log_is_one_event_within_a_second(simulator: Simulator) -> None:
    bmc = simulator.add(made("made"))
    with Running(address(bmc, "b")) as running:
        ready(running)
        running.until(lambda: bmc.events.streams)
        said = {"message": "PSU 1 lost its input", "severity": "Critical", "origin": SUPPLY}
        began = time.monotonic()
        event = bmc.events.emit("Power.1.0.PowerSupplyFailed", **said)
        running.until(lambda: running.events("redfish.supply"))
        took = time.monotonic() - began
        write(bmc, 2, said["message"], Severity="Critical", MessageId="Power.1.0.PowerSupplyFailed",
              Created=event["EventTimestamp"], Links={"OriginOfCondition": {"@odata.id": SUPPLY}})  # fmt: skip
        running.until(running.records, "the entry")
        time.sleep(0.5)
        [told] = running.events("redfish.supply")
        assert ("psu:b/Box/PSU_1", Severity.CRITICAL, "bmc:b") == (told.device, told.severity, told.subject)
        assert "psu:b/Box/PSU_1" == running.records()[0].device
        assert took < 1.0


def test_a_machine_that_goes_off_is_told_with_its_proof_and_stands_in_the_inventory(
    simulator: Simulator, tmp_path: Path
) -> None:
    bmc = simulator.add(made("made"))
    with Running(address(bmc, "b"), state_dir=tmp_path) as running:
        ready(running)
        running.until(lambda: board(running).capabilities.get("power_state") == "on")
        bmc.change(SYSTEM, PowerState="Off", BootProgress={"LastState": "None"})
        [event] = running.until(lambda: running.events("redfish.power"))
        proof = msgspec.json.decode(str(event.detail["evidence"]), type=PowerReadback)
        assert (UUID, "Off") == (proof.node, proof.power_state)
        assert abs(time.time_ns() - proof.read_ns) < 60 * 10**9
        running.until(lambda: board(running).capabilities.get("power_state") == "off")
        bmc.change(SYSTEM, PowerState="On", BootProgress={"LastState": "OSBootStarted"})
        running.until(lambda: running.events("redfish.boot"))


def test_parts_that_go_and_firmware_that_changes_are_told_by_the_next_look(
    simulator: Simulator, tmp_path: Path
) -> None:
    bmc = simulator.add(made("made"))
    with Running(address(bmc, "b"), state_dir=tmp_path, inventory_every_seconds=0.5) as running:
        ready(running)
        assert [] == running.events("redfish.part.new")
        bmc.change(SUPPLY, Status={"State": "Absent"})
        bmc.change("/redfish/v1/UpdateService/FirmwareInventory/BIOS", Version="1.5.0")
        [gone] = running.until(lambda: running.events("redfish.part.gone"))
        [changed] = running.until(lambda: running.events("redfish.firmware.changed"))
        assert ("psu:b/Box/PSU_1", "BIOS", "1.5.0") == (gone.device, changed.detail["item"], changed.detail["version"])
        running.until(lambda: "psu:b/Box/PSU_1" not in {one.device for one in running.described("bmc:b")[-1].documents})
    with Running(address(bmc, "b"), state_dir=tmp_path) as running:
        ready(running)
        assert [] == [one for one in running.events() if one.type.startswith(("redfish.part", "redfish.firmware"))]


def test_a_part_that_an_event_tells_of_is_looked_for_at_once(simulator: Simulator, tmp_path: Path) -> None:
    """The next look by itself would be in an hour."""
    bmc = simulator.add(made("made"))
    with Running(address(bmc, "b"), state_dir=tmp_path) as running:
        ready(running)
        running.until(lambda: bmc.events.streams)
        bmc.change(SUPPLY, Status={"State": "Absent"})
        bmc.events.emit("ResourceEvent.1.2.ResourceRemoved", "The resource PSU_1 was removed.", "OK", SUPPLY)
        [gone] = running.until(lambda: running.events("redfish.part.gone"))
        assert "psu:b/Box/PSU_1" == gone.device


def test_firmware_that_is_not_as_expected_is_drift_until_the_file_says_otherwise(
    simulator: Simulator, tmp_path: Path
) -> None:
    bmc = simulator.add(made("made"))
    path = tmp_path / "expected.toml"
    path.write_text('[[expect]]\nkind = "bmc"\nmust = {"firmware_versions:BIOS" = "1.5.0"}\n')
    with Running(address(bmc, "b"), state_dir=tmp_path / "state", expectations=str(path)) as running:
        [event] = running.until(lambda: running.events("redfish.drift"))
        assert ("bmc:b", "bmc:b", Severity.WARNING) == (event.device, event.subject, event.severity)
        ready(running)
        assert ["firmware_versions:BIOS 1.4.2 instead of 1.5.0"] == board(running).capabilities["drift"]
        path.write_text('[[expect]]\nkind = "bmc"\nmust = {"firmware_versions:BIOS" = "1.4.2"}\n')
        running.until(lambda: running.events("redfish.drift_over"))
        running.until(lambda: "drift" not in board(running).capabilities)
