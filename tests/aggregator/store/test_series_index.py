"""The series index gives one number a series, whatever lists of keys they come in, and forgets what was not kept."""

from hypothesis import given
from hypothesis import strategies as st

from aggregator.series_index import SeriesIndex
from schemas.batch import Block
from tests.contract.store_rows import block

KEY = st.tuples(st.sampled_from(["gpu:0", "gpu:1", "a", ""]), st.sampled_from(["", "a", "gpu:0"]))
STEP: st.SearchStrategy[tuple[str, str, list[tuple[str, str]]]] = st.one_of(
    st.tuples(st.just("take"), st.sampled_from(["p1", "p2"]), st.lists(KEY, min_size=1, max_size=4)),
    st.tuples(st.just("undo"), st.just(""), st.just([])),
    st.tuples(st.just("settle"), st.just(""), st.just([])),
    st.tuples(st.just("forget"), st.sampled_from(["p1", "p2"]), st.lists(KEY, min_size=1, max_size=1)),
)


def keyed(keys: list[tuple[str, str]], *, turned: bool = False) -> Block:
    """Give a block with these keys: device and one attribute, or one more that is always empty and comes first."""
    made = block("gpu", {"x": [1.0]}, queue="", link="") if turned else block("gpu", {"x": [1.0]}, link="")
    made.keys = [[device, "", link] if turned else [device, link] for device, link in keys]
    return made


@given(st.lists(STEP, max_size=30), st.booleans())
def test_a_series_has_one_number_from_its_first_row_until_it_is_forgotten(
    steps: list[tuple[str, str, list[tuple[str, str]]]], turned: bool
) -> None:
    index = SeriesIndex()
    known: dict[tuple[str, tuple[str, str]], int] = {}
    new: list[tuple[str, tuple[str, str]]] = []
    for what, publisher, keys in steps:
        if what == "take":
            for key, number in zip(keys, index.numbers(publisher, keyed(keys, turned=turned)), strict=True):
                if (publisher, key) not in known:
                    assert number not in known.values()
                    known[publisher, key] = number
                    new.append((publisher, key))
                assert number == known[publisher, key]
                assert (publisher, *key) == index.labels(number, ("publisher", "device", "link"))
        elif what == "settle":
            index.settle()
            new = []
        elif what == "undo":
            index.undo()
            for one in new:
                del known[one]
            new = []
        elif (publisher, keys[0]) in known and (publisher, keys[0]) not in new:
            index.forget([known.pop((publisher, keys[0]))])
        assert [known[one] for one in new] == [fresh.id for fresh in index.fresh]
        assert len(index) == len(known)
        assert index.unknown("p1", keyed([("gpu:0", "a")], turned=turned)) == (("p1", ("gpu:0", "a")) not in known)
