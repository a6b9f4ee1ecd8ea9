"""The same machine, with everything that is rarer and worse: see `test_state_machine`.

Nodes are powered off, replaced, retired; the ledger begins generations and is shown checkpoints, old ones too; parts
say who they are in other words, to several collectors; other schedulers hand in records; devices are taken out.
"""

from functools import partial
from typing import Any

import msgspec
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from aggregator import reconcile, usage
from aggregator.claim_work import claim_device, work_of
from aggregator.ledger import claims, cleaning, conflicts, expecting, nodes, restoring, uses
from aggregator.ledger.entries import NodeReached
from aggregator.ledger.model import Device
from aggregator.ledger.outside import Use
from aggregator.ledger.words import CONFLICT, LIVE_CLAIMS, ClaimState, Lifecycle, Reach
from schemas.claims import Checkpoint, CheckpointClaim
from schemas.device import DeviceKind, Document
from tests.aggregator.ledger.test_state_machine import LedgerMachine, _places
from tests.aggregator.ledger.worlds import Book, begin, document

TOLD = {ClaimState.PROVISIONING, ClaimState.ACTIVE, ClaimState.SUSPECT, ClaimState.UNDOING, ClaimState.RELEASING}


class NotedBook(Book):
    """A ledger whose usage is noted, as the real one's is."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[int] = []
        """How much was written at the end of each decision: what one decides is on disk as a whole, or not at all."""

    def write(self, entries: Any) -> None:
        """See `Book`."""
        for entry in entries:
            super().write([entry])
            usage.note(self.state, self.written[-1])
        self.ends.append(len(self.written))


class UpheavalMachine(LedgerMachine):
    """Users, nodes and time at their worst, and the fleet in upheaval."""

    book: NotedBook

    def __init__(self) -> None:
        super().__init__()
        self.book = NotedBook()
        self.kept: list[tuple[str, CheckpointClaim]] = []
        """What nodes kept at some time, and which node."""
        self.least = 0
        self.called: list[tuple[int, list[str]]] = []
        """What machines were called from a sequence on."""

    @initialize()
    def start(self) -> None:
        """See `LedgerMachine`; what is written until then is never lost."""
        super().start()
        self.least = len(self.book.written)

    # --- what nodes keep ----------------------------------------------------------------------------------------------

    @rule(claim=LedgerMachine.granted)
    def keep_amounts(self, claim: str) -> None:
        """Nodes confirm that they keep what a claim holds of them beside devices."""
        found = self.state.claims.get(claim)
        if found is None:
            return
        self.attempt(lambda: claims.confirm(self.state, claim, found.epoch, [], nodes=self.nodes))

    @rule(claim=LedgerMachine.granted, at=st.integers(0, 1))
    def keep(self, claim: str, at: int) -> None:
        """A node keeps what it was told of a claim."""
        found = self.state.claims.get(claim)
        if found is None or found.state not in TOLD:
            return
        node = self.nodes[at]
        held = [
            claim_device(self.state, device)
            for one in found.devices
            if one.node == node
            and one.device not in found.undone
            and (device := self.state.devices.get(one.device)) is not None
        ]
        amounts = {node: found.amounts[node]} if node in found.amounts else {}
        epoch = (found.epoch.generation, found.epoch.sequence)
        kept = CheckpointClaim(claim, found.tenant, found.consumer, *epoch, 60.0, held, amounts)
        if held or amounts:
            self.kept.append((node, kept))

    @rule(which=st.integers(0, 20), lost=st.booleans())
    def shows(self, which: int, lost: bool) -> None:
        """A node shows what it kept, now or long ago; with `lost` of a ledger that nobody knows."""
        if not self.kept:
            return
        node, kept = self.kept[which % len(self.kept)]
        if node not in self.nodes:
            return
        if lost:
            kept = msgspec.structs.replace(kept, generation=77, sequence=which, claim=f"lost-{which % 3}")
            if kept.claim in self.state.claims:
                return
        used = set(self.used)
        entries, restored = restoring.restore(self.state, node, kept)
        self.book.write(entries)
        if restored.pending:
            self.book.decide(expecting.expect(self.state, [node], kept))
            self.book.decide(restoring.restore(self.state, node, kept))
        assert used <= set(self.used)

    @rule()
    def generation(self) -> None:
        self.book.decide(restoring.begin_generation(self.state, self.state.time_ns, "restored"))

    @rule(left=st.integers(30, 99), clock=st.sampled_from([-5000, -1, 0, 1, 5000]))
    def set_back(self, left: int, clock: int) -> None:
        """The last part of the ledger is lost, and its nodes show what they keep: they were told of more than it knows.

        What was used meanwhile is not known any more, so nothing there is free.
        """
        ends = [end for end in self.book.ends if end <= len(self.book.written) * left // 100]
        lost = (self.state.generation, self.state.sequence)
        cut = ends[-1] if ends else 0
        if cut <= self.least:
            return
        written, self.book = self.book.written[:cut], NotedBook()
        self.book.write([one.entry for one in written])
        self.book.ends = ends
        self.used, self.away = {}, {}
        self.called = [(begun, names) for begun, names in self.called if begun <= cut]
        self.nodes = (self.called[-1][1] if self.called else ["n1", "n2"]).copy()
        now_ns = (lost[0] + clock) * 10**9  # maybe it was set back too
        self.book.decide(restoring.begin_generation(self.state, now_ns, "set back", known=lost[0]))
        assert lost[0] < self.state.generation
        for node, kept in self.kept:
            if node in self.nodes:
                self.book.decide(restoring.restore(self.state, node, kept))
        for node in self.nodes:
            self.book.decide(restoring.show(self.state, [node], Checkpoint(*lost, [])))
        assert not [one for one in self.state.devices.values()
                    if one.lifecycle is Lifecycle.FREE and one.node in self.nodes and not one.planned]  # fmt: skip

    @rule(at=st.integers(0, 1))
    def shown(self, at: int) -> None:
        node = self.nodes[at]
        for mine, kept in self.kept:
            if mine == node and restoring.lost(self.state, kept):
                self.book.decide(restoring.restore(self.state, node, kept))
        self.book.decide(restoring.show(self.state, [node], Checkpoint(0, 0, [])))

    # --- nodes --------------------------------------------------------------------------------------------------------

    @rule(at=st.integers(0, 1))
    def power_off(self, at: int) -> None:
        """A node falls silent and is fenced at once."""
        node = self.nodes[at]
        self.book.write([NodeReached(node, live=False)])
        self.fenced(node)

    @rule(at=st.integers(0, 1), shows=st.integers(0, 7))
    def replace_node(self, at: int, shows: int) -> None:
        """A board is swapped: the machine has another id, under which it may have shown some devices already."""
        old = self.nodes[at]
        new = f"{old.partition('.')[0]}.{self.state.sequence}"
        begin(self.book, new, vcpus=10)
        self.book.decide(restoring.show(self.state, [new], Checkpoint(0, 0, [])))
        for device in list(self.state.devices_of(old))[:shows]:
            if device.slot.address and device.reach is not Reach.ABSENT:
                view = next(iter(device.views.values()))
                self.book.see(self._again(device, view.serial), new)
        self.attempt(lambda: nodes.replace(self.state, old, new, "op"))
        self.nodes[at] = new
        self.called.append((self.state.sequence, list(self.nodes)))

    @rule(at=st.integers(0, 1), retired=st.booleans())
    def retire_node(self, at: int, retired: bool) -> None:
        self.attempt(lambda: nodes.retire(self.state, self.nodes[at], "op", retired=retired))

    # --- devices ------------------------------------------------------------------------------------------------------

    def _again(self, device: Device, serial: str, **more: Any) -> Document:
        parent = next(iter(device.views.values())).parent
        told = {**_places(device), **more}
        return document(device.kind, device.slot.address, serial=serial, parent=parent, group=device.group, **told)

    @rule(index=st.integers(0, 30), uuid=st.sampled_from(["", "U1", "U2"]), serial=st.sampled_from(["", "own", "X1"]))
    def driver_tells(self, index: int, uuid: str, serial: str) -> None:
        """Another collector says what a device is, or says it otherwise than before."""
        device = self._device(index)
        if not device.slot.address or device.kind not in (DeviceKind.GPU, DeviceKind.NVME):
            return
        seen = self._again(device, device.part.serial if serial == "own" else serial)
        seen = msgspec.structs.replace(
            seen, device=f"drv:{device.slot.address}", part=msgspec.structs.replace(seen.part, uuid=uuid)
        )
        self.book.see(seen, device.node, collector="driver")

    @rule(index=st.integers(0, 30), group=st.integers(1, 5))
    def regroup(self, index: int, group: int) -> None:
        """Another kernel puts a function into another group."""
        device = self._device(index)
        if device.slot.address:
            view = next(iter(device.views.values()))
            self.book.see(msgspec.structs.replace(
                seen := self._again(device, view.serial), capabilities={**seen.capabilities, "iommu_group": group}
            ), device.node)  # fmt: skip

    @rule(index=st.integers(0, 30), back=st.booleans())
    def take_out(self, index: int, back: bool) -> None:
        device = self._device(index)
        if back:
            self.attempt(lambda: cleaning.reinstate(self.state, [device.id], "op", "mended"))
        else:
            self.attempt(lambda: cleaning.retire(self.state, [device.id], "op", "broken"))

    @rule(index=st.integers(0, 30), failed=st.booleans())
    def clean_ends_badly(self, index: int, failed: bool) -> None:
        device = self._device(index)
        if failed:
            self.attempt(lambda: cleaning.fail_clean(self.state, device.id, device.cleaning, "no"))
        else:
            self.attempt(lambda: cleaning.abandon_clean(self.state, device.id, device.cleaning))

    # --- others -------------------------------------------------------------------------------------------------------

    @rule(named=st.lists(st.integers(0, 30), max_size=3), source=st.sampled_from(["nova", "slurm"]))
    def record(self, named: list[int], source: str) -> None:
        devices = [self._device(index) for index in named]
        said = [Use(one.node, one.slot.address, f"vm-{one.id}") for one in devices if one.slot.address]
        self.attempt(lambda: uses.take(self.state, source, "openstack", said, self.state.time_ns, "op"))

    @rule(source=st.sampled_from(["nova", "slurm"]))
    def drop_record(self, source: str) -> None:
        self.attempt(lambda: uses.drop(self.state, source, "op"))

    @rule(index=st.integers(0, 30))
    def look_after(self, index: int) -> None:
        """The caretaker looks at a device."""
        device = self._device(index)
        self.book.write([*uses.overdue(self.state, device, seen=True), *conflicts.over(self.state, device)])

    # --- invariants ---------------------------------------------------------------------------------------------------

    @invariant()
    def nodes_are_told(self) -> None:
        """16: whatever a node has yet to confirm is among its work, and nothing else of claims is."""
        told = {
            (step.claim, one.device)
            for node in self.state.nodes
            for step in work_of(self.state, node)
            for one in step.devices
            if step.step.value != "clean"
        }
        awaited = set()
        for claim in self.state.claims.values():
            if claim.state in (ClaimState.UNDOING, ClaimState.RELEASING, ClaimState.SUSPECT):
                done = set(claim.undone)
            elif claim.state is ClaimState.PROVISIONING:
                done = {*claim.undone, *claim.confirmed}
            else:
                continue
            awaited |= {(claim.id, held.device) for held in claim.devices if held.device not in done}
        assert awaited == told

    @invariant()
    def two_views_are_compared(self) -> None:
        """18: looking for divergences finds its way through whatever there is."""
        for node in self.state.nodes.values():
            list(reconcile.of_node(self.state, node, None))
        list(reconcile.of_records(self.state))

    @invariant()
    def one_identity_one_place(self) -> None:
        """8: by UUID as well, and by a number that only one of two states beside one."""
        live = [
            device
            for device in self.state.devices.values()
            if self.state.reach(device) is Reach.LIVE
            and (device.part.uuid or device.part.serial)
            and not device.planned
        ]
        for at, one in enumerate(live):
            for other in live[at + 1 :]:
                same_uuid = one.part.uuid and one.part.uuid == other.part.uuid
                same_serial = one.part.serial and one.part.serial == other.part.serial
                differ = one.part.uuid and other.part.uuid and one.part.uuid != other.part.uuid
                card = (one.node, one.slot.address[:-2]) == (other.node, other.slot.address[:-2])
                if one.kind is other.kind and (same_uuid or (same_serial and not differ)) and not card:
                    assert CONFLICT in one.taints, (one.id, other.id)
                    assert CONFLICT in other.taints, (one.id, other.id)

    @invariant()
    def holds_are_of_claims(self) -> None:
        """1: what a live claim holds and was not taken from it is held by it, and no claim that is over is undone."""
        for claim in self.state.claims.values():
            for held in claim.devices if claim.state in LIVE_CLAIMS else ():
                if held.device in claim.undone:
                    continue
                device = self.state.devices[held.device]
                assert device.hold is not None
                assert claim.id == device.hold.claim
                assert held.node == device.node
                assert device.lifecycle not in (Lifecycle.FREE, Lifecycle.HOST, Lifecycle.FOREIGN, Lifecycle.RETIRED)

    def teardown(self) -> None:
        """16: whatever was begun ends once nodes answer."""
        super().teardown()
        for claim in list(self.state.claims.values()):
            if claim.state not in LIVE_CLAIMS:
                continue
            self.attempt(partial(claims.release, self.state, claim.id))
            names = [held.device for held in claim.devices]
            self.attempt(partial(claims.undone, self.state, claim.id, claim.epoch, names))
            assert self.state.claims[claim.id].state not in LIVE_CLAIMS


TestUpheavalMachine = UpheavalMachine.TestCase
TestUpheavalMachine.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)
