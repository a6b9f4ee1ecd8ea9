"""Small inputs that ask for much get a typed error, within bounded time and memory (DESIGN part 5, promise 8)."""

import json
import subprocess
import sys

import pytest

from tests.needs import REPOSITORY
from tests.schemas.bombs import BATCHES, BODIES

MEMORY = 50 * (8 << 20)
"""What `schemas.codec` promises for the largest body: about 50 times its size, while it is read."""
SECONDS = 20.0
"""Of CPU. The worst, half a million lists that the garbage collector walks through, takes 2.6 s."""


@pytest.mark.parametrize("name", [*BODIES, *BATCHES])
def test_a_bomb_gives_a_wire_error_in_bounded_time_and_memory(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.schemas.bombs", name],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (0, "") == (done.returncode, done.stderr)
    found = json.loads(done.stdout)
    assert found["outcome"] in {"MalformedError", "TooLargeError"}
    assert found["seconds"] < SECONDS
    assert found["grown"] < MEMORY
