"""An aggregator is ready when it does all of its work, and says what it does not do yet."""

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aggregator.config import AggregatorConfig
from aggregator.readiness import not_ready
from aggregator.service import Service
from schemas.metrics import Catalogue


class Status(msgspec.Struct, frozen=True):
    """What a part says."""

    last_error: str = ""


class Part(msgspec.Struct, frozen=True):
    """A part that works, or does not."""

    ready: bool = True
    status: Status = Status()


class Log(msgspec.Struct, frozen=True):
    """A log that takes rows, or does not."""

    last_failure: str = ""


GOOD: dict[str, Any] = {"log": Log(), "store": Part(), "ledger": Part(), "inventory": Part()}


def test_all_parts_that_work_are_ready() -> None:
    assert {} == not_ready(**GOOD)


@pytest.mark.parametrize("part", ["store", "ledger", "inventory"])
def test_each_part_that_does_not_work_is_named_with_its_reason(part: str) -> None:
    failed = not_ready(**GOOD | {part: Part(False, Status("the disk is full"))})
    assert [part] == list(failed)
    assert "the disk is full" in failed[part]
    assert not_ready(**GOOD | {part: Part(False)})[part]


def test_a_log_that_takes_nothing_is_named_with_its_reason() -> None:
    assert {"log": "it takes nothing: SQLITE_FULL"} == not_ready(**GOOD | {"log": Log("SQLITE_FULL")})


async def test_an_aggregator_becomes_ready_and_is_not_without_its_ledger(tmp_path: Path) -> None:
    service = Service(AggregatorConfig(data_dir=tmp_path), Catalogue(()))
    assert {"store", "ledger", "inventory"} == service.not_ready().keys()
    await service.start()
    try:
        deadline = time.monotonic() + 60
        while service.not_ready() and time.monotonic() < deadline:  # noqa: ASYNC110 - it is in other hands
            await asyncio.sleep(0.01)
        assert service.status()["ready"]
        await service.ledger.close()  # as when another leads, or while it is read from disk again
        assert "ledger" in service.not_ready()
        assert not service.status()["ready"]
    finally:
        await service.stop()
