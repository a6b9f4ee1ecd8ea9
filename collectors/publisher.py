"""The publisher: hands the spool's batches to an aggregator and forgets each only when the log has it.

One thread, one request at a time. Events and documents go first; after an outage the newest rows and the backlog travel
side by side, so that the present is visible while the past arrives.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from collectors.failpoint import failpoint
from collectors.spool import Held, Spool
from collectors.spooled import Waiting
from collectors.transport import Answer, Backoff, TransportError
from schemas.account import Account
from schemas.batch import Envelope
from schemas.codec import MAX_BATCH_BYTES, encode_batch
from schemas.errors import MalformedError, SpoolError, TooLargeError, WireError
from schemas.publish import CONTENT_TYPE, Status, decode_answer, encode_request
from schemas.verbosity import Level, RowClass

_log = logging.getLogger("muster.publisher")
HEARTBEAT_SECONDS: Final = 10.0
ACCOUNT_SECONDS: Final = 1.0
"""At most so often is the account of a busy publisher sent along."""
REQUEST_BYTES: Final = 1 << 20
REQUEST_BATCHES: Final = 256
LIMIT_AFTER: Final = 32
"""After so many requests that were taken, more is tried again: what was too large for a proxy may not be for ever."""
SMALL_BYTES: Final = 16 << 10
"""No account is the reason that a request is too large unless it is larger than this."""
REQUEST_EPOCHS: Final = 64
"""Epochs that one request may speak for besides the live one."""
_URGENT: Final = (RowClass.EVENT, RowClass.CAPABILITY)
_ORDINARY: Final = (RowClass.TELEMETRY, RowClass.LOG)


class Sender(Protocol):
    """What carries a request: `Transport`, or in tests whatever answers."""

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """See `Transport.request`."""

    def close(self) -> None:
        """See `Transport.close`."""


class PublisherStatus(msgspec.Struct):
    """What the publisher can say of itself."""

    sent_batches: int = 0
    sent_rows: int = 0
    sent_bytes: int = 0
    quarantined_batches: int = 0
    failures: int = 0
    last_error: str = ""
    """Empty when the last request was answered well."""
    last_success_ns: int = 0
    """Wall clock; 0: never yet."""


class Publisher:
    """Sends what a spool holds until it is stopped."""

    def __init__(
        self,
        spool: Spool,
        sender: Sender,
        *,
        token: Callable[[], str],
        host_name: str = "",
        documents: Callable[[], str] = lambda: "",
        ready: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
        backoff: Backoff | None = None,
        log: logging.Logger = _log,
    ) -> None:
        self._spool = spool
        self._sender = sender
        self._token = token
        self._host_name = host_name
        self._documents = documents
        self._ready = ready
        self._clock = clock
        self._backoff = backoff or Backoff()
        self._log = log
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._last_heartbeat = -HEARTBEAT_SECONDS
        self._last_account = -HEARTBEAT_SECONDS
        self._limit = REQUEST_BYTES
        self._account_limit = MAX_BATCH_BYTES
        self._taken = 0
        self.status = PublisherStatus()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to send, on a thread of its own. Who has many publishers calls `attempt` of each instead."""
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is something new in the spool."""
        self._wake.set()

    def stop(self, linger: float = 3.0) -> None:
        """Send what is there for at most `linger` seconds, then end. The rest stays in the spool. Safe twice."""
        deadline = self._clock() + linger
        while self._running and len(self._spool) and self._clock() < deadline and not self.status.last_error:
            self._wake.set()
            time.sleep(0.02)
        self._stopping.set()
        self._wake.set()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(5.0)
        self._sender.close()

    @property
    def backing_off(self) -> bool:
        """Whether the last request failed: then something new is no reason to try sooner."""
        return self._backoff.failures > 0

    @property
    def _running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    # --- the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            wait = self.attempt()
            if wait:
                # a new batch does not cut a back-off short
                (self._stopping if self.backing_off else self._wake).wait(wait)

    def attempt(self) -> float:
        """Send one request if there is something to say; give the seconds to wait, longer after each failure.

        Before `ready` says so nothing is sent: who calls `wake` then has it asked again.
        """
        if not self._ready():
            return HEARTBEAT_SECONDS
        try:
            return self.send_once()
        except (TransportError, WireError, SpoolError) as error:
            return self._failed(str(error), None)

    def send_once(self) -> float:
        """Send one request if there is something to say; give the seconds until there may be more, 0 for at once.

        Raises TransportError, WireError and SpoolError.
        """
        with self._spool.lock:
            chosen = choose(self._spool.waiting, self._limit)
            predecessors = name_epochs(self._spool.predecessors(), chosen, self._spool.epoch)
        now = self._clock()
        heartbeat = now - self._last_heartbeat >= HEARTBEAT_SECONDS
        if not chosen and not heartbeat:
            return self._until_heartbeat()
        account = self._spool.account() if heartbeat or now - self._last_account >= ACCOUNT_SECONDS else None
        held, batches = self._encode(chosen, alone=not heartbeat)
        account, word = self._word(account, heartbeat=heartbeat)
        batches += word
        if not batches:
            return 0.0
        body = encode_request(
            self._spool.publisher,
            self._spool.epoch,
            self._spool.boot,
            predecessors,
            self._host_name,
            batches,
        )
        headers = {"Content-Type": CONTENT_TYPE}
        if token := self._token():
            headers["Authorization"] = f"Bearer {token}"
        failpoint("publisher.send.begun")
        answer = self._sender.request("POST", "/v1/publish", body, headers)
        failpoint("publisher.send.answered")
        if answer.status != 200:
            problem = answer.problem()
            reason = f"{problem.get('code', answer.status)}: {problem.get('detail', '')}"
            told_bytes = len(word[0]) if account is not None else 0
            if answer.status == 413 and (held or told_bytes > SMALL_BYTES):
                return self._too_large(held, told_bytes, reason)
            return self._failed(reason, answer.retry_after)
        return self._answered(answer, held, account, len(body), heartbeat=heartbeat)

    def _encode(self, chosen: list[Held], *, alone: bool) -> tuple[list[Held], list[bytes]]:
        """Give what of the chosen can be sent now. Raises SpoolError when they are `alone` and none can be read."""
        held, batches = [], []
        unread: SpoolError | None = None
        for one in chosen:
            try:
                body = self._spool.body(one)
            except SpoolError as error:  # the others need not wait for it
                unread = error
                continue
            if body is None:
                continue
            try:
                batches.append(encode_batch(self._envelope(one), body))
            except TooLargeError as error:
                self._refused(one, str(error))
            else:
                held.append(one)
        if unread is not None and alone and not held:
            raise unread
        return held, batches

    def _word(self, account: Account | None, *, heartbeat: bool) -> tuple[Account | None, list[bytes]]:
        """Encode the heartbeat; give what it tells of the account. An account that is too large tells fewer old epochs.

        The rest is told when newer ones are settled and need no telling. Of one epoch with too many gaps it tells
        nothing: rows come first, and each that arrives makes it smaller.
        """
        while account is not None:
            with contextlib.suppress(TooLargeError):
                data = encode_batch(self._heartbeat(account), b"")
                if len(data) <= self._account_limit:
                    return account, [data]
            fewer = account.epochs[: len(account.epochs) // 2]
            account = Account(account.word, fewer) if fewer else None
        return None, [encode_batch(self._heartbeat(None), b"")] if heartbeat else []

    def _envelope(self, held: Held) -> Envelope:
        return Envelope(
            publisher=self._spool.publisher,
            epoch=held.epoch,
            row_class=held.row_class,
            level=held.level,
            first=held.first,
            rows=held.rows,
            order=held.order,
            age_ns=held.age_ns(self._spool.boot),
            grant=held.grant,
        )

    def _heartbeat(self, account: Account | None) -> Envelope:
        return Envelope(
            publisher=self._spool.publisher,
            epoch=self._spool.epoch,
            row_class=RowClass.EVENT,
            level=Level.ESSENTIAL,
            first=self._spool.numbered(RowClass.EVENT, Level.ESSENTIAL),
            rows=0,
            order=self._spool.next_order(),
            account=account,
            documents=self._told_documents(),
        )

    def _told_documents(self) -> str:
        """Give the hash of the documents; "" while some are on their way: nobody could have the same."""
        with self._spool.lock:
            waiting = any(True for _ in self._spool.waiting.oldest(RowClass.CAPABILITY))
        return "" if waiting else self._documents()

    def _answered(
        self, answer: Answer, held: list[Held], account: Account | None, size: int, *, heartbeat: bool
    ) -> float:
        results = decode_answer(answer.body).results
        expected = len(held) + (heartbeat or account is not None)
        if len(results) != expected:
            raise MalformedError(f"an answer of {len(results)} results to a request of {expected} batches")
        done = []
        for one, result in zip(held, results, strict=False):  # the last result may be the heartbeat's
            if result.status is Status.RETRY:
                continue
            done.append(one)
            if result.status is Status.QUARANTINED:
                self.status.quarantined_batches += 1
                self._log.warning("batch_quarantined class=%s level=%s rows=%d reason=%s",
                                  one.row_class.word, one.level.word, one.rows, result.reason)  # fmt: skip
        self._spool.forget([one.id for one in done])
        failpoint("publisher.send.forgotten")
        told = len(results) > len(held) and results[-1].status is Status.ACCEPTED
        if told and account is not None:
            self._spool.acknowledge(account)
            self._last_account = self._clock()
        if told and heartbeat:
            self._last_heartbeat = self._clock()
        waiting = next((result.reason for result in results if result.status is Status.RETRY), "")
        if waiting and not (done and done == held[: len(done)]):
            return self._failed(waiting, answer.retry_after)
        if waiting:  # it took as many as it opens at once: the rest now, and fewer at a time
            self._limit, self._taken = sum(one.size for one in done), 0
        self.status.sent_batches += len(done)
        self.status.sent_rows += sum(one.rows for one in done)
        self.status.sent_bytes += size
        self.status.last_success_ns = time.time_ns()
        if self.status.last_error:
            self._log.info("publishing_again batches=%d", len(self._spool))
        self.status.last_error = ""
        self._backoff.reset()
        self._recover()
        return 0.0 if len(self._spool) else self._until_heartbeat()

    def _until_heartbeat(self) -> float:
        return max(0.0, self._last_heartbeat + HEARTBEAT_SECONDS - self._clock())

    def _too_large(self, held: list[Held], told_bytes: int, reason: str) -> float:
        """Send less at a time from now on; what is too large by itself never gets through, and is given up."""
        self._taken = 0
        if told_bytes > max(SMALL_BYTES, sum(one.size for one in held)):
            self._account_limit = told_bytes // 2
            self._log.warning("account_too_large bytes=%d next_bytes=%d reason=%s",
                              told_bytes, self._account_limit, reason)  # fmt: skip
        elif len(held) == 1:
            self._refused(held[0], reason)
        else:
            self._limit = max(1, sum(one.size for one in held) // 2)
            self._log.warning("request_too_large batches=%d next_bytes=%d reason=%s", len(held), self._limit, reason)
        return 0.0

    def _recover(self) -> None:
        """Try more at a time again, now and then."""
        self._taken += 1
        if self._taken >= LIMIT_AFTER:
            self._taken = 0
            self._limit = min(REQUEST_BYTES, self._limit * 2)
            self._account_limit = min(MAX_BATCH_BYTES, self._account_limit * 2)

    def _refused(self, held: Held, reason: str) -> None:
        """Give a batch up that can never be sent: counted, with its reason."""
        self._log.error("batch_refused class=%s level=%s rows=%d reason=%s",
                        held.row_class.word, held.level.word, held.rows, reason)  # fmt: skip
        self._spool.drop([held.id], "refused")

    def _failed(self, reason: str, retry_after: float | None) -> float:
        wait = self._backoff.next(retry_after)
        self.status.failures += 1
        if reason != self.status.last_error:  # once for a standing condition
            left = len(self._spool)
            self._log.warning("publish_failed retry_seconds=%.1f spooled_batches=%d reason=%s", wait, left, reason)
        self.status.last_error = reason
        return wait


def choose(waiting: Waiting, limit_bytes: int = REQUEST_BYTES, limit_batches: int = REQUEST_BATCHES) -> list[Held]:
    """Choose what the next request carries: events and documents first, then the newest and the oldest in turn.

    Costs as much as the request has batches, however many wait. Oldest first; of at most REQUEST_EPOCHS epochs.
    """
    chosen: dict[int, Held] = {}
    epochs: set[str] = set()
    size = 0

    def add(held: Held) -> bool:
        nonlocal size
        epochs.add(held.epoch)
        full = size + held.size > limit_bytes or len(chosen) >= limit_batches or len(epochs) > REQUEST_EPOCHS
        if chosen and full:
            return False
        chosen[held.id] = held
        size += held.size
        return True

    def in_order() -> list[Held]:
        return sorted(chosen.values(), key=lambda held: held.id)

    for held in waiting.oldest(*_URGENT):
        if not add(held):
            return in_order()
    ends = (waiting.newest(*_ORDINARY), waiting.oldest(*_ORDINARY))
    while True:
        for held in ends[len(chosen) % 2]:
            if held.id in chosen:  # the ends have met
                return in_order()
            if not add(held):
                return in_order()
            break
        else:
            return in_order()


def name_epochs(predecessors: list[str], chosen: list[Held], live: str) -> list[str]:
    """Give the predecessors that a request names: those of its batches and the newest, if there are too many for all.

    A node that could not speak during more restarts than that is taken for a stranger at first, and told to wait.
    """
    if len(predecessors) <= REQUEST_EPOCHS:
        return predecessors
    needed = {held.epoch for held in chosen} - {live}
    others = [epoch for epoch in predecessors if epoch not in needed][: REQUEST_EPOCHS - len(needed)]
    named = needed.union(others)
    return [epoch for epoch in predecessors if epoch in named]
