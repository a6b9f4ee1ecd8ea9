"""The names that tests of the language use, and values for them."""

from typing import Any

from hypothesis import strategies as st

from aggregator.expression import Environment
from aggregator.expression.types import (
    BOOL,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    Field,
    Held,
    ListOf,
    MapOf,
    Record,
    Type,
)
from schemas.metrics import Unit

PART = Record("part", {"vendor": Field(STRING), "serial": Field(STRING, blank_is_absent=True)}, Held.ITEMS)
TAINT = Record("taint", {"rule": Field(STRING), "weight": Field(INT)}, Held.ITEMS)
FIELDS: dict[str, Field] = {
    "b": Field(BOOL),
    "c": Field(BOOL),
    "i": Field(INT),
    "j": Field(INT),
    "d": Field(DOUBLE),
    "e": Field(DOUBLE),
    "s": Field(STRING),
    "z": Field(STRING),
    "t": Field(TIMESTAMP),
    "u": Field(DURATION),
    "ls": Field(ListOf(STRING)),
    "li": Field(ListOf(INT)),
    "m": Field(MapOf(STRING)),
    "any": Field(MapOf(DYN)),
    "part": Field(PART),
    "taints": Field(ListOf(TAINT)),
    "watts": Field(DOUBLE, unit=Unit.WATTS),
    "celsius": Field(DOUBLE, unit=Unit.CELSIUS),
    "ratio": Field(DOUBLE, unit=Unit.RATIO),
}
WORLD = Environment({"x": Record("x", FIELDS, Held.ITEMS)})

EDGES = [0, 1, -1, 2, 3, 2**63 - 1, -(2**63), 2**31, 2**53, 2**53 + 1]
ints = st.sampled_from(EDGES) | st.integers(-5, 5) | st.integers(-(2**63), 2**63 - 1)
doubles = st.sampled_from([0.0, -0.0, 1.0, 0.5, -2.5, float(2**53), float(2**63), 1e300, -1e300]) | st.floats(-10, 10)
texts = st.text("abB\N{SNOWMAN} ", max_size=4) | st.sampled_from(["", "a", "ab", "abc", "b"])
durations = st.sampled_from([0, 1, -1, 60 * 10**9, 3600 * 10**9, -(10**9)]) | st.integers(-(10**15), 10**15)
timestamps = st.sampled_from([0, 1_700_000_000_000_000_000]) | st.integers(0, 2 * 10**18)
dyns = st.booleans() | st.integers(-3, 3) | st.sampled_from([0.0, 1.0, 2.5]) | texts | st.lists(texts, max_size=2)
VALUES: dict[Type, st.SearchStrategy[Any]] = {
    BOOL: st.booleans(),
    INT: ints,
    DOUBLE: doubles,
    STRING: texts,
    TIMESTAMP: timestamps,
    DURATION: durations,
}
KEYS = ["k", "q"]


def values_of(type_: Type, *, absent: bool) -> st.SearchStrategy[Any]:
    """Give values of a type; with `absent`, None among them, and within them."""
    some: st.SearchStrategy[Any]
    if isinstance(type_, ListOf):
        some = st.lists(values_of(type_.item, absent=absent), max_size=3)
    elif isinstance(type_, MapOf):
        some = st.dictionaries(st.sampled_from(KEYS), values_of(type_.item, absent=absent), max_size=2)
        if not absent:
            some = st.fixed_dictionaries({key: values_of(type_.item, absent=False) for key in KEYS})
    elif isinstance(type_, Record):
        some = st.fixed_dictionaries(
            {name: values_of(field.type, absent=absent) for name, field in type_.fields.items()}
        )
    else:
        some = dyns if type_ == DYN else VALUES[type_]
    return st.none() | some if absent else some


def rows(*, absent: bool) -> st.SearchStrategy[dict[str, Any]]:
    """Give rows of the world: values by field."""
    return st.fixed_dictionaries({name: values_of(field.type, absent=absent) for name, field in FIELDS.items()})


def columns(many: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Give rows as columns by dotted name."""
    found: dict[str, list[Any]] = {}
    for name, field in FIELDS.items():
        values = [row.get(name) for row in many]
        if isinstance(field.type, Record):
            for inner, declared in field.type.fields.items():
                column = [None if one is None else one.get(inner) for one in values]
                found[f"x.{name}.{inner}"] = [one or None for one in column] if declared.blank_is_absent else column
        else:
            found[f"x.{name}"] = values
    return found
