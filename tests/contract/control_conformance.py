"""What every control database must do, whatever it is made of. Subclass `ControlConformance` and give it `opener`."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import DBAPIError, IntegrityError

from aggregator.control import Control, ControlError
from aggregator.tables import COUNTER, advance, counted

Opener = Callable[[], Awaitable[Control]]
"""Gives the same database, opened again, at every call; `opener(fresh=True)` a new one."""


def value_of(connection: Connection) -> dict[str, int]:
    return {row.name: row.value for row in connection.execute(select(COUNTER))}


def put(name: str, value: int) -> Callable[[Connection], int]:
    def transaction(connection: Connection) -> int:
        connection.execute(insert(COUNTER).values(name=name, value=value))
        return value

    return transaction


class BoomError(Exception):
    pass


class ControlConformance:
    """The claims. The fixture `opener` is each implementation's own."""

    @pytest.fixture
    def opener(self) -> Any:
        raise NotImplementedError

    async def test_a_result_is_the_transactions_own_and_is_there_after_reopening(self, opener: Any) -> None:
        """Promise 1: acknowledged means durable."""
        control = await opener(fresh=True)
        assert await control.write(put("a", 7)) == 7
        await control.close()
        again = await opener()
        assert await again.read(value_of) == {"a": 7}
        await again.close()

    async def test_what_a_transaction_raises_reaches_its_caller_and_undoes_it_alone(self, opener: Any) -> None:
        """Promise 5: one bad value harms only itself."""
        control = await opener(fresh=True)

        def bad(connection: Connection) -> None:
            put("bad", 1)(connection)
            raise BoomError

        told = await asyncio.gather(
            control.write(put("a", 1)), control.write(bad), control.write(put("b", 2)), return_exceptions=True
        )
        assert [1, BoomError, 2] == [told[0], type(told[1]), told[2]]
        assert await control.read(value_of) == {"a": 1, "b": 2}
        await control.close()

    async def test_an_integrity_error_is_the_callers_own_and_can_be_handled_in_a_savepoint(self, opener: Any) -> None:
        control = await opener(fresh=True)
        await control.write(put("a", 1))
        with pytest.raises(IntegrityError):
            await control.write(put("a", 2))

        def careful(connection: Connection) -> str:
            try:
                with connection.begin_nested():
                    put("a", 3)(connection)
            except IntegrityError:
                put("b", 3)(connection)
                return "handled"
            return "not reached"

        assert await control.write(careful) == "handled"
        assert await control.read(value_of) == {"a": 1, "b": 3}
        await control.close()

    async def test_a_transaction_that_commits_by_itself_is_refused(self, opener: Any) -> None:
        control = await opener(fresh=True)

        def commits(connection: Connection) -> None:
            put("early", 1)(connection)
            connection.commit()

        told = await asyncio.gather(
            control.write(put("a", 1)), control.write(commits), control.write(put("b", 2)), return_exceptions=True
        )
        assert isinstance(told[1], ControlError)
        assert await control.read(value_of) == {"a": 1, "b": 2}
        await control.close()

    async def test_counters_never_give_one_value_twice(self, opener: Any) -> None:
        control = await opener(fresh=True)
        values = await asyncio.gather(*(control.write(lambda connection: advance(connection, "n")) for _ in range(50)))
        assert list(range(1, 51)) == sorted(values)
        assert await control.read(lambda connection: counted(connection, "n")) == 50
        await control.close()

    async def test_a_read_sees_one_moment_while_the_writer_goes_on(self, opener: Any) -> None:
        control = await opener(fresh=True)
        await control.write(put("a", 1))
        looked, written = threading.Event(), threading.Event()

        def looks_twice(connection: Connection) -> tuple[int, int]:
            first = len(value_of(connection))
            looked.set()
            written.wait(60)
            return first, len(value_of(connection))

        reading = asyncio.ensure_future(control.read(looks_twice))
        await asyncio.to_thread(looked.wait, 5)
        await control.write(put("b", 2))
        written.set()
        assert await reading == (1, 1)
        assert len(await control.read(value_of)) == 2
        await control.close()

    async def test_a_read_cannot_write(self, opener: Any) -> None:
        control = await opener(fresh=True)
        with pytest.raises((DBAPIError, ControlError)):
            await control.read(put("a", 1))
        assert await control.read(value_of) == {}
        await control.close()

    async def test_close_finishes_what_waits_and_then_refuses(self, opener: Any) -> None:
        control = await opener(fresh=True)
        waiting = [asyncio.ensure_future(control.write(put(str(n), n))) for n in range(20)]
        await asyncio.sleep(0)
        await control.close()
        await control.close()
        assert list(range(20)) == [await task for task in waiting]
        with pytest.raises(ControlError, match="closed"):
            await control.write(put("late", 1))
        with pytest.raises(ControlError, match="closed"):
            await control.read(value_of)
        again = await opener()
        assert len(await again.read(value_of)) == 20
        await again.close()

    async def test_a_cancelled_caller_does_not_harm_the_others(self, opener: Any) -> None:
        control = await opener(fresh=True)
        tasks = [asyncio.ensure_future(control.write(put(str(n), n))) for n in range(10)]
        await asyncio.sleep(0)
        tasks[3].cancel()
        told = await asyncio.gather(*tasks, return_exceptions=True)
        assert [n for n in range(10) if n != 3] == [result for result in told if isinstance(result, int)]
        await control.close()

    async def test_exceptions_that_a_future_cannot_carry_still_reach_the_caller(self, opener: Any) -> None:
        control = await opener(fresh=True)

        def stops(connection: Connection) -> None:
            raise StopIteration

        with pytest.raises(RuntimeError, match="StopIteration"):
            await asyncio.wait_for(control.write(stops), 60)
        await control.close()

    @settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    )
    @given(
        operations=st.lists(
            st.tuples(st.sampled_from(["put", "drop", "raise", "nested"]), st.sampled_from("abc"), st.integers(0, 9)),
            max_size=30,
        ),
        pauses=st.sets(st.integers(0, 29)),
    )
    def test_interleaved_transactions_equal_a_serial_run_of_those_that_succeeded(
        self, opener: Any, operations: list[tuple[str, str, int]], pauses: set[int]
    ) -> None:
        async def run() -> tuple[list[object], dict[str, int]]:
            control = await opener(fresh=True)
            tasks: list[asyncio.Future[Any]] = []
            for index, operation in enumerate(operations):
                tasks.append(asyncio.ensure_future(control.write(_database(operation))))
                if index in pauses:
                    await asyncio.sleep(0)
            told = await asyncio.gather(*tasks, return_exceptions=True)
            there = await control.read(value_of)
            await control.close()
            return [type(result) if isinstance(result, Exception) else result for result in told], there

        assert _model(operations) == asyncio.run(run())


def _database(operation: tuple[str, str, int]) -> Callable[[Connection], int]:
    what, name, value = operation

    def transaction(connection: Connection) -> int:
        if what == "drop":
            return connection.execute(delete(COUNTER).where(COUNTER.c.name == name)).rowcount
        if what == "nested":  # a failure inside, handled inside
            inner = connection.begin_nested()
            connection.execute(delete(COUNTER))
            inner.rollback()
            return len(value_of(connection))
        put(name, value)(connection)
        if what == "raise":
            raise BoomError
        return value

    return transaction


def _model(operations: list[tuple[str, str, int]]) -> tuple[list[object], dict[str, int]]:
    there: dict[str, int] = {}
    told: list[object] = []
    for what, name, value in operations:
        if what == "drop":
            told.append(int(there.pop(name, None) is not None))
        elif what == "nested":
            told.append(len(there))
        elif name in there:
            told.append(IntegrityError)
        elif what == "raise":
            told.append(BoomError)
        else:
            there[name] = value
            told.append(value)
    return told, there
