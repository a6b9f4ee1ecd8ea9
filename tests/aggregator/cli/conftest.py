"""A recorded aggregator, and a way to run a command against it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aggregator.cli import main
from tests.aggregator.cli.stub import Stub

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Stub]:
    server = Stub(tmp_path / "stub.sock")
    yield server
    server.close()


@pytest.fixture
def run(stub: Stub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line; give its status, what it printed, and what it said on standard error."""
    monkeypatch.setenv("MUSTER_SERVER", stub.address)

    def command(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(words)
        out, err = capsys.readouterr()
        return status, out, err

    return command
