"""The inventory consumer: reads capability documents and heartbeats from the log, and makes facts of them.

Facts and the position behind them are one transaction of the ledger. A publisher's facts apply in the order of its
runs, and within one run in the order in which it numbered its batches: what an outage or a repetition brings late
changes nothing. A node that was not heard for a while is silent, unless it is us who are behind: that is told apart by
partition, by the time at which the log took what we have not read yet.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec
from sqlalchemy import Connection, select

from aggregator.control import Control, ControlError
from aggregator.ledger import journal
from aggregator.ledger.entries import Entry, NodeReached, NodeRun, NodeSeen
from aggregator.ledger.facts import Adopt, Sighting, observe, seen_dirty, withdraw
from aggregator.ledger.journal import LeadLostError
from aggregator.ledger.ledger import Ledger, LedgerBusyError
from aggregator.ledger.model import view_source
from aggregator.ledger.state import State
from aggregator.log import Log, OffsetOutOfRangeError, Record
from aggregator.tables import EPOCH
from schemas.batch import Block, Envelope
from schemas.codec import check_batch, decode_batch
from schemas.device import DeviceKind, Document, decode_document
from schemas.errors import WireError
from schemas.rows import CAPABILITY
from schemas.verbosity import RowClass

_log = logging.getLogger("muster.inventory")
TOPICS: Final = ("capability", "event")
READ_BYTES: Final = 1 << 20
SILENCE_SECONDS: Final = 30.0
"""A node that was not heard for so long is silent."""
BEHIND_SECONDS: Final = 5.0
"""While we are so far behind in a partition, nobody in it is called silent."""
_CHECK_SECONDS: Final = 1.0


class Run(msgspec.Struct, frozen=True):
    """A run of a publisher, as the control database knows it."""

    epoch: str
    boot: str
    began_ns: int
    unverified: bool
    """It took over without the word of the one before."""


class _Said(msgspec.Struct, frozen=True):
    """A document, and who says it."""

    envelope: Envelope
    run: Run
    subject: str
    collector: str
    device: str
    document: Document | None
    """None: no longer described."""

    def node(self, state: State) -> str:
        """Give the node that it is about: a BMC belongs to the machine of the system UUID that it tells."""
        if self.document is not None and self.document.kind is DeviceKind.BMC:
            system = str(self.document.capabilities.get("system_uuid", ""))
            if system in state.nodes:
                return system
        return self.subject or self.envelope.publisher


class InventoryStatus(msgspec.Struct):
    """What the consumer can say of itself."""

    records: int = 0
    documents: int = 0
    facts: int = 0
    """Entries written."""
    stale: int = 0
    """Documents of a run that is over, which changed nothing."""
    unreadable: int = 0
    failures: int = 0
    last_error: str = ""


class Inventory:
    """Feeds the ledger from the log until it is stopped. For one event loop."""

    name: Final = "inventory"

    def __init__(
        self,
        log: Log,
        ledger: Ledger,
        control: Control,
        *,
        adopt: Adopt = seen_dirty,
        silence_s: float = SILENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        resend: Callable[[str], object] = lambda _publisher: None,
    ) -> None:
        self._log = log
        self._ledger = ledger
        self._control = control
        self._adopt = adopt
        self._silence_s = silence_s
        self._clock = clock
        self._resend = resend
        self._positions: dict[tuple[str, int], int] = {}
        self._runs: dict[tuple[str, str], Run] = {}
        self._orders: dict[str, tuple[str, dict[str, int]]] = {}
        """Publisher -> epoch, and by source the order number of the last document applied."""
        self._heard: dict[str, tuple[float, int]] = {}
        """Publisher -> when it was last heard, by our clock, and its partition."""
        self._stopping = asyncio.Event()
        self.behind: dict[int, float] = {}
        """Partition -> seconds that we are behind in it; only those where we are."""
        self.status = InventoryStatus()
        self.ready = False

    async def run(self) -> None:
        """Follow the log until `stop`; begin again after a failure, with back-off."""
        backoff = 0.1
        while not self._stopping.is_set():
            try:
                await self._open()
                backoff = 0.1
                await self._follow()
            except (LedgerBusyError, ControlError, LeadLostError) as error:
                self._failed(error)
                await self._pause(backoff)
                backoff = min(5.0, backoff * 2)
            except Exception as error:  # noqa: BLE001 - whatever it is, the log still has the facts: begin again
                _log.exception("inventory_failed")
                self._failed(error)
                await self._pause(backoff)
                backoff = min(5.0, backoff * 2)
        self.ready = False

    def stop(self) -> None:
        """End after what is under way."""
        self._stopping.set()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _failed(self, error: Exception) -> None:
        self.ready = False
        self.status.failures += 1
        if str(error) != self.status.last_error:
            _log.warning("inventory_waits error=%s", error)
        self.status.last_error = str(error)

    async def _open(self) -> None:
        self._positions = await self._ledger.database.read(partial(journal.positions, log_id=self._log.id))
        self._orders.clear()
        now = self._clock()
        for node in self._ledger.peek().nodes.values():  # nobody was heard before, because nobody listened
            if node.publisher:
                self._heard.setdefault(node.publisher, (now, -1))
        self.status.last_error = ""
        self.ready = True

    async def _follow(self) -> None:
        moment, checked = 0, self._clock()
        while not self._stopping.is_set():
            found = False
            for partition in sorted(await self._log.owned()):
                for topic in TOPICS:
                    found |= await self._read(topic, partition)
            if self._clock() - checked >= _CHECK_SECONDS:
                checked = self._clock()
                await self._check_silence()
            if not found:
                moment = await self._wait(moment)

    async def _wait(self, moment: int) -> int:
        waiting = asyncio.ensure_future(self._log.wait(moment, _CHECK_SECONDS))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((waiting, stopping), return_when=asyncio.FIRST_COMPLETED)
            return waiting.result() if waiting.done() else moment
        finally:
            waiting.cancel()
            stopping.cancel()

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            pass

    async def _read(self, topic: str, partition: int) -> bool:
        offset = self._positions.get((topic, partition))
        if offset is None:
            offset = await self._log.begin(topic, partition)
        try:
            records = await self._log.read(topic, partition, offset, READ_BYTES)
        except OffsetOutOfRangeError as error:
            _log.warning("log_skipped topic=%s partition=%d from=%d", topic, partition, offset)
            self._positions[topic, partition] = error.begin if offset < error.begin else error.end
            return True
        if not records:
            self.behind.pop(partition, None)
            return False
        late = (time.time_ns() - records[0].appended_ns) / 1e9
        if late > BEHIND_SECONDS:
            self.behind[partition] = late
        else:
            self.behind.pop(partition, None)
        for record in records:
            await self._take(record, partition)
        end = records[-1].offset + 1
        self._positions[topic, partition] = end
        move = partial(journal.move, log_id=self._log.id, offsets={(topic, partition): end})
        await self._ledger.decide(_nothing, beside=move)
        return True

    async def _take(self, record: Record, partition: int) -> None:
        self.status.records += 1
        try:
            batch = decode_batch(record.value)
            envelope = batch.envelope
            blocks = check_batch(batch) if envelope.row_class is RowClass.CAPABILITY and envelope.rows else []
        except WireError as error:
            self.status.unreadable += 1
            _log.error("log_record_unreadable offset=%d error=%s", record.offset, error)
            return
        self._heard[envelope.publisher] = (self._clock(), partition)
        if not blocks:
            return
        run = await self._run(envelope)
        for block in blocks:
            if block.measurement == CAPABILITY:
                self._documents(envelope, block, run)

    async def _run(self, envelope: Envelope) -> Run:
        """Give what the control database knows of the run that an envelope names."""
        key = (envelope.publisher, envelope.epoch)
        run = self._runs.get(key)
        if run is None:
            run = self._runs[key] = await self._control.read(partial(_load_run, key=key))
        return run

    def _documents(self, envelope: Envelope, block: Block, run: Run) -> None:
        for row in block.rows:
            key = block.keys[row]
            device, collector = key[0], key[1] if len(key) > 1 else ""
            text = block.strings["document"][0] or ""  # a capability batch is one device's document
            self.status.documents += 1
            if not self._newer(envelope, view_source(envelope.publisher, collector, device)):
                self.status.stale += 1
                continue
            said = _Said(envelope, run, block.subject, collector, device, _read(text))
            if self._ledger.apply_now(partial(self._begin_run, said=said)):
                self.status.facts += self._ledger.apply_now(partial(self._facts, said=said))
            else:
                self.status.stale += 1

    def _newer(self, envelope: Envelope, source: str) -> bool:
        epoch, orders = self._orders.get(envelope.publisher, ("", {}))
        if epoch != envelope.epoch:
            self._orders[envelope.publisher] = (envelope.epoch, {source: envelope.order})
            return True
        if orders.get(source, -1) > envelope.order:
            return False
        orders[source] = envelope.order
        return True

    def _begin_run(self, state: State, said: "_Said") -> tuple[list[Entry], bool]:
        """Let the run of an envelope speak for its node; False when a later one does already."""
        node, envelope = said.node(state), said.envelope
        known = state.nodes.get(node)
        if known is not None and known.epoch == envelope.epoch:
            return ([] if known.live else [NodeReached(node, live=True)]), True
        last = self._runs.get((known.publisher, known.epoch)) if known else None
        same = last is not None and known is not None and known.publisher == envelope.publisher
        if same and last is not None and said.run.began_ns < last.began_ns:
            return [], False
        changed = known is not None and bool(known.epoch) and (known.boot != said.run.boot or said.run.unverified)
        entries: list[Entry] = [] if known else [NodeSeen(node)]
        entries.append(NodeRun(node, envelope.publisher, envelope.epoch, said.run.boot, changed))
        if known is not None and not known.live:
            entries.append(NodeReached(node, live=True))
        return entries, True

    def _facts(self, state: State, said: "_Said") -> tuple[list[Entry], int]:
        node, envelope = said.node(state), said.envelope
        if said.document is None:
            source = view_source(envelope.publisher, said.collector, said.device)
            entries = withdraw(state, node, source, "its collector no longer describes it")
        else:
            sighting = Sighting(node, envelope.publisher, said.collector, said.document, said.run.boot)
            entries = observe(state, sighting, self._adopt)
        return entries, len(entries)

    async def _check_silence(self) -> None:
        now = self._clock()
        entries: list[Entry] = []
        for node in self._ledger.peek().nodes.values():
            if not node.publisher:
                continue
            heard, partition = self._heard.get(node.publisher, (now, -1))
            silent = now - heard >= self._silence_s and partition not in self.behind
            if silent and node.live:
                entries.append(NodeReached(node.id, live=False, why=f"not heard for {now - heard:.0f} s"))
            elif not silent and not node.live and now - heard < self._silence_s:
                entries.append(NodeReached(node.id, live=True))
        if entries:
            await self._ledger.decide(lambda _: (entries, None))


def _nothing(_state: State) -> tuple[list[Entry], None]:
    return [], None


def _read(text: str) -> Document | None:
    """Give a document; None for "", which takes one back, and for what cannot be read."""
    if not text:
        return None
    try:
        return decode_document(text)
    except msgspec.MsgspecError as error:
        _log.warning("document_unreadable error=%s", error)
        return None


def _load_run(connection: Connection, key: tuple[str, str]) -> Run:
    publisher, epoch = key
    columns = (EPOCH.c.boot, EPOCH.c.started_ns)
    row = connection.execute(select(*columns).where(EPOCH.c.node == publisher, EPOCH.c.epoch == epoch)).first()
    if row is None:
        return Run(epoch, "", 0, unverified=False)
    before = select(EPOCH.c.end_reason).where(EPOCH.c.node == publisher, EPOCH.c.ended_ns == row.started_ns)
    reason = connection.execute(before).scalar()
    return Run(epoch, row.boot, row.started_ns, unverified=reason == "takeover")
