"""What the code tells as an event is declared, and what is declared is told: the reference can be believed."""

import ast
import fnmatch
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from aggregator.reference import own_collectors
from collectors.registry import load
from schemas.events import AGENT_EVENTS, AGGREGATOR_EVENTS, EventSpec, check_events
from tests.needs import REPOSITORY

_TELLERS = frozenset({"Event", "_tell_event", "_warn", "_event", "Saying"})
"""What takes the type of an event first, or by the name `type`."""
_OURS = ("schemas", "collectors", "aggregator")


def declared() -> list[EventSpec]:
    own = [spec for name in own_collectors() for spec in getattr(load(name), "EVENTS", ())]
    return [*AGENT_EVENTS, *AGGREGATOR_EVENTS, *own]


def _pattern(node: ast.expr) -> str | None:
    """Give a type as it is written, what is only known at run time as `*`."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values)
    return None


@cache
def told() -> tuple[tuple[str, str], ...]:
    """Give every type that is written in the code, and where."""
    paths = [path for package in _OURS for path in sorted((REPOSITORY / package).rglob("*.py"))]
    texts = [(path, path.read_text(encoding="utf-8")) for path in paths]
    calls = (
        (path, call)
        for path, text in texts
        if any(teller + "(" in text for teller in _TELLERS)
        for call in ast.walk(ast.parse(text))
    )
    return tuple(one for path, call in calls for one in _told(path, call))


def _told(path: Path, call: ast.AST) -> Iterator[tuple[str, str]]:
    if not isinstance(call, ast.Call):
        return
    teller: Any = call.func
    if getattr(teller, "attr", getattr(teller, "id", "")) not in _TELLERS:
        return
    named = [keyword.value for keyword in call.keywords if keyword.arg == "type"]
    pattern = _pattern((call.args[:1] or named or [ast.Constant(None)])[0])
    if pattern is not None and "." in pattern:
        yield pattern, f"{path.relative_to(REPOSITORY)}:{call.lineno}"


def test_what_is_told_is_declared() -> None:
    types = {spec.type for spec in declared()}
    unknown = {pattern: where for pattern, where in told() if not fnmatch.filter(types, pattern)}
    assert {} == unknown


def test_what_is_declared_is_told() -> None:
    patterns = {pattern for pattern, _ in told()}
    silent = [spec.type for spec in declared() if not any(fnmatch.fnmatch(spec.type, pattern) for pattern in patterns)]
    assert [] == silent


def test_the_search_finds_the_types_it_is_there_to_find() -> None:
    found = {pattern for pattern, _ in told()}
    assert {"node.new", "log.set_back", "clock.step", "systemd.unit.*", "nvml.xid", "syslog.listener.down"} <= found


def test_declarations_do_not_contradict_one_another() -> None:
    for specs in (AGENT_EVENTS, AGGREGATOR_EVENTS, *(getattr(load(name), "EVENTS", ()) for name in own_collectors())):
        check_events(specs)
