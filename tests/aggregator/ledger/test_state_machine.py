"""Whatever is asked for in whatever order, no invariant breaks, and the entries alone give the same state again.

The model is a few sets and sums of its own; it shares no code with what it checks. Numbers are those of the
specification's list (inventory, part 2.4).
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from aggregator.ledger import claims, cleaning, conflicts
from aggregator.ledger.apply import apply
from aggregator.ledger.asks import Ask, NotGrantedError, Pick, objections
from aggregator.ledger.entries import NodeReached, NodeRun, Passed, Proved, QuotaSet
from aggregator.ledger.facts import withdraw
from aggregator.ledger.model import Device, Held, Quota
from aggregator.ledger.shelf import Shelf
from aggregator.ledger.state import State, decode_kept, encode_kept
from aggregator.ledger.transitions import TransitionError
from aggregator.ledger.words import CONFLICT, LIVE_CLAIMS, ClaimState, Lifecycle, Mode, Reach
from schemas.claims import Made
from schemas.device import DeviceKind, Document, Part
from schemas.errors import MusterError
from schemas.mig import read_plan
from tests.aggregator.ledger.copies import copied, shelved
from tests.aggregator.ledger.worlds import Book, begin, document, readback

VCPUS = 10
QUOTA = 4
LIFECYCLES_IN_USE = {Lifecycle.PROVISIONING, Lifecycle.ASSIGNED, Lifecycle.SUSPECT}


PLACES = ["1g:{0,1,2,3}:1", "2g:{0,2}:2", "4g:{0}:4"]
PLANS = ["1g@0:1", "1g@1:1", "1g@2:1", "2g@0:2", "2g@2:2", "4g@0:4", "4g@1:4"]


def fleet() -> list[Document]:
    """Two GPUs in one group and one by itself, two of them divisible, a port with two functions, a drive.

    Bus addresses stand for slots.
    """
    return [
        document(DeviceKind.GPU, "0000:01:00.0", serial="G1", group=1),
        document(DeviceKind.GPU, "0000:02:00.0", serial="G2", group=1, mig_placements=PLACES),
        document(DeviceKind.GPU, "0000:03:00.0", group=3, mig_placements=PLACES),
        document(DeviceKind.NIC, "0000:04:00.0", serial="N1", group=4),
        document(DeviceKind.VF, "0000:04:00.1", parent="pci:0000:04:00.0", group=5),
        document(DeviceKind.VF, "0000:04:00.2", parent="pci:0000:04:00.0", group=6),
        document(DeviceKind.NVME, "0000:05:00.0", serial="D1", group=7),
    ]


class LedgerMachine(RuleBasedStateMachine):
    """Users, nodes and time, all at their worst."""

    granted = Bundle("granted")

    def __init__(self) -> None:
        super().__init__()
        self.book = Book()
        self.made = 0
        self.nodes = ["n1", "n2"]
        """Ids that their machines have now."""
        self.used: dict[str, int] = {}
        """Device -> sequence of the last moment when a node may have had it in use."""
        self.away: dict[str, int] = {}
        """Device that says nothing of itself -> sequence when its slot was last seen empty."""

    @property
    def state(self) -> State:
        return self.book.state

    @initialize()
    def start(self) -> None:
        for node in self.nodes:
            begin(self.book, node, vcpus=VCPUS)
            for one in fleet():
                serial = f"{one.part.serial}-{node}" if one.part.serial else ""
                self.book.see(self._renamed(one, serial), node)
        self.book.write([QuotaSet(Quota("t1", {"devices": QUOTA}))])
        for device in list(self.state.devices.values()):
            if device.lifecycle is Lifecycle.DIRTY:
                self.book.decide(cleaning.attest(self.state, device.id, "op", "new from the factory"))

    @staticmethod
    def _renamed(one: Document, serial: str) -> Document:
        keys = [f"serial:{serial}"] if serial else []
        part = msgspec.structs.replace(one.part, serial=serial)
        return msgspec.structs.replace(one, merge_keys=[*keys, one.device], part=part)

    def attempt(self, decision: Callable[[], Any]) -> Any:
        """Decide; a refusal changes nothing (9), and what was decided can be applied."""
        before = self.state.digest()
        try:
            decided = decision()
        except MusterError:
            assert before == self.state.digest()
            return None
        return self.book.decide(decided)

    # --- what users do ------------------------------------------------------------------------------------------------

    @rule(
        target=granted,
        picks=st.lists(st.integers(0, 13), max_size=3, unique=True),
        mode=st.sampled_from(Mode),
        tenant=st.sampled_from(["t1", "t2"]),
        vcpus=st.tuples(st.integers(0, 6), st.sampled_from([0, 0, 3])),
        key=st.sampled_from(["", "", "", "k1"]),
    )
    def ask(self, picks: list[int], mode: Mode, tenant: str, vcpus: tuple[int, int], key: str) -> Any:
        devices = list(self.state.devices)
        chosen = [Pick(devices[index % len(devices)], mode) for index in picks]
        return self._asked(chosen, tenant, vcpus, key)

    @rule(
        target=granted,
        parts=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(PLANS)), min_size=1, max_size=3, unique=True),
        whole=st.lists(st.integers(0, 13), max_size=1),
        tenant=st.sampled_from(["t1", "t2"]),
    )
    def ask_for_parts(self, parts: list[tuple[int, str]], whole: list[int], tenant: str) -> Any:
        """Partitions to be made, on up to four GPUs, and now and then something else with them."""
        devices = list(self.state.devices)
        gpus = [one.id for one in self.state.devices.values() if "mig_placements" in one.capabilities]
        if not gpus:
            return multiple()
        chosen = [Pick(gpus[at % len(gpus)], Mode.DRIVER, profile=plan) for at, plan in parts]
        return self._asked([*chosen, *(Pick(devices[at % len(devices)]) for at in whole)], tenant, (0, 0), "")

    def _asked(self, chosen: list[Pick], tenant: str, vcpus: tuple[int, int], key: str) -> Any:
        if len({(pick.device, pick.profile) for pick in chosen}) < len(chosen):
            return multiple()
        amounts = {node: {"vcpus": number} for node, number in zip(self.nodes, vcpus, strict=True) if number}
        ask = Ask(tenant, "job", chosen, amounts, 60.0, key=key, request=f"{chosen} {amounts}")
        self.made += 1
        name = f"c{self.made}"
        against = list(objections(self.state, ask))
        fresh = f"{tenant}\n{key}" not in self.state.keys
        before = self.state.digest()
        try:
            found = self.book.decide(claims.grant(self.state, ask, name))
        except MusterError as error:
            refused = error.objections if isinstance(error, NotGrantedError) else against
        else:
            assert not (fresh and against)
            return found
        assert against == refused  # 22: a dry run gives the same answer
        assert before == self.state.digest()
        return multiple()

    @rule(claim=granted)
    def provision(self, claim: str) -> None:
        """What changed since the grant is dirty, the rest free, and the claim over (8)."""
        found = self.state.claims.get(claim)
        if found is None:
            return
        reserved = found.state is ClaimState.RESERVED
        changed = self.attempt(lambda: claims.provision(self.state, claim))
        if not reserved or not changed:
            return
        assert ClaimState.INVALID is found.state
        names = {objection.device for objection in changed}
        for held in found.devices:
            if held.parent:  # of a partition that was to be made nothing is left
                assert held.device not in self.state.devices
                continue
            expected = Lifecycle.DIRTY if held.device in names else Lifecycle.FREE
            assert expected is self.state.devices[held.device].lifecycle

    @rule(claim=granted, first=st.booleans())
    def confirm(self, claim: str, first: bool) -> None:
        found = self.state.claims.get(claim)
        if found is None:
            return
        names = [held.device for held in found.devices][: 1 if first else None]
        made = {name: Made(f"MIG-{name}", at, 0, 1) for at, name in enumerate(names)}
        self.attempt(lambda: claims.confirm(self.state, claim, found.epoch, names, made))

    @rule(claim=granted)
    def give_back(self, claim: str) -> None:
        self.attempt(lambda: claims.release(self.state, claim))

    @rule(claim=granted)
    def renew(self, claim: str) -> None:
        self.attempt(lambda: claims.renew(self.state, claim))

    # --- what the leader and nodes do ---------------------------------------------------------------------------------

    @rule(claim=granted)
    def expire(self, claim: str) -> None:
        self.attempt(lambda: claims.expire(self.state, claim))

    @rule(claim=granted)
    def fail(self, claim: str) -> None:
        self.attempt(lambda: claims.begin_undo(self.state, claim, "a hook failed"))

    @rule(claim=granted, first=st.booleans())
    def undo(self, claim: str, first: bool) -> None:
        found = self.state.claims.get(claim)
        if found is None:
            return
        names = [held.device for held in found.devices][: 1 if first else None]
        self.attempt(lambda: claims.undone(self.state, claim, found.epoch, names))

    @rule(at=st.integers(0, 1))
    def fence(self, at: int) -> None:
        self.fenced(self.nodes[at])

    def fenced(self, node: str) -> None:
        """Nothing of a node that is fenced is held by a claim of which it was told; a refusal changes nothing."""
        decided = self.attempt(
            lambda: cleaning.fence(self.state, node, "op", now_ns=0, statement="the plug is in my hand")
        )
        for claim in self.state.claims.values() if decided is not None else ():
            if claim.state in LIVE_CLAIMS and claim.state is not ClaimState.RESERVED:
                assert node not in claim.shares
                assert not [one for one in claim.devices if one.node == node and one.device not in claim.undone]
                assert claim.shares or {one.device for one in claim.devices} - claim.undone.keys()

    @rule(index=st.integers(0, 30))
    def clean(self, index: int) -> None:
        self.attempt(lambda: cleaning.begin_clean(self.state, self._device(index).id))

    @rule(
        index=st.integers(0, 30), spoilt=st.sampled_from([{}, {}, {"in_use": True}, {"clean": 3}, {"part": "uuid:x"}])
    )
    def cleaned(self, index: int, spoilt: dict[str, Any]) -> None:
        device = self._device(index)
        before = device.lifecycle
        self.attempt(lambda: cleaning.end_clean(self.state, device.id, readback(device, **spoilt), "n1"))
        if spoilt and before is not Lifecycle.FREE:
            assert device.lifecycle is not Lifecycle.FREE

    @rule(index=st.integers(0, 30))
    def attest(self, index: int) -> None:
        self.attempt(lambda: cleaning.attest(self.state, self._device(index).id, "op", "wiped by hand"))

    # --- what happens -------------------------------------------------------------------------------------------------

    @rule(index=st.integers(0, 30), serial=st.sampled_from(["", "X1", "X2"]))
    def replaced(self, index: int, serial: str) -> None:
        """Something sits in a slot: the same part, another one, or one that does not say who it is."""
        device = self._device(index)
        if not device.slot.address:
            self.described(device, again=bool(serial))
            return
        group = device.group
        parent = next(iter(device.views.values())).parent
        seen = document(device.kind, device.slot.address, serial=serial, parent=parent, group=group, **_places(device))
        self.book.see(seen, device.node)

    def described(self, device: Device, *, again: bool) -> None:
        """A partition is seen where one is planned: the one that was made, or another."""
        gpu = self.state.devices[device.parent]
        plan = read_plan(device.planned)
        if not gpu.views or plan is None:
            return
        uuid = f"MIG-{device.id}{'.2' if again else ''}"
        told = {"mig_placement": str(plan.place)}
        source = next(iter(gpu.views.values())).document
        kind = DeviceKind.GPU_PARTITION
        self.book.see(Document(f"mig:{uuid}", kind, [], source, part=Part(uuid=uuid), capabilities=told), device.node)  # type: ignore[arg-type]

    @rule(index=st.integers(0, 30))
    def vanished(self, index: int) -> None:
        device = self._device(index)
        if device.views:
            self.book.write(withdraw(self.state, device.node, next(iter(device.views)), "unplugged"))
        if device.reach is Reach.ABSENT and not (device.part.serial or device.part.uuid):
            self.away[device.id] = self.state.sequence

    @rule(index=st.integers(0, 30), used=st.booleans())
    def in_use(self, index: int, used: bool) -> None:
        device = self._device(index)
        if not device.slot.address:
            return
        view = next(iter(device.views.values()))
        more: dict[str, str] = {"in_use_by": "qemu 4711"} if used else {}
        self.book.see(
            document(
                device.kind,
                device.slot.address,
                serial=view.serial,
                parent=view.parent,
                group=device.group,
                **more,
                **_places(device),
            ),
            device.node,
        )

    @rule(at=st.integers(0, 1), live=st.booleans())
    def silence(self, at: int, live: bool) -> None:
        node = self.nodes[at]
        again = conflicts.of_nodes(self.state, [node]) if live else ()
        self.book.write([NodeReached(node, live), *again])

    @rule(at=st.integers(0, 1))
    def reboot(self, at: int) -> None:
        node = self.nodes[at]
        self.book.write([NodeRun(node, node, f"epoch-{self.state.sequence}", "b2", unverified=True)])

    def _device(self, index: int) -> Device:
        devices = list(self.state.devices.values())
        return devices[index % len(devices)]

    # --- invariants ---------------------------------------------------------------------------------------------------

    def _live(self) -> list[tuple[str, Held]]:
        """Everything that a live claim may have in use, or may yet."""
        return [
            (claim.id, held)
            for claim in self.state.claims.values()
            if claim.state in LIVE_CLAIMS
            for held in claim.devices
            if held.device not in claim.undone
        ]

    @invariant()
    def one_owner(self) -> None:
        """1: a device has at most one live owner."""
        owners = Counter(held.device for _, held in self._live())
        assert all(count == 1 for count in owners.values()), owners

    @invariant()
    def closed_groups(self) -> None:
        """2: whoever has a member of a group for passthrough, nobody else has another."""
        live = [(self.state.claims[claim].tenant, held) for claim, held in self._live()]
        for tenant, held in live:
            for other_tenant, other in live:
                same = self._group(held) == self._group(other)
                if held is other or held.node != other.node or not same:
                    continue
                if Mode.PASSTHROUGH in (held.mode, other.mode):
                    assert (tenant, held.mode) == (other_tenant, other.mode)

    def _group(self, held: Held) -> int | None:
        return self.state.devices[held.parent or held.device].group

    @invariant()
    def places(self) -> None:
        """Partitions of one GPU that somebody has, or that are not known to be gone, lie side by side."""
        taken: dict[tuple[str, int], str] = {}
        for device in self.state.devices.values():
            plan = read_plan(device.planned)
            if plan is None or device.lifecycle is Lifecycle.FREE:
                continue
            for at in range(plan.place.start, plan.place.start + plan.place.size):
                assert (device.parent, at) not in taken, (device, taken[device.parent, at])
                taken[device.parent, at] = device.id
            assert self.state.devices[device.parent].hold is None

    @invariant()
    def whole_or_parts(self) -> None:
        """3: a port is given, or functions of its, never both."""
        devices = {held.device for _, held in self._live()}
        for name in devices:
            assert self.state.devices[name].parent not in devices

    @invariant()
    def whole_or_parts_are_cleaned(self) -> None:
        """3: nothing is given that is cleaned as a part of something, or whose parts are."""
        given = {held.device for _, held in self._live()}
        for device in self.state.devices.values():
            if device.lifecycle is Lifecycle.CLEANING:
                assert device.parent not in given
                assert not given & {*self.state.found.parts.get(device.id, ())}

    @invariant()
    def nobody_is_promised_what_is_in_use(self) -> None:
        for device in self.state.devices.values():
            if any(view.own.get("in_use_by") for view in device.views.values()):
                assert device.lifecycle is not Lifecycle.RESERVED
                assert list(objections(self.state, Ask("t2", "job", [Pick(device.id)])))

    @invariant()
    def one_part_one_place(self) -> None:
        """8: of what is live, two of a kind with one identity are marked, and a mark cannot be put up with."""
        places: dict[tuple[str, str], list[Device]] = defaultdict(list)
        for device in self.state.devices.values():
            if device.part.serial and self.state.reach(device) is Reach.LIVE:
                places[device.part_key, device.kind.value].append(device)
        for twins in places.values():
            if len({(device.node, device.slot.address[:-2]) for device in twins}) > 1:
                assert all(CONFLICT in device.taints for device in twins)

    @invariant()
    def sums(self) -> None:
        """5, 14: nothing is given that is not there, and nobody holds more than the quota."""
        used: Counter[str] = Counter()
        held: Counter[str] = Counter()
        for claim in self.state.claims.values():
            if claim.state in LIVE_CLAIMS:
                for node, amounts in claim.amounts.items():
                    used[node] += 0 if node in claim.fenced else amounts["vcpus"]
                held[claim.tenant] += len(claim.devices)
        assert held["t1"] <= QUOTA
        for node in self.nodes:
            assert used[node] <= VCPUS
            assert used[node] == self.state.nodes[node].used.get("vcpus", 0)

    @invariant()
    def free_is_proved(self) -> None:
        """6, 7, 11, 12: what was ever in use is free only with evidence that is newer."""
        for device in self.state.devices.values():
            if device.lifecycle in LIFECYCLES_IN_USE:
                self.used[device.id] = self.state.sequence
            if device.lifecycle is Lifecycle.FREE and device.id in self.used:
                assert device.evidence is not None
                assert device.evidence.sequence > self.used[device.id]
                assert device.evidence.sequence > device.released
        for name in self.used.keys() - self.state.devices.keys():  # partitions that were made end with their clean
            proofs = [one.sequence for one in self.book.written if getattr(one.entry, "device", "") == name
                      and isinstance(one.entry, Proved)]  # fmt: skip
            assert proofs
            assert proofs[-1] > self.used[name]

    @invariant()
    def proofs_are_of_what_is_there(self) -> None:
        """8: of a part that says nothing of itself, what was proved before its slot was empty proves nothing now.

        A function is known by its port.
        """
        for name, since in self.away.items():
            device = self.state.devices.get(name)
            if device is None or device.kind is DeviceKind.VF or device.part.serial or device.part.uuid:
                continue
            if device.lifecycle is Lifecycle.FREE and device.reach is Reach.LIVE:
                assert device.evidence is not None
                begun = msgspec.json.decode(device.evidence.document).get("clean", device.evidence.sequence)
                assert begun > since

    @invariant()
    def same_part(self) -> None:
        """8: what is held is the part that was granted."""
        for claim, held in self._live():
            device = self.state.devices[held.device]
            assert device.hold is not None
            assert (claim, held.part) == (device.hold.claim, device.hold.part)
            serial = "" if device.planned else device.part.serial
            assert not serial or not held.part.startswith("serial:") or held.part.endswith(serial)

    @invariant()
    def lifecycle_fits_claim(self) -> None:
        """A device that is reserved, provisioning, assigned or suspect belongs to a claim in a state that fits."""
        fits = {
            Lifecycle.RESERVED: {ClaimState.RESERVED},
            Lifecycle.PROVISIONING: {ClaimState.PROVISIONING, ClaimState.UNDOING},
            Lifecycle.ASSIGNED: {ClaimState.PROVISIONING, ClaimState.ACTIVE, ClaimState.UNDOING},
            Lifecycle.SUSPECT: {ClaimState.SUSPECT, ClaimState.UNDOING},
        }
        for device in self.state.devices.values():
            if device.lifecycle in fits:
                assert device.hold is not None
                assert self.state.claims[device.hold.claim].state in fits[device.lifecycle]

    @invariant()
    def absent_is_not_given(self) -> None:
        """20: what is not live is not schedulable."""
        for device in self.state.devices.values():
            if self.state.reach(device) is not Reach.LIVE and device.lifecycle is Lifecycle.FREE:
                ask = Ask("t2", "job", [Pick(device.id)])
                assert any(one.reason.startswith("reach") for one in objections(self.state, ask))

    def teardown(self) -> None:
        """17: every prefix replays; a snapshot of any prefix and the rest give the same state."""
        fresh = State()
        half = len(self.book.written) // 2
        past = Shelf()
        for written in self.book.written:
            apply(fresh, written.sequence, written.time_ns, written.entry)
            if written.sequence == half:
                fresh = State.of(decode_kept(encode_kept(fresh.keep())))
                past = shelved(copied(fresh), self.book.written[half:])
        past.whole()
        assert self.state.digest() == past.digest()
        assert self.state.digest() == fresh.digest()
        assert {name: tenant.used for name, tenant in self.state.tenants.items()} == {
            name: tenant.used for name, tenant in fresh.tenants.items()
        }
        assert self.state.found.groups == fresh.found.groups
        assert self.state.found.by_part == fresh.found.by_part
        assert self.state.found.by_weaker == fresh.found.by_weaker
        there: dict[tuple[str, str], list[str]] = defaultdict(list)
        for device in self.state.devices.values():
            for source in device.views if device.reach is not Reach.ABSENT else ():
                there[device.node, source].append(device.id)
        for found in (self.state.found, past.found, fresh.found):
            assert there == {place: [found.by_source.get(place)] for place in there}
            assert self.state.found.by_slot == found.by_slot
            assert self.state.found.parts == found.parts
            assert self.state.found.apart == found.apart


def _places(device: Device) -> dict[str, Any]:
    return {"mig_placements": device.capabilities["mig_placements"]} if "mig_placements" in device.capabilities else {}


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)


def test_passed_entry_is_refused_when_the_table_does_not_have_it() -> None:
    """The table stands over every decision: an entry that skips the clean is a defect, and is not applied."""
    book = Book()
    begin(book)
    device = book.see(document(DeviceKind.GPU, "0000:01:00.0", serial="G1", group=1))
    assert device is not None
    with pytest.raises(TransitionError, match="cannot be 'cleaned'"):
        book.write([Passed(device.id, "cleaned")])
