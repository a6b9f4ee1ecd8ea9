"""Replay a recorded machine: copy its root, move time on, and write down what the collector yields."""

import json
import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from collectors.contract import Context
from collectors.host import HostCollector
from collectors.host_section import HostConfig
from schemas.errors import PartialCollectError
from schemas.rows import Event, Item, Position, Reading
from schemas.verbosity import Level

CASES = Path(__file__).parents[2] / "cases" / "host"


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Give the time that it was moved to."""
        return self.now


def fake_statvfs(root: Path, answers: Mapping[str, list[int]]) -> Any:
    """Give a statvfs that knows the mount points of a recorded machine, and fails for all others."""

    def statvfs(path: str) -> os.statvfs_result:
        place = "/" + os.path.relpath(path, root).removeprefix(".")
        if place not in answers:
            raise FileNotFoundError(path)
        return os.statvfs_result(answers[place])

    return statvfs


def collector_of(
    root: Path,
    *,
    level: Level = Level.STANDARD,
    config: HostConfig | None = None,
    positions: Mapping[str, str] | None = None,
    statvfs: Any = None,
    clock: Clock | None = None,
) -> HostCollector:
    """Give a collector of the machine below `root`."""
    context = Context(
        subject="node-a", log=logging.getLogger("host"), root=root, level=lambda: level, positions=positions or {}
    )
    return HostCollector(
        config or HostConfig(), context, clock or Clock(), statvfs or fake_statvfs(root, {"/": [4096] * 10})
    )


def replay(case: Path, root: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Give what the collector yields at each recorded moment, and its documents, as plain JSON."""
    setting = _json(case / "case.json", {})
    clock = Clock()
    shutil.copytree(case / "root", root, dirs_exist_ok=True)
    collector = collector_of(
        root,
        level=Level[setting.get("level", "standard").upper()],
        config=msgspec.convert(setting.get("config", {}), HostConfig),
        positions=setting.get("positions", {}),
        statvfs=fake_statvfs(root, _json(case / "statvfs.json", {})),
        clock=clock,
    )
    collector.start()
    lines = _collected(collector, 1)
    if (case / "root.2").is_dir():
        shutil.copytree(case / "root.2", root, dirs_exist_ok=True)
        clock.now += 2
        lines += _collected(collector, 2)
    documents = [msgspec.json.decode(msgspec.json.encode(document)) for document in collector.describe()]
    collector.stop()
    return lines, documents


def plain(items: Iterable[Item]) -> list[dict[str, Any]]:
    """Give items as JSON that is the same every time; absent values are left out."""
    return [_plain(item) for item in items]


def _collected(collector: HostCollector, moment: int) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    try:
        lines.extend({"moment": moment} | _plain(item) for item in collector.collect())
    except PartialCollectError as error:
        lines.append({"moment": moment, "failed": str(error)})
    return lines


def _plain(item: Item) -> dict[str, Any]:
    if isinstance(item, Reading):
        fields = {name: value for name, value in item.fields.items() if value is not None}
        return {"measurement": item.measurement, "attributes": dict(item.attributes), "fields": fields}
    if isinstance(item, Event):
        return {
            "event": item.type,
            "severity": item.severity.name,
            "message": item.message,
            "detail": dict(item.detail),
        }
    assert isinstance(item, Position)
    return {"position": item.source, "value": item.value}


def _json(path: Path, default: Any) -> Any:
    return json.loads(path.read_text()) if path.exists() else default
