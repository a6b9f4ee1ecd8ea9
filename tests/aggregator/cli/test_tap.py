"""`muster tap`: rows as they pass."""

import subprocess
import sys

from tests.aggregator.cli.conftest import Run
from tests.aggregator.cli.stub import Stub


def test_rows_are_printed_as_they_come_until_there_are_enough(run: Run, stub: Stub) -> None:
    stub.answers["GET /v1/tap"] = '{"node": "a"}\n{"node": "b"}\n{"node": "c"}\n'
    assert (0, '{"node": "a"}\n{"node": "b"}\n', "") == run("tap", "--count", "2")
    assert 0 == run("tap")[0]


def test_an_output_that_takes_nothing_is_not_blamed_on_the_aggregator(stub: Stub) -> None:
    stub.answers["GET /v1/tap"] = '{"node": "a"}\n'
    command = [sys.executable, "-P", "-m", "aggregator.cli", "tap", "--server", stub.address]
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert (1, "muster: the output cannot be written: No space left on device\n") == (ended.returncode, ended.stderr)
