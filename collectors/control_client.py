"""The agent's end of the control channel: asks, acts on what it is told, and reports how collectors fare."""

import logging
import platform
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from collectors.publisher import Sender
from collectors.status import CollectorStatus, State
from collectors.transport import Answer, Backoff, TransportError
from collectors.verbosity import Grant, LevelPolicy
from schemas import __version__
from schemas.batch import WIRE_VERSION
from schemas.claims import Checkpoint, ClaimReport, ClaimStep
from schemas.control import (
    CONTENT_TYPE,
    Ack,
    CollectorReport,
    ControlRequest,
    Machine,
    Message,
    ResendDocuments,
    SetGrants,
    SetWork,
    TokenRotated,
    Watch,
    decode_answer,
    encode_request,
)
from schemas.errors import WireError

_log = logging.getLogger("muster.control")
CONTROL_PATH: Final = "/v1/control"
REPORT_SECONDS: Final = 15.0
STARTING_SECONDS: Final = 2.0
WAIT_SECONDS: Final = 20.0
"""How long the aggregator may keep us waiting; below the transport's own timeout."""


_READY_SECONDS: Final = 1.0


class Claims(Protocol):
    """What does the work that claims ask of a node. Safe from any thread."""

    def set_work(self, steps: list[ClaimStep]) -> None:
        """Take all of it."""

    def reports(self) -> list[ClaimReport] | None:
        """Give what was not told yet; None when there is nothing."""

    def heard(self) -> None:
        """It was told."""

    def unheard(self) -> None:
        """Nobody answered: tell everything again."""

    def checkpoint(self) -> Checkpoint:
        """Give what the node keeps of claims."""


class ControlSession:
    """One node's end of the channel without its thread: makes the requests, and acts on the answers.

    What was granted stays granted while the aggregator is away. Two requests may be under way, of two threads: one that
    is kept waiting, and one that has something to say.
    """

    def __init__(
        self,
        *,
        token: Callable[[], str],
        keep_token: Callable[[str], None],
        publisher: str,
        epoch: str,
        boot: str,
        host_name: str,
        predecessors: Callable[[], list[str]],
        policy: LevelPolicy,
        status: Callable[[], list[CollectorStatus]],
        resend_documents: Callable[[], None],
        levels_changed: Callable[[], None],
        watched: Callable[[], None],
        backoff: Backoff | None = None,
        facts: Mapping[str, Any] | None = None,
        claims: Claims | None = None,
        log: logging.Logger = _log,
    ) -> None:
        """Prepare. `facts`: what is told of the machine; None for those of the one that this runs on."""
        self._claims = claims
        self._lock = threading.Lock()
        self._token = token
        self._keep_token = keep_token
        self._identity = (publisher, epoch, boot)
        self._host_name = host_name
        self._predecessors = predecessors
        self._policy = policy
        self._status = status
        self._resend_documents = resend_documents
        self._levels_changed = levels_changed
        self._watched = watched
        self._backoff = backoff or Backoff()
        self._facts = facts
        self._log = log
        self._acks: list[Ack] = []
        self._handled: dict[str, Ack] = {}
        self._revision = -1
        self._introduced = False
        self._reported = -REPORT_SECONDS
        self._reporting = 0.0
        self._states: dict[str, State] = {}

    @property
    def introduced(self) -> bool:
        """Whether the aggregator that answered last knows who this is."""
        return self._introduced

    def question(self, wait: float = WAIT_SECONDS) -> tuple[bytes, dict[str, str]]:
        """Give the body and the headers of the next request."""
        with self._lock:
            return self._question(wait)

    def _question(self, wait: float) -> tuple[bytes, dict[str, str]]:
        now = time.monotonic()
        fares = self._status()
        states = {one.name: one.state for one in fares}
        report = now - self._reported >= REPORT_SECONDS or states != self._states
        self._states = states
        if State.STARTING in states.values():
            wait = min(wait, STARTING_SECONDS)  # it will soon be another state, which should be told
        self._reporting = now if report else self._reported
        publisher, epoch, boot = self._identity
        request = ControlRequest(
            WIRE_VERSION,
            publisher,
            epoch,
            boot,
            self._predecessors(),
            self._acks,
            min(wait, REPORT_SECONDS),
            None if self._introduced else self._machine(),
            [report_of(one) for one in fares] if report else None,
            claims=self._claims.reports() if self._claims and self._introduced else None,
            checkpoint=self._claims.checkpoint() if self._claims and not self._introduced else None,
        )
        return encode_request(request), self._headers()

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": CONTENT_TYPE}
        if token := self._token():
            headers["Authorization"] = f"Bearer {token}"
        return headers

    def farewell(self) -> tuple[bytes, dict[str, str]]:
        """Give the body and the headers of the last request of all: the run ends, and the next one need not wait."""
        publisher, epoch, boot = self._identity
        request = ControlRequest(WIRE_VERSION, publisher, epoch, boot, self._predecessors(), wait=0.0, leaving=True)
        return encode_request(request), self._headers()

    def heed(self, answer: Answer) -> float:
        """Act on the answer to a question; give the seconds to pause. Raises WireError."""
        with self._lock:
            return self._heed(answer)

    def _heed(self, answer: Answer) -> float:
        if answer.status != 200:
            if answer.status in (400, 404, 413):
                self._acks = []  # it will never be taken like this
            self._log.debug("control_refused status=%d problem=%s", answer.status, answer.problem())
            self._forget_them()
            return self._backoff.next(answer.retry_after)
        self._backoff.reset()
        self._introduced = True
        self._reported = self._reporting
        if self._claims is not None:
            self._claims.heard()
        self._acks = [self._handle(message) for message in decode_answer(answer.body).messages]
        return 0.0

    def failed(self, error: Exception) -> float:
        """Nobody answered: give the seconds to pause. Who answers next may be a new process, or a restored one."""
        with self._lock:
            self._forget_them()
            wait = self._backoff.next()
        self._log.debug("control_waits seconds=%.1f error=%s", wait, error)
        return wait

    def _forget_them(self) -> None:
        self._introduced = False
        self._revision = -1
        if self._claims is not None:
            self._claims.unheard()

    def _handle(self, message: Message) -> Ack:
        """Act once on each id, however often it comes."""
        if message.id in self._handled:
            return self._handled[message.id]
        problem = ""
        try:
            self._act(message)
        except (OSError, ValueError) as error:
            problem = str(error)
            self._log.error("control_failed message=%s error=%s", type(message).__name__, error)
        ack = Ack(message.id, problem)
        self._handled[message.id] = ack
        if len(self._handled) > 1024:
            del self._handled[next(iter(self._handled))]
        return ack

    def _act(self, message: Message) -> None:
        match message:
            case SetGrants():
                self._set_grants(message)
            case Watch():
                self._policy.watch(message.seconds)
                self._watched()
            case ResendDocuments():
                self._resend_documents()
            case SetWork():
                if self._claims is None:
                    raise ValueError("this agent does no work for claims")
                self._claims.set_work(message.steps)
            case TokenRotated():
                self._keep_token(message.token)

    def _set_grants(self, message: SetGrants) -> None:
        if message.revision < self._revision:
            return
        self._revision = message.revision
        now = time.monotonic()
        grants = [Grant(one.id, one.level, one.collector, one.row_class, now + one.seconds) for one in message.grants]
        self._policy.set_grants(grants)
        self._levels_changed()
        self._log.info("grants_set count=%d levels=%s", len(grants), sorted({one.level.word for one in grants}))

    def _machine(self) -> Machine:
        facts = self._facts
        if facts is None:
            facts = {"kernel": platform.release(), "machine": platform.machine(), "python": platform.python_version()}
        return Machine(self._host_name, __version__, dict(facts))


class ControlClient:
    """Keeps one session's channel open, on a thread of its own, until it is stopped."""

    def __init__(
        self,
        sender: Sender,
        session: ControlSession,
        *,
        opened: Callable[[], None] = lambda: None,
        ready: Callable[[float], bool] = lambda _: True,
    ) -> None:
        """Ask nothing yet.

        Args:
            sender: Carries the requests.
            session: Makes them, and acts on the answers.
            opened: Called, on the channel's thread, whenever an aggregator took us up anew.
            ready: Waits at most so many seconds for the moment from which on it makes sense to ask; tells whether it is
                there.
        """
        self._sender = sender
        self._session = session
        self._opened = opened
        self._ready = ready
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more. A request that is being waited for is left to its own end."""
        self._stopping.set()

    def say_goodbye(self, sender: Sender) -> None:
        """Tell the aggregator, by a way that does not wait for the channel, that nothing more comes from this run.

        Called last, once everything was sent. Raises TransportError: then the next run waits, or names this one.
        """
        body, headers = self._session.farewell()
        answer = sender.request("POST", CONTROL_PATH, body, headers)
        _log.debug("goodbye status=%d", answer.status)

    def _run(self) -> None:
        while not self._stopping.is_set():
            if not self._ready(_READY_SECONDS):
                continue
            try:
                wait = self.ask_once()
            except (TransportError, WireError) as error:
                wait = self._session.failed(error)
            if wait:
                self._stopping.wait(wait)

    def say(self, sender: Sender) -> None:
        """Say what there is to say without waiting for the channel, by another connection. From any one thread."""
        try:
            say(self._session, sender)
        except (TransportError, WireError) as error:
            self._session.failed(error)

    def ask_once(self, wait: float = WAIT_SECONDS) -> float:
        """Ask once and act; give the seconds to pause. Raises TransportError and WireError."""
        known = self._session.introduced
        body, headers = self._session.question(wait)
        pause = self._session.heed(self._sender.request("POST", CONTROL_PATH, body, headers))
        if self._session.introduced and not known:
            self._opened()
        return pause


def say(session: ControlSession, sender: Sender) -> None:
    """Make one request that does not wait. It ends the wait of the one under way. Raises TransportError, WireError."""
    body, headers = session.question(0.0)
    session.heed(sender.request("POST", CONTROL_PATH, body, headers))


def report_of(status: CollectorStatus) -> CollectorReport:
    """Give what the aggregator is told of a collector: ages instead of times, for its clock is another one."""
    now = time.time_ns()

    def age(when: int | None) -> float | None:
        return None if when is None else max(0.0, (now - when) / 1e9)

    return CollectorReport(
        status.name,
        status.state.value,
        status.runs,
        status.rows,
        sum(status.errors.values()),
        status.last_error,
        status.last_seconds,
        age(status.last_success_ns),
        age(status.last_error_ns),
        status.next_try_seconds,
        status.slip_p99_seconds,
        status.left_helpers,
        status.crashes + status.timeouts,
    )
