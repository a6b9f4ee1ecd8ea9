"""What the value of an option can be, asked of the aggregator while somebody types it in a shell."""

from collections.abc import Callable, Mapping
from typing import Final

from aggregator.cli.client import Client
from aggregator.cli.names import host_names
from aggregator.cli.place import MODES
from schemas.errors import MusterError

COUNTS: Final = ("1", "2", "4", "8")
_SECONDS: Final = 2.0
"""Nobody waits longer for a list of words."""


def values(kind: str, word: str) -> list[str]:
    """Give what the begun `word` can become; nothing where no aggregator answers, or none that tells."""
    try:
        told = _ASKED[kind](Client(timeout=_SECONDS), word)
    except MusterError:
        return []
    return [one for one in told if one.startswith(word)]


def _needs(client: Client, word: str) -> list[str]:
    """Give `VARIANT`, then `VARIANT:COUNT`, then `VARIANT:COUNT:MODE`."""
    begun, colon, _ = word.rpartition(":")
    match word.count(":"):
        case 0:
            return _variants(client, word)
        case 1:
            return [begun + colon + count for count in COUNTS]
        case 2:
            return [begun + colon + mode for mode in MODES]
        case _:
            return []


def _variants(client: Client, _: str) -> list[str]:
    return [one["name"] for one in client.get("/v1/variants")]


def _packages(client: Client, _: str) -> list[str]:
    return [one["name"] for one in client.get("/v1/packages")]


def _nodes(client: Client, _: str) -> list[str]:
    return sorted(host_names(client).values())


_ASKED: Final[Mapping[str, Callable[[Client, str], list[str]]]] = {
    "need": _needs,
    "variant": _variants,
    "package": _packages,
    "node": _nodes,
}
KINDS: Final = tuple(_ASKED)
"""What can be asked for: the name of the option, or what its help calls its value."""
