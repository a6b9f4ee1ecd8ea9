"""Real controllers of QEMU, real ioctls, and other programs that read the same drives: they must say the same.

One drive is the seed drive of R000-4, another is pulled. What only real hardware does (heat, wear, sanitize) is in
`tests/collectors/nvme`. Requirements: R000-4, R000-6, R004-9.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aggregator.ledger.words import Reach
from schemas.device import Document
from schemas.evidence import NvmeReadback, decode_readback
from tests.aggregator.ledger.worlds import Book, begin
from tests.needs import unmet
from tests.vm.emulator import emulator
from tests.vm.machine import Machine

pytestmark = [pytest.mark.vm, pytest.mark.slow]

SEED_BYTES = 3_840_755_982_336
DRIVE, SPACE, PULLED = "nvme:SEED", "nvme-namespace:SEED/1", "nvme:PULLED"
SLACK = 64
"""Commands, or units of 512,000 bytes, between two readings of a drive that is in use."""


def _devices(folder: Path, ocp: str) -> list[str]:
    """Give QEMU's arguments: the seed drive, whose image takes no room, and a small one behind a port, to pull."""
    arguments = ["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"]
    for name, size in (("SEED", SEED_BYTES), ("PULLED", 16 << 20)):
        disk = folder / f"{name}.img"
        with disk.open("wb") as file:
            file.truncate(size)
        arguments += ["-drive", f"file={disk},if=none,format=raw,id=d{name},discard=unmap"]
    for device in (
        "pcie-root-port,id=rp1,chassis=1,slot=1",
        f"nvme,serial=SEED,id=SEED{ocp}",
        "nvme-ns,drive=dSEED,bus=SEED,logical_block_size=4096,physical_block_size=4096",
        "nvme,serial=PULLED,id=PULLED,drive=dPULLED,bus=rp1",
    ):
        arguments += ["-device", device]
    return arguments


class Said:
    """What the guest said."""

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {}
        self.documents: dict[str, Any] = {}
        self.others: dict[str, Any] = {}
        self.events: list[tuple[str, str, dict[str, Any]]] = []
        self.trouble: list[str] = []
        self.ocp = False
        """Whether the emulator's drives have the OCP log."""
        self.cleans: list[dict[str, Any]] = []

    def take(self, word: str, what: Any) -> None:
        """Take a line."""
        if word == "look":
            moment, self.rows[moment], self.documents[moment], self.others[moment] = what
        elif word == "event":
            self.events.append((what[0], what[1], what[2]))
        elif word == "clean":
            self.cleans.append(what)
        elif word == "trouble":
            self.trouble.append(what)


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Said:
    """Run the guest, and warm and pull its drives when it asks for it."""
    found = Said()
    command = emulator("igb")  # which is new enough to have the OCP log too
    known = subprocess.run([*command, "-device", "nvme,help"], capture_output=True, text=True, check=True).stdout
    found.ocp = " ocp=" in known
    extra = _devices(tmp_path_factory.mktemp("drives"), ",ocp=on" if found.ocp else "")
    with Machine("python3.11 -m tests.vm.guest.nvme_drives", memory=1024, extra=extra, emulator=command) as machine:
        for line in machine.lines(180):
            if not line.startswith("{"):
                continue  # what nvme-cli says of its success
            for word, what in json.loads(line).items():
                found.take(word, what)
                if what == "warn":
                    path = "/machine/peripheral/SEED"
                    machine.qmp("qom-set", path=path, property="smart_critical_warning", value=2)
                elif what == "pull":
                    machine.qmp("device_del", id="PULLED")
        assert 0 == machine.exit_status, machine.console
    return found


@pytest.mark.parametrize("moment", ["start", "used"])
def test_health_is_what_nvme_cli_reads(said: Said, moment: str) -> None:
    for serial, device in (("SEED", DRIVE), ("PULLED", PULLED)):
        row, theirs = said.rows[moment][device], said.others[moment][serial]["smart"]
        assert theirs["temperature"] - 273 == row["temperature_celsius"]
        assert theirs["critical_warning"] == row["critical_warning"]
        assert theirs["avail_spare"] / 100 == row["available_spare_ratio"]
        for name, other, factor in (
            ("read_bytes_total", "data_units_read", 512_000),
            ("written_bytes_total", "data_units_written", 512_000),
            ("read_commands_total", "host_read_commands", 1),
            ("write_commands_total", "host_write_commands", 1),
            ("power_on_seconds_total", "power_on_hours", 3600),
            ("media_errors_total", "media_errors", 1),
        ):
            # asking counts as well: whoever asks later sees a few commands more
            more = int(theirs[other]) - (row[name] or 0) // factor
            assert 0 <= more <= (SLACK if other.startswith(("data", "host")) else 0), name


def test_health_is_what_smartctl_reads(said: Said) -> None:
    row = said.rows["used"][DRIVE]
    theirs = said.others["used"]["SEED"]["smartctl"]["nvme_smart_health_information_log"]
    assert theirs["temperature"] == row["temperature_celsius"]
    assert theirs["data_units_written"] * 512_000 == row["written_bytes_total"]
    assert theirs["host_writes"] == row["write_commands_total"]
    assert row["written_bytes_total"] >= 2 << 20, "what the guest wrote"


def test_log_of_the_ocp_specification_is_what_nvme_cli_reads(said: Said) -> None:
    if not said.ocp:
        unmet("needs a QEMU whose drives have the OCP log")
    row, theirs = said.rows["used"][DRIVE], said.others["used"]["SEED"]["ocp"]
    assert row["physical_written_bytes_total"] == theirs["Physical media units written"]["lo"]
    assert row["physical_written_bytes_total"] > 0


def test_seed_drive_is_what_nvme_cli_identifies(said: Said) -> None:
    """R000-4: sectors of their own size, not the 512 bytes in which the kernel counts."""
    drive, space = said.documents["start"][DRIVE], said.documents["start"][SPACE]["capabilities"]
    theirs = said.others["start"]["SEED"]
    assert (937_684_566, 4096, SEED_BYTES) == tuple(
        space[name] for name in ("sectors", "sector_bytes", "capacity_bytes")
    )
    assert theirs["namespace"]["nsze"] == space["sectors"]
    formats = [f"{1 << one['ds']}+{one['ms']}" for one in theirs["namespace"]["lbafs"]]
    assert (formats, formats[theirs["namespace"]["flbas"] & 15]) == (space["lba_formats"], space["lba_format"])
    assert theirs["controller"]["sn"].strip() == drive["part"]["serial"]
    assert theirs["controller"]["mn"].strip() == drive["part"]["model"]
    assert theirs["controller"]["wctemp"] - 273 == drive["capabilities"]["warning_celsius"]
    assert theirs["controller"]["cntlid"] == drive["capabilities"]["controller_id"]


def test_drive_does_not_report_what_it_does_not_have(said: Said) -> None:
    assert {"nvme.sanitize", "nvme.self_test", "nvme_ocp.free_ratio"} <= set(
        said.documents["used"][PULLED]["unsupported"]
    )
    assert "sanitize" not in said.rows["used"][DRIVE]


def test_mounted_partition_is_seen_and_is_gone_after(said: Said) -> None:
    """R000-6."""
    space = "nvme-namespace:PULLED/1"
    used, later = (said.documents[moment][space]["capabilities"] for moment in ("used", "formatted"))
    assert ["1:1048576:8388608"] == used["partitions"]
    assert ["/tmp/mnt"] == [one.partition("=")[2] for one in used["mounts"]]
    assert "ext4" == used["file_systems"][0].partition("=")[2]
    assert "mounts" not in later
    assert "partitions" not in said.documents["start"][space]["capabilities"]


def test_warning_from_outside_is_told_by_the_drive_itself_and_read_at_once(said: Said) -> None:
    told = [
        (kind, detail.get("information"), detail.get("bits")) for kind, device, detail in said.events if device == DRIVE
    ]
    assert told[:2] == [("nvme.async", "temperature", None), ("nvme.critical_warning", None, 2)]
    row = said.rows["warned"][DRIVE]
    assert (2, True, False) == (row["critical_warning"], row["warning_temperature"], row["warning_spare"])


def test_other_format_is_an_event_with_both(said: Said) -> None:
    """R000-4."""
    (detail,) = [detail for kind, _, detail in said.events if kind == "nvme.namespace.changed"]
    assert ("4096+0", "512+0", 937_684_566, 7_501_476_528) == tuple(
        detail[name] for name in ("format_before", "format", "sectors_before", "sectors")
    )
    space = said.documents["formatted"][SPACE]["capabilities"]
    assert (7_501_476_528, 512, SEED_BYTES) == tuple(
        space[name] for name in ("sectors", "sector_bytes", "capacity_bytes")
    )
    assert said.others["formatted"]["SEED"]["namespace"]["nsze"] == space["sectors"]


def test_reset_is_told(said: Said) -> None:
    assert [DRIVE] == [device for kind, device, _ in said.events if kind == "nvme.drive.reset"]


def test_without_rights_the_kernel_tells_the_temperature_and_why_no_more_is_there(said: Said) -> None:
    row = said.rows["denied"][DRIVE]
    assert {"state": "live", "temperature_celsius": said.rows["used"][DRIVE]["temperature_celsius"]} == row
    document = said.documents["denied"][DRIVE]
    assert ["identify", "logs"] == document["capabilities"]["not_permitted"]
    assert any("CAP_SYS_ADMIN" in text for text in said.trouble)
    space = said.documents["denied"][SPACE]["capabilities"]
    assert (7_501_476_528, 512) == (space["sectors"], space["sector_bytes"])


def test_format_with_erase_is_evidence_and_a_hook_that_does_nothing_gives_none(said: Said) -> None:
    """The kernel saw the drive complete the format; QEMU's drive cannot sanitize."""
    cleaned, space, idle = (decode_readback(one["evidence"]) for one in said.cleans)
    assert isinstance(cleaned, NvmeReadback)
    assert isinstance(idle, NvmeReadback)
    assert isinstance(space, NvmeReadback)
    assert ("d-1", [1], [1], False) == (space.device, space.formatted, space.namespaces, space.in_use)
    assert ("", [1], [1], False) == (cleaned.sanitize_status, cleaned.formatted, cleaned.namespaces, cleaned.in_use)
    assert ([], [1], False) == (idle.formatted, idle.namespaces, idle.in_use)


def test_pulled_drive_is_told_once_and_has_no_document(said: Said) -> None:
    gone = [(device, detail["serial"]) for kind, device, detail in said.events if kind == "nvme.drive.gone"]
    assert [(PULLED, "PULLED")] == gone
    assert {DRIVE, SPACE} == said.documents["pulled"].keys()
    assert {DRIVE} == said.rows["pulled"].keys()


def test_ledger_has_drives_and_name_spaces_below_them(said: Said) -> None:
    book = Book()
    begin(book, "guest")
    for one in said.documents["start"].values():
        book.see(msgspec.convert(one, Document), "guest")
    devices = {device.part.serial: device for device in book.state.devices_of("guest") if device.part.serial}
    assert {"SEED", "SEED/1", "PULLED", "PULLED/1"} <= devices.keys()
    assert devices["SEED"].id == devices["SEED/1"].parent
    assert {Reach.LIVE} == {device.reach for device in devices.values()}
    assert "nvme0" == devices["SEED"].get("controller")
