"""A resource: a JSON object as a BMC sent it, and how to look into one that may hold anything.

Nothing here raises on account of what a BMC sent. A value of a wrong type is not there, for whoever reads it.

Source: DMTF DSP0266 (Redfish), "Resource identifier property" and "Reference to a related resource".
"""

import math
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

import msgspec

Resource = dict[str, Any]
"""A decoded JSON object with its `@odata.id`."""

ROOT: Final = "/redfish/v1"
_TRAILING: Final = re.compile(rb",(\s*[}\]])")
_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_MOST_DEPTH: Final = 64
_MAX_URI: Final = 1024
_ABSENT: Final = frozenset({"absent", "disabled", "unavailableoffline"})
"""Of Status.State: there is nothing that reads."""


class UnreadableError(ValueError):
    """An answer's body is no JSON object, not even with forgiveness."""


def decode(body: bytes) -> tuple[Resource, bool]:
    """Give the object of a body, and whether commas had to be forgiven. Raises UnreadableError."""
    forgiven = False
    if _is_deep(body):
        raise UnreadableError("nested too deep")
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        try:  # some BMCs leave a comma behind the last member, and a raw byte of another code in a name
            text = body.decode("utf-8", "replace").encode()
            found = msgspec.json.decode(_TRAILING.sub(rb"\1", text))
            forgiven = True
        except (msgspec.DecodeError, RecursionError):
            raise UnreadableError(str(error)[:200]) from None
    if not isinstance(found, dict):
        raise UnreadableError(f"a {type(found).__name__} instead of an object")
    return found, forgiven


def _is_deep(body: bytes) -> bool:
    """Whether a body is nested deeper than any resource: decoding it would take more stack than a thread has."""
    if body.count(b"[") + body.count(b"{") <= _MOST_DEPTH:
        return False
    left = _STRINGS.sub(b"", body).translate(None, _NO_BRACKETS)
    for _ in range(_MOST_DEPTH):
        inner = left.replace(b"[]", b"").replace(b"{}", b"")
        if len(inner) == len(left):
            break
        left = inner
    return len(left) > _MOST_DEPTH


def canonical(link: object) -> str:
    """Give a link in the one form that it is compared in: no fragment, no slash at the end; "" for what is none.

    Only paths below `/redfish/` are links: whatever points elsewhere is not followed.
    """
    if not isinstance(link, str) or not link.startswith("/redfish/") or len(link) > _MAX_URI:
        return ""
    path = link.partition("#")[0].rstrip("/")
    if any(part in (".", "..") for part in path.partition("?")[0].split("/")):
        return ""
    try:
        return quote(path, safe="/?&=$.,;:@!*'()~+%-_#[]|")
    except UnicodeEncodeError:  # half a character
        return ""


def uri(resource: Resource) -> str:
    """Give what a resource says it is called, canonical; "" when it does not say."""
    return canonical(resource.get("@odata.id"))


def link(resource: Resource, name: str) -> str:
    """Give where a property points to, canonical; "" when it does not."""
    found = resource.get(name)
    return canonical(found.get("@odata.id")) if isinstance(found, dict) else ""


def links(resource: Resource, name: str) -> list[str]:
    """Give where the members of a list point to, canonical, in order, each once."""
    return list(dict.fromkeys(found for one in objects(resource, name) if (found := uri(one))))


def member(resource: Resource, name: str) -> Resource:
    """Give an object within; {} when there is none."""
    found = resource.get(name)
    return found if isinstance(found, dict) else {}


def objects(resource: Resource, name: str) -> Iterator[Resource]:
    """Yield the objects of a list within."""
    found = resource.get(name)
    if isinstance(found, list):
        yield from (one for one in found if isinstance(one, dict))


def text(resource: Resource, name: str) -> str:
    """Give a text within, without blanks around it; "" when there is none."""
    found = resource.get(name)
    return found.strip() if isinstance(found, str) else ""


def number(value: object) -> float | None:
    """Give a finite number, also one that came as a text; None for anything else (`"nan"`, `true`, `"N/A"`)."""
    if isinstance(value, str):
        if not _NUMBER.match(value):
            return None
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


_NUMBER: Final = re.compile(r"\s*[+-]?(?:\d{1,30}(?:\.\d{0,30})?|\.\d{1,30})(?:[eE][+-]?\d{1,3})?\s*\Z", re.ASCII)


def kind(resource: Resource) -> str:
    """Give the schema's name of a resource (`Sensor`); "" when it does not say."""
    return text(resource, "@odata.type").lstrip("#").partition(".")[0]


def absent(resource: Resource) -> bool:
    """Whether a resource says that there is nothing behind it, or that it is switched off."""
    return text(member(resource, "Status"), "State").lower() in _ABSENT
