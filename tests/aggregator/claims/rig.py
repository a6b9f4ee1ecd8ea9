"""A ledger on disk, `Claiming` over it, and nodes that do their work in this process, by what they keep on disk."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection

from aggregator import usage
from aggregator.claim_carrier import ClaimCarrier, Policy
from aggregator.claiming import Claiming
from aggregator.control import ControlError
from aggregator.control_sqlite import SqliteControl
from aggregator.leases import Leases
from aggregator.ledger import cleaning
from aggregator.ledger.asks import Ask, Pick
from aggregator.ledger.entries import Entry, NodeReached, NodeRun, NodeSeen
from aggregator.ledger.facts import Sighting, observe
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.model import Claim, Device
from aggregator.ledger.words import ClaimState, Lifecycle, Mode
from aggregator.migrate import LEDGER
from collectors.claims.checkpoint import CheckpointFile
from collectors.claims.order import Order
from collectors.claims.worker import Worker
from schemas.claims import ClaimStep, DeviceReport, Step
from schemas.device import DeviceKind, Document
from schemas.errors import MusterError
from schemas.evidence import FunctionReadback, GpuReadback, NvmeReadback, Readback, VfReadback, encode_readback
from schemas.rows import Event
from tests.aggregator.ledger.worlds import document

T = TypeVar("T")
ADDRESS = "0000:{:02x}:00.0"


def prove(order: Order, **changes: Any) -> str:
    """Make the evidence of a clean as a good node does; `changes` spoil it."""
    device = order.device
    common: dict[str, Any] = {
        "device": device.device,
        "part": device.part,
        "clean": device.clean,
        "read_ns": 1,
        "hook": "test",
        "in_use": False,
    }
    found: Readback
    match device.kind:
        case "gpu":
            found = GpuReadback(**common, reset_seen=True, processes=0, memory_check="passed")
        case "nvme":
            found = NvmeReadback(**common, sanitize_status="completed", data_written_since=False)
        case "vf":
            vlan = device.expected.get("vlan")
            found = VfReadback(
                **common, vlan=int(vlan) if vlan else None, mac=device.expected.get("mac", ""), reset_seen=True
            )
        case _:
            found = FunctionReadback(**common, reset_seen=True)
    return encode_readback(msgspec.structs.replace(found, **changes))


def good(order: Order) -> DeviceReport:
    """Do a step as a good node does."""
    evidence = prove(order) if order.step is Step.CLEAN else ""
    return DeviceReport(order.device.device, True, "", order.device.part, order.device.group, "vfio-pci", evidence)


def bad(order: Order, why: str = "no") -> DeviceReport:
    """Fail a step."""
    return DeviceReport(order.device.device, False, why)


async def _nothing() -> None:
    return None


class FakeNode:
    """A node's agent, as far as claims go: a worker on a checkpoint, and how it does its steps."""

    def __init__(self, name: str, folder: Path, boot: str = "b1") -> None:
        self.name = name
        self.path = folder / f"{name}.json"
        self.perform: Callable[[Order], DeviceReport] = good
        self.orders: list[Order] = []
        self.dead = False
        self.start(boot)

    def start(self, boot: str = "b1") -> None:
        """Begin a run: nothing is known but what is on disk."""
        self.worker = Worker(CheckpointFile(self.path), boot)

    def work(self) -> int:
        """Do everything that can be done now; give how much that was."""
        done = 0
        while (taken := self.worker.take()) is not None:
            job, order = taken
            self.orders.append(order)
            self.worker.finish(job, self.perform(order))
            done += 1
        return done


class SlowControl(SqliteControl):
    """A database on a disk that takes its time: for so long what was decided is seen, and not kept."""

    seconds = 0.0

    _failing: asyncio.Event | None = None
    _when: Callable[[], object] | None = None

    def fail_once(self, condition: Callable[[], object]) -> asyncio.Event:
        """Let the first write fail that finds something so; give what is set when it has begun."""
        self._when, self._failing = condition, asyncio.Event()
        return self._failing

    async def write(self, transaction: Callable[[Connection], T]) -> T:
        """See `SqliteControl`."""
        if self._failing is not None and self._when is not None and self._when():
            self._when = None
            self._failing.set()
            await asyncio.sleep(0.1)
            raise ControlError("disk I/O error")
        if self.seconds:
            await asyncio.sleep(self.seconds)
        return await super().write(transaction)


class World:
    """Everything at once. For one event loop."""

    def __init__(self, folder: Path, policy: Policy | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.policy = policy or Policy()
        self.nodes: dict[str, FakeNode] = {}
        self.events: list[Event] = []
        self.now = 0.0
        self.tick_task: asyncio.Task[None] | None = None

    @property
    def path(self) -> Path:
        """The ledger's file."""
        return self.folder / "ledger.db"

    async def open(self) -> None:
        """Open the ledger, as an aggregator does at its start."""
        self.database = SlowControl(self.path, schema=LEDGER)
        self.database.open()
        self.ledger = Ledger(self.database, "test", note=usage.note)
        await self.ledger.open()
        leases = Leases(lambda: self.now)
        self.carrier = ClaimCarrier(
            self.ledger, leases, self.tell, self.policy, announce=self._announce, clock=lambda: self.now
        )
        self.claiming = Claiming(self.ledger, leases, self.carrier.wake)
        await self.carrier.open()
        self.tick_task = asyncio.create_task(self.carrier.run())

    async def close(self) -> None:
        """Close it."""
        if self.tick_task is not None:
            self.tick_task.cancel()
            await asyncio.gather(self.tick_task, return_exceptions=True)
        await self.ledger.close()
        await self.database.close()

    async def _announce(self, events: list[Event]) -> None:
        self.events += events

    def tell(self, publisher: str, steps: list[ClaimStep] | None) -> bool:
        """Hand a node its work, at once: nothing is ever on its way that could be taken back."""
        node = self.nodes.get(publisher)
        if node is None or node.dead:
            return False
        if steps is None:
            return True
        node.worker.set_work(msgspec.msgpack.decode(msgspec.msgpack.encode(steps), type=list[ClaimStep]))
        return True

    async def add(self, name: str, *documents: Document, vcpus: int = 48) -> list[str]:
        """Let a node speak, with devices that an operator vouches for; give their ids."""
        self.nodes[name] = node = FakeNode(name, self.folder)
        entries: list[Entry] = [
            NodeSeen(name, f"host-{name}", {"vcpus": vcpus}),
            NodeRun(name, name, f"epoch-{name}", "b1"),
        ]
        await self.ledger.decide(lambda _: (entries, None))
        self.carrier.checkpoint(name, node.worker.checkpoint())
        for one in documents:
            await self.see(name, one)
        ids = [device.id for device in self.ledger.peek().devices_of(name)]
        for one_id in ids:
            await self.ledger.decide(partial(cleaning.attest, device=one_id, who="test", statement="new"))
        await self.until(lambda: self.ledger.peek().nodes[name].shown == self.ledger.peek().generation)
        return ids

    async def add_known(self, name: str, *documents: Document) -> None:
        """Let a node speak that has a checkpoint, and devices that nobody vouches for."""
        self.nodes[name] = node = FakeNode(name, self.folder)
        entries: list[Entry] = [
            NodeSeen(name, f"host-{name}", {"vcpus": 48}),
            NodeRun(name, name, f"epoch-{name}", "b1"),
        ]
        await self.ledger.decide(lambda _: (entries, None))
        self.carrier.checkpoint(name, node.worker.checkpoint())
        for one in documents:
            await self.see(name, one)

    def revive(self, name: str) -> None:
        """Let the agent of a node that the ledger knows begin a run."""
        self.nodes[name] = node = FakeNode(name, self.folder)
        self.carrier.checkpoint(name, node.worker.checkpoint())

    async def see(self, node: str, one: Document) -> None:
        """Take a document as a fact."""
        await self.ledger.decide(lambda state: (observe(state, Sighting(node, node, "pci", one, "b1")), None))

    async def silence(self, node: str, live: bool = False) -> None:
        """Let a node fall silent, or speak again."""
        await self.ledger.decide(lambda _: ([NodeReached(node, live)], None))

    async def pump(self) -> int:
        """Let every node do its work and report; give how many steps were done."""
        done = 0
        for node in self.nodes.values():
            if node.dead:
                continue
            done += node.work()
            reports = node.worker.reports()
            if reports:
                try:
                    await self.carrier.report(node.name, reports)
                except MusterError:
                    node.worker.unheard()
                else:
                    node.worker.heard()
        return done

    async def until(
        self,
        condition: Callable[[], object],
        seconds: float = 10.0,
        *,
        each: Callable[[], Awaitable[object]] = _nothing,
    ) -> None:
        """Let everybody work until something is so, and is on disk: who opens the ledger again must find it.

        `each`: what is done besides, until then.
        """
        async with asyncio.timeout(seconds):
            while not condition():
                await self.pump()
                await each()
                await asyncio.sleep(0.005)
            await self.ledger.settled()

    async def claim(self, *devices: str, tenant: str = "t", mode: Mode = Mode.PASSTHROUGH, **more: Any) -> Claim:
        """Claim devices."""
        return await self.claiming.grant(Ask(tenant, "job", [Pick(one, mode) for one in devices], **more))

    async def active(self, *devices: str, **more: Any) -> Claim:
        """Claim devices and have them provisioned."""
        claim = await self.claim(*devices, **more)
        await self.claiming.provision(claim.id)
        await self.until(lambda: self.claim_of(claim.id).state is ClaimState.ACTIVE)
        return claim

    def claim_of(self, name: str) -> Claim:
        """Give a claim as it is now."""
        return self.ledger.peek().claims[name]

    def device(self, name: str) -> Device:
        """Give a device as it is now."""
        return self.ledger.peek().devices[name]

    def lifecycles(self, *names: str) -> list[Lifecycle]:
        """Give what devices are now."""
        return [self.device(name).lifecycle for name in names]


@asynccontextmanager
async def world(folder: Path, policy: Policy | None = None) -> AsyncIterator[World]:
    """Give an open world, and close it."""
    made = World(folder, policy)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


def gpus(count: int, node: str = "n1", *, group: int | None = None) -> Iterator[Document]:
    """Yield GPUs, each in a group of its own or all in one."""
    for number in range(count):
        own = number if group is None else group
        yield document(DeviceKind.GPU, ADDRESS.format(number + 1), serial=f"{node}-G{number}", group=own)
