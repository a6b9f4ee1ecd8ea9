"""What happens when the disk takes nothing, and to what cannot travel."""

from pathlib import Path
from typing import Any

import msgspec

from collectors.gathering import MAX_BODY_BYTES
from collectors.intake import MAX_WAITING_ROWS
from schemas.errors import SpoolError
from schemas.rows import Parcel, Severity
from schemas.verbosity import Level, RowClass
from tests.collectors.intake.rig import Rig, block, document, rows


def test_it_is_not_ready_when_it_holds_too_much_and_ready_again_when_the_disk_has_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    assert rig.intake.ready()
    while rig.intake.ready():
        rig.take(rows(*range(4000)))
    assert MAX_WAITING_ROWS <= 4000 * 5
    rig.intake.start()
    assert rig.intake.drain()
    assert rig.intake.ready()
    rig.intake.stop()


def test_memory_is_bounded_and_what_was_given_up_is_told_by_an_event(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for _ in range(12):
        rig.take(rows(*range(4000)))
    rig.take(documents=[document("gpu:1")])
    assert 2 * 4000 == rig.intake.unspooled
    rig.intake.start()
    assert rig.intake.drain()
    rig.until(lambda: rig.events() == ["rows.given_up"], "the event")
    assert 1 == len(rig.blocks(RowClass.CAPABILITY))  # documents are few, and are not given up
    rig.intake.stop()
    assert 40_000 == len(rig.values())


def test_a_commit_that_fails_is_tried_again_with_all_that_belonged_to_it(rig: Rig) -> None:
    commit, failures = rig.spool.commit, [SpoolError("full"), SpoolError("full")]

    def failing(*arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return commit(*arguments)

    rig.spool.commit = failing  # type: ignore[assignment, method-assign]
    rig.take(rows(1), rows(2, level=Level.DEBUG), position="1", documents=[document("gpu:1")])
    rig.until(lambda: rig.spool.positions("host") == {"tape": "1"}, "the position")
    assert [1] == rig.values()
    assert 1 == len(rig.blocks(RowClass.CAPABILITY))
    assert 2 == rig.intake.commit_failures


def test_a_disk_that_took_nothing_for_a_while_is_told_once_when_it_takes_rows_again(rig: Rig) -> None:
    commit, failures = rig.spool.commit, [SpoolError("spool.db: database or disk is full")] * 2

    def failing(*arguments: Any) -> Any:
        if failures:
            rig.clocks.now += 30
            raise failures.pop()
        return commit(*arguments)

    rig.spool.commit = failing  # type: ignore[assignment, method-assign]
    rig.take(rows(1))
    rig.until(lambda: rig.events() == ["spool.blocked"], "the event")
    rig.take(rows(*range(80)))
    rig.pass_(2)
    assert 81 == len(rig.values())
    [told] = rig.blocks(RowClass.EVENT)
    detail = {"blocked_seconds": 30.0, "failures": 2, "reason": "spool.db: database or disk is full"}
    assert [detail] == [msgspec.json.decode(str(text)) for text in told.strings["detail"]]
    assert [Severity.WARNING] == told.ints["severity"]


def test_large_rows_travel_in_more_batches(rig: Rig) -> None:
    """Log messages may have 128 KiB each; 80 of them exceed a body."""
    import random

    text = random.Random(1).randbytes(50_000).hex()
    large = block(*range(200))
    large.strings["message"] = [f"{number}{text}" for number in range(200)]
    rig.take(Parcel(RowClass.LOG, Level.STANDARD, large))
    assert rig.intake.drain(30)
    assert list(range(200)) == rig.values(row_class=RowClass.LOG)
    assert len(rig.spool) > 1
    assert all(held.size <= MAX_BODY_BYTES for held in rig.spool.pending())


def test_a_value_that_cannot_travel_harms_only_its_row(rig: Rig) -> None:
    rig.take(rows(1, 2, 1 << 70, 4), position="1")
    rig.until(lambda: rig.events() == ["rows.given_up"], "the event")
    assert [1, 2, 4] == rig.values()
    assert 1 == rig.intake.unspooled
    assert {"tape": "1"} == rig.spool.positions("host")
