"""The kernel log: nothing twice, nothing lost without a word, devices named (R001-11)."""

import os
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

import pytest

from collectors.syslog_config import SyslogConfig
from collectors.syslog_kmsg import DeviceReader, KernelLog, RecordedReader, open_kmsg, unescape
from collectors.syslog_listener import Counts
from collectors.syslog_rows import Rows
from schemas.errors import NoDataError, StartupError
from schemas.rows import Event, Item, Position
from tests.collectors.syslog.harness import Running, flat
from tests.needs import REPOSITORY, recorded_data, unmet

BOOT = "11111111-2222-3333-4444-555555555555"
NOW = 1_700_000_000_000_000_000


class FakeDevice:
    """A device of which each read gives the next of a script: a record, or an error to raise."""

    def __init__(self, *script: bytes | OSError) -> None:
        self.script = list(script)

    def read(self) -> bytes:
        if not self.script:
            raise BlockingIOError
        step = self.script.pop(0)
        if isinstance(step, OSError):
            raise step
        return step

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self.script = []


def record(sequence: int, text: str = "x", prefix: int = 6, properties: str = "") -> bytes:
    return f"{prefix},{sequence},{sequence * 1000},-;{text}\n{properties}".encode()


def machine(folder: Path, records: bytes | None = None) -> Path:
    """Make a root with a boot id, and a recorded kernel log."""
    (folder / "proc/sys/kernel/random").mkdir(parents=True)
    (folder / "proc/sys/kernel/random/boot_id").write_text(BOOT + "\n")
    (folder / "dev").mkdir()
    if records is not None:
        (folder / "dev/kmsg").write_bytes(records)
    return folder


def read(
    *script: bytes | OSError, root: Path = Path("/nonexistent"), after: int | None = None
) -> tuple[list[Item], Counts]:
    counts, rows = Counts(), Rows("node-1", lambda: NOW)
    KernelLog(FakeDevice(*script), root, after, counts, (lambda: NOW, lambda: 10**10)).read(rows)
    return rows.take(), counts


def gaps(items: list[Item]) -> list[dict[str, Any]]:
    return [dict(item.detail) for item in items if isinstance(item, Event) and item.type == "log.gap"]


def sequences(items: list[Item]) -> list[int]:
    return [row["sequence"] for row in flat(items)]


def test_first_start_takes_the_whole_ring_and_its_beginning_is_no_gap() -> None:
    items, counts = read(record(40), record(41))
    assert ([40, 41], [], 0) == (sequences(items), gaps(items), counts.lost_total)


def test_resumed_reading_skips_what_was_taken() -> None:
    items, counts = read(record(40), record(41), record(42), after=41)
    assert ([42], []) == (sequences(items), gaps(items))
    assert 1 == counts.messages_total


def test_records_overwritten_while_nobody_read_are_told_exactly() -> None:
    items, counts = read(record(60), after=41)
    assert [{"source": "kmsg", "lost": 18, "after": 41, "next": 60}] == gaps(items)
    assert 18 == counts.lost_total


def test_overrun_while_reading_is_told_exactly() -> None:
    items, counts = read(record(1), BrokenPipeError(), record(7), record(8), BrokenPipeError(), record(10))
    assert [1, 7, 8, 10] == sequences(items)
    assert [5, 1] == [gap["lost"] for gap in gaps(items)]
    assert 6 == counts.lost_total


def test_time_of_a_record_is_the_wall_clocks(tmp_path: Path) -> None:
    """Booted 10 s ago; the record was written 40 ms after that."""
    items, _ = read(record(40))
    assert [NOW - 10**10 + 40_000_000] == [row["source_time_ns"] for row in flat(items)]


def test_position_goes_with_its_rows_in_one_unit(tmp_path: Path) -> None:
    items, _ = read(record(40), record(41), root=machine(tmp_path))
    assert [Position(f"kmsg:{BOOT}", "41")] == [item for item in items if isinstance(item, Position)]


def test_no_position_without_a_boot_to_name() -> None:
    items, _ = read(record(40))
    assert not [item for item in items if isinstance(item, Position)]


def test_nothing_new_gives_nothing() -> None:
    assert ([], Counts()) == read(record(40), after=40)


def test_only_the_kernel_is_called_kernel() -> None:
    """A program that writes to /dev/kmsg keeps its facility, so that it cannot forge a hardware fault."""
    items, _ = read(record(1, "NVRM: Xid (PCI:0000:38:00): 79", 3), record(2, "NVRM: Xid (PCI:0000:38:00): 79", 11))
    kernel, program = flat(items)
    assert ("kernel", 0, "NVRM: Xid (PCI:0000:38:00): 79") == (kernel["app"], kernel["facility"], kernel["message"])
    assert ("NVRM", 1) == (program["app"], program["facility"])


def test_portion_is_bounded_and_the_rest_comes_next() -> None:
    device = FakeDevice(*(record(at) for at in range(1200)))
    rows, log = Rows("node-1", lambda: NOW), KernelLog(device, Path("/nonexistent"), None, Counts())
    sizes = []
    for _ in range(4):
        log.read(rows)
        sizes.append(rows.number)
        rows.take()
    assert [500, 500, 200, 0] == sizes


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (rb"a\x0ab", "a\nb"),
        (rb"\xc3\xa9", "é"),
        (rb"\xff", "\\xff"),
        (rb"\x5cx41", "\\x41"),
        (rb"\xZZ \x", r"\xZZ \x"),
        (b"plain", "plain"),
    ],
)
def test_escapes_of_the_kernel_are_undone(written: bytes, text: str) -> None:
    assert text == unescape(written)


def device_of(properties: str, root: Path = Path("/nonexistent")) -> str:
    items, _ = read(record(1, properties=properties), root=root)
    return str(flat(items)[0].get("device", ""))


@pytest.mark.parametrize(
    ("properties", "device"),
    [
        (" SUBSYSTEM=pci\n DEVICE=+pci:0000:83:00.0\n", "pci:0000:83:00.0"),
        (" SUBSYSTEM=pci\n DEVICE=+pci:10000:e1:00.0\n", "pci:10000:e1:00.0"),
        (" SUBSYSTEM=pci\n DEVICE=+pci:nonsense\n", "pci:nonsense"),
        (" SUBSYSTEM=usb\n DEVICE=+usb:1-1.2\n", "usb:1-1.2"),
        (" SUBSYSTEM=block\n DEVICE=b8:0\n", "block:8:0"),
        (" SUBSYSTEM=net\n DEVICE=n3\n", "net:3"),
        (" SUBSYSTEM=net\n", ""),
        (" OTHER=1\n", ""),
    ],
)
def test_device_that_the_kernel_names_is_the_rows_device(properties: str, device: str) -> None:
    assert device == device_of(properties)


def test_drive_and_interface_are_named_by_the_pci_function_they_sit_on(tmp_path: Path) -> None:
    drive = tmp_path / "sys/devices/pci0000:00/0000:00:1d.0/0000:3b:00.0/nvme/nvme0/nvme0n1"
    drive.mkdir(parents=True)
    (tmp_path / "sys/dev/block").mkdir(parents=True)
    (tmp_path / "sys/dev/block/259:0").symlink_to(drive)
    port = tmp_path / "sys/devices/pci0000:00/0000:01:00.0/net/eth0"
    bridge = tmp_path / "sys/devices/virtual/net/br0"
    (tmp_path / "sys/class/net").mkdir(parents=True)
    for index, folder in ((3, port), (4, bridge)):
        folder.mkdir(parents=True)
        (folder / "ifindex").write_text(f"{index}\n")
        (tmp_path / "sys/class/net" / folder.name).symlink_to(folder)
    assert "pci:0000:3b:00.0" == device_of(" SUBSYSTEM=block\n DEVICE=b259:0\n", tmp_path)
    assert "pci:0000:01:00.0" == device_of(" SUBSYSTEM=net\n DEVICE=n3\n", tmp_path)
    assert "net:br0" == device_of(" SUBSYSTEM=net\n DEVICE=n4\n", tmp_path)


def test_missing_kernel_log_is_no_data(tmp_path: Path) -> None:
    with pytest.raises(NoDataError, match="there is no kernel log"):
        open_kmsg(tmp_path / "kmsg")


UNPRIVILEGED = """
import os, sys
from pathlib import Path
from collectors.syslog_kmsg import open_kmsg
from schemas.errors import StartupError
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    open_kmsg(Path(sys.argv[1]))
except StartupError as error:
    sys.stdout.write(str(error))
"""


def test_forbidden_kernel_log_says_what_to_do() -> None:
    """As under `kernel.dmesg_restrict=1`, for a process without privilege."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to other users
        Path(folder).chmod(0o755)
        path = Path(folder) / "kmsg"
        path.write_text("")
        path.chmod(0)
        command = [sys.executable, "-c", UNPRIVILEGED, str(path)]
        told = subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY, timeout=30).stdout
    assert told.startswith(f"{path} may not be read: run as root, grant CAP_SYSLOG")


def test_recorded_machine_is_read_and_resumed(tmp_path: Path) -> None:
    root = machine(tmp_path, b"".join(record(at, properties=" SUBSYSTEM=x\n") for at in range(1, 1301)))
    with Running(SyslogConfig(), root) as running:
        running.wait_for_rows(1300)
        assert [{"lost_total": 0, "messages_total": 1300}] == [
            {key: running.counts("kmsg")[key] for key in ("lost_total", "messages_total")}
        ]
    assert {f"kmsg:{BOOT}": "1300"} == running.positions()
    with Running(SyslogConfig(), root, {f"kmsg:{BOOT}": "1299"}) as running:
        running.wait_for_rows(1)
    assert [1300] == sequences(running.items)


def test_position_of_another_boot_is_not_used(tmp_path: Path) -> None:
    root = machine(tmp_path, record(1))
    with Running(SyslogConfig(), root, {"kmsg:another-boot": "999"}) as running:
        running.wait_for_rows(1)
    assert [1] == sequences(running.items)


@pytest.fixture
def kernel() -> DeviceReader:
    """The real kernel log, if it may be read and written."""
    path = Path("/dev/kmsg")
    if not os.access(path, os.R_OK | os.W_OK):
        unmet("needs /dev/kmsg, readable and writable")
    try:
        reader = open_kmsg(path)
    except (NoDataError, StartupError) as error:
        unmet(str(error))
    assert isinstance(reader, DeviceReader)
    return reader


def test_real_kernel_log_is_read_and_resumed_without_loss(kernel: DeviceReader) -> None:
    kernel.close()
    mark = uuid.uuid4().hex

    def write(text: str) -> None:
        with Path("/dev/kmsg").open("wb", buffering=0) as device:
            device.write(f"<12>muster-test: {mark} {text}\n".encode())

    def seen(running: Running) -> list[dict[str, Any]]:
        return [row for row in running.rows() if mark in row.get("message", "")]

    with Running(SyslogConfig(), Path("/")) as running:
        write("one")
        running.wait_for(lambda: len(seen(running)) == 1, "the record")
    write("two \x01 é")
    with Running(SyslogConfig(), Path("/"), running.positions()) as again:
        again.wait_for(lambda: len(seen(again)) == 1, "the record written meanwhile")
    (first,), (second,) = seen(running), seen(again)
    assert (f"{mark} one", "muster-test", 1, 4) == tuple(
        first[key] for key in ("message", "app", "facility", "severity")
    )
    assert f"{mark} two \x01 é" == second["message"]
    assert not gaps(again.items)
    assert sequences(running.items)[-1] < sequences(again.items)[0]


def test_record_above_the_buffer_is_passed_over_and_told(monkeypatch: pytest.MonkeyPatch, kernel: DeviceReader) -> None:
    """The kernel answers EINVAL and goes on; the next number says that one is missing."""
    os.lseek(kernel.fileno(), 0, os.SEEK_END)
    rows, counts = Rows("node-1", lambda: NOW), Counts()
    log = KernelLog(kernel, Path("/nonexistent"), None, counts)
    mark = uuid.uuid4().hex
    monkeypatch.setattr("collectors.syslog_kmsg._BUFFER", 128)
    with Path("/dev/kmsg").open("wb", buffering=0) as device:
        device.writelines(f"<15>{mark} {text}\n".encode() for text in ("before", "x" * 200, "after"))
    log.read(rows)
    log.close()
    items = rows.take()
    assert [f"{mark} before", f"{mark} after"] == [row["message"] for row in flat(items) if mark in row["message"]]
    assert 1 in [gap["lost"] for gap in gaps(items)]


def test_recorded_dmesg_text_of_real_faults_survives(tmp_path: Path) -> None:
    """Xid lines as a real kernel wrote them come out as they went in."""
    lines = (recorded_data() / "kmsg/xid-119.dmesg.log").read_text().splitlines()
    texts = [line.partition("] ")[2] for line in lines]
    reader = RecordedReader(b"".join(record(at, text) for at, text in enumerate(texts)))
    rows = Rows("node-1", lambda: NOW)
    KernelLog(reader, Path("/nonexistent"), None, Counts()).read(rows)
    assert texts[:500] == [row.get("message", "") for row in flat(rows.take())]
