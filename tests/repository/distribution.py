"""What wheel and sdist hold, beside what they should hold. `python -m tests.repository.distribution dist` says it.

A build that is green and empty, or that carries the tests into everybody's site-packages, is a known accident of
packages with generic names. So both archives are compared, file by file, with what git knows.
"""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

from tests.needs import REPOSITORY

PACKAGES = ("schemas", "collectors", "aggregator", "dashboards")
"""What the wheel installs."""
SHARED = {"compose/systemd": "share/muster/systemd"}
"""Folders whose files the wheel puts into the environment, and where."""
FOLDERS = (*PACKAGES, "tests", "compose", "docs", ".ci")
"""What the sdist holds besides files of the top level."""
TOP_LEVEL = frozenset(
    {
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "Makefile",
        "README.md",
        "SECURITY.md",
        "pyproject.toml",
    }
)
"""The files beside the folders."""
WRITTEN_BY_BUILD = frozenset({"PKG-INFO", ".gitignore"})
"""What hatchling adds to every sdist."""


def tracked() -> set[str]:
    """Give the files of the repository, those not yet committed included, those ignored not."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    return {name for name in listing.stdout.decode().split("\0") if name and (REPOSITORY / name).is_file()}


def faults_of_wheel(wheel: Path, files: set[str]) -> list[str]:
    """Say what is missing from the wheel and what has no business in it."""
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if not name.endswith("/")}
    info = {name for name in held if PurePosixPath(name).parts[0].endswith(".dist-info")}
    data = {name for name in held if PurePosixPath(name).parts[0].endswith(".data")}
    expected = {name for name in files if name.partition("/")[0] in PACKAGES and "/" in name}
    faults = _difference("wheel", expected, held - info - data)
    shared = {
        f"data/{place}/{name.removeprefix(folder + '/')}"
        for folder, place in SHARED.items()
        for name in files
        if name.startswith(folder + "/")
    }
    faults += _difference("wheel's data", shared, {name.partition("/")[2] for name in data})
    kept = {PurePosixPath(name).relative_to(PurePosixPath(name).parts[0]).as_posix() for name in info}
    faults += _difference(
        "wheel's metadata", {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}, kept
    )
    faults += [f"wheel: {name}/py.typed is missing" for name in PACKAGES if f"{name}/py.typed" not in held]
    return faults


def faults_of_sdist(sdist: Path, files: set[str]) -> list[str]:
    """Say what is missing from the sdist and what has no business in it."""
    with tarfile.open(sdist) as archive:
        held = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    expected = {name for name in files if name.partition("/")[0] in FOLDERS or name in TOP_LEVEL}
    return _difference("sdist", expected, held - WRITTEN_BY_BUILD)


def _difference(where: str, expected: set[str], held: set[str]) -> list[str]:
    missing = [f"{where}: {name} is missing" for name in sorted(expected - held)]
    return missing + [f"{where}: {name} does not belong there" for name in sorted(held - expected)]


def main() -> int:
    """Check the one wheel and the one sdist of a folder; print every fault."""
    folder = Path(sys.argv[1])
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    files = tracked()
    faults = faults_of_wheel(wheel, files) + faults_of_sdist(sdist, files)
    sys.stdout.writelines(f"{fault}\n" for fault in faults)
    if not faults:
        sys.stdout.write(f"{wheel.name} and {sdist.name} hold exactly what they should\n")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
