"""The longest tests begin first, those that run alone come last, and files that share a costly fixture stay whole."""

from pathlib import Path

import pytest

from tests.scheduling import place, shares_fixtures


class Test:
    """A test with marks."""

    __test__ = False

    def __init__(self, name: str, *marks: pytest.MarkDecorator) -> None:
        self.name = name
        self._marks = {one.name: one.mark for one in marks}

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        """Give a mark."""
        return self._marks.get(name)


def test_the_longest_begin_first_and_who_is_alone_comes_last() -> None:
    slow, alone = pytest.mark.slow, pytest.mark.alone
    tests = [
        Test("quick"),
        Test("measuring", slow(90), alone),
        Test("slow", slow),
        Test("slower", slow(60)),
        Test("as quick"),
    ]
    assert ["slower", "slow", "quick", "as quick", "measuring"] == [test.name for test in sorted(tests, key=place)]


def test_files_with_fixtures_of_the_module_stay_together_and_others_do_not(tmp_path: Path) -> None:
    shared, single = tmp_path / "shared.py", tmp_path / "single.py"
    shared.write_text('@pytest.fixture(scope="module")\ndef costly(): ...\n')
    single.write_text("@pytest.fixture\ndef cheap(): ...\n")
    assert shares_fixtures(shared)
    assert not shares_fixtures(single)
