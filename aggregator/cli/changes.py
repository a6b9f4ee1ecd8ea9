"""The ledger's entries on a terminal: a device's history, and what happens from now on."""

import http.client
import json
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final, NamedTuple

from aggregator.cli.client import Client, ServerError
from aggregator.cli.query import clock_time
from aggregator.cli.render import TABLES, Table
from aggregator.cli.words import shorten

_AGAIN_SECONDS: Final = 1.0
_TRIES: Final = 30
_ABOUT: Final = frozenset({"device", "node", "devices", "evidence", "claim"})


class ServerEvent(NamedTuple):
    """One server-sent event."""

    id: str
    kind: str
    data: str


def watch(client: Client, output: str, *, node: str = "", device: str = "") -> int:
    """Print changes as they come, one line each, until interrupted. Raises ServerError when it cannot go on."""
    for event in follow(client, "/v1/watch", {"node": node, "device": device}):
        if event.kind == "gone":
            raise ServerError(json.loads(event.data)["detail"])
        sys.stdout.write((_line(event) if output in TABLES else event.data) + "\n")
        sys.stdout.flush()
    return 0


def follow(client: Client, path: str, parameters: dict[str, str]) -> Iterator[ServerEvent]:
    """Give a stream's events; come back where it was when the server was away for up to half a minute."""
    place, failed = "", 0
    while True:
        try:
            with closing(client.stream(path, {**parameters, "after": place})) as lines:
                for event in _events(lines):
                    place, failed = event.id or place, 0
                    if event.data:
                        yield event
            problem = "it closed the stream"
        except (OSError, http.client.HTTPException) as error:
            problem = str(error)
        except ServerError as error:
            if not place or "gone" in str(error) or "list again" in str(error):
                raise
            problem = str(error)
        failed += 1
        if failed > _TRIES:
            raise ServerError(f"the aggregator went away: {problem}")
        time.sleep(_AGAIN_SECONDS)


def _events(lines: Iterator[bytes]) -> Iterator[ServerEvent]:
    """Read events whose data is one line, which is the last of each; an id without data is a place."""
    id_, kind = "", ""
    for line in lines:
        name, _, value = line.decode().partition(": ")
        if name == "id":
            id_ = value
            yield ServerEvent(id_, "", "")
        elif name == "event":
            kind = value
        elif name == "data":
            yield ServerEvent(id_, kind, value)
            kind = ""


def _line(event: ServerEvent) -> str:
    entry = json.loads(event.data)
    about = ",".join(entry["devices"] or entry["nodes"]) or "-"
    when = clock_time(entry["time_ns"])
    return f"{when}  {entry['sequence']}  {entry['kind']:<16} {shorten(about, 60)}  {said(entry)}".rstrip()


def said(entry: dict[str, Any]) -> str:
    """Give an entry's fields in a line, without those that say only what it is about."""
    shown = {name: value for name, value in entry["data"].items() if name not in _ABOUT}
    if entry["claim"]:
        shown = {"claim": entry["claim"], **shown}
    if isinstance(view := shown.pop("view", None), dict):
        shown = {**shown, **_of_view(view)}
    return " ".join(f"{name}={_word(shorten(_text(value), 80))}" for name, value in shown.items())


def _of_view(view: dict[str, Any]) -> dict[str, Any]:
    """Give what a collector's view of a device says, the most telling first: who sees what, where, and how it is."""
    slot, own = view.get("slot", {}), view.get("own", {})
    told = {
        "by": view.get("collector"),
        "serial": view.get("serial"),
        "uuid": view.get("uuid"),
        "at": slot.get("address") or slot.get("location") or slot.get("path"),
        "part_of": view.get("parent"),
    }
    return {**{name: value for name, value in told.items() if value}, **own}


def _word(text: str) -> str:
    """Give a text as it is, or quoted where its end could not be seen."""
    return json.dumps(text, ensure_ascii=False) if " " in text else text or "-"


def _text(value: Any) -> str:
    """Give a value as people read it: of what is in it everything that says something, without brackets around it."""
    match value:
        case str():
            return value
        case bool() | None:
            return {True: "yes", False: "no", None: "-"}[value]
        case dict():
            told = {name: inner for name, inner in value.items() if inner not in ("", [], {})}
            return ", ".join(f"{name} {_inner(inner)}" for name, inner in told.items()) or "-"
        case list():
            return ", ".join(_inner(inner) for inner in value) or "-"
    return str(value)


def _inner(value: Any) -> str:
    """Give what is in a value; in brackets where its end could not be seen."""
    text = _text(value)
    return f"({text})" if isinstance(value, (dict, list)) and ", " in text else text


def entries_table(entries: list[dict[str, Any]]) -> Table:
    """Make the table of a device's history."""
    table = Table(["when", "sequence", "what", ""], empty="nothing is known of its past")
    for entry in entries:
        table.add(clock_time(entry["time_ns"]), str(entry["sequence"]), entry["kind"], said(entry))
    return table
