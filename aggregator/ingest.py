"""Ingest: takes what publishers hand in, checks who they are and for whom they speak, and appends it to the log.

An answer "accepted" means that the log has the batch on disk. A batch that can never be taken is set aside with the
reason and counts as taken, so that a broken sender does not come back with it for ever. Repetitions pass: consumers
know them.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, Protocol

import msgspec

from aggregator.access import RESERVED, Action, Caller, authorise, may
from aggregator.log import Entry, Log, LogFullError, partition_of, topic_of
from aggregator.opened import OpenedBatches, opened_bytes
from collectors.failpoint import failpoint
from schemas.batch import Batch, Block, Envelope, family
from schemas.codec import check_batch, decode_batch
from schemas.errors import AccessError, MusterError, WireError
from schemas.publish import PublishRequest, Result, Status, decode_request, encode_answer

_log = logging.getLogger("muster.ingest")
MAX_WAITING_BYTES: Final = 64 << 20
"""Requests being read or worked on; beyond this, senders are asked to wait."""
MAX_OPENED_BYTES: Final = 32 << 20
"""What one request's batches may come to when opened; the sender keeps those beyond, and sends them again."""
YIELD_BATCHES: Final = 16
"""So many batches are opened before others get the processor."""


class BusyError(MusterError):
    """Too much at once, or the log takes nothing now. The sender keeps its rows and comes again."""

    code = "ingest.busy"

    def __init__(self, message: str, *, status: int, retry_after: float) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class IngestStatus(msgspec.Struct):
    """What ingest can say of itself."""

    requests: int = 0
    batches: int = 0
    rows: int = 0
    bytes: int = 0
    heartbeats: int = 0
    quarantined_batches: int = 0
    quarantined_rows: int = 0
    busy: int = 0
    """Requests that were asked to come again."""


class Admission(Protocol):
    """Decides whether the sender is the publisher's current run."""

    async def admit(self, request: PublishRequest) -> frozenset[str]:
        """Give the epochs whose batches it may send. Raises a retryable error when another run is current."""


QuarantineCall = Callable[[Envelope | None, str, bytes, str], Awaitable[None]]
"""Envelope (None when unreadable), publisher, bytes, reason; durable when it returns."""


class Ingest:
    """The one function through which every batch enters, whatever carried it."""

    def __init__(
        self,
        log: Log,
        admission: Admission,
        quarantine: QuarantineCall,
        opened: OpenedBatches,
    ) -> None:
        self._log = log
        self._admission = admission
        self._quarantine = quarantine
        self._opened = opened
        self._waiting = 0
        self.status = IngestStatus()

    async def publish(self, data: bytes, caller: Caller) -> bytes:
        """Take a publish request; give the answer's body.

        Raises WireError (400, 413), AccessError (401, 403), the admission's refusal (409) and BusyError (429, 503).
        """
        with self.reading() as take:
            take(len(data))
            request = decode_request(data)
            authorise(caller, Action.PUBLISH, request.publisher)
            if request.publisher in RESERVED:
                raise AccessError(f"{request.publisher!r} is Muster's own name; give the node another id")
            epochs = await self._admission.admit(request)
            results = await self._take(request, epochs, caller)
            self.status.requests += 1
            self.status.bytes += len(data)
            return encode_answer(results)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Callable[[int], None]]:
        """Count a request's bytes as waiting for the length of a `with`.

        What is given is called with the size of each part that arrives. It raises BusyError (429) when too much waits;
        a request that is alone is always taken.
        """
        mine = 0

        def take(size: int) -> None:
            nonlocal mine
            if self._waiting > mine and self._waiting + size > MAX_WAITING_BYTES:
                self.status.busy += 1
                raise BusyError("too many requests at once; come again", status=429, retry_after=1.0)
            mine += size
            self._waiting += size

        try:
            yield take
        finally:
            self._waiting -= mine

    async def _take(self, request: PublishRequest, epochs: frozenset[str], caller: Caller) -> list[Result]:
        results: list[Result] = [Result(Status.RETRY, "ingest.busy: not reached")] * len(request.batches)
        good: list[tuple[int, Batch, list[Block]]] = []
        size = 0
        for index, data in enumerate(request.batches):
            if index % YIELD_BATCHES == YIELD_BATCHES - 1:
                await asyncio.sleep(0)
            try:
                batch = decode_batch(data)
            except WireError as error:
                results[index] = await self._set_aside(None, request.publisher, data, f"{error.code}: {error}")
                continue
            size += opened_bytes(batch)
            if index and size > MAX_OPENED_BYTES:
                break
            opened = await self._open(data, batch, request, epochs, caller)
            if isinstance(opened, Result):
                results[index] = opened
            else:
                good.append((index, *opened))
        await self._append(request, good)
        for index, _, _ in good:
            results[index] = Result(Status.ACCEPTED)
        return results

    async def _open(
        self, data: bytes, batch: Batch, request: PublishRequest, epochs: frozenset[str], caller: Caller
    ) -> tuple[Batch, list[Block]] | Result:
        """Open and check one batch; a Result when it was set aside."""
        envelope = batch.envelope
        if envelope.publisher != request.publisher:
            reason = f"access.foreign_publisher: the batch says {envelope.publisher!r}"
            return await self._set_aside(None, request.publisher, data, reason)
        if envelope.epoch not in epochs:
            reason = f"access.foreign_epoch: {envelope.epoch!r} is no run of {request.publisher!r}"
            return await self._set_aside(envelope, request.publisher, data, reason)
        try:
            blocks = check_batch(batch)
        except WireError as error:
            return await self._set_aside(envelope, request.publisher, data, f"{error.code}: {error}")
        for subject in {block.subject for block in blocks}:
            if subject in RESERVED or (subject != request.publisher and not may(caller, Action.PUBLISH, subject)):
                reason = f"access.foreign_subject: {request.publisher!r} may not speak for {subject!r}"
                if subject not in RESERVED:
                    reason += _remedy(request.publisher, subject)
                return await self._set_aside(envelope, request.publisher, data, reason)
        return batch, blocks

    async def _set_aside(self, envelope: Envelope | None, publisher: str, data: bytes, reason: str) -> Result:
        await self._quarantine(envelope, publisher, data, reason)
        self.status.quarantined_batches += 1
        self.status.quarantined_rows += envelope.rows if envelope else 0
        _log.warning("quarantined publisher=%s rows=%s reason=%s", publisher, envelope and envelope.rows, reason)
        return Result(Status.QUARANTINED, reason[:500])

    async def _append(self, request: PublishRequest, good: list[tuple[int, Batch, list[Block]]]) -> None:
        if not good:
            return
        partition = partition_of(request.publisher, self._log.partitions)
        entries = [
            Entry(topic_of(batch.envelope.row_class), partition, request.batches[index]) for index, batch, _ in good
        ]
        failpoint("ingest.append.begun")
        try:
            offsets = await self._log.append(entries)
        except LogFullError as error:
            self.status.busy += 1
            raise BusyError(str(error), status=503, retry_after=2.0) from error
        failpoint("ingest.append.appended")
        for entry, offset, (_, batch, blocks) in zip(entries, offsets, good, strict=True):
            if batch.envelope.rows:
                self._opened.put((entry.topic, entry.partition, offset), batch, blocks)
                self.status.batches += 1
                self.status.rows += batch.envelope.rows
            else:
                self.status.heartbeats += 1


def _remedy(publisher: str, subject: str) -> str:
    """Say which right is missing, and how it is given."""
    scope = f"ingest:{family(subject)}*" if family(subject) != subject else f"ingest:{subject}"
    return (
        f"; its token lacks the scope {scope}: make one by `muster token create NAME --scope 'ingest:{publisher}'"
        f" --scope '{scope}'`, and give the agent its secret as publish.token; batches about others are taken"
    )
