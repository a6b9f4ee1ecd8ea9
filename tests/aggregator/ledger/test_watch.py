"""List, then watch: nothing is missed, nothing comes twice, and a place that means nothing any more is refused."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from aggregator.ledger import ledger as ledger_module
from aggregator.ledger.entries import GenerationBegun, NodeOrdered, RatioSet, Tainted
from aggregator.ledger.journal import LedgerGoneError
from aggregator.ledger.model import Taint
from aggregator.ledger.words import Effect
from aggregator.ledger_watch import LedgerWatch, WatchFilter
from tests.aggregator.ledger.rig import opened, settle, write


async def take(events: AsyncIterator[bytes], count: int) -> list[dict[str, Any]]:
    """Read events until there are so many."""
    found: list[dict[str, Any]] = []
    async for chunk in events:
        for block in chunk.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if "data" in fields:
                found.append({"id": fields["id"], "event": fields["event"], **json.loads(fields["data"])})
        if len(found) >= count:
            break
    return found


async def test_every_entry_comes_once_and_in_order(tmp_path: Path) -> None:
    async with opened(tmp_path / "ledger.db") as ledger:
        await settle(ledger)
        watch, end = LedgerWatch(ledger), ledger.durable
        async with aclosing(watch.events(await watch.begin("0"), WatchFilter())) as events:
            first = await take(events, end)
            await write(ledger, NodeOrdered("n0", cordoned="a fan"), RatioSet("vcpus", 2.0))
            more = await take(events, 2)
        assert [one["sequence"] for one in first + more] == list(range(1, end + 3))
        assert [one["event"] for one in more] == ["node.ordered", "ratio.set"]
        assert {"node": "n0", "cordoned": "a fan"} == more[0]["data"]


async def test_reader_that_comes_back_goes_on_where_it_was(tmp_path: Path) -> None:
    async with opened(tmp_path / "ledger.db") as ledger:
        await settle(ledger)
        watch = LedgerWatch(ledger)
        async with aclosing(watch.events(await watch.begin("0"), WatchFilter())) as events:
            place = (await take(events, 5))[4]["id"]
        assert place == "1.5"
        async with aclosing(watch.events(await watch.begin(place), WatchFilter())) as events:
            assert (await take(events, 1))[0]["sequence"] == 6
        assert watch.watchers == 0


async def test_reader_has_a_place_before_anything_happens(tmp_path: Path) -> None:
    async with opened(tmp_path / "ledger.db") as ledger:
        await settle(ledger)
        watch = LedgerWatch(ledger)
        async with aclosing(watch.events(await watch.begin(""), WatchFilter())) as events:
            assert f"id: 1.{ledger.durable}\n\n" in (await anext(events)).decode()


async def test_reader_of_what_memory_no_longer_holds_reads_from_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "RECENT", 3)
    async with opened(tmp_path / "ledger.db") as ledger:
        await settle(ledger)
        watch = LedgerWatch(ledger)
        async with aclosing(watch.events(await watch.begin("1.0"), WatchFilter())) as events:
            found = await take(events, ledger.durable)
        assert [one["sequence"] for one in found] == list(range(1, ledger.durable + 1))


async def test_filter_by_node_and_device(tmp_path: Path) -> None:
    async with opened(tmp_path / "ledger.db") as ledger:
        devices = await settle(ledger)
        watch = LedgerWatch(ledger)
        mark = Taint("r", Effect.DRAIN, "hot", "op", 1)
        place = await watch.begin("")
        await write(ledger, NodeOrdered("n1", cordoned="x"), Tainted("n0", devices[0], mark), Tainted("n1", "", mark))
        for wanted, sequences in (
            (WatchFilter(node="host-n1"), [1, 3]),
            (WatchFilter(node="n0"), [2]),
            (WatchFilter(device=devices[0]), [2]),
        ):
            async with aclosing(watch.events(place, wanted)) as events:
                found = await take(events, len(sequences))
            assert [one["sequence"] - place.sequence for one in found] == sequences, wanted
        assert found[0]["views"][0]["taints"][0]["evidence"] == "hot"


@pytest.mark.parametrize("place", ["99999", "2.1", "one", "1.", ".1", "-4"])
async def test_place_that_is_none_is_gone(tmp_path: Path, place: str) -> None:
    async with opened(tmp_path / "ledger.db") as ledger:
        await settle(ledger)
        with pytest.raises(LedgerGoneError):
            await LedgerWatch(ledger).begin(place)


async def test_restored_ledger_ends_the_watch_with_a_word(tmp_path: Path) -> None:
    async with opened(tmp_path / "ledger.db") as ledger:
        await settle(ledger)
        watch = LedgerWatch(ledger)
        async with aclosing(watch.events(await watch.begin(""), WatchFilter())) as events:
            assert (await anext(events)).startswith(b":")
            await write(ledger, GenerationBegun(2, "restored"))
            said = await anext(events)
            assert said.startswith(b"event: gone\n")
            assert b"ledger.gone" in said


async def test_stop_ends_every_watch(tmp_path: Path) -> None:
    async with opened(tmp_path / "ledger.db") as ledger:
        watch = LedgerWatch(ledger)
        events = watch.events(await watch.begin(""), WatchFilter())
        await anext(events)
        watch.close()
        assert [one async for one in events if b"data" in one] == []
