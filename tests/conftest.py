"""What every test shares: how hard hypothesis tries, its turn on this machine, its folders, the real servers."""

import os
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from tests.services.fixtures import (
    nova_python,
    placement12,
    placement16,
    postgres_binary,
    prometheus_binary,
    promtool,
    qemu,
    telegraf_binary,
)
from tests.turns import Turns

__all__ = [
    "nova_python",
    "placement12",
    "placement16",
    "postgres_binary",
    "prometheus_binary",
    "promtool",
    "qemu",
    "telegraf_binary",
]

# Workers of pytest-xdist have it, as wide as the terminal of who runs them: tables would be cut there.
os.environ.pop("COLUMNS", None)

_slow_machines = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "small",
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=_slow_machines,
)
settings.register_profile(
    "long",
    max_examples=5000,
    deadline=None,
    database=DirectoryBasedExampleDatabase(".cache/hypothesis"),
    suppress_health_check=_slow_machines,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "small"))


@pytest.fixture
def hangs_up() -> Iterator[None]:
    """Let SIGHUP do what it does as a rule: under `nohup` it is ignored, and so it is by all that tests start."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


TURNS = pytest.StashKey[Turns]()


def pytest_configure(config: pytest.Config) -> None:
    """Let a worker of pytest-xdist join the others; who runs all tests by itself needs no turns."""
    if hasattr(config, "workerinput"):
        # pytest-xdist gives each worker a folder in that of the whole run
        config.stash[TURNS] = turns = Turns(Path(config.option.basetemp).parent)
        config.add_cleanup(turns.close)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Keep to that order, and some tests together."""
    from tests.scheduling import Scheduling

    return Scheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put tests into the order in which several workers are done soonest; one alone keeps to that of the files."""
    if hasattr(config, "workerinput"):
        from tests.scheduling import place

        items.sort(key=place)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Run a test with its fixtures, of whatever scope, in its turn."""
    turns = item.config.stash.get(TURNS, None)
    alone = item.get_closest_marker("alone") is not None
    with turns.turn(alone=alone) if turns else nullcontext():
        return (yield)


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left_in_the_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give the session a temporary folder of its own, and fail when something of ours is left there at its end.

    What tests want to keep is in `tmp_path`; this is where `tempfile` puts what nobody named, also in processes that
    tests start.
    """
    tmp_path_factory.getbasetemp()  # pytest keeps some of it, so it stays where it would be
    folder = Path(tempfile.mkdtemp(prefix="muster-tests-"))
    folder.chmod(0o1777)  # as the real one: some tests change the user
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", None)
        yield
        left = sorted(path.name for path in folder.iterdir())
    shutil.rmtree(folder)
    assert [] == left, f"{len(left)} entries were left in the temporary folder; use tmp_path, or remove them"
