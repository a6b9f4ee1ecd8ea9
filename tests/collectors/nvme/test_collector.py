"""Drives as rows, documents and events; what may not be asked, hangs or lies harms only itself."""

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from collectors.nvme.admin import AdminError, DriveLostError
from schemas.capabilities_nvme import NVME_NAMESPACE_WORDS, NVME_WORDS, OWN_NVME_WORDS
from schemas.device import DeviceKind
from schemas.errors import NoDataError, PartialCollectError
from schemas.rows import Item
from tests.collectors.nvme import made
from tests.collectors.nvme.help import Machine, keyed
from tests.collectors.nvme.made import FakeDrive
from tests.collectors.pci.made import link, write

DRIVE, SPACE = "nvme:S64HNE0", "nvme-namespace:S64HNE0/1"
SECOND = "pci0000:00/0000:00:02.0/0000:02:00.0"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with one drive, the seed drive."""
    place = tmp_path / "root"
    made.drive(place)
    return place


def test_nothing_is_read_where_there_is_no_drive(tmp_path: Path) -> None:
    with pytest.raises(NoDataError, match="no drive"):
        Machine(tmp_path).start()


def test_health_is_read_in_base_units(root: Path) -> None:
    rows = Machine(root, nvme0=FakeDrive()).start().rows()
    nvme = rows[f"nvme {DRIVE}"]
    assert ("live", 40.0, 1.0, 0.1, 0.03) == tuple(
        nvme[name]
        for name in ("state", "temperature_celsius", "available_spare_ratio", "spare_threshold_ratio", "used_ratio")
    )
    assert (1_248_078 * 512_000, 600, 2884 * 3600) == tuple(
        nvme[name] for name in ("written_bytes_total", "busy_seconds_total", "power_on_seconds_total")
    )
    assert ("none", "passed", "never", 1) == tuple(
        nvme[name] for name in ("self_test", "self_test_result", "sanitize", "firmware_slot")
    )
    assert (38.0, 33.0) == tuple(rows[f"nvme_sensor {DRIVE} {at}"]["temperature_celsius"] for at in (1, 3))
    assert f"nvme_sensor {DRIVE} 2" not in rows
    assert None is rows[f"nvme_ocp {DRIVE}"]["physical_written_bytes_total"], "2**70 fits no column"
    assert 97 == round(100 * rows[f"nvme_ocp {DRIVE}"]["free_ratio"])


def test_logs_are_read_less_often_and_nothing_stays_open(root: Path) -> None:
    drive = FakeDrive()
    machine = Machine(root, nvme0=drive).start()
    machine.rows()
    assert {0x01, 0x02, 0x03, 0x06, 0x81, 0xC0} == set(drive.asked)
    drive.asked.clear()
    machine.rows(16)
    assert [0x02] == drive.asked
    assert {} == machine.rows(1)
    assert [0x02] == drive.asked
    assert drive.opened == drive.closed


def test_page_that_a_drive_does_not_have_is_asked_for_once(root: Path) -> None:
    drive = FakeDrive()
    for page in (0x06, 0x81, 0xC0):
        del drive.pages[page]
    machine = Machine(root, nvme0=drive).start()
    rows = machine.rows()
    assert "sanitize" not in rows[f"nvme {DRIVE}"]
    assert f"nvme_ocp {DRIVE}" not in rows
    drive.asked.clear()
    machine.rows()
    assert {0x01, 0x02, 0x03} == set(drive.asked)
    told = machine.documents()[DRIVE].unsupported
    assert {"nvme.sanitize", "nvme.self_test", "nvme_ocp.free_ratio"} <= set(told)


def test_page_of_another_maker_is_not_taken_for_the_ocp_log(root: Path) -> None:
    drive = FakeDrive()
    drive.pages[0xC0] = made.ocp_log(guid=bytes(16))
    machine = Machine(root, nvme0=drive).start()
    assert f"nvme_ocp {DRIVE}" not in machine.rows()
    drive.asked.clear()
    machine.rows()
    assert 0xC0 not in drive.asked


def test_documents_say_what_the_drive_is_and_how_it_is_formatted(root: Path) -> None:
    """R000-4."""
    documents = Machine(root, nvme0=FakeDrive()).start().documents()
    drive, space = documents[DRIVE], documents[SPACE]
    assert (DeviceKind.NVME, "0000:01:00.0", "pci0000:00/01.0/00.0") == (
        *(drive.kind, drive.slot.address, drive.slot.path),
    )
    assert [DRIVE, "serial:S64HNE0", "pci:0000:01:00.0"] == drive.merge_keys
    assert ("S64HNE0", "GDC5302Q", "144d") == (drive.part.serial, drive.part.firmware, drive.part.vendor)
    assert (["block-erase", "crypto-erase"], 1, "nvme0", 77.0) == tuple(
        drive.capabilities[name] for name in ("sanitize", "namespaces", "controller", "warning_celsius")
    )
    assert (DeviceKind.NVME_NAMESPACE, DRIVE) == (space.kind, space.parent)
    assert (937_684_566, 4096, 3_840_755_982_336, "4096+0", ["512+0", "4096+0", "4096+8"], "nvme0n1") == tuple(
        space.capabilities[name]
        for name in ("sectors", "sector_bytes", "capacity_bytes", "lba_format", "lba_formats", "block_device")
    )
    for document, words in ((drive, NVME_WORDS), (space, NVME_NAMESPACE_WORDS)):
        known = {word.name: word.type for word in words}
        for name, value in document.capabilities.items():
            wanted = known[name]
            assert isinstance(value, list) if wanted == list[str] else type(value) is wanted, name


def test_words_are_declared_once_and_say_what_they_mean() -> None:
    for words in (NVME_WORDS, NVME_NAMESPACE_WORDS):
        assert len({word.name for word in words}) == len(words)
        assert [] == [word.name for word in words if not word.meaning.endswith(".")]
    assert {"mounts", "controller"} <= OWN_NVME_WORDS


def test_without_rights_the_kernel_tells_what_it_knows_and_the_reason_is_said(root: Path) -> None:
    drive = FakeDrive()
    drive.denied = True
    machine = Machine(root, nvme0=drive).start()
    rows = machine.rows()
    assert {"state": "live", "temperature_celsius": 40.0} == rows[f"nvme {DRIVE}"]
    assert 38.0 == rows[f"nvme_sensor {DRIVE} 1"]["temperature_celsius"]
    with pytest.raises(PartialCollectError, match="Permission denied"):
        list(machine.collector.describe())
    documents = machine.documents()
    assert ["identify", "logs"] == documents[DRIVE].capabilities["not_permitted"]
    assert [] == documents[DRIVE].unsupported
    space = documents[SPACE].capabilities
    assert (937_684_566, 4096) == (space["sectors"], space["sector_bytes"]), (
        "the kernel counts 512 bytes, sectors do not"
    )
    assert "lba_formats" not in space


def test_drive_that_resets_is_not_asked(root: Path) -> None:
    drive = FakeDrive()
    machine = Machine(root, nvme0=drive).start()
    machine.rows()
    opened = drive.opened
    (root / "sys/class/nvme/nvme0/state").write_text("resetting\n")
    machine.clock.now += 300
    with pytest.raises(PartialCollectError, match="resetting"):
        list(machine.collector.collect())
    assert opened == drive.opened
    (event,) = machine.events()
    assert ("nvme.drive.state", "resetting", "live") == (
        *(event.type, event.detail["state"], event.detail["state_before"]),
    )


def test_drive_that_sleeps_is_not_woken(root: Path) -> None:
    drive = FakeDrive()
    write(root, "sys/bus/pci/devices/0000:01:00.0/power/runtime_status", "suspended\n")
    rows = Machine(root, nvme0=drive).start().rows()
    assert {"state": "live"} == rows[f"nvme {DRIVE}"]
    assert 0 == drive.opened


def test_drive_that_fails_leaves_the_rows_of_others(root: Path) -> None:
    made.drive(root, "nvme1", SECOND, serial="OTHER")
    bad, good = FakeDrive(), FakeDrive("OTHER")
    bad.failing = DriveLostError("nvme0: gone")
    machine = Machine(root, nvme0=bad, nvme1=good).start()
    machine.clock.now += 300
    items: list[Item] = []
    collected = machine.collector.collect()
    with pytest.raises(PartialCollectError, match="nvme0: gone"):
        items.extend(collected)
    rows = keyed(items)
    assert 40.0 == rows["nvme nvme:OTHER"]["temperature_celsius"]
    assert {"state": "live"} == rows[f"nvme {DRIVE}"], "absent, not zero"
    bad.failing = AdminError("busy")
    machine.clock.now += 300
    with pytest.raises(PartialCollectError, match="busy"):
        list(machine.collector.collect())
    bad.failing = None
    assert 40.0 == machine.rows()[f"nvme {DRIVE}"]["temperature_celsius"]


def test_changes_of_health_are_events(root: Path) -> None:
    drive = FakeDrive()
    machine = Machine(root, nvme0=drive).start()
    machine.rows()
    assert [] == machine.events()
    drive.pages[0x02] = made.smart(warning=1, spare=9, media=3, kelvin=351)
    machine.rows(16)
    found = {event.type: event for event in machine.events()}
    assert {"nvme.critical_warning", "nvme.media_errors", "nvme.spare", "nvme.temperature"} == found.keys()
    assert (1, 3) == (found["nvme.critical_warning"].detail["bits"], found["nvme.media_errors"].detail["count"])
    assert (0.09, 77.0, DRIVE) == (
        found["nvme.spare"].detail["spare_ratio"],
        found["nvme.temperature"].detail["limit_celsius"],
        found["nvme.temperature"].device,
    )
    drive.pages[0x02] = made.smart(warning=1, spare=9, media=3, kelvin=349)
    machine.rows(16)
    assert [] == machine.events(), "a degree below the limit is no end of it"
    drive.pages[0x02] = made.smart(spare=9, media=3, kelvin=313)
    machine.rows(16)
    assert {"nvme.critical_warning", "nvme.temperature"} == {event.type for event in machine.events()}


def test_logs_that_grow_are_events_and_probes_are_not(root: Path) -> None:
    drive = FakeDrive()
    machine = Machine(root, nvme0=drive).start()
    machine.rows()
    drive.pages[0x01] = made.error_log((5, 0x002), (4, 0x002))
    machine.rows()
    assert [] == machine.events()
    drive.pages[0x01] = made.error_log((6, 0x281), (5, 0x002), (4, 0x002))
    drive.pages[0x06] = made.self_test_log((2, 7, 2900), (1, 0, 2000))
    drive.pages[0x81] = made.sanitize_log(3, 2)
    machine.rows()
    found = {event.type: event for event in machine.events()}
    assert (1, 0x281, 4711) == tuple(found["nvme.error_log"].detail[name] for name in ("count", "status", "lba"))
    assert ("failed", 99) == (found["nvme.self_test"].detail["result"], found["nvme.self_test"].detail["lba"])
    assert "failed" == found["nvme.sanitize"].detail["status"]


def test_format_firmware_and_drives_that_come_and_go_are_events(root: Path) -> None:
    drive = FakeDrive()
    machine = Machine(root, nvme0=drive, nvme1=FakeDrive("OTHER")).start()
    machine.rows()
    machine.documents()
    drive.spaces[1] = made.namespace(made.SEED_SECTORS * 8, flbas=0)
    (root / "sys/class/nvme/nvme0/firmware_rev").write_text("GDC5602Q\n")
    made.drive(root, "nvme1", SECOND, serial="OTHER")
    machine.rows()
    machine.documents()
    found = {event.type: event for event in machine.events()}
    assert {"nvme.namespace.changed", "nvme.firmware.changed", "nvme.drive.new"} == found.keys()
    changed = found["nvme.namespace.changed"].detail
    assert ("512+0", "4096+0", made.SEED_SECTORS * 8) == (
        changed["format"],
        changed["format_before"],
        changed["sectors"],
    )
    assert "nvme:OTHER" == found["nvme.drive.new"].device
    (root / "sys/class/nvme/nvme0").unlink()
    machine.rows()
    (gone,) = machine.events()
    assert ("nvme.drive.gone", DRIVE, "0000:01:00.0") == (gone.type, gone.device, gone.detail["address"])


def test_last_drive_that_goes_is_told_before_the_source_ends(root: Path) -> None:
    machine = Machine(root, nvme0=FakeDrive()).start()
    machine.rows()
    (root / "sys/class/nvme/nvme0").unlink()
    machine.clock.now += 16
    items: list[Item] = []
    with pytest.raises(NoDataError):
        items.extend(machine.collector.collect())
    assert ["nvme.drive.gone"] == [getattr(item, "type", "") for item in items]


def test_what_changed_while_nobody_looked_is_told_by_the_next_run(root: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    first = Machine(root, state, nvme0=FakeDrive()).start()
    first.rows()
    first.collector.stop()
    drive = FakeDrive()
    drive.pages[0x02] = made.smart(media=2)
    second = Machine(root, state, nvme0=drive).start()
    second.rows()
    assert ["nvme.media_errors"] == [event.type for event in second.events()]


def test_change_that_was_noticed_and_not_handed_on_is_told_by_the_next_run_once(root: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    drive = FakeDrive()
    first = Machine(root, state, nvme0=drive).start()
    first.rows()
    drive.pages[0x02] = made.smart(media=2)
    first.rows()  # and the process ends before its watch turns
    second = Machine(root, state, nvme0=drive).start()
    second.rows()
    (told,) = second.events()
    assert ("nvme.media_errors", first.wall_ns) == (told.type, told.source_time_ns)
    assert [] == Machine(root, state, nvme0=drive).start().events()


def test_change_that_was_noticed_last_is_handed_on_by_a_watch_that_is_told_to_stop(root: Path) -> None:
    drive = FakeDrive()
    machine = Machine(root, nvme0=drive).start()
    machine.rows()
    drive.pages[0x02] = made.smart(media=2)
    machine.rows()
    stopping = threading.Event()
    stopping.set()
    told: list[Item] = []

    def emit(items: Iterable[Item]) -> None:
        told.extend(items)

    machine.collector.watch(emit, stopping)
    assert ["nvme.media_errors"] == [getattr(item, "type", "") for item in told]


class Hanging(FakeDrive):
    """A drive that never answers when it is asked for its health."""

    def log_page(self, page: int, size: int, nsid: int = 0xFFFFFFFF) -> bytes:
        """Say that it was asked, and hang."""
        if page == 0x02:
            os.write(self.pipe, b"?")
            signal.pause()
        return super().log_page(page, size, nsid)

    pipe = -1


def _killed_while_asking(root: Path, state: Path) -> None:
    """Run a collector in a process of its own until it hangs, and end it as the host does."""
    asked, pipe = os.pipe()
    child = os.fork()
    if not child:
        bad = Hanging()
        bad.pipe = pipe
        try:
            Machine(root, state, nvme0=bad, nvme1=FakeDrive("OTHER")).start().rows()
        finally:
            os._exit(1)
    assert b"?" == os.read(asked, 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(asked)
    os.close(pipe)


def test_drive_that_hung_its_reader_is_left_alone_for_a_while(root: Path, tmp_path: Path) -> None:
    made.drive(root, "nvme1", SECOND, serial="OTHER")
    state = tmp_path / "state"
    state.mkdir()
    write(root, "proc/sys/kernel/random/boot_id", "b1\n")
    for seconds in (60, 120):
        _killed_while_asking(root, state)
        bad = FakeDrive()
        machine = Machine(root, state, nvme0=bad, nvme1=FakeDrive("OTHER")).start()
        machine.clock.now += 300
        items: list[Item] = []
        collected = machine.collector.collect()
        with pytest.raises(PartialCollectError, match="left alone"):
            items.extend(collected)
        assert (0, 40.0) == (bad.opened, keyed(items)["nvme nvme:OTHER"]["temperature_celsius"])
        (event,) = [one for one in machine.events() if one.type == "nvme.drive.hung"]
        assert (DRIVE, seconds) == (event.device, event.detail["seconds"])
        machine.wall_ns += (seconds + 1) * 1_000_000_000
        assert 40.0 == machine.rows()[f"nvme {DRIVE}"]["temperature_celsius"]
        machine.collector.stop()
        _expire(state)


def _expire(state: Path) -> None:
    """Let the time pass for which the drive is left alone, as the next process counts it."""
    kept = json.loads((state / "seen.json").read_text())
    for hung in kept["hung"].values():
        hung["until_ns"] = 0
    (state / "seen.json").write_text(json.dumps(kept))


def test_drives_that_say_one_number_are_told_apart_by_their_place(root: Path) -> None:
    made.drive(root, "nvme1", SECOND)
    documents = Machine(root, nvme0=FakeDrive(), nvme1=FakeDrive()).start().documents()
    drives = [one for one in documents.values() if one.kind is DeviceKind.NVME]
    assert {"nvme:0000:01:00.0", "nvme:0000:02:00.0"} == {one.device for one in drives}
    assert {""} == {one.part.serial for one in drives}
    assert 4 == len(documents), "and so are their name spaces, which say one identifier"


def test_name_space_of_two_controllers_is_described_once(root: Path) -> None:
    second = made.drive(root, "nvme1", SECOND)
    (second / "cntlid").write_text("7\n")
    heads = root / "sys/class/nvme-subsystem/nvme-subsys0"
    for number in (0, 1):
        folder = root / f"sys/class/nvme/nvme{number}"
        space = (folder / f"nvme{number}n1").resolve()
        if number == 0:
            shutil.copytree(space, heads / "nvme0n1")
        space.rename(space.parent / f"nvme0c{number}n1")
        link(root, f"sys/class/nvme-subsystem/nvme-subsys0/nvme{number}", f"../../nvme/nvme{number}")
    one, other = FakeDrive(), FakeDrive()
    one.spaces[1] = other.spaces[1] = made.namespace(nmic=1)
    documents = Machine(root, nvme0=one, nvme1=other).start().documents()
    assert {"nvme:S64HNE0.6", "nvme:S64HNE0.7", "nvme-namespace:S64HNE0.6/1"} == documents.keys()
    assert "nvme0n1" == documents["nvme-namespace:S64HNE0.6/1"].capabilities["block_device"]


def test_content_of_a_name_space_is_what_kernel_and_udev_know(root: Path) -> None:
    """R000-6."""
    block = root / "sys/class/nvme/nvme0/nvme0n1"
    for name, text in (("partition", "1"), ("start", "2048"), ("size", "7501473792"), ("dev", "259:1")):
        write(block, f"nvme0n1p1/{name}", f"{text}\n")
    write(root, "run/udev/data/b259:0", "S:disk/by-id/x\nE:ID_PART_TABLE_TYPE=gpt\n")
    write(root, "run/udev/data/b259:1", "E:ID_FS_TYPE=xfs\n")
    mount = "36 1 259:1 / /srv/a\\040b rw,noatime shared:1 - xfs /dev/nvme0n1p1 rw\n"
    machine = Machine(root, nvme0=FakeDrive()).start()
    before = machine.documents()[SPACE].capabilities
    assert ("gpt", ["nvme0n1p1=xfs"], None) == (
        *(before["partition_table"], before["file_systems"], before.get("mounts")),
    )
    assert ["1:1048576:3840754581504"] == before["partitions"]
    write(root, "proc/self/mountinfo", mount)
    assert ["nvme0n1p1=/srv/a b"] == machine.documents()[SPACE].capabilities["mounts"]


def test_wiped_name_space_has_no_table_and_an_unseen_one_says_nothing(root: Path) -> None:
    """R000-6."""
    machine = Machine(root, nvme0=FakeDrive()).start()
    assert "partition_table" not in machine.documents()[SPACE].capabilities
    write(root, "run/udev/data/b259:0", "I:123\n")
    assert "none" == machine.documents()[SPACE].capabilities["partition_table"]
