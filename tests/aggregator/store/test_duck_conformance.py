"""The embedded store passes what every store passes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.aggregator.store.places import DuckPlace
from tests.contract.query_conformance import QueryConformance
from tests.contract.store_conformance import StoreConformance


@pytest.fixture
def place(tmp_path: Path) -> Iterator[DuckPlace]:
    place = DuckPlace(tmp_path)
    yield place
    place.close()


class TestDuckStore(StoreConformance):
    """Rows and progress."""


class TestDuckQueries(QueryConformance):
    """Questions."""
