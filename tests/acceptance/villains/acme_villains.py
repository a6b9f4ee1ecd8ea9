"""Collectors of another distribution, which knows nothing of Muster but `schemas`: what a host has to live with."""

import ctypes
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from schemas.metrics import Category, Kind, MetricSpec, Unit, ValueType
from schemas.rows import Reading
from schemas.verbosity import Level


class Options(msgspec.Struct, frozen=True):
    """Options of each."""

    word: str = ""
    """A word."""


class Honest:
    """Does what it should: the clock that all processes share, at two levels."""

    name = "acme_honest"
    Config = Options
    METRICS: tuple[MetricSpec, ...] = tuple(
        MetricSpec(
            name=f"acme.{field}",
            unit=Unit.COUNT,
            kind=Kind.GAUGE,
            type=ValueType.INT,
            level=level,
            category=Category.LOAD,
            meaning="The monotonic clock.",
            source="the clock",
        )
        for field, level in (("read_ns", Level.STANDARD), ("detail_ns", Level.DETAILED))
    )

    def __init__(self, config: Options, context: Any) -> None:
        self.config = config

    def start(self) -> None:
        """Nothing to open."""

    def collect(self) -> Iterator[Any]:
        now = time.monotonic_ns()
        yield Reading("acme", {"read_ns": now, "detail_ns": now})

    def stop(self) -> None:
        """Nothing to close."""


class Blocked(Honest):
    """Hangs in C and holds the interpreter's lock, as a driver of a dying device does."""

    name = "acme_blocked"

    def collect(self) -> Iterator[Any]:
        ctypes.PyDLL(None).sleep(1000)
        yield from super().collect()


class Raising(Honest):
    name = "acme_raising"

    def collect(self) -> Iterator[Any]:
        yield from super().collect()
        raise ZeroDivisionError("a bug")


class Flooding(Honest):
    """Yields without end."""

    name = "acme_flooding"
    METRICS = tuple(
        msgspec.structs.replace(spec, name=spec.name.replace("acme.", "acme_flood.")) for spec in Honest.METRICS
    )

    def collect(self) -> Iterator[Any]:
        while True:
            yield Reading("acme_flood", {"read_ns": 1})


class Garbage(Honest):
    """Yields what is no item, and items that hold nonsense."""

    name = "acme_garbage"

    def collect(self) -> Iterator[Any]:
        yield None
        yield object()
        yield Reading("acme", {"read_ns": "text", "undeclared": 1})
        yield Reading("unheard_of", {"x": 1})
