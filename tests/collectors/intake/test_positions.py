"""A position is never committed without the rows before it."""

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from schemas.rows import Parcel
from schemas.verbosity import Level, RowClass
from tests.collectors.intake.rig import Rig, block, event, rows


def test_two_streams_of_one_delivery_are_committed_together(rig: Rig) -> None:
    rig.skip_first()
    rig.take(rows(1), rows(2, row_class=RowClass.LOG), position="7")
    rig.take(rows(*range(80)))
    rig.settle()
    assert [2] == rig.values(row_class=RowClass.LOG)
    assert {"tape": "7"} == rig.spool.positions("host")
    assert 1 == rig.commits


def test_a_later_position_never_goes_before_rows_from_before_it(rig: Rig) -> None:
    """An event with a position goes at once: the rows that the source yielded before must go with it."""
    rig.skip_first()
    rig.take(rows(1, row_class=RowClass.LOG), position="1")
    rig.take(event(2), position="2")
    rig.until(lambda: rig.spool.positions("host") == {"tape": "2"}, "the position")
    assert [1] == rig.values(row_class=RowClass.LOG)
    assert [2] == rig.values(row_class=RowClass.EVENT)


def test_positions_of_other_sources_do_not_wait_for_one_another(rig: Rig) -> None:
    rig.skip_first()
    rig.take(rows(1, row_class=RowClass.LOG), position="1", collector="loud")
    rig.take(event(2), position="2")
    rig.until(lambda: rig.spool.positions("host") == {"tape": "2"}, "the position")
    assert {} == rig.spool.positions("loud")
    assert [] == rig.values(row_class=RowClass.LOG)


def test_a_position_whose_rows_were_all_filtered_goes_with_their_count_in_five_seconds(rig: Rig) -> None:
    rig.skip_first()
    for number in range(50):
        rig.take(rows(1, level=Level.DEBUG), position=str(number))
    rig.settle()
    assert 0 == rig.commits  # fifty filtered records are not fifty writes
    assert {"tape": "49"} == rig.intake.positions("host")
    rig.pass_(5.1)
    assert {"tape": "49"} == rig.spool.positions("host")
    streams = {(one.row_class, one.level): one for one in rig.spool.account().epochs[0].streams}
    assert 50 == streams[RowClass.TELEMETRY, Level.DEBUG].filtered


def test_positions_are_known_before_they_are_committed(rig: Rig) -> None:
    rig.skip_first()
    rig.take(rows(1), position="9")
    assert {"tape": "9"} == rig.intake.positions("host")
    assert {} == rig.intake.positions("other")


@given(st.lists(st.tuples(st.sampled_from(("log", "telemetry", "event", "filtered")), st.sampled_from("ab")),
                min_size=1, max_size=12))  # fmt: skip
def test_whenever_the_power_goes_position_and_rows_agree(steps: list[tuple[str, str]]) -> None:
    """Property: after every commit, what is there of a source is exactly what lies before its position."""
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder))
        rig.skip_first()
        agreed = []
        commit = rig.spool.commit

        def checked(*arguments: Any) -> Any:
            held = commit(*arguments)
            agreed.append(_positions_and_rows(rig))
            return held

        rig.spool.commit = checked  # type: ignore[assignment, method-assign]
        made: dict[str, list[str]] = {"a": [], "b": []}
        rig.intake.start()
        for kind, source in steps:
            made[source].append(kind)
            number = len(made[source])
            rig.take(_of_kind(kind, source, number), position=str(number), collector=source)
        rig.intake.stop()
        rig.spool.close()
    assert agreed
    for found in agreed:
        for source, (position, numbers) in found.items():
            kept = [at for at, kind in enumerate(made[source][:position], 1) if kind != "filtered"]
            assert kept == numbers


def _of_kind(kind: str, source: str, number: int) -> Parcel:
    if kind == "event":
        return Parcel(RowClass.EVENT, Level.ESSENTIAL, block(number, device=source))
    row_class = RowClass.LOG if kind == "log" else RowClass.TELEMETRY
    return Parcel(row_class, Level.DEBUG if kind == "filtered" else Level.STANDARD, block(number, device=source))


def _positions_and_rows(rig: Rig) -> dict[str, tuple[int, list[int]]]:
    numbers: dict[str, list[int]] = {"a": [], "b": []}
    for row_class in (RowClass.EVENT, RowClass.LOG, RowClass.TELEMETRY):
        for one in rig.blocks(row_class):
            for key, value in zip(one.rows, one.ints["value"], strict=True):
                assert value is not None
                numbers[one.keys[key][0]].append(value)
    return {
        source: (int(rig.spool.positions(source).get("tape", "0")), sorted(found)) for source, found in numbers.items()
    }
