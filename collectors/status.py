"""What the scheduler is told about each collector, and what it tells about it."""

from enum import Enum
from pathlib import Path
from typing import Any

import msgspec

from collectors.delivery import Delivery
from collectors.zygote import MEMORY_BYTES


class CollectorSetup(msgspec.Struct, frozen=True, kw_only=True):
    """One collector as configured."""

    name: str
    """The name of its section, which need not be that of the class."""
    factory: str = ""
    """`module:Class`, or the name of an installed collector; "" when that is `name`."""
    config: dict[str, Any] = {}
    """Converted into the collector's `Config`, strictly, in the helper."""
    interval: float = 10.0
    """Seconds from tick to tick."""
    timeout: float | None = None
    """Seconds that a `collect` may take; None for the interval, but not less than 1 s and not more than 10 s."""
    isolation: str = ""
    """The group that it shares a helper with: a word; "own" for a helper of its own; "" for what the class says."""
    enabled: bool = True

    @property
    def deadline(self) -> float:
        """Seconds that a `collect` may take."""
        return min(max(self.interval, 1.0), 10.0) if self.timeout is None else self.timeout


class SchedulerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for all collectors. Times are seconds."""

    node_id: str
    """The subject of rows that name none."""
    root: Path = Path("/")
    """Where collectors look for `/proc`, `/sys`, `/dev` and `/run`."""
    state_dir: Path | None = None
    """Each collector gets a folder of its own in here; None under `--test`."""
    first_within: float = 10.0
    """The first tick comes within so long, or within the interval when that is shorter; by a hash of node and name."""
    describe_every: float = 300.0
    start_timeout: float = 30.0
    """For importing, `start` and `describe`, or the collector's own timeout when that is longer."""
    stop_timeout: float = 3.0
    probe_every: float = 300.0
    """How long to wait before looking again where there was nothing."""
    backoff_first: float = 1.0
    backoff_most: float = 60.0
    failures: int = 3
    """A collector whose `collect` fails so often in a row is stopped and started again."""
    max_rows: int = 20_000
    """Rows of one `collect` or `emit`, and of all that a watch emits in a second; more is cut, or made to wait."""
    memory_bytes: int = MEMORY_BYTES
    """What one helper process may allocate."""
    log_level: int = 20
    """From which level on collectors' log lines are sent by their helpers."""


class State(Enum):
    """How a collector is."""

    STARTING = "starting"
    """Its helper comes up, or `start` runs."""
    RUNNING = "running"
    BACKING_OFF = "backing_off"
    """It failed, and is tried again at `next_try`."""
    NO_DATA = "no_data"
    """There is nothing here for it; looked for again at `next_try`."""
    UNSUPPORTED = "unsupported"
    """It says that it can never run here."""
    MISCONFIGURED = "misconfigured"
    """Its configuration does not fit; it waits for another one."""
    UNAVAILABLE = "unavailable"
    """Three of its helpers could not even be killed: what it reads hangs in the kernel. Until the agent restarts."""
    DISABLED = "disabled"
    STOPPED = "stopped"


class CollectorStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How one collector is and what became of it since the agent started."""

    name: str
    factory: str
    state: State
    group: str
    """The isolation group whose helper it runs in."""
    helper_pid: int | None
    """None while it has no helper."""
    watching: bool
    interval: float
    runs: int
    """Calls of `collect` that came back, well or badly."""
    rows: int
    """Rows that it yielded, filtered ones included."""
    errors: dict[str, int]
    """By type: an exception's class, a reason why values were refused, `timeout`, `crash`, `garbage`."""
    timeouts: int
    crashes: int
    skipped: int
    """Ticks that were left out because it was busy or the spool was behind."""
    left_helpers: int
    """Helper processes that not even SIGKILL could end."""
    last_seconds: float | None
    """How long the last `collect` took; None before the first."""
    last_success_ns: int | None
    """Wall time of the last `collect` that went well; None before the first."""
    last_error: str
    """ "" when there was none."""
    last_error_ns: int | None
    next_try_seconds: float | None
    """Seconds from now until it is tried again or runs next; None when nothing is planned."""
    slip_p99_seconds: float | None
    """How late `collect` began after its tick, the 99th percentile of the last 128; None before the first."""


class OnceResult(msgspec.Struct, frozen=True):
    """What one collector did in `Scheduler.once`."""

    status: CollectorStatus
    deliveries: list[Delivery]
