import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Connection

from aggregator.control import ControlError
from aggregator.control_sqlite import SqliteControl
from tests.contract.control_conformance import BoomError, ControlConformance, put, value_of


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


def _commits(connection: Connection) -> None:
    put("bad", 1)(connection)
    connection.commit()


def _rolls_back(connection: Connection) -> None:
    connection.rollback()
    put("bad", 1)(connection)


def _leaves_open(connection: Connection) -> None:
    connection.begin_nested()
    put("bad", 1)(connection)


def _raises(connection: Connection) -> None:
    put("bad", 1)(connection)
    raise BoomError


@pytest.mark.parametrize("bad", [_commits, _rolls_back, _leaves_open, _raises])
@pytest.mark.parametrize("others", [0, 1, 3])
async def test_bad_transaction_harms_only_itself_alone_or_beside_others(
    tmp_path: Path, bad: Callable[[Connection], None], others: int
) -> None:
    control = SqliteControl(tmp_path / "control.db")
    control.open()
    told = await asyncio.gather(
        control.write(bad),
        *(control.write(put(f"beside-{number}", number)) for number in range(others)),
        return_exceptions=True,
    )
    assert isinstance(told[0], BoomError if bad is _raises else ControlError)
    assert list(range(others)) == told[1:]
    assert await control.write(put("after", 1)) == 1
    assert await control.read(value_of) == {f"beside-{number}": number for number in range(others)} | {"after": 1}
    await control.close()
