"""Line protocol, to the letter of its specification."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.push.line_protocol import MAX_FIELDS, parse_head, parse_line
from collectors.push.refusal import REASONS, RefusedError

CASES = Path(__file__).parents[2] / "cases/push"


def case(name: str) -> list[Any]:
    """Give the lines of a case with what is expected of each."""
    lines = (CASES / name / "lines.txt").read_text().removesuffix("\n").split("\n")
    expected = (CASES / name / "expected.jsonl").read_text().splitlines()
    assert len(lines) == len(expected)
    return [pytest.param(line, json.loads(said), id=line) for line, said in zip(lines, expected, strict=True)]


def read(text: str) -> dict[str, Any]:
    line = parse_line(text)
    measurement, tags = parse_head(line.head, line.offset)
    return {"measurement": measurement, "tags": dict(tags), "fields": dict(line.fields), "time_ns": line.time_ns}


def typed(found: dict[str, Any]) -> dict[str, Any]:
    """Tell 1 from 1.0 and from true, which are equal in Python."""
    return found | {"fields": {name: (type(value), value) for name, value in found["fields"].items()}}


@pytest.mark.parametrize(("text", "expected"), case("influxdb-examples"))
def test_line_is_read_as_the_specification_says(text: str, expected: dict[str, Any]) -> None:
    assert typed(expected) == typed(read(text))


@pytest.mark.parametrize(("text", "expected"), case("refused"))
def test_line_that_breaks_a_rule_is_refused_with_the_place(text: str, expected: dict[str, Any]) -> None:
    with pytest.raises(RefusedError) as error:
        read(text)
    assert expected == {"reason": error.value.reason, "column": error.value.column}
    assert error.value.text


def test_line_with_too_many_fields_is_refused() -> None:
    fields = [f"f{number}=1" for number in range(MAX_FIELDS + 1)]
    assert MAX_FIELDS == len(parse_line("a " + ",".join(fields[:-1])).fields)
    with pytest.raises(RefusedError, match="more than 256 fields"):
        parse_line("a " + ",".join(fields))


# What any writer of line protocol may want to say; a text that ends in a backslash cannot be said outside of quotes.
_words = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), min_size=1, max_size=12)
_names = _words.filter(lambda text: not text.endswith("\\") and text.strip(" ") == text)
_values = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    _words,
)


def escaped(text: str, special: str) -> str:
    return re.sub(f"([{special}])", r"\\\1", text)


def written(value: object) -> str:
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{value}i" if isinstance(value, int) else repr(value)


@given(
    _names,
    st.dictionaries(_names, _names, max_size=3),
    st.dictionaries(_names, _values, min_size=1, max_size=4),
    st.none() | st.integers(-(2**63), 2**63 - 1),
)
def test_what_was_written_is_read(
    measurement: str, tags: dict[str, str], fields: dict[str, Any], time_ns: int | None
) -> None:
    head = escaped(measurement, ", ") + "".join(f",{escaped(k, ',= ')}={escaped(v, ',= ')}" for k, v in tags.items())
    body = ",".join(f"{escaped(key, ',= ')}={written(value)}" for key, value in fields.items())
    text = f"{head} {body}" + ("" if time_ns is None else f" {time_ns}")
    expected = {"measurement": measurement, "tags": tags, "fields": fields, "time_ns": time_ns}
    assert typed(expected) == typed(read(text))


@given(st.text(st.sampled_from('ab,= \\"1.5iutfe-\t\N{SNOWMAN}'), max_size=30))
def test_whatever_a_line_is_it_is_read_or_refused_with_a_place_in_it(text: str) -> None:
    refused, found = None, None
    try:
        found = read(text)
    except RefusedError as error:
        refused = error
    if refused is not None:
        assert refused.reason in REASONS
        assert 1 <= refused.column <= len(text) + 1
    if found is not None:
        assert found["fields"]
        assert all(not isinstance(value, float) or math.isfinite(value) for value in found["fields"].values())
