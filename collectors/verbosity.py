"""The level in force on this node: the highest of the configuration and the live grants.

A grant expires on the agent's own monotonic clock, whatever happens to the wall clock or the aggregator.
"""

import threading
import time
from collections.abc import Callable, Mapping

import msgspec

from schemas.verbosity import Level, RowClass


class Grant(msgspec.Struct, frozen=True):
    """A verbosity grant as it applies to this node."""

    id: str
    level: Level
    collector: str
    """The collector that it is for; "" for all."""
    row_class: RowClass | None
    """The class that it is for; None for all."""
    expires: float
    """On the monotonic clock, seconds."""


class LevelPolicy:
    """Decides which rows are sent. Safe for several threads."""

    def __init__(
        self,
        default: Level,
        collectors: Mapping[str, Level] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._default = default
        self._collectors = dict(collectors or {})
        self._grants: tuple[Grant, ...] = ()
        self._watched_until = 0.0

    def configure(self, default: Level, collectors: Mapping[str, Level]) -> None:
        """Take the levels of a configuration that was read again; grants stay."""
        with self._lock:
            self._default = default
            self._collectors = dict(collectors)

    def set_grants(self, grants: list[Grant]) -> None:
        """Replace all live grants by these."""
        with self._lock:
            self._grants = tuple(grants)

    def grants(self) -> list[Grant]:
        """Give the grants that are live now."""
        now = self._clock()
        return [grant for grant in self._grants if grant.expires > now]

    def watch(self, seconds: float) -> None:
        """Somebody looks at this node: flush within a second, for so long."""
        self._watched_until = max(self._watched_until, self._clock() + seconds)

    @property
    def watched(self) -> bool:
        """Whether somebody looks at this node now."""
        return self._clock() < self._watched_until

    def in_force(self, collector: str) -> Level:
        """Give the level in force for a collector."""
        levels = [grant.level for grant in self._applying(collector)]
        return max([self.configured(collector), *levels])

    def configured(self, collector: str) -> Level:
        """Give the level that the configuration alone gives a collector."""
        return self._collectors.get(collector, self._default)

    def admit(self, collector: str, row_class: RowClass, level: Level) -> str | None:
        """Tell whether rows are sent: "" by configuration, a grant's id by that grant alone, None: not."""
        if level <= self.configured(collector):
            return ""
        for grant in self._applying(collector):
            if level <= grant.level and grant.row_class in (None, row_class):
                return grant.id
        return None

    def _applying(self, collector: str) -> list[Grant]:
        if not self._grants:
            return []
        return [grant for grant in self.grants() if grant.collector in ("", collector)]
