"""Blocks of one measurement are merged and divided without any row or value changing its place."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from collectors.gathering import MAX_ROWS, bodies_of, merge_block, rows_of
from schemas.batch import MAX_COLUMNS, Block
from schemas.codec import check_block
from tests.collectors.intake.rig import block, times_of

_COLUMNS = {"f": "floats", "g": "floats", "i": "ints", "b": "bools", "s": "strings"}
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "floats": st.floats(allow_nan=False),
    "ints": st.integers(-(1 << 63), (1 << 63) - 1),
    "bools": st.booleans(),
    "strings": st.text("xyz", max_size=3),
}


@st.composite
def tables(draw: st.DrawFn) -> list[Block]:
    """Blocks of one measurement that follow one another in time, with whatever devices and columns."""
    blocks, at = [], 1000
    for _ in range(draw(st.integers(2, 6))):
        count = draw(st.integers(1, 5))
        keys = draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True))
        at += draw(st.integers(1, 50))
        steps = [0, *draw(st.lists(st.integers(1, 9), min_size=count - 1, max_size=count - 1))]
        which = draw(st.lists(st.integers(0, len(keys) - 1), min_size=count, max_size=count))
        made = Block("cpu", "node-1", [], [[key] for key in keys], which, at, steps)
        for name in draw(st.lists(st.sampled_from(sorted(_COLUMNS)), min_size=1, max_size=5, unique=True)):
            kind = _COLUMNS[name]
            values = st.one_of(st.none(), _VALUES[kind])
            getattr(made, kind)[name] = draw(st.lists(values, min_size=count, max_size=count))
        at = made.end
        blocks.append(made)
    return blocks


def naive(blocks: list[Block]) -> list[tuple[int, str, dict[str, Any]]]:
    """Give every row by itself: time, device, and the values that are there."""
    found = []
    for one in blocks:
        columns: dict[str, list[Any]] = {**one.floats, **one.ints, **one.bools, **one.strings}
        for at, (when, key) in enumerate(zip(times_of([one]), one.rows, strict=True)):
            values = {name: column[at] for name, column in columns.items() if column[at] is not None}
            found.append((when, one.keys[key][0], values))
    return found


@given(tables())
def test_merged_blocks_hold_the_rows_of_all_and_keep_their_columns_aligned(blocks: list[Block]) -> None:
    expected = naive(blocks)
    into, *rest = blocks
    assert all(merge_block(into, one) for one in rest)
    check_block(into)
    assert expected == naive([into])


@given(tables(), st.data())
def test_a_block_in_two_parts_is_the_block(blocks: list[Block], data: st.DataObject) -> None:
    one = blocks[0]
    cut = data.draw(st.integers(1, len(one.rows)))
    parts = [rows_of(one, 0, cut)] + ([rows_of(one, cut, len(one.rows))] if cut < len(one.rows) else [])
    for part in parts:
        check_block(part)
    assert naive([one]) == naive(parts)


def test_a_block_that_does_not_go_on_in_time_is_not_merged() -> None:
    into = block(1, 2, start=100)
    assert not merge_block(into, block(3, start=101))
    assert [(100, "", {"value": 1}), (101, "", {"value": 2})] == naive([into])


def test_a_column_never_has_two_types() -> None:
    into, other = block(1, start=100), block(start=200)
    other.rows, other.steps, other.ints, other.floats = [0], [0], {}, {"value": [1.5]}
    assert not merge_block(into, other)
    check_block(into)


def test_blocks_are_not_merged_beyond_the_columns_that_a_receiver_takes() -> None:
    into, other = block(1, start=100), block(2, start=200)
    into.ints = {f"a{number}": [1] for number in range(300)}
    other.ints = {f"b{number}": [1] for number in range(300)}
    assert MAX_COLUMNS < 600
    assert not merge_block(into, other)
    check_block(into)


def test_blocks_are_not_merged_beyond_the_rows_of_a_batch() -> None:
    into = block(*range(MAX_ROWS - 1), start=100)
    assert not merge_block(into, block(1, 2, start=1 << 40))
    assert merge_block(into, block(1, start=1 << 40))


def test_rows_that_cannot_travel_are_told_between_their_neighbours() -> None:
    found = [(count, body is None) for count, body, _ in bodies_of([block(1, 1 << 70, 3, start=5), block(4, start=9)])]
    assert 4 == sum(count for count, _ in found)
    assert [1] == [count for count, missing in found if missing]
