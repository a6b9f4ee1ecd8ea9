"""The fixture: `from tests.fakes.nvml.fixtures import fake_nvml` in the conftest of the tests that want it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.nvml.fake import FakeNvml


@pytest.fixture
def fake_nvml(tmp_path: Path) -> Iterator[FakeNvml]:
    """Give a machine of eight idle H100."""
    with FakeNvml.build(tmp_path) as fake:
        yield fake
