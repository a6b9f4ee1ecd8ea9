"""Has a worker's steps performed: a few threads, each waiting for one process at a time. None of them while idle."""

import contextlib
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from collectors.claims.options import ClaimsSection
from collectors.claims.order import Order
from collectors.claims.worker import Job, Worker
from schemas.claims import ClaimDevice, DeviceReport, Step

if TYPE_CHECKING:
    import subprocess  # noqa: TID251 - see `in_a_process`

_log = logging.getLogger("muster.claims")
READ_SECONDS: Final = 30.0
"""What reading a device may take, beyond its hook."""
_LARGEST: Final = 1 << 20
_IDLE_SECONDS: Final = 5.0
_AGAIN_SECONDS: Final = 0.5


class Perform(Protocol):
    """Who does a step."""

    def __call__(self, order: Order) -> DeviceReport:
        """Do it, and say what became of it. Blocks; never raises."""


class Crew:
    """Runs the steps of one worker, at most so many at once."""

    def __init__(
        self,
        worker: Worker,
        options: ClaimsSection,
        perform: Perform,
        *,
        root: str = "/",
        lender: str = "",
        library: str = "",
        say: Callable[[], None] = lambda: None,
        touched: Callable[[ClaimDevice], None] = lambda _device: None,
    ) -> None:
        """Prepare; `lender` and `library` are those of an `Order`.

        `touched`: hears of each device that a step may have changed, before that is reported. `say`: tells the
        aggregator what there is to report; may take its time, and never raises.
        """
        self._worker = worker
        self._options = options
        self._perform = perform
        self._root = root
        self._lender = lender
        self._library = library
        self._say = say
        self._touched = touched
        self._saying = threading.Lock()
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._stopping = False

    def wake(self) -> None:
        """There may be something to do."""
        with self._wake:
            if self._stopping:
                return
            if self._idle:
                self._wake.notify_all()
            elif len(self._threads) < self._options.parallel:
                thread = threading.Thread(target=self._run, name="claims", daemon=True)
                self._threads.add(thread)
                thread.start()

    def stop(self) -> None:
        """Begin nothing more. What runs is ended with this process, and done again by the next."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()

    def _run(self) -> None:
        idle_since = time.monotonic()
        while True:
            taken = None if self._stopping else self._worker.take()
            self._tell()
            if taken is not None:
                self.wake()  # there may be more than one thread can do
                self._do(*taken)
                idle_since = time.monotonic()
                continue
            wait = self._worker.wait_seconds()
            with self._wake:
                if self._stopping or (wait is None and time.monotonic() - idle_since > _IDLE_SECONDS):
                    self._threads.discard(threading.current_thread())
                    return
                self._idle += 1
                self._wake.wait(min(_IDLE_SECONDS, max(0.05, wait)) if wait is not None else _IDLE_SECONDS)
                self._idle -= 1

    def _tell(self) -> None:
        """Have it reported at once. Whoever is at it already tells this too."""
        while self._worker.has_news and not self._stopping and self._saying.acquire(blocking=False):
            try:
                self._say()
            finally:
                self._saying.release()
            if self._worker.has_news:
                time.sleep(_AGAIN_SECONDS)  # nobody answers

    def _do(self, job: Job, order: Order) -> None:
        again = self._worker.confirmed_before(job)
        hook = None if again else self._options.hook(order.device.kind, order.step)
        order = msgspec.structs.replace(
            order,
            name=hook[0] if hook else "",
            hook=hook[1] if hook else None,
            root=self._root,
            output_bytes=self._options.output_bytes,
            reset=self._options.reset,
            lender=self._lender,
            library=self._library,
            again=again,
            beside=self._worker.has_beside(job),
        )
        report = self._perform(order)
        _log.info(
            "claim_step step=%s claim=%s device=%s done=%s problem=%s",
            order.step.value,
            order.claim,
            order.device.device,
            report.done,
            report.problem[:200],
        )
        if order.step is not Step.CHECK:  # which changes nothing
            self._touched(order.device)
        self._worker.finish(job, report)


def by_hand(options: ClaimsSection) -> Callable[[Step, ClaimDevice], bool]:
    """Give what tells whether a step waits for somebody on the node, because no hook does it."""
    return lambda step, device: options.hook(device.kind, step) is None


def in_a_process(order: Order) -> DeviceReport:
    """Have a step done by a process of its own (`runner`). It, and all that it started, is gone when this returns."""
    import subprocess  # noqa: TID251 - one process a step, of ours; imported when a node first has one

    limit = READ_SECONDS + (order.hook.timeout_seconds if order.hook else 0.0)
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "collectors.claims.runner"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        return _failed(order, f"no process could be started: {error.strerror or error}")
    try:
        return _talk(process, order, time.monotonic() + limit)
    except (OSError, msgspec.MsgspecError) as error:
        return _failed(order, f"its process failed: {error}")
    finally:
        _end(process)


def _talk(process: "subprocess.Popen[bytes]", order: Order, deadline: float) -> DeviceReport:
    assert process.stdin is not None
    assert process.stdout is not None
    data = msgspec.msgpack.encode(order)
    process.stdin.write(len(data).to_bytes(4, "big") + data)
    process.stdin.flush()
    out = process.stdout.fileno()
    read = b""
    while len(read) < 4 or len(read) < 4 + int.from_bytes(read[:4], "big"):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([out], [], [], left)[0]:
            return _failed(order, "it did not end within its time, and was killed")
        more = os.read(out, 65536)
        if not more or len(read) > _LARGEST:
            return _failed(order, f"its process ended with {process.wait(5)} before it said anything")
        read += more
    return msgspec.msgpack.decode(read[4:], type=DeviceReport)


def _end(process: "subprocess.Popen[bytes]") -> None:
    for stream in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            if stream is not None:
                stream.close()
    import subprocess  # noqa: TID251 - imported by who began it

    try:
        process.wait(1.0)  # it kills its hook when its standard input ends
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        try:
            process.wait(5.0)
        except subprocess.TimeoutExpired:  # it hangs in the kernel
            _log.error("claim_step_left pid=%d: not even SIGKILL ends it", process.pid)


def _failed(order: Order, problem: str) -> DeviceReport:
    return DeviceReport(order.device.device, done=False, problem=problem)
