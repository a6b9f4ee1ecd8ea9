"""The collector contract: what a plugin is, and what the host promises it.

A collector reads one source. It does not schedule, time out, retry, stamp, filter, count or log failures: the host
does. A plugin from another distribution needs no import from here: any class of this shape, named by an entry point in
the group `muster.collectors`, is one. (It will want `schemas` for `MetricSpec` and what it yields.)

Orders that are safe, and that the contract tests (`collectors.testing`) try on every collector:

- construct, never start, stop;
- start, collect any number of times, stop, stop again;
- start that raises, then start again on the same object;
- start, stop, start again.

Every call is made in a helper process, never in the one that holds the spool. `start`, `collect`, `describe` and `stop`
of one collector never overlap each other; `watch` runs beside them in a thread of its own.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import msgspec

from schemas.device import Document
from schemas.metrics import MetricSpec
from schemas.rows import Item
from schemas.verbosity import Level

GROUP = "muster.collectors"
"""The entry-point group."""


class Context(msgspec.Struct, kw_only=True):
    """What the host hands to a collector. The seam for tests: move `root`, and it reads a recorded machine."""

    subject: str
    """The id of this node: what rows speak about unless they say otherwise."""
    log: logging.Logger
    """For what the collector carries on from; what it cannot carry on from it raises."""
    root: Path = Path("/")
    """Where `/proc`, `/sys`, `/dev` and `/run` are looked for."""
    state_dir: Path | None = None
    """A folder that outlives the process, for files of its own; None under `--test`."""
    level: Callable[[], Level] = lambda: Level.DEBUG
    """Gives the level in force: what is above it need not be read at all. The host filters again."""
    positions: Mapping[str, str] = {}
    """By source, the last `Position` that was taken with its rows: resume after it. Fresh at every start."""


class Collector(Protocol):
    """A source of telemetry, logs or events.

    `__init__` does no I/O. `collect` yields what there is now; what was yielded before an exception stands. Any call,
    and a watch, may raise NewProcessError when what it uses is spent in this process: it is started in a new one then.
    """

    name: ClassVar[str]
    """The source's own word, snake_case: module, configuration section and case folder carry the same."""
    METRICS: ClassVar[tuple[MetricSpec, ...]]
    """Every metric that it can ever yield."""
    # A collector that yields events declares them too, as `EVENTS: ClassVar[tuple[EventSpec, ...]]`. One that hands on
    # measurements of others, which nobody declares, says `undeclared = True` and yields them as `Parcel`s.
    Config: ClassVar[type[Any]]
    """A frozen msgspec.Struct with a default for every field; an attribute docstring per field becomes its help."""

    def __init__(self, config: Any, context: Context) -> None: ...

    def start(self) -> None:
        """Open what is needed. Raises StartupError, or NoDataError when there is nothing of the kind here."""

    def collect(self) -> Iterable[Item]:
        """Read once. Raises PartialCollectError after yielding what could be read, NoDataError when all is gone."""

    def stop(self) -> None:
        """Close everything. Safe twice, and without `start`."""


@runtime_checkable
class DescribesDevices(Protocol):
    """An ability: it knows devices and what they can do."""

    def describe(self) -> Iterable[Document]:
        """Give the document of every device there is now. Called at start, every `describe_every`, and on events."""


@runtime_checkable
class Watches(Protocol):
    """An ability: it waits for what comes by itself (log records, Xid events, uevents)."""

    def watch(self, emit: "Emit", stopping: threading.Event) -> None:
        """Wait and emit until `stopping` is set, and notice that within a second. Returning earlier is a failure."""


@runtime_checkable
class Probes(Protocol):
    """An ability: it can tell, cheaply and without `start`, whether there is anything here for it."""

    def probe(self) -> str:
        """Give "" when it can run here, else one sentence that says what is missing and how to get it."""


class Objection(msgspec.Struct, frozen=True):
    """What cannot work of what was configured; `muster validate` adds where it was written."""

    option: str
    """Its key in the collector's section; "" for the section as a whole."""
    text: str
    """One sentence for people: what is wrong, and what to do."""


@runtime_checkable
class ChecksOptions(Protocol):
    """An ability: it can tell what is wrong with its options beyond their types, before anything runs."""

    def check_options(self, *, attempt: bool) -> Iterable[Objection]:
        """Give what cannot work as configured, without `start`; nothing is changed.

        Without `attempt` there is no I/O but `stat`, and reading files that the options name. With it whatever leaves
        no trace may be tried, such as binding a port for a moment: somebody asked for it, and nothing else runs.
        """


class Emit(Protocol):
    """What `watch` hands its items to."""

    def __call__(self, items: Iterable[Item]) -> None:
        """Take items as one unit (a `Position` is committed with the rows beside it). Blocks while it is behind."""


class DurableEmit(Emit, Protocol):
    """What the host's `emit` can do besides: a watch may ask for it."""

    def __call__(self, items: Iterable[Item], *, durable: bool = False) -> None:
        """Take items; with `durable` come back once they, and all that was emitted before, are on disk."""
