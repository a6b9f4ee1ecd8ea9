"""The agent's main process, put together: scheduler, intake, spool, publisher and control channel."""

import argparse
import gc
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from collectors.claims.checkpoint import CheckpointError
from collectors.claims.node import NodeClaims
from collectors.config import AgentConfig, CollectorSettings, load_agent_config, push_path
from collectors.control_client import ControlClient, ControlSession
from collectors.delivery import Delivery
from collectors.enrolment import Enrolment, NodeToken, authority_of
from collectors.intake import Intake
from collectors.node_identity import NodeIdentity, decide_node_id
from collectors.own_rows import event_parcel
from collectors.process import EXIT_DEFECT, start_logging
from collectors.publisher import Publisher
from collectors.registry import discover
from collectors.scheduler import Scheduler
from collectors.spool import Spool
from collectors.status import CollectorSetup, SchedulerOptions
from collectors.transport import Answer, Transport, TransportError
from collectors.verbosity import LevelPolicy
from schemas.claims import ClaimDevice
from schemas.errors import ConfigError
from schemas.rows import FieldValue, Severity
from schemas.verbosity import Level

if TYPE_CHECKING:
    from collectors.zygote import Zygote

_log = logging.getLogger("muster.agent")
_UNAUTHORISED: Final = 401
_GOODBYE_SECONDS: Final = 2.0
_PATIENCE_SECONDS: Final = 2.0
"""`muster up` starts the aggregator at the same time."""


def run_agent(zygote: "Zygote", options: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT, or once. Raises ConfigError and SpoolError."""
    start_logging("WARNING" if options.test else "")
    config = _load(options)
    if options.test or options.once:
        config = _each_once(config)
    if options.test:
        return _test(zygote, config, options)
    folder = config.data_dir / "agent"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    identity = decide_node_id(folder, configured=config.agent.node_id)
    agent = Agent(zygote, config, identity, folder)
    return agent.once(options.test_wait) if options.once else agent.run(options)


class Agent:
    """One running agent."""

    def __init__(self, zygote: "Zygote", config: AgentConfig, identity: NodeIdentity, folder: Path) -> None:
        self.config = config
        self.identity = identity
        self._lock = _lock(folder)
        self.spool = Spool.open(folder / "spool.db", identity.id, identity.boot_id, max_bytes=config.spool.max_bytes)
        self.policy = LevelPolicy(config.level, config.collector_levels)
        self.intake = Intake(self.spool, self.policy, identity.id, committed=self._committed)
        self.token = NodeToken(folder / "token", config.publish.token)
        self._authority = authority_of(config.publish, folder)
        self._died = False
        self.enrolment = Enrolment(
            self.token,
            config.publish.enrolment_token,
            identity.id,
            self._transport,
            ended=self._committed,
            waits=self._waits,
        )
        self.publisher = Publisher(
            self.spool,
            _Watchful(self._transport(), self.enrolment.refused),
            token=self.token,
            ready=self.enrolment.over.is_set,
            host_name=identity.host_name,
            documents=self.intake.documents_hash,
        )
        self.scheduler = Scheduler(
            setups_of(config),
            self.intake,
            zygote,
            scheduler_options(config, identity, folder),
            tell_event=self._tell_event,
        )
        self.claims = _claims(config, identity)
        session = ControlSession(
            token=self.token,
            keep_token=self.token.keep,
            publisher=identity.id,
            epoch=self.spool.epoch,
            boot=identity.boot_id,
            host_name=identity.host_name,
            predecessors=self.spool.predecessors,
            policy=self.policy,
            status=self.scheduler.status,
            resend_documents=self.intake.resend_documents,
            levels_changed=self.scheduler.levels_changed,
            watched=self.intake.wake,
            claims=self.claims.worker if self.claims is not None else None,
        )
        self._channel = self._transport()
        self.control = ControlClient(
            self._channel, session, opened=self._renew_authority, ready=self.enrolment.over.wait
        )
        self._saying = self._transport()
        if self.claims is not None:
            self.claims.say = lambda: self.control.say(self._saying)
            self.claims.touched = self._look_again

    def run(self, options: argparse.Namespace) -> int:
        """Work until a signal."""
        self._handle_signals(options)
        threading.excepthook = self._thread_died
        self.enrolment.begin()
        self.intake.start()
        self.publisher.start()
        self.control.start()
        if self.claims is not None:
            self.claims.start()
        _log.info(
            "agent_started node=%s host=%s epoch=%s decided_by=%s collectors=%s to=%s",
            self.identity.id,
            self.identity.host_name,
            self.spool.epoch,
            self.identity.decided_by,
            [one.name for one in self.config.collectors],
            self.config.addresses,
        )
        gc.collect()
        gc.freeze()  # what is there now stays: no collection need look at it again
        self.scheduler.run()
        self._stop()
        return EXIT_DEFECT if self._died else 0

    def _look_again(self, device: ClaimDevice) -> None:
        """Have those look again who describe a device, or what shares its group: the inventory waits for their word."""
        self.scheduler.read_again(self.intake.describing({device.address, device.parent, *device.members}))

    def _thread_died(self, died: threading.ExceptHookArgs) -> None:
        """End the agent when one of its threads ends by a defect: started again it works, half of it would not."""
        name = died.thread.name if died.thread else "?"
        _log.critical("thread_died name=%s", name, exc_info=died.exc_value)
        self._died = True
        self.scheduler.stop()

    def once(self, wait: float) -> int:
        """Collect once, publish, and leave. The exit status tells whether everything was taken."""
        self.enrolment.begin()
        self.intake.start()
        self.scheduler.once(wait)  # the intake is given what comes
        self.publisher.start()
        self._stop(linger=self.config.publish.timeout_seconds)
        left = len(self.spool.pending())
        if left:
            why = self.publisher.status.last_error or "there was no time left to send them"
            sys.stderr.write(f"muster-agent: {left} batches stay in the spool: {why}\n")
        return 1 if left else 0

    def _stop(self, linger: float = 3.0) -> None:
        self.control.stop()
        if self.claims is not None:
            self.claims.stop()
        self.intake.stop()
        self.publisher.stop(linger)
        self._say_goodbye()
        self.spool.close()
        self._lock.close()
        _log.info("agent_stopped spooled_batches=%d", len(self.spool))

    def _say_goodbye(self) -> None:
        if self.publisher.status.last_error or not self.publisher.status.last_success_ns:
            return  # nobody listens, or nobody ever did
        transport = Transport([self._channel.address], authority=self._authority, timeout=_GOODBYE_SECONDS)
        try:
            self.control.say_goodbye(transport)
        except TransportError as error:
            _log.debug("goodbye_not_said error=%s", error)
        finally:
            transport.close()

    def _transport(self) -> Transport:
        return Transport(
            self.config.addresses,
            authority=self._authority,
            timeout=self.config.publish.timeout_seconds,
            patience=_PATIENCE_SECONDS,
        )

    def _renew_authority(self) -> None:
        """Learn of the next authority when the channel is opened: the aggregator may have started with it just now."""
        try:
            if self._channel.renew_authority():
                _log.info("authority_renewed: the aggregator's authority has other certificates, which count from now")
        except TransportError as error:
            _log.warning("authority_not_renewed error=%s", error)

    def _tell_event(self, event_type: str, message: str, detail: Mapping[str, FieldValue], severity: Severity) -> None:
        parcel = event_parcel(self.identity.id, time.time_ns(), event_type, message, detail, severity=severity)
        self.intake.take("agent", Delivery([parcel]))

    def _committed(self) -> None:
        self.publisher.wake()

    def _waits(self, reason: str) -> None:
        """Nothing can be sent before the node has its token: until then that is what is wrong with publishing."""
        self.publisher.status.last_error = reason

    def _handle_signals(self, options: argparse.Namespace) -> None:
        from collectors.lifeline import watch_lifeline
        from collectors.service_notify import say_ready

        def stop(*_: object) -> None:
            self.scheduler.stop()

        def reload(*_: object) -> None:
            threading.Thread(target=self._read_again, args=(options,), name="reload", daemon=True).start()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGHUP, reload)
        watch_lifeline(self.scheduler.stop, ask=self.scheduler.ask)
        say_ready(self.scheduler.ask)

    def _read_again(self, options: argparse.Namespace) -> None:
        """SIGHUP: take the new configuration of collectors and levels; a bad one changes nothing."""
        from collectors.main import check_in_child

        try:
            if check_in_child(options.config) != 0:
                raise ConfigError("the configuration is bad; the one in force stays")
            config = _load(options)
        except ConfigError as error:
            _log.error("reload_refused error=%s", error)
            return
        self.policy.configure(config.level, config.collector_levels)
        self.scheduler.reload(setups_of(config))
        self.config = config
        _log.info("reloaded collectors=%s", [one.name for one in config.collectors])


def _claims(config: AgentConfig, identity: NodeIdentity) -> NodeClaims | None:
    """Give the part that works for claims; None when nobody knows what this node promised: it then does nothing."""
    try:
        library = next((one.options.get("library", "") for one in config.collectors if one.name == "nvml"), "")
        return NodeClaims(config.data_dir, identity.boot_id, config.claims, library=str(library))
    except CheckpointError as error:
        _log.critical("claims_refused error=%s", error)
        return None


def _each_once(config: AgentConfig) -> AgentConfig:
    """Give the same configuration with intervals so long that nobody collects twice; deadlines stay."""
    collectors = []
    for one in config.collectors:
        deadline = CollectorSetup(
            name=one.name, interval=one.host.interval_seconds, timeout=one.host.timeout_seconds or None
        ).deadline
        host = msgspec.structs.replace(one.host, interval_seconds=3600.0, timeout_seconds=deadline)
        collectors.append(msgspec.structs.replace(one, host=host))
    return msgspec.structs.replace(config, collectors=collectors)


class _Watchful:
    """Carries requests, and notices when the token is refused."""

    def __init__(self, transport: Transport, refused: Callable[[], None]) -> None:
        self._transport = transport
        self._refused = refused

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """See `Transport.request`."""
        answer = self._transport.request(method, path, body, headers)
        if answer.status == _UNAUTHORISED:
            self._refused()
        return answer

    def close(self) -> None:
        """See `Transport.close`."""
        self._transport.close()


def setups_of(config: AgentConfig) -> list[CollectorSetup]:
    """Give what the scheduler is to run."""
    return [
        CollectorSetup(
            name=one.name,
            config=_options(config, one),
            interval=one.host.interval_seconds,
            timeout=one.host.timeout_seconds or None,
        )
        for one in config.collectors
    ]


def _options(config: AgentConfig, one: CollectorSettings) -> dict[str, Any]:
    """Give a collector's options as written; only the agent knows where its data folder is."""
    options = dict(one.options)
    if one.name == "push":
        options["path"] = options.get("path") or str(push_path(config.data_dir))
    return options


def scheduler_options(config: AgentConfig, identity: NodeIdentity, folder: Path | None) -> SchedulerOptions:
    """Give what holds for all collectors."""
    return SchedulerOptions(
        node_id=identity.id,
        state_dir=folder / "collectors" if folder else None,
        describe_every=config.agent.describe_every_seconds,
        first_within=1.0,
    )


def _load(options: argparse.Namespace) -> AgentConfig:
    config = load_agent_config(options.config, dict.fromkeys(discover()))
    if not options.only:
        return config
    chosen = [one for one in config.collectors if one.name in options.only]
    missing = set(options.only) - {one.name for one in chosen}
    if missing:
        raise ConfigError(
            f"--only: {', '.join(sorted(missing))}: not installed, or not switched on in the configuration"
        )
    return msgspec.structs.replace(config, collectors=chosen)


def _test(zygote: "Zygote", config: AgentConfig, options: argparse.Namespace) -> int:
    """Collect once and print every row as a JSON line; errors go to standard error."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="muster-test-") as folder:
        identity = decide_node_id(Path(folder), configured=config.agent.node_id)
    policy = LevelPolicy(Level.DEBUG)
    scheduler = Scheduler(setups_of(config), _NoIntake(policy), zygote, scheduler_options(config, identity, None))
    results = scheduler.once(options.test_wait)
    failed = 0
    for result in results:
        for delivery in result.deliveries:
            _print(delivery)
        status = result.status
        failed += bool(status.last_error)
        word = f"{status.name}: {status.state.value}, {status.rows} rows"
        sys.stderr.write(word + (f", {status.last_error}" if status.last_error else "") + "\n")
    return 1 if failed == len(results) and results else 0


def _print(delivery: "Delivery") -> None:
    from collectors.show import rows_of_parcel

    for parcel in delivery.parcels:
        for row in rows_of_parcel(parcel):
            sys.stdout.write(msgspec.json.encode(row).decode() + "\n")
    for document in (*(delivery.documents or []), *(text for told in delivery.told for text in told.documents)):
        sys.stdout.write(document + "\n")


class _NoIntake:
    """Takes nothing: under --test the scheduler hands results back instead."""

    def __init__(self, policy: LevelPolicy) -> None:
        self._policy = policy

    def level(self, collector: str) -> Level:
        return self._policy.in_force(collector)

    def positions(self, collector: str) -> dict[str, str]:  # noqa: ARG002 - the contract's shape
        return {}

    def ready(self) -> bool:
        return True

    def take(self, collector: str, delivery: "Delivery") -> None:
        pass

    def when_committed(self, call: Callable[[], None]) -> None:
        call()  # nobody waits for a disk that there is none of


def _lock(folder: Path) -> Any:
    """One agent a folder: two would number rows under one spool."""
    import fcntl

    file = (folder / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise ConfigError(
            f"{folder}: another agent has this folder open: stop it, or give this one its own with MUSTER_DATA_DIR"
        ) from None
    return file
