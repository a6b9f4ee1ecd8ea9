"""Last values in memory are what the store would say: any rows, any order of arrival."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aggregator.last_values import LastValues

FIELDS = ("a", "b", "c")
ROW = st.tuples(
    st.integers(0, 3),  # series
    st.integers(0, 30),  # time
    st.fixed_dictionaries({name: st.none() | st.integers(0, 9) for name in FIELDS}),
)


def as_put(
    rows: list[tuple[int, int, dict[str, Any]]], names: tuple[str, ...]
) -> tuple[list[int], list[int], dict[str, list[Any]]]:
    columns = {name: [row[2][name] for row in rows] for name in names}
    return [row[0] for row in rows], [row[1] for row in rows], columns


@given(
    st.lists(st.tuples(st.lists(ROW, min_size=1, max_size=8), st.sets(st.sampled_from(FIELDS), min_size=1)), max_size=8)
)
def test_memory_knows_the_newest_value_of_each_field(batches: list[tuple[list[Any], set[str]]]) -> None:
    """Model: of each series and field, the value of the greatest time, absent ones left out."""
    last = LastValues()
    model: dict[int, dict[str, tuple[int, Any]]] = {}
    for number, (drawn, chosen) in enumerate(batches):
        names = tuple(sorted(chosen))
        # times are unique in the model: what happens to two values of one moment is nobody's promise
        unique = {(series, time * 10 + number): values for series, time, values in drawn}
        rows = [(*place, unique[place]) for place in sorted(unique)]
        series, times, columns = as_put(rows, names)
        gapless = {name for name, values in columns.items() if None not in values} if number % 2 else set()
        last.put("m", series, times, columns, gapless)
        for series, time, values in rows:
            for name in names:
                if values[name] is not None and model.get(series, {}).get(name, (-1,))[0] < time:
                    model.setdefault(series, {})[name] = (time, values[name])
    found = {series: values for series, values in last.newest("m", FIELDS).items() if values}
    assert model == found


def test_what_is_silent_is_forgotten_and_the_memory_says_so() -> None:
    last = LastValues()
    last.begin(0)
    last.put("m", [1], [10], {"a": [1]})
    last.put("m", [2], [20], {"a": [2]})
    assert last.covers(5)
    last.forget_before(15, now=100)
    assert {2: {"a": (20, 2)}} == last.newest("m", ("a",))
    assert (False, True, 1) == (last.covers(5), last.covers(15), len(last))


def test_nothing_is_covered_before_the_beginning() -> None:
    assert not LastValues().covers(1 << 62)
