"""Questions as people write them: times, durations, severities, selectors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from aggregator.query import SECOND, Aggregate, Asked
from aggregator.query_text import QueryParameters, parse_duration, parse_severity, parse_time
from aggregator.selector import Term, Value, parse_selector
from schemas.errors import QueryError
from schemas.rows import Severity

NOW = 1_800_000_000 * SECOND


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1799999999000000123", 1_799_999_999_000_000_123),
        ("15m", NOW - 900 * SECOND),
        ("-1h30m", NOW - 5400 * SECOND),
        ("now", NOW),
        ("2027-01-15T08:00:00Z", NOW),
        ("2027-01-15 09:00:00.000000001+01:00", NOW + 1),
        ("2027-01-15t08:00:00.5z", NOW + SECOND // 2),
        ("2027-01-15", NOW - 8 * 3600 * SECOND),
        ("50000d", 0),
    ],
)
def test_times(text: str, expected: int) -> None:
    assert expected == parse_time(text, NOW)


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2027-02-30", "2027-13-15T08:00:00Z", "1969-12-31T00:00:00Z", "9" * 30, "5 apples", "\u0661"],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(QueryError):
        parse_time(text, NOW)


@pytest.mark.parametrize(
    ("text", "expected"), [("90s", 90 * SECOND), ("1.5h", 5400 * SECOND), ("1h30m", 5400 * SECOND), ("5ms", 5_000_000)]
)
def test_durations(text: str, expected: int) -> None:
    assert expected == parse_duration(text)


@pytest.mark.parametrize("text", ["", "5", "m", "0s", "5m x", "-5m", "1e9s", "999999999w"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(QueryError):
        parse_duration(text)


def test_severities_are_words_or_numbers() -> None:
    assert (Severity.WARNING, Severity.ERROR) == (parse_severity("warning"), parse_severity("3"))
    with pytest.raises(QueryError, match="Did you mean 'warning'"):
        parse_severity("warnings")


def test_the_parameters_become_a_query() -> None:
    query = QueryParameters(
        measurement="gpu", fields="a, b:max", aggregate="min", where="node=n1", every="10s", group="all", since="1m"
    ).query(NOW)
    assert (Asked("a", Aggregate.MIN), Asked("b", Aggregate.MAX)) == query.asked
    assert (NOW - 60 * SECOND, None, 10 * SECOND, ()) == (query.since, query.until, query.every, query.group)
    assert ("node", "device") == QueryParameters(measurement="gpu", group="subject,device").query(NOW).group


def test_unknown_parameters_and_aggregates_are_refused() -> None:
    with pytest.raises(ValidationError):
        QueryParameters.model_validate({"measurement": "gpu", "wher": "x=1"})
    with pytest.raises(QueryError, match="Did you mean 'avg'"):
        QueryParameters(measurement="gpu", fields="a:avgg").query(NOW)
    with pytest.raises(QueryError, match="name them"):
        QueryParameters(measurement="gpu", aggregate="max").query(NOW)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("node=n1", (Term("node", (Value("n1", glob=False),)),)),
        (" subject = n1 ", (Term("node", (Value("n1", glob=False),)),)),
        ("a!=x|y*", (Term("a", (Value("x", glob=False), Value("y*", glob=True)), negated=True),)),
        (r'a="x,\"*|\\",b=1', (Term("a", (Value('x,"*|\\', glob=False),)), Term("b", (Value("1", glob=False),)))),
        ('device=""', (Term("device", (Value("", glob=False),)),)),
        ("pci=0000:3b:00.0", (Term("pci", (Value("0000:3b:00.0", glob=False),)),)),
    ],
)
def test_selectors(text: str, expected: tuple[Term, ...]) -> None:
    assert expected == parse_selector(text)


@pytest.mark.parametrize(
    "text", ["node", "node=", "=x", "a=1,", ",", 'a="x', 'a="x"y', "a=1||2", "A=1", "a==1", "x" * 5000]
)
def test_what_is_no_selector_is_refused(text: str) -> None:
    with pytest.raises(QueryError):
        parse_selector(text)


@given(st.text(max_size=60))
def test_any_text_is_a_selector_or_a_query_error(text: str) -> None:
    try:
        terms = parse_selector(text)
    except QueryError:
        return
    for term in terms:
        assert term.predicate()("some value") in (True, False)


@given(st.text(max_size=40))
def test_any_value_can_be_written_quoted(value: str) -> None:
    written = value.replace("\\", "\\\\").replace('"', '\\"')
    assert (Term("a", (Value(value, glob=False),)),) == parse_selector(f'a="{written}"')
