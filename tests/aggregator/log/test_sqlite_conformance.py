"""The embedded log keeps every claim that the interface makes."""

from pathlib import Path

import pytest

from aggregator.log_sqlite import SqliteLog
from tests.contract.log_conformance import LogConformance, Place


def opened(path: str) -> SqliteLog:
    """Open the log for the appender's process."""
    return SqliteLog(Path(path))


class SqlitePlace:
    """A log in a file of its own."""

    opener = f"{__name__}:opened"

    def __init__(self, path: Path, tail_bytes: int) -> None:
        self.argument = str(path)
        self._tail_bytes = tail_bytes

    def open(self) -> SqliteLog:
        return SqliteLog(Path(self.argument), tail_bytes=self._tail_bytes)


@pytest.mark.parametrize("tail_bytes", [0, 2000, 16 << 20], ids=["no-memory", "little-memory", "memory"])
class TestSqliteLog(LogConformance):
    @pytest.fixture
    def place(self, tmp_path: Path, tail_bytes: int) -> Place:
        return SqlitePlace(tmp_path / "log.sqlite", tail_bytes)
