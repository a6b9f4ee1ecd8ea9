from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aggregator.control_sqlite import SqliteControl
from aggregator.log_sqlite import SqliteLog


class Time:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.wall_offset_ns = 1_700_000_000 * 10**9

    def clock(self) -> float:
        return self.seconds

    def wall_ns(self) -> int:
        return self.wall_offset_ns + int(self.seconds * 1e9)

    def pass_(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[SqliteControl]:
    control = SqliteControl(tmp_path / "control.db")
    control.open()
    yield control
    await control.close()


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SqliteLog]:
    log = SqliteLog(tmp_path / "log.db", partitions=3)
    yield log
    await log.close()
