"""A third party's distribution, installed where only the test looks."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def plugin_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which pip has installed the tests' plugin: without network, from its own pyproject.toml."""
    target = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "plugin"
    source.mkdir()
    here = Path(__file__).parent / "plugin"
    for file in sorted(here.rglob("*")):
        copy = source / file.relative_to(here)
        if file.is_dir():
            copy.mkdir(exist_ok=True)
        elif file.suffix in (".py", ".toml"):
            copy.write_bytes(file.read_bytes())
    options = ["--quiet", "--no-build-isolation", "--no-deps", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return target
