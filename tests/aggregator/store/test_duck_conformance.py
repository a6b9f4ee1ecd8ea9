"""The embedded store passes what every store passes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.aggregator.store.places import DuckPlace
from tests.contract.folded_conformance import FoldedConformance
from tests.contract.query_conformance import Asker, QueryConformance
from tests.contract.store_conformance import StoreConformance
from tests.contract.store_rows import block, rows_of, table


@pytest.fixture
def place(tmp_path: Path) -> Iterator[DuckPlace]:
    place = DuckPlace(tmp_path)
    yield place
    place.close()


class TestDuckStore(StoreConformance):
    """Rows and progress."""


class TestDuckFolded(FoldedConformance):
    """Storms as one row."""


class TestDuckQueries(QueryConformance):
    """Questions."""

    @pytest.mark.parametrize("order", ["oldest", "newest"])
    def test_rows_of_two_runs_that_read_in_the_same_nanosecond_are_two(self, place: DuckPlace, order: str) -> None:
        """A clone of an agent speaks under the same name until one of the two is refused."""
        first = block("gpu", {"power_watts": [1.0, 2.0], "state": ["idle", None]})
        clone = block("gpu", {"power_watts": [7.0, 8.0], "state": ["busy", "busy"]}, seconds=[0, 5])
        asker = Asker(place, rows_of(first), rows_of(clone))
        rows = [tuple(row.values())[-2:] for row in table(asker("gpu", fields="power_watts,state", order=order))]
        twins = {(1.0, "idle"), (7.0, "busy")}
        assert twins == set(rows[:2] if order == "oldest" else rows[-2:])
        assert 4 == len(rows)
        cut = asker("gpu", fields="power_watts,state", order="oldest", limit=1)
        assert (1, True) == (cut.rows, cut.truncated)
        asker.close()
