"""What a demonstration needs is checked first, and what is missing is said with what to do (R003-1)."""

import socket
from pathlib import Path

import pytest

from aggregator.cli.checks import Check, Level
from aggregator.cli.version import Package
from aggregator.demo.needs import (
    LEAST_MEMORY_BYTES,
    LOOPBACK,
    check_installed,
    check_memory,
    check_needs,
    free_port,
    missing,
)


def meminfo(root: Path, text: str) -> Path:
    (root / "proc").mkdir()
    (root / "proc/meminfo").write_text(text)
    return root


@pytest.mark.parametrize(
    ("kib", "level"),
    [(LEAST_MEMORY_BYTES // 1024, Level.OK), (LEAST_MEMORY_BYTES // 1024 - 1, Level.FAIL), (0, Level.FAIL)],
)
def test_memory_that_is_available_counts_and_not_what_is_free(tmp_path: Path, kib: int, level: Level) -> None:
    root = meminfo(tmp_path, f"MemTotal: 99999999 kB\nMemFree: 99999999 kB\nMemAvailable: {kib} kB\n")
    found = check_memory(root)
    assert found.level is level
    assert bool(found.remedy) == (level is Level.FAIL)


@pytest.mark.parametrize("text", [None, "MemTotal: 5 kB\n"])
def test_memory_that_is_not_known_hinders_nobody(tmp_path: Path, text: str | None) -> None:
    root = tmp_path if text is None else meminfo(tmp_path, text)
    assert check_memory(root).level is Level.WARN


def test_packages_of_an_aggregator_must_be_there_and_others_need_not() -> None:
    there = [Package("msgspec", "", "1", ""), Package("fastapi", "aggregator", "1", "")]
    assert check_installed([*there, Package("aiokafka", "kafka", None, "")]).level is Level.OK
    lacking = check_installed([*there, Package("duckdb", "aggregator", None, "")])
    assert lacking.level is Level.FAIL
    assert "duckdb" in lacking.found


def test_only_what_fails_is_missing_and_comes_with_its_remedy() -> None:
    checks = [Check("a", Level.OK, "1"), Check("b", Level.WARN, "2", "x"), Check("c", Level.FAIL, "3", "do this")]
    assert missing(checks) == ["c: 3; do this"]


def test_a_folder_whose_socket_path_is_too_long_is_named(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    assert [line.partition(":")[0] for line in missing(list(check_needs(folder)))] == ["socket path"]


def test_a_free_port_can_be_listened_on() -> None:
    with socket.create_server((LOOPBACK, free_port())) as server:
        assert server.getsockname()[1] > 0
