from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path

import pytest

from aggregator.control_sqlite import SqliteControl
from tests.contract.control_conformance import ControlConformance


class TestSqliteConforms(ControlConformance):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Callable[..., Awaitable[SqliteControl]]:
        numbers = count()
        path = [tmp_path / "0.db"]

        async def open_it(*, fresh: bool = False) -> SqliteControl:
            if fresh:
                path[0] = tmp_path / f"{next(numbers)}.db"
            control = SqliteControl(path[0])
            control.open()
            return control

        return open_it
