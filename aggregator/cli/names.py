"""Nodes are shown by host name and known by id; people type either."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from aggregator.cli.client import Client, ServerError
from aggregator.cli.words import WordError
from schemas.errors import near_names


def host_names(client: Client) -> dict[str, str]:
    """Give what to call each node, by id: its host name, or the id where it has none or shares it with another."""
    return names_of(client.get("/v1/nodes"))


def node_names(client: Client) -> dict[str, str]:
    """Give what to call each node, by id; {} for who may not list nodes."""
    try:
        return host_names(client)
    except ServerError:
        return {}


def names_of(views: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Give what to call each node of an answer of `/v1/nodes`, by id."""
    names = {view["node"]["id"]: view["node"]["host_name"] or view["node"]["id"] for view in views}
    count = Counter(names.values())
    return {id_: name if count[name] == 1 else id_ for id_, name in names.items()}


def node_id(views: Sequence[dict[str, Any]], named: str) -> str:
    """Give the id of the node called `named`, by id, host name or the beginning of an id. Raises WordError."""
    nodes = [view["node"] for view in views]
    if any(node["id"] == named for node in nodes):
        return named
    found = [node["id"] for node in nodes if node["host_name"] == named]
    if not found and len(named) >= 4:
        found = [node["id"] for node in nodes if node["id"].startswith(named)]
    if len(found) == 1:
        return str(found[0])
    if found:
        raise WordError(f"{named!r} is {len(found)} nodes; name one by its id: {', '.join(sorted(found)[:5])}")
    known = {str(name) for node in nodes for name in (node["id"], node["host_name"]) if name}
    raise WordError(f"there is no node {named!r}.{near_names(named, known)} 'muster nodes' lists them")
