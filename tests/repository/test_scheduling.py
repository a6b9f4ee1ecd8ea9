"""Tests that share a costly fixture go to one worker; the others to whichever is free."""

from pathlib import Path

from tests.scheduling import shares_fixtures


def test_files_with_fixtures_of_the_module_stay_together_and_others_do_not(tmp_path: Path) -> None:
    shared, single = tmp_path / "shared.py", tmp_path / "single.py"
    shared.write_text('@pytest.fixture(scope="module")\ndef costly(): ...\n')
    single.write_text("@pytest.fixture\ndef cheap(): ...\n")
    assert shares_fixtures(shared)
    assert not shares_fixtures(single)
