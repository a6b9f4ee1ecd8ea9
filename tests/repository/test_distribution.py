"""Wheel and sdist hold exactly what they should, and the wheel works away from the checkout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.needs import REPOSITORY
from tests.repository.distribution import PACKAGES, faults_of_sdist, faults_of_wheel, tracked


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wheel and sdist of this tree."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", folder], cwd=REPOSITORY, check=True)
    return folder


def test_the_wheel_holds_the_four_packages_the_units_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    assert [] == faults_of_wheel(wheel, tracked())


def test_the_sdist_holds_what_is_needed_to_build_and_test_and_nothing_else(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    assert [] == faults_of_sdist(sdist, tracked())


def test_a_missing_and_a_stray_file_are_found(built: Path) -> None:
    """The check can fail."""
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    files = tracked() - {"schemas/codec.py"} | {"schemas/lost.py", "compose/systemd/lost.service"}
    said = {"schemas/lost.py is missing", "schemas/codec.py does not belong there"}
    lost = {"wheel's data: data/share/muster/systemd/lost.service is missing"}
    assert {f"wheel: {one}" for one in said} | lost == set(faults_of_wheel(wheel, files))
    lost = {"sdist: compose/systemd/lost.service is missing"}
    assert {f"sdist: {one}" for one in said} | lost == set(faults_of_sdist(sdist, files))


def test_the_installed_wheel_imports_away_from_the_checkout(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    site = tmp_path / "site"
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        site,
        wheel,
    ]
    subprocess.run(pip, check=True, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    code = (
        "import importlib, json, sys\n"
        f"files = [importlib.import_module(name).__file__ for name in {PACKAGES!r}]\n"
        "import schemas.codec, collectors.contract\n"
        "print(all(file.startswith(sys.argv[1]) for file in files))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(site)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ("True\n", "") == (done.stdout, done.stderr)
