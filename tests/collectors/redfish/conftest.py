"""What the tests of the Redfish collector share."""

from collections.abc import Iterator

import pytest

from tests.fakes.redfish import Simulator


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """Give a simulator of BMCs, which ends with the test."""
    with Simulator() as simulator:
        yield simulator
