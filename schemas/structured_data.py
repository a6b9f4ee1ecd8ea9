r"""Structured data of log records: kept raw on its way, and decoded where somebody looks into it.

Source: RFC 5424 part 6.3.
"""

import re
from typing import Final, NamedTuple

_ELEMENT: Final = re.compile(
    r'\[([!#-<>-\\^-~]{1,32}+)((?: [!#-<>-\\^-~]{1,32}+="[^"\\\]]*+(?:\\.[^"\\\]]*+)*+")*+)\]', re.DOTALL
)
_PARAMETER: Final = re.compile(r' ([!#-<>-\\^-~]{1,32}+)="([^"\\\]]*+(?:\\.[^"\\\]]*+)*+)"', re.DOTALL)
_ESCAPED: Final = re.compile(r'\\(["\\\]])')


class Element(NamedTuple):
    """One element: `[id name="value" ...]`."""

    id: str
    """A registered word, or `name@<private enterprise number>`."""
    parameters: list[tuple[str, str]]
    """In order; one name may come several times."""


def decode_structured_data(text: str) -> list[Element]:
    r"""Give the elements of structured data, with what was escaped as it is meant; none for "".

    Raises ValueError on what is no structured data. A backslash before anything but `"`, `\` and `]` is itself.
    """
    found, at = [], 0
    while at < len(text):
        match = _ELEMENT.match(text, at)
        if match is None:
            raise ValueError(f'{text[at : at + 80]!r} is no element of structured data such as [id name="value"]')
        pairs = [(name, _ESCAPED.sub(r"\1", value)) for name, value in _PARAMETER.findall(match[2])]
        found.append(Element(match[1], pairs))
        at = match.end()
    return found
