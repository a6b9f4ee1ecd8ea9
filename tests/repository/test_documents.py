"""The pages of the repository lead where they say, and the tree is the one that was agreed."""

import re

import pytest

from schemas import __version__
from tests.needs import REPOSITORY
from tests.repository.distribution import FOLDERS, TOP_LEVEL, tracked

PAGES = sorted(name for name in tracked() if name.endswith(".md") and not name.startswith("tests/cases/"))
HIDDEN = {".gitignore", ".dockerignore", ".editorconfig", ".pre-commit-config.yaml"}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file(page: str) -> None:
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    local = [target for target in targets if target and "://" not in target]
    assert [] == [target for target in local if not (REPOSITORY / page).parent.joinpath(target).exists()]


def test_the_top_level_holds_what_was_agreed_and_nothing_else() -> None:
    top = {name.partition("/")[0] for name in tracked()}
    assert set() == top - set(FOLDERS) - TOP_LEVEL - HIDDEN


def test_every_folder_of_tests_is_a_package() -> None:
    """Else `tests/collectors` passes for `collectors`, in pytest and in mypy."""
    folders = {name.rpartition("/")[0] for name in tracked() if re.match(r"tests/(?!cases/).*\.py$", name)}
    assert set() == {folder for folder in folders if not (REPOSITORY / folder / "__init__.py").is_file()}


@pytest.mark.parametrize("package", ["schemas", "collectors", "aggregator", "dashboards"])
def test_every_package_is_typed(package: str) -> None:
    assert (REPOSITORY / package / "py.typed").is_file()


def test_the_changelog_has_a_place_for_what_comes_and_for_each_release() -> None:
    headings = re.findall(r"^## \[([^\]]+)\]", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert "Unreleased" == headings[0]
    assert len(headings) == 1 or __version__ in headings


def test_no_module_is_longer_than_was_agreed() -> None:
    """600 lines is where two concepts in one module are discussed; tables and cases are exempt."""
    modules = [name for name in tracked() if name.endswith(".py") and name.partition("/")[0] in FOLDERS[:4]]
    assert {} == {name: lines for name in modules if (lines := (REPOSITORY / name).read_text().count("\n")) > 600}
