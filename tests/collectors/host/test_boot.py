"""A new boot is told once, with what is known of its cause."""

import struct
from pathlib import Path

import pytest

from collectors.host_boot import BootSection, boot_cause
from collectors.host_section import Look
from schemas.rows import Event, Position
from schemas.verbosity import Level

_LOOK = Look(Level.STANDARD, slow=True)


def _machine(root: Path, boot_id: str) -> Path:
    (root / "proc/sys/kernel/random").mkdir(parents=True, exist_ok=True)
    (root / "proc/sys/kernel/random/boot_id").write_text(boot_id + "\n")
    (root / "proc/stat").write_text("cpu 1\nbtime 1700000000\n")
    return root


def _wtmp(root: Path, *kinds: str) -> None:
    records = {"boot": (2, b"reboot"), "shutdown": (1, b"shutdown"), "login": (7, b"root"), "level": (1, b"runlevel")}
    (root / "var/log").mkdir(parents=True)
    with (root / "var/log/wtmp").open("wb") as file:
        for kind in kinds:
            number, user = records[kind]
            file.write(struct.pack("<h2xi32s4s32s256s52x", number, 0, b"~", b"", user, b""))


def test_first_boot_ever_seen_is_no_reboot(tmp_path: Path) -> None:
    assert [Position("host.boot", "b1")] == list(BootSection(_machine(tmp_path, "b1"), {}).read(_LOOK))


def test_same_boot_says_nothing(tmp_path: Path) -> None:
    assert [] == list(BootSection(_machine(tmp_path, "b1"), {"host.boot": "b1"}).read(_LOOK))


def test_new_boot_is_told_once_with_its_position(tmp_path: Path) -> None:
    """R001-16: resets and crashes seen and told apart."""
    section = BootSection(_machine(tmp_path, "b2"), {"host.boot": "b1"})
    event, position = section.read(_LOOK)
    assert isinstance(event, Event)
    assert ("host.reboot", 1_700_000_000_000_000_000) == (event.type, event.source_time_ns)
    assert {"boot_id": "b2", "boot_id_before": "b1", "cause": "unknown"} == dict(event.detail)
    assert Position("host.boot", "b2") == position
    assert [] == list(section.read(_LOOK))


def test_machine_without_boot_id_says_nothing(tmp_path: Path) -> None:
    assert [] == list(BootSection(tmp_path, {"host.boot": "b1"}).read(_LOOK))


@pytest.mark.parametrize(
    ("kinds", "cause"),
    [
        (("boot", "login", "shutdown", "boot", "level"), "shutdown"),
        (("boot", "login", "boot"), "unclean"),
        (("boot", "shutdown", "boot", "login", "boot"), "unclean"),
        (("boot",), "unknown"),
        (("boot", "shutdown"), "unknown"),
        ((), "unknown"),
    ],
)
def test_cause_from_the_record_of_shutdowns(kinds: tuple[str, ...], cause: str, tmp_path: Path) -> None:
    """R001-16: an orderly shutdown and a crash are told apart."""
    _wtmp(tmp_path, *kinds)
    assert cause == boot_cause(tmp_path)[0]


def test_record_cut_in_the_middle_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    _wtmp(tmp_path, "boot", "shutdown", "boot")
    path = tmp_path / "var/log/wtmp"
    path.write_bytes(path.read_bytes() + b"\x02\0\0")
    assert "shutdown" == boot_cause(tmp_path)[0]


def test_crash_record_outweighs_the_record_of_shutdowns(tmp_path: Path) -> None:
    """R001-16: a crash of the kernel is told."""
    _wtmp(tmp_path, "boot", "shutdown", "boot")
    (tmp_path / "sys/fs/pstore").mkdir(parents=True)
    (tmp_path / "sys/fs/pstore/dmesg-efi-1").write_text("Oops#1")
    assert "panic" == boot_cause(tmp_path)[0]


@pytest.mark.parametrize(
    ("status", "cause"), [("32", "watchdog"), ("33", "watchdog"), ("1", "overheat"), ("0", "unknown")]
)
def test_watchdog_says_why(status: str, cause: str, tmp_path: Path) -> None:
    """R001-16: a reset by the watchdog is told."""
    (tmp_path / "sys/class/watchdog/watchdog0").mkdir(parents=True)
    (tmp_path / "sys/class/watchdog/watchdog0/bootstatus").write_text(status + "\n")
    assert cause == boot_cause(tmp_path)[0]
