"""One owner a partition, and a late one moves nothing (DESIGN part 1): as it must hold on any control database."""

import asyncio
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Connection

from aggregator.control import ControlFullError
from aggregator.control_sqlite import SqliteControl
from aggregator.log_sqlite import SqliteLog
from aggregator.ownership import INSTANCE, FencedError, Owner, check, load, move, take

T = TypeVar("T")
STORE = partial(move, consumer="store", log_id="log-1", topic="event")


class ChangingLog(SqliteLog):
    """A log whose partitions come and go, as those of a consumer group do."""

    mine = frozenset({0, 1, 2})

    async def owned(self) -> frozenset[int]:
        """See `Log`."""
        return self.mine


async def taken(control: SqliteControl, *partitions: int, by: str = "one") -> dict[int, int]:
    return await control.write(partial(take, partitions=partitions, instance=by, now_ns=1))


async def positions(
    control: SqliteControl, consumer: str = "store", log_id: str = "log-1"
) -> dict[tuple[str, int], int]:
    return await control.read(partial(load, consumer=consumer, log_id=log_id))


async def test_every_taking_has_the_next_epoch_for_each_partition_by_itself(control: SqliteControl) -> None:
    assert {0: 1, 1: 1} == await taken(control, 1, 0, 0)
    assert {1: 2, 2: 1} == await taken(control, 1, 2, by="two")
    assert {1: 3} == await taken(control, 1)
    assert {} == await taken(control)


async def test_an_owner_moves_its_positions(control: SqliteControl) -> None:
    epochs = await taken(control, 0, 1)
    await control.write(partial(STORE, partition=0, offset=5, epoch=epochs[0]))
    await control.write(partial(STORE, partition=0, offset=9, epoch=epochs[0]))
    await control.write(partial(STORE, partition=1, offset=2, epoch=epochs[1]))
    assert {("event", 0): 9, ("event", 1): 2} == await positions(control)
    assert {} == await positions(control, consumer="alerts")


async def test_an_old_owner_is_refused_after_another_took_the_partition(control: SqliteControl) -> None:
    old = await taken(control, 0, 1)
    await control.write(partial(STORE, partition=0, offset=5, epoch=old[0]))
    new = await taken(control, 0, by="two")
    with pytest.raises(FencedError, match="partition 0 is not owned under epoch 1: two has it under epoch 2") as fenced:
        await control.write(partial(STORE, partition=0, offset=6, epoch=old[0]))
    assert ("control.fenced", 0, 1, 2) == (
        fenced.value.code, fenced.value.partition, fenced.value.epoch, fenced.value.current,
    )  # fmt: skip
    assert {("event", 0): 5} == await positions(control)
    await control.write(partial(STORE, partition=0, offset=7, epoch=new[0]))
    await control.write(partial(STORE, partition=1, offset=1, epoch=old[1]))  # nobody took that one from it
    assert {("event", 0): 7, ("event", 1): 1} == await positions(control)


async def test_what_a_fenced_transaction_did_before_is_undone_too(control: SqliteControl) -> None:
    old = await taken(control, 0, 1)
    await taken(control, 1, by="two")

    def both(connection: Connection) -> None:
        STORE(connection, partition=0, offset=5, epoch=old[0])
        STORE(connection, partition=1, offset=5, epoch=old[1])

    with pytest.raises(FencedError):
        await control.write(both)
    assert {} == await positions(control)


async def test_a_partition_that_nobody_took_is_nobodys(control: SqliteControl) -> None:
    with pytest.raises(FencedError, match="nobody ever took it"):
        await control.write(partial(check, partition=3, epoch=1))


async def test_an_epoch_that_is_yet_to_come_is_refused_as_well(control: SqliteControl) -> None:
    await taken(control, 0)
    with pytest.raises(FencedError):
        await control.write(partial(check, partition=0, epoch=2))
    await control.write(partial(check, partition=0, epoch=1))


async def test_positions_and_epochs_outlive_the_process(tmp_path: Path) -> None:
    first = SqliteControl(tmp_path / "c.db")
    first.open()
    old = await taken(first, 0)
    await first.write(partial(STORE, partition=0, offset=5, epoch=old[0]))
    await first.close()
    second = SqliteControl(tmp_path / "c.db")
    second.open()
    assert {("event", 0): 5} == await positions(second)
    assert {0: 2} == await taken(second, 0, by="two")
    with pytest.raises(FencedError):
        await second.write(partial(STORE, partition=0, offset=6, epoch=old[0]))
    await second.close()


async def test_another_log_has_no_positions_and_does_not_disturb_the_first(control: SqliteControl) -> None:
    epochs = await taken(control, 0)
    await control.write(partial(STORE, partition=0, offset=5, epoch=epochs[0]))
    assert {} == await positions(control, log_id="log-2")
    await control.write(partial(STORE, log_id="log-2", partition=0, offset=1, epoch=epochs[0]))
    assert {("event", 0): 5} == await positions(control)
    assert {("event", 0): 1} == await positions(control, log_id="log-2")


async def test_a_process_owns_every_partition_of_an_embedded_log(control: SqliteControl, log: SqliteLog) -> None:
    assert {0: 1, 1: 1, 2: 1} == await Owner(control, log).hold()
    assert {0: 2, 1: 2, 2: 2} == await Owner(control, log).hold()
    with pytest.raises(FencedError, match=re.escape(INSTANCE)):
        await control.write(partial(check, partition=2, epoch=1))


async def test_all_consumers_of_a_process_write_under_the_same_epochs(control: SqliteControl, log: SqliteLog) -> None:
    owner = Owner(control, log)
    first, second = await asyncio.gather(owner.hold(), owner.hold({0: 1}))
    assert first == second == await owner.hold() == {0: 1, 1: 1, 2: 1}


async def test_what_another_took_and_the_log_says_is_ours_is_taken_back(control: SqliteControl, log: SqliteLog) -> None:
    owner = Owner(control, log)
    await owner.hold()
    await taken(control, 1, by="two")
    assert {0: 1, 1: 3, 2: 1} == await owner.hold({0: 1, 1: 2})


async def test_a_control_database_from_an_older_copy_takes_above_what_sinks_know(
    control: SqliteControl, log: SqliteLog
) -> None:
    """Or the sinks would refuse its epochs until it has counted up to them."""
    await taken(control, 0)
    assert {0: 10, 1: 4, 2: 1} == await Owner(control, log).hold({0: 9, 1: 3})


async def test_a_partition_that_went_and_came_back_has_another_epoch(control: SqliteControl, tmp_path: Path) -> None:
    log = ChangingLog(tmp_path / "log.db", partitions=3)
    owner = Owner(control, log)
    assert {0: 1, 1: 1, 2: 1} == await owner.hold()
    log.mine = frozenset({0})
    assert {0: 1} == await owner.hold()
    log.mine = frozenset({0, 1})
    assert {0: 1, 1: 2} == await owner.hold()
    await log.close()


async def test_without_room_nothing_is_taken_and_the_next_try_takes_it(tmp_path: Path, log: SqliteLog) -> None:
    class Full(SqliteControl):
        """Has no room at first."""

        room = False

        async def write(self, transaction: Callable[[Connection], T]) -> T:
            """See `Control`."""
            if not self.room:
                raise ControlFullError("no room")
            return await super().write(transaction)

    full = Full(tmp_path / "c.db")
    full.open()
    owner = Owner(full, log)
    with pytest.raises(ControlFullError):
        await owner.hold()
    full.room = True
    assert {0: 1, 1: 1, 2: 1} == await owner.hold()
    await full.close()
