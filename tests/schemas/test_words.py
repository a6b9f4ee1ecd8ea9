"""The words by which people and programs name levels, classes and errors."""

import pytest

from schemas.errors import near_names
from schemas.rows import Severity
from schemas.verbosity import Level, RowClass, class_of, level_of, level_of_severity


def test_levels_are_ordered_from_what_is_always_sent() -> None:
    assert [Level.ESSENTIAL, Level.STANDARD, Level.DETAILED, Level.DEBUG] == sorted(Level)


def test_the_numbers_that_travel_never_change() -> None:
    """They are in every log and store that was ever written."""
    assert {"ESSENTIAL": 0, "STANDARD": 1, "DETAILED": 2, "DEBUG": 3} == {level.name: level.value for level in Level}
    assert {"TELEMETRY": 0, "LOG": 1, "EVENT": 2, "CAPABILITY": 3} == {item.name: item.value for item in RowClass}


@pytest.mark.parametrize("level", Level)
def test_the_word_of_a_level_names_it_in_any_case(level: Level) -> None:
    assert (level, level) == (level_of(level.word), level_of(level.word.title()))


@pytest.mark.parametrize("row_class", RowClass)
def test_the_word_of_a_class_names_it_in_any_case(row_class: RowClass) -> None:
    assert (row_class, row_class) == (class_of(row_class.word), class_of(row_class.word.title()))


def test_another_word_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match="'verbose' is not a level; levels are essential, standard, detailed, debug"):
        level_of("verbose")
    with pytest.raises(ValueError, match="'logs' is not a class; classes are telemetry, log, event, capability"):
        class_of("logs")


def test_a_log_record_has_the_level_of_its_severity() -> None:
    """R001-12: the sender filters log records as well; errors and worse always travel."""
    levels = {severity.name: level_of_severity(severity) for severity in Severity}
    assert {
        "EMERGENCY": Level.ESSENTIAL,
        "ALERT": Level.ESSENTIAL,
        "CRITICAL": Level.ESSENTIAL,
        "ERROR": Level.ESSENTIAL,
        "WARNING": Level.STANDARD,
        "NOTICE": Level.STANDARD,
        "INFORMATIONAL": Level.DETAILED,
        "DEBUG": Level.DEBUG,
    } == levels


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("memroy", " Did you mean 'memory'?"),
        ("cpu_ratoi", " Did you mean 'cpu_ratio' or 'gpu_ratio'?"),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_a_misspelt_name_gets_the_near_ones(name: str, ending: str) -> None:
    assert ending == near_names(name, ("memory", "cpu_ratio", "gpu_ratio", "disk"))
