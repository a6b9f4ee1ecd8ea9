"""Query parameters as BMCs have them: $expand, $select, $filter, $skip, $top, only.

Source: DSP0266 1.20, 7.3 (query parameters).
"""

import dataclasses
import operator
import re
from collections.abc import Callable
from typing import Any, Final

from tests.fakes.redfish.message import Answer, refusal
from tests.fakes.redfish.tree import Resource

Fetch = Callable[[str], Resource | None]
_EXPAND: Final = re.compile(r"^([.*~])(?:\(\$levels=(\d+)\))?$")
_CONDITION: Final = re.compile(r"^\(?\s*(\w+)\s+(eq|ne|gt|ge|lt|le)\s+(?:'([^']*)'|(\S+?))\s*\)?$")
_UNDERSTOOD: Final = {"$expand", "$select", "$filter", "$skip", "$top", "only"}


class QueryError(Exception):
    """The query is refused with an answer."""

    def __init__(self, refused: Answer) -> None:
        super().__init__(refused.status)
        self.refused = refused


@dataclasses.dataclass(frozen=True)
class Features:
    """What a BMC does of what may be asked for."""

    expand: bool = True
    max_levels: int = 1
    select: bool = True
    filter: bool = True
    page: int | None = None
    """Members at most of one collection in one answer."""

    @classmethod
    def told(cls, root: Resource, page: int | None = None) -> "Features":
        """Give those that a service root tells of itself."""
        told = root.get("ProtocolFeaturesSupported") or {}
        expand = told.get("ExpandQuery") or {}
        return cls(
            bool(expand),
            int(expand.get("MaxLevels", 1)),
            bool(told.get("SelectQuery")),
            bool(told.get("FilterQuery")),
            page,
        )


def applied(resource: Resource, query: dict[str, str], path: str, features: Features, fetch: Fetch) -> Resource:
    """Give what the query asks for of a resource.

    Raises:
        QueryError: it asks for what this BMC refuses. Parameters with a dollar that nobody knows are refused as well
            (501), others are ignored.
    """
    unknown = [key for key in query if key.startswith("$") and key not in _UNDERSTOOD]
    lacking = [key for key in ("expand", "select", "filter") if f"${key}" in query and not getattr(features, key)]
    if unknown or lacking:
        raise QueryError(refusal(501, "The query is not supported.", "Base.1.8.QueryNotSupported"))
    if isinstance(resource.get("Members"), list):  # one recorded collection has null
        resource = _collection(resource, query, path, features, fetch)
        if "only" in query and len(resource["Members"]) == 1:
            resource = fetch(resource["Members"][0]["@odata.id"]) or resource
    if "$expand" in query:
        resource = _expanded(resource, query["$expand"], features, fetch)
    if "$select" in query:
        kept = {name.strip() for name in query["$select"].split(",")}
        resource = {key: value for key, value in resource.items() if key in kept or key.startswith("@odata")}
    return resource


def _collection(resource: Resource, query: dict[str, str], path: str, features: Features, fetch: Fetch) -> Resource:
    members = list(resource["Members"])
    if "$filter" in query:
        members = [one for one in members if _matches(query["$filter"], fetch(one.get("@odata.id", "")) or one)]
    counted = len(members) if "$filter" in query else resource.get("Members@odata.count", len(members))
    skip, top = _number(query, "$skip", 0), _number(query, "$top", features.page or len(members))
    top = min(top, features.page) if features.page else top
    rest = members[skip + top :]
    result = {**resource, "Members": members[skip : skip + top], "Members@odata.count": counted}
    if skip or rest:
        result.pop("Members@odata.nextLink", None)
    if rest and "$top" not in query:
        result["Members@odata.nextLink"] = f"{path}?$skip={skip + top}"
    return result


def _number(query: dict[str, str], name: str, default: int) -> int:
    if name not in query:
        return default
    if not query[name].isdecimal():
        raise QueryError(refusal(400, f"{name} takes a number.", "Base.1.8.QueryParameterValueTypeError"))
    return int(query[name])


def _matches(condition: str, resource: Resource) -> bool:
    parts = [_CONDITION.match(part.strip()) for part in condition.split(" and ")]
    if not all(parts):
        raise QueryError(refusal(400, "The filter is not understood.", "Base.1.8.QueryParameterValueFormatError"))
    return all(_holds(part, resource) for part in parts if part)


def _holds(part: re.Match[str], resource: Resource) -> bool:
    name, comparison, text, literal = part.groups()
    value = resource.get(name)
    if value is None:
        return False
    compare: Callable[[Any, Any], bool] = getattr(operator, comparison)
    if text is None and isinstance(value, int | float):
        return compare(value, float(literal))
    return compare(str(value), text if text is not None else literal)


def _expanded(resource: Resource, asked: str, features: Features, fetch: Fetch) -> Resource:
    found = _EXPAND.match(asked)
    levels = int(found[2] or 1) if found else 0
    if found is None or not 1 <= levels <= features.max_levels:
        raise QueryError(refusal(400, f"$expand={asked} is out of range.", "Base.1.8.QueryParameterOutOfRange"))
    return {key: _grown(key, value, found[1], levels, fetch, inside=False) for key, value in resource.items()}


def _grown(key: str, value: Any, which: str, levels: int, fetch: Fetch, *, inside: bool) -> Any:
    """Put resources in the place of references to them: outside `Links` (`.`), inside (`~`) or both (`*`)."""
    inside = inside or key == "Links"
    if isinstance(value, list):
        return [_grown(key, one, which, levels, fetch, inside=inside) for one in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"@odata.id"}:
        wanted = which == "*" or inside is (which == "~")
        other = fetch(value["@odata.id"]) if wanted and not key.startswith("@") else None
        if other is None or levels == 0:
            return value
        if levels == 1:
            return other
        return {name: _grown(name, one, which, levels - 1, fetch, inside=False) for name, one in other.items()}
    return {name: _grown(name, one, which, levels, fetch, inside=inside) for name, one in value.items()}
