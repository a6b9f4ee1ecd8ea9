"""A helper process: drives the collectors of one isolation group, and turns what they yield into deliveries.

Whatever can hang or crash outside Python happens here. Each collector has a thread for its calls, one at a time, and
one for its watch. The process ends when the agent closes the channel, and when it cannot speak to it any more.
"""

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from collectors.blocks import Packer
from collectors.channel import (
    Call,
    ChannelClosedError,
    Done,
    Emitted,
    Ended,
    Facts,
    Forget,
    HelperEnd,
    Load,
    Part,
    Problem,
    ProblemKind,
    Reply,
    SetLevel,
    Taken,
    Verb,
)
from collectors.contract import Context, DescribesDevices, Watches
from collectors.helper_log import ChannelLog
from collectors.problems import EmitAbortedError, FloodError, WatchStuckError, problem_of
from collectors.registry import ContractError, build_config, check_class, load_factory
from schemas.device import Document, decode_document, encode_document
from schemas.errors import NoDataError, PartialCollectError
from schemas.rows import Parcel

LOGGER: Final = "muster.collector."
"""The logger of a collector is this and its name."""
WATCH_STOP_SECONDS: Final = 1.0
"""So long a watch may take to notice that it is to stop, as the contract says; once more after `stop` was called."""
MAX_DOCUMENTS_BYTES: Final = 6 << 20
"""Of all capability documents of one collector."""
_STACK_BYTES: Final = 2 << 20


class Helper:
    """The collectors of one process, and the thread that reads what is asked of them."""

    def __init__(self, channel: HelperEnd) -> None:
        self._channel = channel
        self._workers: dict[str, _Worker] = {}
        self._process = os.getpid()

    def run(self) -> None:
        """Do what is asked until the agent closes the channel."""
        with contextlib.suppress(OSError, ValueError):
            for request in self._channel.requests():
                self._dispatch(request)
        for worker in self._workers.values():
            worker.abort()
        deadline = time.monotonic() + 2 * WATCH_STOP_SECONDS
        for worker in self._workers.values():
            worker.join(max(0.0, deadline - time.monotonic()))

    def _dispatch(self, request: Load | Call | Taken | SetLevel | Forget) -> None:
        if isinstance(request, Load):
            worker = self._workers[request.collector] = _Worker(self, request)
            worker.ask(request)
            return
        found = self._workers.get(request.collector)
        if found is None:
            return
        if isinstance(request, Call):
            found.ask(request)
        elif isinstance(request, Taken):
            found.taken(request.call)
        elif isinstance(request, SetLevel):
            found.level = request.level
        else:
            del self._workers[request.collector]
            found.ask(None)

    def say(self, reply: Reply) -> None:
        """Send a reply. Ends the process when nobody listens, or when it is one that a collector forked off."""
        if os.getpid() != self._process:
            os._exit(0)
        try:
            self._channel.send(reply)
        except ChannelClosedError:
            os._exit(75)


class _Worker:
    """One collector: its object, its thread, its watch."""

    def __init__(self, helper: Helper, load: Load) -> None:
        self._helper = helper
        self._load = load
        self.name = load.collector
        self.level = load.level
        self._inbox: SimpleQueue[Load | Call | None] = SimpleQueue()
        self._collector: Any = None
        self._context = Context(
            subject=load.subject,
            log=_logger(load),
            root=Path(load.root),
            state_dir=None if load.state_dir is None else Path(load.state_dir),
            level=lambda: self.level,
        )
        self._documents: dict[str, str] = {}
        self._watch: _Watch | None = None
        self._own_packer: Packer | None = None
        self._credits: dict[int, threading.Event] = {}
        self._aborted = False
        self._thread = threading.Thread(target=self._run, name=load.collector, daemon=True)
        self._thread.start()

    def ask(self, request: Load | Call | None) -> None:
        """Put a call into the queue; None ends the thread."""
        self._inbox.put(request)

    def taken(self, call: int) -> None:
        """Let the call or watch go on that waits for its delivery to be taken."""
        credit = self._credits.get(call)
        if credit is not None:
            credit.set()

    def abort(self) -> None:
        """Stop as well as may be: the agent is gone."""
        self._aborted = True
        if self._watch is not None:
            self._watch.stopping.set()
            self._watch.over.set()
        for credit in list(self._credits.values()):
            credit.set()
        self._inbox.put(Call(0, self.name, Verb.STOP, self.level))
        self._inbox.put(None)

    def join(self, timeout: float) -> None:
        """Wait for the thread."""
        self._thread.join(timeout)

    def hand_over(self, call: int, reply: Part | Emitted, over: threading.Event | None = None) -> None:
        """Send a delivery and wait until it is taken. Raises EmitAbortedError when it is time to stop instead."""
        credit = self._credits[call] = threading.Event()
        try:
            self.say(reply)
            while not (self._aborted or credit.wait(None if over is None else 0.25)):
                if over is not None and over.is_set():
                    break
        finally:
            del self._credits[call]
        if self._aborted or not credit.is_set():
            raise EmitAbortedError("stopping")

    def say(self, reply: Reply) -> None:
        """Send a reply, while there is somebody to send it to."""
        if not self._aborted:
            self._helper.say(reply)

    def new_packer(self) -> Packer:
        """Give a packer for what this collector declares."""
        undeclared = getattr(self._collector, "undeclared", False) is True
        return Packer(self._collector.METRICS, self._load.subject, undeclared=undeclared)

    def _packer(self) -> Packer:
        """Give the packer of the thread of its calls, as new."""
        if self._own_packer is None:
            self._own_packer = self.new_packer()
        self._own_packer.reset()
        return self._own_packer

    # --- the thread of its calls --------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (request := self._inbox.get()) is not None:
            self.say(self._answer(request))

    def _answer(self, request: Load | Call) -> Done:
        done = Done(request.call, self.name, time.monotonic(), 0.0)
        try:
            if isinstance(request, Load):
                done.facts = self._make()
            else:
                self.level = request.level
                self._do(request, done)
        except BaseException as error:  # noqa: BLE001  # SystemExit too: it is this collector's alone
            done.problem = problem_of(error, importing=isinstance(request, Load))
        done.seconds = time.monotonic() - done.began
        return done

    def _do(self, request: Call, done: Done) -> None:
        if request.verb is Verb.START:
            self._start(request)
        elif request.verb is Verb.COLLECT:
            self._collect(request.call, done)
        elif request.verb is Verb.DESCRIBE:
            self._describe(done)
        else:
            self._stop()

    def _make(self) -> Facts:
        collector_class = load_factory(self._load.factory)
        check_class(collector_class)
        config = build_config(self.name, collector_class, self._load.config, strict=False)
        if self._context.state_dir is not None:
            self._context.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._collector = collector_class(config, self._context)
        self._own_packer = None
        return Facts(
            isolation=getattr(collector_class, "isolation", ""),
            describes=isinstance(self._collector, DescribesDevices),
            watches=isinstance(self._collector, Watches),
        )

    def _start(self, request: Call) -> None:
        self._context.positions = dict(request.positions)
        self._collector.start()
        if isinstance(self._collector, Watches):
            self._watch = _Watch(self, request.call, self._collector, self._load.max_rows)

    def _collect(self, call: int, done: Done) -> None:
        packer = self._packer()

        def hand_over(delivery: bytes) -> None:
            self.hand_over(call, Part(call, self.name, delivery))

        try:
            pump(self._collector.collect(), packer, self._load.max_rows, hand_over)
        finally:
            done.delivery = packer.pack()
            done.rows, done.faults, done.note = packer.rows, packer.faults, packer.note

    def _describe(self, done: Done) -> None:
        packer = self._packer()
        after: dict[str, str] = {}
        size = 0
        try:
            for document in self._collector.describe() or ():
                size += _describe_one(document, self._documents, after, packer)
                if size > MAX_DOCUMENTS_BYTES:
                    raise FloodError(f"documents of more than {MAX_DOCUMENTS_BYTES} bytes")
        except NoDataError:
            after = {}
        except PartialCollectError as error:
            # a device that could not be read is not a device that is gone
            after = {**self._documents, **after}
            done.problem = problem_of(error)
        self._documents = after
        done.delivery = packer.pack(documents=sorted(after.values()))
        done.faults, done.note = packer.faults, packer.note

    def _stop(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.stopping.set()
            watch.join(WATCH_STOP_SECONDS)
        if self._collector is not None:
            self._collector.stop()
        if watch is not None:
            watch.over.set()
            watch.join(WATCH_STOP_SECONDS)
            if watch.is_alive():
                raise WatchStuckError(f"the watch goes on {2 * WATCH_STOP_SECONDS:.0f} s after it was told to stop")


class _Watch:
    """The thread of one watch, and what it emits through."""

    def __init__(self, worker: _Worker, call: int, collector: Watches, max_rows: int) -> None:
        self.stopping = threading.Event()
        """The watch is asked to come back; what it has read it may still emit."""
        self.over = threading.Event()
        """It was given time for that; nothing more is taken."""
        self._worker = worker
        self._call = call
        self._collector = collector
        self._packer = worker.new_packer()
        self._max_rows = max_rows
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"{worker.name} watch", daemon=True)
        self._thread.start()

    def join(self, timeout: float) -> None:
        """Wait for the end."""
        self._thread.join(timeout)

    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._thread.is_alive()

    def emit(self, items: Iterable[Any], *, durable: bool = False) -> None:
        """Take items as one unit; come back when the agent has them, or its disk. Raises EmitAbortedError when over."""
        with self._lock:
            if self.over.is_set():
                raise EmitAbortedError("stopping")
            try:
                pump(items, self._packer, self._max_rows, self._hand_over)
            finally:
                if not self.over.is_set():
                    self._hand_over(self._packer.pack(), durable=durable)

    def _hand_over(self, delivery: bytes, *, durable: bool = False) -> None:
        packer = self._packer
        if delivery or packer.faults or durable:
            name = self._worker.name
            emitted = Emitted(self._call, name, packer.rows, packer.faults, packer.note, delivery, durable)
            packer.reset()
            self._worker.hand_over(self._call, emitted, self.over)

    def _run(self) -> None:
        problem = Problem(ProblemKind.WATCH, "WatchEnded", "the watch returned though nobody asked it to stop")
        try:
            self._collector.watch(self.emit, self.stopping)
        except EmitAbortedError:
            pass
        except BaseException as error:  # noqa: BLE001  # it is this collector's alone
            problem = problem_of(error)
        if not self.stopping.is_set():
            self._worker.say(Ended(self._call, self._worker.name, problem))


def pump(items: object, packer: Packer, max_rows: int, hand_over: Callable[[bytes], None]) -> None:
    """Take what is yielded, item by item, handing over parts; raises what `items` raises.

    A flood is cut at `max_rows`, with a fault: what is beyond is never made. What is still in the packer at the end, or
    at an exception, is left there for the caller.
    """
    if items is None:  # a `collect` that has nothing and no `yield`
        return
    if not isinstance(items, Iterable):
        raise ContractError(f"items must be iterable, not a {type(items).__name__}")
    count = 0
    for item in items:
        count += max(1, len(item.block.rows)) if isinstance(item, Parcel) else 1
        if count > max_rows:
            packer.fault("flooding", f"more than {max_rows} rows at once")
            close = getattr(items, "close", None)
            if close is not None:
                close()
            return
        packer.add(item)
        if packer.full:
            hand_over(packer.pack())


def _describe_one(document: object, before: dict[str, str], after: dict[str, str], packer: Packer) -> int:
    """Add one document, or, when it cannot be used, the last good one of the same device; give its size."""
    device = getattr(document, "device", None)
    try:
        if not isinstance(document, Document) or not isinstance(device, str) or not device:
            raise TypeError(f"a {type(document).__name__} that names no device was given as a document")
        text = encode_document(document)
        decode_document(text)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        packer.fault("document", f"{device!r:.80}: {error}")
        if isinstance(device, str) and device in before:
            after.setdefault(device, before[device])
        return 0
    if device in after:
        packer.fault("document", f"{device!r:.80} was described twice")
    after[device] = text
    return len(text)


def _logger(load: Load) -> logging.Logger:
    logger = logging.getLogger(LOGGER + load.collector)
    logger.setLevel(load.log_level)
    return logger


def run(channel: HelperEnd) -> None:
    """Be a helper process until the agent closes the channel."""
    threading.stack_size(_STACK_BYTES)
    # A process that a collector forks off must neither speak for us nor keep the channel open.
    os.register_at_fork(after_in_child=channel.close)
    helper = Helper(channel)
    root = logging.getLogger()
    root.handlers[:] = [ChannelLog(helper.say)]
    sys.excepthook = lambda *error: logging.getLogger("muster.helper").error("uncaught error=%r", error[1])
    helper.run()
