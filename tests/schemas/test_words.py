"""The words by which people and programs name levels, classes and errors."""

from typing import Annotated

import msgspec
import pytest

from schemas.errors import misfit, near_ids, near_names
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


IDS = {"gpu-7f3k2ma": 1, "gpu-q2ax5ne": 2, "gpu-7f3zzzz": 3, "c-2f9a81c0aa": 4}


@pytest.mark.parametrize(
    ("id_", "near"),
    [
        ("gpu-7f3k2m", ["gpu-7f3k2ma"]),  # one left out
        ("gpu-7f3k22ma", ["gpu-7f3k2ma"]),  # one too many
        ("gpu-7f3k2mb", ["gpu-7f3k2ma"]),  # a wrong one
        ("gpu-7fk32ma", ["gpu-7f3k2ma"]),  # two in each other's place
        ("gpu-7f3", ["gpu-7f3k2ma", "gpu-7f3zzzz"]),  # a beginning
        ("gpu-", []),  # too many begin so
        ("gpu-2aq5xne", []),  # as random as any other
        ("", []),
        ("x" * 100_000, []),
    ],
)
def test_a_mistyped_id_gets_those_that_may_have_been_meant(id_: str, near: list[str]) -> None:
    assert near == near_ids(id_, IDS)


def test_the_near_names_of_a_large_fleet_are_found_without_a_look_at_each() -> None:
    """Comparing with 80,000 names takes most of a second, in which nobody else is answered."""
    names = {f"rack{number}-gpu" for number in range(5000)}
    assert " Did you mean 'rack4711-gpu'?" == near_names("rack4711-gpv", names)
    assert "" == near_names("roof17", names)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"many": [0]}', "many[0]: expected int >= 1"),
        (b'{"many": "x"}', "many: expected array, got str"),
        (b"[]", "the body is not what is expected: Expected `object`, got `array`"),
    ],
)
def test_a_body_that_does_not_fit_is_told_by_the_place_in_it(body: bytes, told: str) -> None:
    class Wanted(msgspec.Struct):
        many: list[Annotated[int, msgspec.Meta(ge=1)]]

    with pytest.raises(msgspec.ValidationError) as error:
        msgspec.json.decode(body, type=Wanted)
    assert told == misfit(error.value)
