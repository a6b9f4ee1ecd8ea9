"""What the ledger decides is told to all who listen, over any end of the aggregator: none missed, none twice."""

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from aggregator.log_sqlite import SqliteLog
from collectors.transport import TransportError
from schemas.inventory import InventoryRecord, decode_inventory
from tests.acceptance.stage import Muster, stage, until
from tests.faults.rig import Bench, ask

CONFIG = '[agent]\nonly = ["oracle"]\n'


def decide(bench: Bench, *numbers: int) -> None:
    """Have the ledger decide something, once each: an entry for every number."""
    for number in numbers:
        body = json.dumps({"limits": {"claims": number}}).encode()
        answer = ask(bench.socket, "PUT", f"/v1/quotas/t{number}", body, content_type="application/json")
        assert 200 == answer.status, answer.body


def head(bench: Bench) -> int:
    """Give the ledger's last sequence."""
    return int(bench.get("/v1/devices", limit=1)["sequence"])


async def published(path: Path) -> list[list[InventoryRecord]]:
    """Give what is in the topic `inventory`, by partition."""
    log = SqliteLog(path)
    try:
        found = []
        for partition in range(log.partitions):
            records = await log.read("inventory", partition, await log.begin("inventory", partition), 1 << 24)
            found.append([decode_inventory(record.value) for record in records])
        return found
    finally:
        await log.close()


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_killed_behind_the_log_it_publishes_some_twice_and_each_once_by_its_number(tmp_path: Path, count: int) -> None:
    with stage(tmp_path, CONFIG) as muster:
        bench = Bench(muster)
        bench.start("aggregator", f"ledger.published:{count}")
        for number in range(1, count):  # it lives to decide so many: the first page is what a new ledger begins with
            bench.ready()
            with suppress(TransportError):  # killed before it could answer
                decide(bench, number)
            until("what was decided in the topic", lambda: _told(bench) or _ended(muster))
        bench.dies("aggregator", "ledger.published")
        bench.start("aggregator")
        bench.ready()
        decide(bench, 101, 102, 103)
        last = head(bench)
        until("all of it in the topic", lambda: _told(bench) >= last)
        muster.stop("aggregator")
        topic = asyncio.run(published(muster.data_dir / "aggregator" / "log.db"))
    seen = Counter((one.ledger, one.generation, one.sequence, one.node) for records in topic for one in records)
    assert list(range(1, last + 1)) == sorted({sequence for _, _, sequence, _ in seen})
    assert 1 == len({(ledger, generation) for ledger, generation, _, _ in seen})
    assert max(seen.values()) == 2, "it was killed between the log and the place: some come again"
    for records in topic:
        first = list(dict.fromkeys(one.sequence for one in records))
        assert sorted(first) == first, "who drops what it has seen reads in order"


def _told(bench: Bench) -> int:
    status = bench.get("/v1/status") or {}
    return int(status.get("book", {}).get("published", {}).get("sequence", 0))


def _ended(muster: Muster) -> bool:
    return muster.processes["aggregator"].poll() is not None


@pytest.mark.slow
def test_watch_of_the_command_line_goes_on_over_a_restart(tmp_path: Path) -> None:
    with stage(tmp_path, CONFIG) as muster, (tmp_path / "seen").open("wb") as seen:
        bench = Bench(muster)
        bench.start("aggregator")
        bench.ready()
        command = [sys.executable, "-P", "-m", "aggregator.cli", "devices", "--watch", "-o", "json"]
        watch = subprocess.Popen(command, env=muster.env, stdout=seen, stderr=subprocess.PIPE, cwd=tmp_path)
        try:
            first = _watching(bench, tmp_path)
            decide(bench, 1, 2, 3)
            until("what was decided", lambda: len(_sequences(tmp_path)) >= head(bench) - first)
            for end in (signal.SIGKILL, signal.SIGTERM):
                muster.stop("aggregator", end)
                bench.start("aggregator")
                bench.ready()
                decide(bench, 10 + end, 40 + end)  # most likely before the watch is back
                until("what was decided meanwhile", lambda: len(_sequences(tmp_path)) >= head(bench) - first)
            last = head(bench)
            assert watch.poll() is None
        finally:
            watch.send_signal(signal.SIGINT)
            _, told = watch.communicate(timeout=20)
    assert (130, b"") == (watch.returncode, told)
    assert list(range(first + 1, last + 1)) == _sequences(tmp_path)


def _watching(bench: Bench, folder: Path) -> int:
    """Decide until the watch shows something; give the sequence before what it shows first."""
    number = 1000

    def shown() -> list[int]:
        nonlocal number
        number += 1
        decide(bench, number)
        return _sequences(folder)

    return until("the watch", shown)[0] - 1


def _sequences(folder: Path) -> list[int]:
    """Give the sequences that the watch has shown, in its order."""
    lines = (folder / "seen").read_text().split("\n")[:-1]
    return [json.loads(line)["sequence"] for line in lines]
