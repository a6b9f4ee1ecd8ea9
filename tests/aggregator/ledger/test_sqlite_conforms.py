"""The ledger on SQLite."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aggregator.control_sqlite import SqliteControl
from aggregator.migrate import LEDGER
from tests.contract.ledger_conformance import *  # noqa: F403 - every case


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[SqliteControl]:
    made = SqliteControl(tmp_path / "ledger.db", schema=LEDGER)
    made.open()
    yield made
    await made.close()
