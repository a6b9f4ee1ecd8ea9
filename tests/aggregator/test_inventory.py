"""The inventory consumer: what is in the log is in the ledger, once, in the order of runs, whatever comes late."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Connection, insert, update

from aggregator.control import ControlError
from aggregator.control_sqlite import SqliteControl
from aggregator.documents import PATIENCE
from aggregator.inventory import ALERT, Inventory
from aggregator.ledger import cleaning, marks
from aggregator.ledger.entries import NodeSeen
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.model import Taint
from aggregator.ledger.words import Effect, Lifecycle, Reach
from aggregator.log import Entry, Log, Record, partition_of, topic_of
from aggregator.log_sqlite import SqliteLog
from aggregator.migrate import LEDGER
from aggregator.placement.placing import NotPlacedError, Placer
from aggregator.placement.request import Need, Request
from aggregator.tables import EPOCH
from schemas.account import Account, EpochAccount, StreamAccount
from schemas.alerts import AlertTransition, encode_alert
from schemas.batch import Block, Envelope
from schemas.codec import encode_batch, encode_body
from schemas.device import DeviceKind, Document, Part, Slot, Value, documents_hash, encode_document
from schemas.rows import CAPABILITY, Event
from schemas.verbosity import Level, RowClass

PARTITIONS = 4


def gpu(slot: int, **more: str) -> Document:
    address = f"0000:0{slot}:00.0"
    part = Part(vendor="NVIDIA", model="H100", serial=more.pop("serial", f"S{slot}"))
    capabilities: dict[str, Value] = {"iommu_group": slot, "pci_vendor_id": "10de", "pci_device_id": "2330", **more}
    return Document(
        f"gpu:{slot}", DeviceKind.GPU, [f"pci:{address}"], "", Slot(f"p/{slot}", "", address), part, capabilities
    )


class Node:
    """A publisher of documents."""

    def __init__(self, name: str, epoch: str = "e1") -> None:
        self.name, self.epoch = name, epoch
        self.collector = "nvml"
        self.rows = self.order = 0
        self.texts: dict[str, str] = {}

    def document(self, document: Document, subject: str = "") -> bytes:
        self.texts[document.device] = encode_document(document)
        return self._batch(document.device, self.texts[document.device], subject)

    def gone(self, device: str, subject: str = "") -> bytes:
        del self.texts[device]
        return self._batch(device, "", subject)

    def _batch(self, device: str, text: str, subject: str = "") -> bytes:
        block = Block(
            CAPABILITY,
            subject or self.name,
            ["collector"],
            [[device, self.collector]],
            [0],
            1000 + self.rows,
            [0],
            strings={"document": [text]},
        )
        envelope = Envelope(self.name, self.epoch, RowClass.CAPABILITY, Level.ESSENTIAL, self.rows, 1, self.order)
        self.rows, self.order = self.rows + 1, self.order + 1
        return encode_batch(envelope, encode_body([block]))

    def heartbeat(self, told: str | None = None) -> bytes:
        stream = StreamAccount(RowClass.CAPABILITY, Level.ESSENTIAL, self.rows, 0, 0, self.rows, [], [])
        account = Account(self.order + 1, [EpochAccount(self.epoch, "b", [stream])])
        envelope = Envelope(
            self.name,
            self.epoch,
            RowClass.EVENT,
            Level.ESSENTIAL,
            0,
            0,
            self.order,
            account=account,
            documents=documents_hash(list(self.texts.values())) if told is None else told,
        )
        return encode_batch(envelope, b"")


class Rig:
    """The consumer, and what is around it."""

    def __init__(self, log: Log, control: SqliteControl, ledger: Ledger) -> None:
        self.log, self.control, self.ledger = log, control, ledger
        self.now, self.wall_ns = 1000.0, 0
        self.asked: list[str] = []
        self.announced: list[Event] = []
        self.inventory = self.consumer()

    def consumer(self) -> Inventory:
        """Make another one: as after a restart."""

        async def announce(events: list[Event]) -> None:
            self.announced += events

        return Inventory(
            self.log,
            self.ledger,
            self.control,
            silence_s=30,
            clock=lambda: self.now,
            wall_ns=lambda: self.wall_ns,
            resend=self.asked.append,
            announce=announce,
        )

    async def restart(self) -> None:
        self.inventory = self.consumer()
        await self.inventory.open()

    async def run_of(self, node: str, epoch: str, began_ns: int, *, boot: str = "b", ended: str = "") -> None:
        """Have the control database know a run; with `ended` the one before ended so, at that moment."""
        row = {"node": node, "epoch": epoch, "boot": boot, "predecessors": [], "started_ns": began_ns}
        if ended:
            before = update(EPOCH).where(EPOCH.c.node == node, EPOCH.c.ended_ns.is_(None))
            await self.control.write(lambda c: c.execute(before.values(ended_ns=began_ns, end_reason=ended)))
        await self.control.write(lambda c: c.execute(insert(EPOCH).values(**row)))

    async def say(self, *records: bytes, topic: str = "") -> None:
        """Append records, and have them read."""
        for record in records:
            envelope = None if topic else _envelope(record)
            place = topic or topic_of(envelope.row_class)  # type: ignore[union-attr]
            key = "" if envelope is None else envelope.publisher
            await self.log.append([Entry(place, partition_of(key, PARTITIONS), record)])
        while await self.inventory.read_all():
            pass

    def devices(self) -> dict[str, str]:
        """Serial -> reach of every device."""
        state = self.ledger.peek()
        return {one.part.serial: state.reach(one).value for one in state.devices.values()}


def _envelope(record: bytes) -> Envelope:
    from schemas.codec import decode_batch

    return decode_batch(record).envelope


@contextlib.asynccontextmanager
async def rig(folder: Path, kind: type[SqliteLog] = SqliteLog) -> AsyncIterator[Rig]:
    log = kind(folder / "log.db", partitions=PARTITIONS)
    control, database = SqliteControl(folder / "control.db"), SqliteControl(folder / "ledger.db", schema=LEDGER)
    control.open()
    database.open()
    ledger = Ledger(database, "here")
    await ledger.open()
    made = Rig(log, control, ledger)
    try:
        await made.run_of("n1", "e1", 100)
        await made.inventory.open()
        yield made
        await ledger.close()
    finally:
        await log.close()
        await control.close()
        await database.close()


async def test_what_comes_twice_is_taken_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        node = Node("n1")
        first = node.document(gpu(1))
        await one.say(first, node.document(gpu(1, ecc="off")))
        before = one.ledger.peek().digest()
        await one.say(first)  # a retry: older than what came meanwhile
        assert before == one.ledger.peek().digest()
        await one.restart()
        await one.say(first)
        assert before == one.ledger.peek().digest()
        assert one.inventory.status.repeated == 1


async def test_restart_goes_on_behind_what_is_committed(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        node = Node("n1")
        await one.say(node.document(gpu(1)), node.document(gpu(2)))
        await one.restart()
        await one.say(node.document(gpu(3)))
        assert 1 == one.inventory.status.records
        assert ["S1", "S2", "S3"] == sorted(one.devices())
        assert one.inventory.committed.positions == one.inventory.tracker.positions


async def test_late_backlog_of_an_older_run_changes_nothing(tmp_path: Path) -> None:
    """Even when the consumer was started again in between, and remembers neither run."""
    async with rig(tmp_path) as one:
        old, new = Node("n1"), Node("n1", "e2")
        late = [old.document(gpu(1, ecc="off")), old.document(gpu(9))]
        await one.run_of("n1", "e2", 200, ended="predecessor")
        await one.say(new.document(gpu(1, ecc="on")))
        await one.restart()
        await one.say(*late)
        assert ["S1"] == list(one.devices())
        assert "on" == next(iter(one.ledger.peek().devices.values())).get("ecc")
        assert "e2" == one.ledger.peek().nodes["n1"].epoch
        assert 2 == one.inventory.status.stale


@pytest.mark.parametrize(("ended", "boot", "reach"), [("predecessor", "b", "live"), ("takeover", "b", "unverified"),
                                                       ("predecessor", "b2", "unverified")])  # fmt: skip
async def test_after_a_takeover_or_a_boot_devices_have_to_show_themselves(
    tmp_path: Path, ended: str, boot: str, reach: str
) -> None:
    async with rig(tmp_path) as one:
        old, new = Node("n1"), Node("n1", "e2")
        await one.say(old.document(gpu(1)), old.document(gpu(2)))
        await one.run_of("n1", "e2", 200, ended=ended, boot=boot)
        await one.say(new.document(gpu(1)))
        assert {"S1": "live", "S2": reach} == one.devices()


async def test_poller_does_not_speak_for_a_node(tmp_path: Path) -> None:
    """Its documents are facts about the node; the node's run is its own agent's."""
    async with rig(tmp_path) as one:
        node, poller = Node("n1"), Node("poller", "p1")
        await one.run_of("poller", "p1", 150)
        await one.say(node.document(gpu(1)))
        await one.say(poller.document(bmc("n1"), subject="bmc:1"), node.document(gpu(2)))
        known = one.ledger.peek().nodes["n1"]
        assert ("n1", "e1") == (known.publisher, known.epoch)
        assert 3 == len(known.devices)


async def test_poller_does_not_begin_to_speak_for_a_machine_that_nobody_speaks_for(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        await one.ledger.decide(lambda _: ([NodeSeen("n1")], None))
        await one.run_of("poller", "p1", 150)
        await one.say(Node("poller", "p1").document(bmc("n1"), subject="bmc:1"))
        known = one.ledger.peek().nodes["n1"]
        assert ("", 1) == (known.publisher, len(known.devices))


async def test_publisher_that_speaks_for_itself_alone_says_nothing_of_another_machine(tmp_path: Path) -> None:
    """A scope of its own name is every agent's: what it calls a BMC stays among its own devices."""
    async with rig(tmp_path) as one:
        victim, other = Node("n1"), Node("n2")
        await one.run_of("n2", "e1", 150)
        await one.say(victim.document(gpu(1)))
        for subject in ("", "n2"):
            await one.say(other.document(bmc("n1", iommu_group=99, in_use_by="qemu"), subject))
        state = one.ledger.peek()
        assert [[DeviceKind.GPU], [DeviceKind.BMC]] == [
            [device.kind for device in state.devices_of(node)] for node in ("n1", "n2")
        ]


async def test_bmc_of_a_machine_changes_nothing_of_its_other_devices(tmp_path: Path) -> None:
    """Whatever address, serial, slot or group it states: the poller may be another's, or wrong."""
    async with rig(tmp_path) as one:
        node, poller = Node("n1"), Node("poller", "p1")
        await one.run_of("poller", "p1", 150)
        await one.say(node.document(gpu(1)))
        told = gpu(1, in_use_by="qemu")
        forged = msgspec.structs.replace(
            bmc("n1"), merge_keys=["pci:0000:01:00.0", "serial:S1", "bmc:1"], slot=told.slot, part=told.part,
            capabilities={**told.capabilities, "iommu_group": 99, "vfio_in_use": True, "system_uuid": "n1"},
        )  # fmt: skip
        await one.say(poller.document(forged, subject="bmc:1"))
        await one.say(node.document(gpu(2)))
        state = one.ledger.peek()
        first, board, second = state.devices_of("n1")
        assert (DeviceKind.GPU, 1, Lifecycle.DIRTY, Reach.LIVE, {}) == (
            first.kind, first.group, first.lifecycle, first.reach, first.taints
        )  # fmt: skip
        assert (DeviceKind.BMC, None, "", {}) == (board.kind, board.group, board.slot.address, board.taints)
        assert 2 == second.group
        assert [first.id] == list(state.found.groups.get(("n1", 1)))


def boards(one: Rig) -> dict[str, list[str]]:
    """Give the BMCs that are there, by node, marks with them."""
    found: dict[str, list[str]] = {}
    for device in one.ledger.peek().devices.values():
        if device.kind is DeviceKind.BMC and device.reach is Reach.LIVE:
            found.setdefault(device.node, []).append(" ".join([device.part.serial, *device.taints]))
    return found


async def test_bmc_that_is_described_no_more_leaves_its_machine(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        poller = Node("poller", "p1")
        await one.run_of("poller", "p1", 150)
        await one.say(Node("n1").document(gpu(1)))
        await one.say(poller.document(bmc("n1"), subject="bmc:1"))
        assert {"n1": ["B1"]} == boards(one)
        await one.say(poller.gone("bmc:1", subject="bmc:1"))
        assert {} == boards(one)


async def test_bmc_of_a_poller_that_holds_it_no_more_leaves_its_machine(tmp_path: Path) -> None:
    """Nobody took its document back: the poller's heartbeats prove that it is gone."""
    async with rig(tmp_path) as one:
        await one.run_of("poller", "p1", 150)
        await one.say(Node("n1").document(gpu(1)), Node("poller", "p1").document(bmc("n1"), subject="bmc:1"))
        await one.run_of("poller", "p2", 250)
        after = Node("poller", "p2")
        for _ in range(2 * PATIENCE):
            assert {"n1": ["B1"]} == boards(one)
            await one.say(after.heartbeat())
        assert {} == boards(one)


async def test_bmc_that_names_another_machine_leaves_the_one_before(tmp_path: Path) -> None:
    """A board that was moved, or a poller that knew the machine not yet: one BMC, and no conflict with itself."""
    async with rig(tmp_path) as one:
        poller = Node("poller", "p1")
        await one.run_of("poller", "p1", 150)
        await one.run_of("n2", "e1", 150)
        for system, machines in (("n1", "bmc:1"), ("n1", "n1"), ("n2", "n2"), ("unknown", "bmc:1"), ("n2", "n2")):
            await one.say(poller.document(bmc(system, firmware_updates=machines), subject="bmc:1"))
            assert {machines: ["B1"]} == boards(one)
            await one.say(Node("n1").document(gpu(1)), Node("n2").document(gpu(2)))


def bmc(system: str, **more: Value) -> Document:
    told: dict[str, Value] = {"system_uuid": system, **more}
    return Document("bmc:1", DeviceKind.BMC, ["bmc:1"], "", Slot(), Part(vendor="Dell", serial="B1"), told)


async def test_silent_node_is_stale_and_lives_again(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        node = Node("n1")
        await one.say(node.document(gpu(1)))
        for seconds, reach in ((29.0, "live"), (1.0, "stale")):
            one.now += seconds
            await one.inventory.check_silence()
            assert {"S1": reach} == one.devices()
        await one.say(node.heartbeat())
        await one.inventory.check_silence()
        assert {"S1": "live"} == one.devices()


async def test_while_we_are_behind_nobody_in_that_partition_goes_stale(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        near, far = Node("n1"), Node(other_partition("n1"))
        await one.run_of(far.name, "e1", 100)
        await one.say(near.document(gpu(1)), far.document(gpu(2)))
        one.wall_ns = 1 << 62  # what is read from here on was appended long ago
        one.now += 60
        await one.log.append([Entry("event", partition_of("n1", PARTITIONS), near.heartbeat())])
        await one.inventory.read_all()
        assert [partition_of("n1", PARTITIONS)] == list(one.inventory.hearing.behind)
        one.now += 60
        await one.inventory.check_silence()
        assert {"S1": "live", "S2": "stale"} == one.devices()
        await one.inventory.read_all()  # there is nothing left: now it is the node
        await one.inventory.check_silence()
        assert {"S1": "stale", "S2": "stale"} == one.devices()


async def test_while_we_are_behind_nothing_new_goes_to_nodes_of_that_partition_and_it_is_said_how_far(
    tmp_path: Path,
) -> None:
    async with rig(tmp_path) as one:
        near, far = Node("n1"), Node(other_partition("n1"))
        await one.run_of(far.name, "e1", 100)
        await one.say(near.document(gpu(1)), far.document(gpu(2)))
        state, placer = one.ledger.peek(), Placer()
        for device in list(state.devices):
            await one.ledger.decide(partial(cleaning.attest, device=device, who="op", statement="new"))
        request = Request("t", "job", needs=[Need(where="device.kind == 'gpu'")])
        assert {"n1", far.name} == {placer.dry_run(state, on(request, name)).instances[0].node for name in state.nodes}
        await one.log.append([Entry("capability", partition_of("n1", PARTITIONS), near.document(gpu(1, ecc="on")))])
        one.wall_ns = time.time_ns() + 42 * 10**9
        await one.inventory.read_all()
        assert far.name == placer.dry_run(state, request).instances[0].node
        with pytest.raises(NotPlacedError, match=r"node\.unread 1") as refused:
            placer.dry_run(state, on(request, "n1"))
        blockers = placer.explain(state, on(request, "n1"), refused.value.refusal)
        assert ["node.unread"] == [blocker.reason for blocker in blockers or ()]
        assert "42 s behind" in (blockers or [])[0].message
        await one.inventory.read_all()  # there is nothing left
        assert "n1" == placer.dry_run(state, on(request, "n1")).instances[0].node


def on(request: Request, node: str) -> Request:
    return msgspec.structs.replace(request, where=f"node.id == '{node}'")


def other_partition(name: str) -> str:
    return next(
        f"m{number}" for number in range(99)
        if partition_of(f"m{number}", PARTITIONS) != partition_of(name, PARTITIONS)
    )  # fmt: skip


async def test_documents_that_nobody_sends_again_are_withdrawn(tmp_path: Path) -> None:
    """A collector went while the agent was down: no word ever said that its devices are gone."""
    async with rig(tmp_path) as one:
        node = Node("n1")
        await one.say(node.document(gpu(1)), node.document(gpu(2)), node.heartbeat())
        del node.texts["gpu:2"]
        await one.say(node.heartbeat())
        assert [] == one.asked
        await one.say(node.heartbeat())
        assert ["n1"] == one.asked
        assert {"S1": "live", "S2": "live"} == one.devices()
        await one.restart()  # what is held is kept; what was asked is asked again
        await one.say(node.heartbeat(), node.heartbeat())
        await one.say(node.document(gpu(1)), node.heartbeat(), node.heartbeat())
        assert {"S1": "live", "S2": "absent"} == one.devices()
        await one.say(node.heartbeat(), node.heartbeat(), node.heartbeat())
        assert ["n1", "n1"] == one.asked


async def test_nothing_is_withdrawn_that_does_not_explain_the_difference(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        node = Node("n1")
        await one.say(node.document(gpu(1)), node.document(gpu(2)))
        for _ in range(8):
            await one.say(node.heartbeat("0" * 32))
        assert {"S1": "live", "S2": "live"} == one.devices()
        assert len(one.asked) == 4


async def test_missed_document_is_asked_for(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        node = Node("n1")
        node.document(gpu(2))  # never arrives
        await one.say(node.document(gpu(1)), node.heartbeat(), node.heartbeat())
        assert ["n1"] == one.asked
        await one.say(node.document(gpu(1)), node.document(gpu(2)), node.heartbeat(), node.heartbeat())
        assert ["S1", "S2"] == sorted(one.devices())
        assert ["n1"] == one.asked


async def test_new_log_is_read_from_its_beginning_with_a_word(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        node = Node("n1")
        await one.say(node.document(gpu(1)))
        await one.log.close()
        one.log = SqliteLog(tmp_path / "other.db", partitions=PARTITIONS)
        await one.restart()
        await one.say(node.document(gpu(2)))
        assert ["S1", "S2"] == sorted(one.devices())
        assert ["log.recreated"] == [event.type for event in one.announced]


async def test_log_that_was_set_back_is_read_again_and_nothing_is_taken_twice(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        node = Node("n1")
        first = node.document(gpu(1))
        await one.say(first)
        await one.log.close()
        copy = (tmp_path / "log.db").read_bytes()
        one.log = SqliteLog(tmp_path / "log.db", partitions=PARTITIONS)
        await one.restart()
        await one.say(node.document(gpu(1, ecc="off")), node.document(gpu(2)))
        await one.log.close()
        for name in ("log.db-wal", "log.db-shm"):
            (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / "log.db").write_bytes(copy)
        one.log = SqliteLog(tmp_path / "log.db", partitions=PARTITIONS)
        before = one.ledger.peek().digest()
        await one.restart()
        await one.say()
        assert ["log.set_back"] == [event.type for event in one.announced]
        assert before == one.ledger.peek().digest()
        assert 1 == one.inventory.status.repeated


def alert(transition: int, **changes: object) -> bytes:
    made = AlertTransition(
        "f1", transition, transition * 10**9, True, "xid", "critical", "n1", "gpu:1", "fell off", "Drain"
    )
    return encode_alert(msgspec.structs.replace(made, **changes))


async def test_alert_taints_and_takes_off_each_transition_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        await one.say(Node("n1").document(gpu(1)))

        def taints() -> list[tuple[str, str, str]]:
            (device,) = one.ledger.peek().devices.values()
            return [(mark.rule, mark.effect.value, mark.evidence) for mark in device.taints.values()]

        await one.say(alert(1), topic=ALERT)
        assert [("xid", "Drain", "fell off")] == taints()
        await one.say(alert(2, firing=False), topic=ALERT)
        assert [] == taints()
        await one.restart()
        await one.say(alert(1), alert(2, firing=False), alert(1), topic=ALERT)  # published again after a crash
        assert [] == taints()
        await one.say(alert(3, device="", summary="hot"), topic=ALERT)
        assert ["hot"] == [mark.evidence for mark in one.ledger.peek().nodes["n1"].taints.values()]


async def test_two_alerts_of_one_rule_are_two_taints_and_each_ends_with_its_alert(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        await one.say(Node("n1").document(gpu(1)))

        def taints() -> list[tuple[str, str]]:
            (device,) = one.ledger.peek().devices.values()
            return sorted((mark.rule, mark.alert) for mark in device.taints.values())

        await one.say(alert(1), alert(1, fingerprint="f2", summary="row remap"), topic=ALERT)
        assert [("xid", "f1"), ("xid", "f2")] == taints()
        await one.say(alert(2, firing=False), topic=ALERT)
        assert [("xid", "f2")] == taints()
        await one.say(alert(2, fingerprint="f2", firing=False), topic=ALERT)
        assert [] == taints()


async def test_alert_that_ends_takes_its_taint_off_the_card_that_it_was_about(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        node = Node("n1")
        await one.say(node.document(gpu(1)))
        await one.say(alert(1), topic=ALERT)
        await one.say(node.document(gpu(1, serial="S9")))  # another card, in the same slot and by the same name
        marked = {device.part.serial: len(device.taints) for device in one.ledger.peek().devices.values()}
        assert {"S1": 1, "S9": 0} == marked
        await one.say(alert(2, firing=False), topic=ALERT)
        assert not any(device.taints for device in one.ledger.peek().devices.values())


@pytest.mark.parametrize("over", [{"firing": False}, {"taint": ""}])
async def test_alert_takes_off_no_mark_but_its_own(tmp_path: Path, over: dict[str, object]) -> None:
    async with rig(tmp_path) as one:
        await one.say(Node("n1").document(gpu(1)))
        (device,) = one.ledger.peek().devices.values()
        mark = Taint("xid", Effect.NO_SCHEDULE, "seen by hand", "token:ann", 1)
        await one.ledger.decide(lambda state: marks.taint(state, marks.device_target(state, device.id), mark))
        await one.say(alert(1), alert(2, **over), topic=ALERT)
        (device,) = one.ledger.peek().devices.values()
        assert ["token:ann"] == [left.who for left in device.taints.values()]


@pytest.mark.parametrize(
    "record", [b"", b"\xc1", alert(1, taint="Burn"), alert(1, subject="n7"), alert(1, rule="conflict")]
)
async def test_alert_that_says_nothing_harms_nothing(tmp_path: Path, record: bytes) -> None:
    async with rig(tmp_path) as one:
        await one.say(Node("n1").document(gpu(1)))
        before = one.ledger.peek().digest()
        await one.say(record, topic=ALERT)
        assert before == one.ledger.peek().digest()
        assert one.devices() == {"S1": Reach.LIVE.value}


async def test_a_capability_batch_without_a_document_is_left_out_and_what_follows_is_taken(tmp_path: Path) -> None:
    """Any publisher may send one; it must not stand in the way of the fleet's inventory."""
    block = Block(CAPABILITY, "n1", ["collector"], [["gpu:1", "nvml"]], [0], 1000, [0], strings={"other": ["x"]})
    envelope = Envelope("n1", "e1", RowClass.CAPABILITY, Level.ESSENTIAL, 0, 1, 0)
    async with rig(tmp_path) as one:
        node = Node("n1")
        node.rows = node.order = 1
        await one.say(encode_batch(envelope, encode_body([block])), node.document(gpu(1)))
        assert {"S1": "live"} == one.devices()


async def test_a_record_that_meets_a_defect_of_ours_is_left_out_the_second_time(tmp_path: Path) -> None:
    """Whatever a document brings up in us, the records after it are read."""

    def defective(_device: object, document: Document) -> str:
        return "no such cause" if document.part.serial == "S1" else "seen"

    async with rig(tmp_path) as one:
        one.inventory = Inventory(one.log, one.ledger, one.control, adopt=defective)
        node = Node("n1")
        for record in (node.document(gpu(1)), node.document(gpu(2))):
            await one.log.append([Entry("capability", partition_of("n1", PARTITIONS), record)])
        running = asyncio.create_task(one.inventory.run())
        async with asyncio.timeout(60):
            await one.ledger.wait(0, 60)
        one.inventory.stop()
        await running
        assert {"S2": "live"} == one.devices()
        assert 1 == one.inventory.status.unreadable


class Interrupted(SqliteLog):
    """A log that lets something happen once, between two looks at it."""

    between: Callable[[], Awaitable[None]] | None = None

    async def read(self, topic: str, partition: int, offset: int, max_bytes: int) -> list[Record]:
        """See `Log`."""
        found = await super().read(topic, partition, offset, max_bytes)
        if partition == PARTITIONS - 1 and topic == "alert" and self.between is not None:
            between, self.between = self.between, None
            await between()
        return found


async def test_facts_that_another_decisions_failure_took_along_are_taken_again(tmp_path: Path) -> None:
    """Applied and not yet written when the disk refused somebody else's decision: no position may pass them."""

    def refuse(_: Connection) -> None:
        raise ControlError("the disk is full")

    async with rig(tmp_path, Interrupted) as one:
        assert isinstance(one.log, Interrupted)

        async def fail() -> None:
            assert {"S1": "live"} == one.devices()  # applied
            with pytest.raises(ControlError):
                await one.ledger.decide(lambda _: ([], None), beside=refuse)
            for _ in range(1000):
                if one.ledger.ready:
                    break
                await asyncio.sleep(0.01)
            assert {} == one.devices()  # and gone
            happened.set()

        happened = asyncio.Event()
        place = ("capability", partition_of("n1", PARTITIONS))
        await one.log.append([Entry(*place, Node("n1").document(gpu(1)))])
        one.log.between = fail
        running = asyncio.create_task(one.inventory.run())
        await asyncio.wait_for(happened.wait(), 30)
        for _ in range(1000):
            if one.inventory.committed.positions.get(place, 0):
                break
            await asyncio.sleep(0.01)
        one.inventory.stop()
        await running
        assert {"S1": "live"} == one.devices()
