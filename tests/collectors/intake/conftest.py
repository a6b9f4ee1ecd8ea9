"""An intake that runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.collectors.intake.rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    rig.intake.start()
    yield rig
    rig.intake.stop()
    rig.spool.close()
