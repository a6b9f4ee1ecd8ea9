"""One aggregator process: its parts, put together, and what the HTTP API may ask of them."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from aggregator.announcer import Announcer
from aggregator.authority import find_authority
from aggregator.balance import Balance
from aggregator.balancing import Balanced, Balancing, Share
from aggregator.caretaker import Caretaker
from aggregator.claim_carrier import ClaimCarrier, Policy
from aggregator.claiming import Claiming
from aggregator.config import AggregatorConfig, LogSection, RetentionSection
from aggregator.control_sqlite import SqliteControl
from aggregator.expired import Expiry
from aggregator.fleet import Fleet, budget_of
from aggregator.ingest import Ingest
from aggregator.inventory import Inventory
from aggregator.inventory_progress import CLASSES
from aggregator.leases import Leases
from aggregator.ledger.facts import FIRST_SIGHT_POLICIES
from aggregator.ledger_service import LedgerService
from aggregator.live import LiveHub
from aggregator.log import TOPICS, topic_of
from aggregator.log_sqlite import SqliteLog
from aggregator.migrate import LEDGER
from aggregator.node_life import NodeLife
from aggregator.opened import OpenedBatches
from aggregator.ownership import INSTANCE, Owner
from aggregator.quarantine import Quarantine
from aggregator.query import MeasurementInfo, Query, Result
from aggregator.readiness import not_ready
from aggregator.retention import Limits, Retention
from aggregator.settling import Settling
from aggregator.store import Run
from aggregator.store_consumer import RECORD_TOPICS, StoreConsumer
from aggregator.token_service import Tokens
from collectors.failpoint import failpoint
from collectors.spool import boot_id
from schemas.claims import Checkpoint
from schemas.errors import ConfigError
from schemas.metrics import Catalogue
from schemas.verbosity import level_of

if TYPE_CHECKING:
    from aggregator.duck_maintain import Retention as StoreRetention
    from aggregator.duck_query import DuckQueries
    from aggregator.store_duckdb import DuckStore

_log = logging.getLogger("muster.aggregator")
T = TypeVar("T")
RETENTION_SECONDS: Final = 60.0
SWEEP_SECONDS: Final = 86_400.0


class Service:
    """An aggregator with everything embedded: log and control database in SQLite, store in DuckDB."""

    def __init__(
        self, config: AggregatorConfig, catalogue: Catalogue, *, broken: Callable[[], None] = lambda: None
    ) -> None:
        """Open the files under the data folder. Raises ConfigError when another process has it.

        `broken` is called when a part ended by a defect: started again the process works; half of it would not.
        """
        self.config = config
        self.catalogue = catalogue
        self.started = time.monotonic()
        self._broken = broken
        self._tasks: list[asyncio.Task[None]] = []
        self._open_files()
        self._make_gate()
        self.store, self.queries = self._make_store()
        self.consumer = self._make_consumer()
        self.book = LedgerService(self.ledger_database, INSTANCE, self.log)
        self.ledger = self.book.ledger
        self.inventory = self._make_inventory()
        self._make_claims()
        self._balancing = Balancing(
            self.log, self.control, self.consumer, self.expiry, [Share(self.inventory, CLASSES)]
        )
        limits = _log_limits(config.log)
        self.retention = Retention(self.log, limits, positions=self._positions, take=self.expiry.take)

    def _open_files(self) -> None:
        """Take the data folder, and what lies in it. Raises ConfigError when another process has it."""
        self.folder = self.config.data_dir / "aggregator"
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = lock_folder(self.folder)
        self.log = SqliteLog(self.folder / "log.db", partitions=self.config.log.partitions)
        self.control = SqliteControl(self.folder / "control.db")
        self.ledger_database = SqliteControl(self.folder / "ledger.db", schema=LEDGER)
        self.owner = Owner(self.control, self.log)

    def _make_gate(self) -> None:
        """Make what meets agents and users: who they are, what they may say, what they hear."""
        section = self.config.aggregator
        self.authority = find_authority(section.tls_certificate, section.tls_key, section.tls_authority)
        self.tokens = Tokens(self.control)
        self.announcer = Announcer(self.log, boot_id())
        silence_s = section.takeover_seconds
        self.fleet = Fleet(self.control, self.tokens, self.announcer, self.config.verbosity, silence_s=silence_s)
        self.live = LiveHub(self.log, self.fleet.watch)
        self.quarantine = Quarantine(self.control)
        self.expiry = Expiry(self.control)
        self._opened = OpenedBatches()
        self.ingest = Ingest(self.log, self.fleet, self.quarantine.at_ingest, self._opened)

    def _make_consumer(self) -> StoreConsumer:
        name = StoreConsumer.name
        return StoreConsumer(
            self.log,
            self.store,
            self.quarantine.at_consumer,
            keep=level_of(self.config.store.level),
            opened=self._opened,
            announce=self.announcer.announce,
            expired_words=lambda: self.expiry.words(name),
            own=self.owner.hold,
            settle=Settling(self.log, self.control, self.expiry, name, elsewhere=self._settled_elsewhere).settle,
        )

    def _make_inventory(self) -> Inventory:
        name = Inventory.name
        return Inventory(
            self.log,
            self.ledger,
            self.control,
            adopt=FIRST_SIGHT_POLICIES[self.config.inventory.first_sight],
            silence_s=self.config.aggregator.takeover_seconds,
            resend=self.fleet.hub.resend_documents,
            announce=self.announcer.announce,
            settle=Settling(self.log, self.control, self.expiry, name, elsewhere=lambda _run: False).settle,
        )

    def _make_claims(self) -> None:
        """Make what moves claims and nodes, and let it hear what agents say of them."""
        leases, policy = Leases(), Policy(**self.config.claiming.model_dump())
        announce = self.announcer.announce
        self.carrier = ClaimCarrier(self.ledger, leases, self.fleet.hub.set_work, policy, announce=announce)
        self.claiming = Claiming(self.ledger, leases, self.carrier.wake)
        self.life = NodeLife(self.fleet, self.ledger)
        self.caretaker = Caretaker(self.ledger, announce)
        self.fleet.reported = self.carrier.report
        self.fleet.kept = self._kept

    def _kept(self, publisher: str, checkpoint: Checkpoint) -> None:
        """Take what a node says at the beginning of a run that it keeps of claims."""
        self.caretaker.checkpoint(publisher, checkpoint)
        self.carrier.checkpoint(publisher, checkpoint)

    def _make_store(self) -> "tuple[DuckStore, DuckQueries]":
        # 70 ms and 30 MB: imported only when DuckDB is the store
        from aggregator.duck_query import DuckQueries, QueryConfig
        from aggregator.store_duckdb import DuckConfig, DuckStore

        store = self.config.store
        duck = DuckStore(
            self.folder / "store.duckdb",
            self.catalogue,
            DuckConfig(
                memory_limit_mb=store.memory_limit_bytes >> 20,
                retention=_store_retention(self.config.retention),
            ),
            failpoint=failpoint,
        )
        return duck, DuckQueries(duck, QueryConfig(timeout_s=store.query_timeout_seconds), names=self.fleet.names)

    def configure(self, config: AggregatorConfig) -> None:
        """Work by a changed configuration from now on; what needs a restart must be as before (`reloading.changes`)."""
        section = config.aggregator
        self.authority = find_authority(section.tls_certificate, section.tls_key, section.tls_authority)
        self.config = config
        self.fleet.grants.limit(budget_of(config.verbosity))
        self.retention.limit(_log_limits(config.log))
        self.store.config = msgspec.structs.replace(self.store.config, retention=_store_retention(config.retention))

    async def start(self) -> None:
        """Begin to work."""
        self.control.open()
        await self.fleet.load()
        await self.expiry.load()
        self.ledger_database.open()
        await self.ledger.open()
        await self.carrier.open()
        self.fleet.call({node.id: node.name for node in self.ledger.peek().nodes.values() if node.host_name})
        self._spawn("store", self.consumer.run())
        for name, work in self.book.work():
            self._spawn(name, work)
        self._spawn("inventory", self.inventory.run())
        self._spawn("claims", self.carrier.run())
        self._spawn("caretaker", self.caretaker.run())
        self._spawn("live", self.live.run())
        self._spawn("retention", self._every(RETENTION_SECONDS, self._retain))
        self._spawn("fleet", self._every(1.0, self.fleet.tick))
        self._spawn("tokens", self._every(RETENTION_SECONDS, self.tokens.flush))
        self._spawn("sweep", self._every(SWEEP_SECONDS, self._sweep))

    async def stop(self) -> None:
        """Commit what was taken, and let go of the files. Safe twice."""
        self.close_streams()
        self.consumer.stop()
        self.inventory.stop()
        for task in self._tasks:
            if task.get_name() not in ("store", "inventory"):
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)  # `_ended` has told of one that failed
        self._tasks = []
        async with contextlib.AsyncExitStack() as closing:  # whatever fails, what follows is closed
            closing.callback(self._lock.close)
            closing.push_async_callback(self.log.close)
            closing.push_async_callback(self.control.close)
            closing.push_async_callback(self.ledger_database.close)
            closing.push_async_callback(self.ledger.close)
            with contextlib.suppress(Exception):  # best effort: when tokens were last used
                await self.tokens.flush()
            await self.fleet.flush()

    def close_streams(self) -> None:
        """Answer everybody who is being kept waiting: the process is about to stop."""
        self.fleet.close()
        self.live.close()
        self.book.watching.close()

    def status(self) -> dict[str, object]:
        """Give how the parts fare."""
        return {
            "ready": not self.not_ready(),
            "not_ready": self.not_ready(),
            "uptime_seconds": time.monotonic() - self.started,
            "ingest": self.ingest.status,
            "store": self.consumer.status,
            "ledger": self.ledger.status,
            "book": self.book.status,
            "inventory": self.inventory.status,
            "log": {"id": self.log.id, "bytes": self.log.size_bytes(), "last_failure": self.log.last_failure},
            "events_not_announced": self.announcer.failed,
        }

    def not_ready(self) -> dict[str, str]:
        """Give the parts that are not ready, and why: {} when rows are taken, queries answered and devices given."""
        return not_ready(self.log, self.consumer, self.ledger, self.inventory)

    async def query(self, query: Query) -> Result:
        """Answer a query, on a thread. Raises QueryError or StoreError."""
        return await self.queries.ask(query)

    async def describe(self, measurement: str = "") -> list[MeasurementInfo]:
        """Tell what there is to ask for. Raises QueryError or StoreError."""
        return await asyncio.to_thread(self.queries.describe, measurement)

    async def balance(self, max_age_seconds: float = 0.0) -> Balance:
        """Add up where every row is, now or at most so long ago. Raises StoreUnavailableError or LogReadError."""
        return await self._balancing.balance(max_age_seconds)

    def _settled_elsewhere(self, run: Run) -> bool:
        return self.inventory.is_done_with(run)

    def _positions(self, topic: str, partition: int) -> dict[str, int]:
        if topic not in RECORD_TOPICS:
            return {}  # its readers drop what they have seen, and read on from what there is
        readers: list[Balanced] = [self.consumer]
        if topic in (topic_of(row_class) for row_class in CLASSES):
            readers.append(self.inventory)
        return {one.name: one.committed.positions.get((topic, partition), 0) for one in readers}

    async def _retain(self) -> None:
        for trimmed in await self.retention.enforce(time.time_ns()):
            if trimmed.unread:
                _log.error(
                    "log_expired_unread topic=%s partition=%d records=%s",
                    trimmed.topic,
                    trimmed.partition,
                    trimmed.unread,
                )

    async def _sweep(self) -> None:
        await self.tokens.sweep()
        await self.fleet.grants.sweep()

    async def _every(self, seconds: float, work: Callable[[], "asyncio.Future[T] | object"]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                result = work()
                if asyncio.iscoroutine(result):
                    await result
            except Exception:  # noqa: BLE001 - a chore that fails once must not end the others
                _log.exception("chore_failed; it is tried again in %.0f s", seconds)

    def _spawn(self, name: str, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and task.exception() is not None:
            _log.critical("task_ended name=%s", task.get_name(), exc_info=task.exception())
            self._broken()


def _log_limits(section: LogSection) -> dict[str, Limits]:
    limits = Limits(age_seconds=section.max_age_hours * 3600, bytes=section.max_bytes // len(TOPICS))
    return dict.fromkeys(TOPICS, limits)


def _store_retention(keep: RetentionSection) -> "StoreRetention":
    from aggregator.duck_maintain import ClassLimit
    from aggregator.duck_maintain import Retention as StoreRetention

    return StoreRetention(
        telemetry=ClassLimit(days=keep.telemetry_days, bytes=keep.telemetry_max_bytes),
        log=ClassLimit(days=keep.log_days, bytes=keep.log_max_bytes),
        event=ClassLimit(days=keep.event_days, bytes=keep.event_max_bytes),
        capability=ClassLimit(days=keep.capability_days, bytes=keep.capability_max_bytes),
        bytes=keep.max_bytes,
    )


class FolderLock:
    """A held lock on a data folder; gone with the process, however that ends."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+")

    def acquire(self) -> bool:
        """Take it, or tell that another process has it."""
        import fcntl

        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Let go. Safe twice."""
        self._file.close()


def lock_folder(folder: Path) -> FolderLock:
    """Make sure that this is the only aggregator on this data folder. Raises ConfigError (exit status 78)."""
    lock = FolderLock(folder / "lock")
    if not lock.acquire():
        lock.close()
        raise ConfigError(
            f"{folder}: another aggregator has this folder open, and embedded parts mean exactly one: stop the other,"
            " or give this one a folder of its own with MUSTER_DATA_DIR"
        )
    return lock
