"""`muster up` on a folder that cannot be its own: one sentence, exit status 78, and nothing is started."""

import fcntl
from pathlib import Path

import pytest

from aggregator.cli.up import claim_folder
from schemas.errors import ConfigError


def test_a_second_one_on_the_same_folder_is_told_that_the_first_runs(tmp_path: Path) -> None:
    claim_folder(tmp_path)
    with (tmp_path / "aggregator" / "lock").open("a+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        with pytest.raises(ConfigError, match="already runs on this folder"):
            claim_folder(tmp_path)

    claim_folder(tmp_path)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match="cannot be used as the data folder"):
        claim_folder(tmp_path / "file")
