"""What a test needs of the machine that runs it: met, skipped with a reason, or under `CI=true` a failure.

A test that never runs proves nothing, and a skip is easy to overlook. So where the suite is run for everybody
(`CI=true`) whatever a test needs is installed first, and what is still missing then fails.
"""

import os
from pathlib import Path
from typing import NoReturn

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
"""The root of the checkout."""


def in_ci() -> bool:
    """Tell whether the suite runs for everybody, so that nothing may be skipped for lack of a tool."""
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def unmet(reason: str) -> NoReturn:
    """Skip with `reason` on somebody's own machine; fail with it under CI."""
    if in_ci():
        pytest.fail(f"under CI=true this must not be missing: {reason}", pytrace=False)
    pytest.skip(reason)


def recorded_data() -> Path:
    """Give the folder of data recorded from real machines, or skip: it is no part of the source."""
    folder = Path(os.environ.get("MUSTER_RECORDED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no recorded data in {folder}; set MUSTER_RECORDED_DATA")
    return folder
