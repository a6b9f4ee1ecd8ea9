"""Fans of the Acme shelf. Knows nothing of the host but `schemas`, for what it yields and declares."""

import time
from collections.abc import Iterator
from typing import Any

import msgspec

from schemas.errors import NoDataError
from schemas.metrics import Category, Kind, MetricSpec, Unit, ValueType
from schemas.rows import Reading
from schemas.verbosity import Level


class Options(msgspec.Struct, frozen=True):
    """Options of the fans."""

    path: str = "fans"
    """The file with one line for each fan, below the root."""


class Fans:
    """Speeds of the fans of an Acme shelf."""

    name = "acme_fans"
    Config = Options
    METRICS = (
        MetricSpec(
            name="acme_fan.speed_rpm",
            unit=Unit.REVOLUTIONS_PER_MINUTE,
            kind=Kind.GAUGE,
            type=ValueType.INT,
            level=Level.STANDARD,
            category=Category.ENVIRONMENT,
            meaning="The speed of the fan; absent when it does not say.",
            source="the shelf's file",
        ),
        MetricSpec(
            name="acme_fan.read_ns",
            unit=Unit.COUNT,
            kind=Kind.GAUGE,
            type=ValueType.INT,
            level=Level.STANDARD,
            category=Category.LOAD,
            meaning="When it was read, on the monotonic clock.",
            source="the clock",
        ),
    )

    def __init__(self, config: Options, context: Any) -> None:
        self.path = context.root / config.path

    def start(self) -> None:
        if not self.path.exists():
            raise NoDataError(f"no shelf here: {self.path}")

    def collect(self) -> Iterator[Reading]:
        now = time.monotonic_ns()
        for number, line in enumerate(self.path.read_text().splitlines()):
            speed = None if line == "-" else int(line)
            yield Reading("acme_fan", {"speed_rpm": speed, "read_ns": now}, device=f"fan:{number}")

    def stop(self) -> None:
        pass
