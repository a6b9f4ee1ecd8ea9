r"""Selectors: the small form in which people say which rows they mean, `node=n1|n2,gpu!=3,interface=eth*`.

    selector = term *( "," term )
    term     = name ( "=" | "!=" ) value *( "|" value )
    name     = node | device | publisher | any attribute of the measurement
    value    = bare text, where `*`, `?` and `[...]` are wild as in file names, or "quoted", taken as it is

Terms are joined by *and*, values by *or*; `!=` means none of the values. `subject` is another word for `node`.
A bare value ends at `,` or `|`; in a quoted one `\"` and `\\` stand for `"` and `\\`. A row that lacks an attribute
has "" for it: `cpu=""` finds the rows without one.
"""

import fnmatch
import re
from collections.abc import Callable
from typing import Final

import msgspec

from schemas.errors import QueryError
from schemas.metrics import NAME

MAX_TEXT: Final = 4_096
"""Characters of a selector."""
MAX_VALUES: Final = 256
"""Values of one term."""
_TERM = re.compile(r"\s*([a-z][a-z0-9_]*)\s*(!=|=)(?!=)\s*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"\s*')
_BARE = re.compile(r"[^,|\"]*")
_WILD = re.compile(r"[*?\[]")


class Value(msgspec.Struct, frozen=True):
    """One value to compare with."""

    text: str
    glob: bool
    """Whether `*`, `?` and `[...]` in it are wild."""


class Term(msgspec.Struct, frozen=True):
    """One condition on one name."""

    name: str
    """`node`, `device`, `publisher` or an attribute; `subject` is spelled `node` here."""
    values: tuple[Value, ...]
    """At least one; any of them."""
    negated: bool = False
    """True: none of them."""

    def predicate(self) -> Callable[[str], bool]:
        """Give a function that tells whether one text passes this term."""
        exact = frozenset(value.text for value in self.values if not value.glob)
        globs = [re.compile(fnmatch.translate(value.text)).match for value in self.values if value.glob]
        negated = self.negated
        if not globs:
            return lambda text: (text in exact) is not negated
        return lambda text: (text in exact or any(match(text) for match in globs)) is not negated


Selector = tuple[Term, ...]
"""Every term must hold; the empty selector takes everything."""


def parse_selector(text: str) -> Selector:
    """Read a selector. Raises QueryError that says where it stops making sense."""
    if len(text) > MAX_TEXT:
        raise QueryError(f"a selector of {len(text)} characters exceeds {MAX_TEXT}")
    if not text.strip():
        return ()
    terms: list[Term] = []
    at = 0
    while True:
        head = _TERM.match(text, at)
        if head is None:
            raise QueryError(f"selector {text!r}: expected name=value or name!=value at {text[at:][:40]!r}")
        values, at = _values(text, head.end())
        name = "node" if head[1] == "subject" else head[1]
        if not NAME.match(name):
            raise QueryError(f"selector {text!r}: {name!r} is not a usable name")
        terms.append(Term(name, values, head[2] == "!="))
        if at == len(text):
            return tuple(terms)
        at += 1  # the comma


def equals(name: str, *values: str) -> Term:
    """Give the term that `name` is one of `values`, nothing in them wild: for programs."""
    return Term(name, tuple(Value(value, glob=False) for value in values))


def _values(text: str, at: int) -> tuple[tuple[Value, ...], int]:
    """Read values up to a comma or the end; give them, and where that is."""
    values: list[Value] = []
    while True:
        value, at = _value(text, at)
        values.append(value)
        if len(values) > MAX_VALUES:
            raise QueryError(f"a selector's term has more than {MAX_VALUES} values")
        if at == len(text) or text[at] == ",":
            return tuple(values), at
        if text[at] != "|":
            raise QueryError(f"selector {text!r}: expected ',' or '|' at {text[at:][:40]!r}")
        at += 1


def _value(text: str, at: int) -> tuple[Value, int]:
    while at < len(text) and text[at] == " ":
        at += 1
    quoted = _QUOTED.match(text, at)
    if quoted is not None:
        return Value(re.sub(r"\\(.)", r"\1", quoted[1]), glob=False), quoted.end()
    if text[at : at + 1] == '"':
        raise QueryError(f"selector {text!r}: a quoted value does not end")
    bare = _BARE.match(text, at)
    word = bare[0].strip() if bare else ""
    if bare is None or not word:
        raise QueryError(f'selector {text!r}: a value is missing at {text[at:][:40]!r}; for an empty one write ""')
    return Value(word, glob=_WILD.search(word) is not None), bare.end()
