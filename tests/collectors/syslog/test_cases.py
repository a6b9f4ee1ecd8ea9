"""Recorded and hand-written logs become the expected rows (R001-11, R001-13)."""

import json
import os
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from collectors.log_rules.teller import Teller
from collectors.syslog_framing import Framer
from collectors.syslog_kmsg import Devices, KernelLog, RecordedReader
from collectors.syslog_listener import Counts
from collectors.syslog_parser import Parser
from collectors.syslog_rows import Rows
from schemas.rows import Event, Item
from tests.collectors.syslog.harness import flat
from tests.collectors.syslog.test_journal import Fake

CASES = Path(__file__).parents[2] / "cases" / "syslog"


def result_of(case: Path, folder: Path) -> tuple[list[dict[str, Any]], Counts]:
    """Run a case; give its rows and events as they stand in `expected.jsonl`, and the counts."""
    config = tomllib.loads((case / "config.toml").read_text())
    if config.get("kind") == "journald":
        lines = (case / "input.bin").read_bytes().splitlines()
        with Fake(folder, *lines).running() as running:
            running.wait_for_rows(len(lines) - config["malformed"])
        return _found(running.items), running.collector._counts["journald"]
    now = int(datetime.fromisoformat(config["now"]).timestamp()) * 10**9
    rows, counts = Rows("node-1", lambda: now), Counts()
    data = (case / "input.bin").read_bytes()
    if config.get("kind") == "kmsg":
        clocks = (lambda: now, lambda: int(config["monotonic"] * 1e9))
        teller = Teller(Devices(Path("/nonexistent")).of_name, clock=lambda: 0.0, wall_ns=lambda: now)
        log = KernelLog(RecordedReader(data), Path("/nonexistent"), None, counts, clocks, teller)
        log.read(rows)
        log.finish(rows)
    else:
        framer = Framer(65536)
        frames = framer.feed(data) + framer.close(orderly=True)
        counts.messages_total = Parser(lambda: now, UTC).parse(frames, "tcp", rows, counts)
    return _found(rows.take()), counts


def _found(items: list[Item]) -> list[dict[str, Any]]:
    """Give rows and events as they stand in `expected.jsonl`."""
    found = [{name: value for name, value in row.items() if name != "time"} for row in flat(items)]
    return found + [_event(item) for item in items if isinstance(item, Event)]


def _event(event: Event) -> dict[str, Any]:
    """Give type, facts, and what is there of the rest."""
    more = {"device": event.device, "says": event.message} if event.type != "log.gap" else {}
    return {"event": event.type, **event.detail, **more, "event_severity": event.severity.name.lower()}


@pytest.mark.parametrize("case", sorted(path for path in CASES.iterdir() if path.is_dir()), ids=lambda case: case.name)
def test_case_gives_the_expected_rows(case: Path, tmp_path: Path) -> None:
    expected = case / "expected.jsonl"
    found, counts = result_of(case, tmp_path)
    if os.environ.get("MUSTER_WRITE_EXPECTED"):
        expected.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found))
    assert [json.loads(line) for line in expected.read_text().splitlines()] == found
    assert tomllib.loads((case / "config.toml").read_text())["malformed"] == counts.malformed_total
    assert len([row for row in found if "event" not in row]) == counts.messages_total
    assert (case / "ORIGIN").read_text().strip()
