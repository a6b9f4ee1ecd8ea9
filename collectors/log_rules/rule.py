"""What a rule is: which lines it takes, what facts are in them, and what event they make."""

import re
from collections.abc import Callable
from typing import Final

import msgspec

from schemas.device import pci_address
from schemas.rows import FieldValue, Severity


class Facts(dict[str, FieldValue]):
    """What a line says. What it does not say, or in a form that cannot be, is `?` in a text."""

    def __missing__(self, name: str) -> str:
        return "?"


PCI: Final = r"(?P<address>(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}(?:\.[0-7])?)"
"""A PCI address as drivers write it; it becomes the fact `address`, in normal form, and the subject."""


class Shaped(msgspec.Struct):
    """What a rule's own function makes of the facts, which it may change."""

    text: str
    severity: Severity


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of line of the kernel log.

    Named groups of the pattern are the event's facts. Of them `address` (PCI), `controller`, `block` and `interface`
    name the subject where the kernel has not tagged the record with its device.
    """

    type: str
    """Of the event; "" for a line that only tells more of the one that follows."""
    severity: Severity = Severity.ERROR
    begins: tuple[str, ...] = ()
    """What a line begins with, three characters at least. Without it `holds` is looked for in every line."""
    holds: str = ""
    """What a line has somewhere, for those that begin with the name of any driver."""
    pattern: str
    """A regular expression (ASCII; `.` is any character); compiled when the first line needs it."""
    text: str = ""
    """The event's message; `{facts}`, and `{device}` for the subject, are filled in."""
    numbers: frozenset[str] = frozenset()
    """The facts that are numbers; one that is none is absent."""
    same: tuple[str, ...] = ()
    """The facts that tell events of one type and device from each other: without them, all are the same again."""
    group: str = ""
    """Lines of one group belong together: what those without a type say goes into the event of the one that has."""
    by_device: bool = True
    """Lines of a group belong together only for one device."""
    shape: Callable[[Facts], Shaped | None] | None = None
    """Makes text and severity where they depend on more than the type; None: no event after all."""


def facts_of(rule: Rule, match: re.Match[str]) -> Facts:
    """Give the facts of a line; what it does not say is left out."""
    facts = Facts()
    for name, value in match.groupdict().items():
        if value is None or value == "":
            continue
        if name in rule.numbers:
            try:
                facts[name] = int(value, 0) if value.startswith("0x") else int(value)
            except ValueError:
                continue
        elif name == "address":
            try:
                facts[name] = pci_address(value)
            except ValueError:
                continue
        else:
            facts[name] = value
    return facts
