"""What names an expression may use: roots, each a record of typed fields."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from aggregator.expression.lexer import KEYWORDS, RESERVED
from aggregator.expression.types import Field, ListOf, MapOf, Record, Type

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class Environment:
    """The roots that expressions of one use see: measurements for alert rules, `device` and `node` for selectors.

    Raises ValueError on a name that no expression could hold.
    """

    def __init__(self, roots: Mapping[str, Record]) -> None:
        for name, record in roots.items():
            _check(name, root=True)
            _check_fields(record)
        self.roots: Final = dict(roots)

    def __or__(self, other: "Environment") -> "Environment":
        """Give the roots of both. Raises ValueError when both have one of the same name."""
        shared = self.roots.keys() & other.roots.keys()
        if shared:
            raise ValueError(f"two environments have the names {', '.join(sorted(shared))}")
        return Environment({**self.roots, **other.roots})

    def steps(self, path: tuple[str, ...]) -> list[tuple[Record, str]]:
        """Give each step of a path below its root: the record, and the field of it. Raises KeyError."""
        found: list[tuple[Record, str]] = []
        current: Type = self.roots[path[0]]
        for name in path[1:]:
            if not isinstance(current, Record):
                raise KeyError(name)
            found.append((current, name))
            current = current.fields[name].type
        return found

    def names(self) -> Iterator[tuple[str, Field]]:
        """Give every name and its field, records after what they hold: for documentation and completion."""
        for root, record in self.roots.items():
            yield from _below(root, record)


def _below(prefix: str, record: Record) -> Iterator[tuple[str, Field]]:
    for name, field in record.fields.items():
        if isinstance(field.type, Record):
            yield from _below(f"{prefix}.{name}", field.type)
        else:
            yield f"{prefix}.{name}", field


def _check(name: str, *, root: bool = False) -> None:
    if not _NAME.match(name) or name in KEYWORDS or (root and name in RESERVED):
        raise ValueError(f"{name!r} cannot be a name in an expression")


def _check_fields(record: Record) -> None:
    for name, field in record.fields.items():
        _check(name)
        inner: Type = field.type
        while isinstance(inner, ListOf | MapOf):
            inner = inner.item
        if isinstance(inner, Record):
            _check_fields(inner)
