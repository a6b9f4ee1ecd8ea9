"""A claim's life over a ledger on disk and nodes that answer: made ready, given back, cleaned; and what goes wrong."""

import asyncio
from pathlib import Path

import pytest

from aggregator.claim_carrier import Policy
from aggregator.control import ControlError
from aggregator.ledger.asks import NotGrantedError
from aggregator.ledger.claims import ClaimError
from aggregator.ledger.words import ClaimState, Lifecycle
from collectors.claims.order import Order
from schemas.claims import ClaimReport, DeviceReport, Step
from schemas.device import DeviceKind
from tests.aggregator.claims.rig import bad, good, gpus, prove, world
from tests.aggregator.ledger.worlds import document

FREE, DIRTY, QUARANTINED = Lifecycle.FREE, Lifecycle.DIRTY, Lifecycle.QUARANTINED


async def test_claim_is_active_once_its_node_confirmed_and_free_once_it_is_proved_clean(tmp_path: Path) -> None:
    """The whole way round, of one node."""
    async with world(tmp_path) as it:
        (gpu,) = await it.add("n1", *gpus(1))
        claim = await it.active(gpu)
        assert [Lifecycle.ASSIGNED] == it.lifecycles(gpu)
        await it.claiming.release(claim.id, "t")
        assert [DIRTY] == it.lifecycles(gpu)
        await it.until(lambda: it.lifecycles(gpu) == [FREE])
        evidence = it.device(gpu).evidence
        assert evidence is not None
        assert ("evidence", "n1") == (evidence.ground, evidence.who)
        assert [Step.PREPARE, Step.UNDO, Step.CLEAN] == [order.step for order in it.nodes["n1"].orders]


async def test_gang_over_two_nodes_is_undone_on_both_when_one_fails(tmp_path: Path) -> None:
    """All or none: what the good node made ready is taken back, cleaned and free; the claim failed, and says why."""
    async with world(tmp_path) as it:
        (one,), (two,) = await it.add("n1", *gpus(1)), await it.add("n2", *gpus(1, "n2"))
        it.nodes["n2"].perform = lambda order: bad(order, "no such hook") if order.step is Step.PREPARE else good(order)
        claim = await it.claim(one, two)
        await it.claiming.provision(claim.id)
        await it.until(lambda: it.claim_of(claim.id).state is ClaimState.FAILED)
        assert "no such hook" in it.claim_of(claim.id).reason
        await it.until(lambda: it.lifecycles(one, two) == [FREE, FREE])
        assert ["claim.failed"] == [event.type for event in it.events if event.type.startswith("claim")][:1]


async def test_force_delete_frees_nothing_until_the_node_says_so(tmp_path: Path) -> None:
    """A release of what a silent node has leaves it dirty and the claim's, for ever (invariant 12)."""
    async with world(tmp_path) as it:
        (gpu,) = await it.add("n1", *gpus(1))
        claim = await it.active(gpu)
        it.nodes["n1"].dead = True
        for _ in range(3):
            assert (await it.claiming.release(claim.id, "t", "force")).state is ClaimState.RELEASING
        with pytest.raises(NotGrantedError, match="may be in use"):
            await it.claiming.clean(gpu, "op")
        with pytest.raises(NotGrantedError, match="fence its node first"):
            await it.claiming.attest(gpu, "op", "it is clean, believe me")
        with pytest.raises(NotGrantedError):
            await it.claim(gpu)


async def test_lease_that_runs_out_frees_nothing_that_is_in_use(tmp_path: Path) -> None:
    """Suspect until its node looked and nothing uses it (invariant 11)."""
    async with world(tmp_path) as it:
        (gpu,) = await it.add("n1", *gpus(1))
        claim = await it.active(gpu, lease_seconds=5.0)
        used = True
        it.nodes["n1"].perform = lambda order: bad(order, "in use by qemu/7") if used else good(order)
        it.now += 6.0
        await it.until(lambda: it.claim_of(claim.id).state is ClaimState.SUSPECT)
        for _ in range(20):
            await it.pump()
            await asyncio.sleep(0.01)
        assert [Lifecycle.SUSPECT] == it.lifecycles(gpu)
        used = False
        await it.until(lambda: it.lifecycles(gpu) == [FREE])
        assert "claim.suspect" in [event.type for event in it.events]


async def test_holder_of_a_suspect_claim_may_come_back(tmp_path: Path) -> None:
    """Nobody else had it meanwhile."""
    async with world(tmp_path) as it:
        (gpu,) = await it.add("n1", *gpus(1))
        claim = await it.active(gpu, lease_seconds=5.0)
        it.nodes["n1"].perform = bad
        it.now += 6.0
        await it.until(lambda: it.claim_of(claim.id).state is ClaimState.SUSPECT)
        assert (await it.claiming.renew(claim.id)).state is ClaimState.ACTIVE


@pytest.mark.parametrize(
    ("spoilt", "why"),
    [
        ({"part": "serial:Acme:ANOTHER"}, "is about the part"),
        ({"clean": 1}, "of the clean at 1"),
        ({"in_use": True}, "in use"),
        ({"reset_seen": False}, "no reset"),
        ({"processes": 3}, "3 processes"),
        ({"memory_check": "unsupported"}, "memory check is unsupported"),
        ({"device": "gpu-other"}, "of gpu-other"),
    ],
)
async def test_evidence_that_does_not_hold_quarantines(tmp_path: Path, spoilt: dict[str, object], why: str) -> None:
    """Forged, older, of another part, or honest and not good enough: never free."""
    async with world(tmp_path) as it:
        (gpu,) = await it.add("n1", *gpus(1))
        claim = await it.active(gpu)

        def lies(order: Order) -> DeviceReport:
            report = good(order)
            evidence = prove(order, **spoilt) if order.step is Step.CLEAN else ""
            return DeviceReport(report.device, True, "", report.part, report.group, report.driver, evidence)

        it.nodes["n1"].perform = lies
        await it.claiming.release(claim.id, "t")
        await it.until(lambda: it.lifecycles(gpu) == [QUARANTINED])
        await it.until(lambda: any(why in event.message for event in it.events))


@pytest.mark.parametrize("evidence", ["", "{}", "free, I promise", '{"kind":"nvme"}'])
async def test_clean_without_a_document_quarantines(tmp_path: Path, evidence: str) -> None:
    """A node's mere word is no evidence."""
    async with world(tmp_path) as it:
        (gpu,) = await it.add("n1", *gpus(1))
        claim = await it.active(gpu)
        it.nodes["n1"].perform = lambda order: DeviceReport(order.device.device, True, evidence=evidence)
        await it.claiming.release(claim.id, "t")
        await it.until(lambda: it.lifecycles(gpu) == [QUARANTINED])


async def test_operator_may_try_again_or_vouch_for_what_is_quarantined(tmp_path: Path) -> None:
    """Another clean, or a recorded word; an empty one is none."""
    async with world(tmp_path) as it:
        one, two = await it.add("n1", *gpus(2))
        claim = await it.active(one, two)
        it.nodes["n1"].perform = lambda order: bad(order) if order.step is Step.CLEAN else good(order)
        await it.claiming.release(claim.id, "t")
        await it.until(lambda: it.lifecycles(one, two) == [QUARANTINED, QUARANTINED])
        it.nodes["n1"].perform = good
        await it.claiming.clean(one, "op")
        await it.claiming.attest(two, "op", "memory looked through by hand")
        await it.until(lambda: it.lifecycles(one, two) == [FREE, FREE])


async def test_word_of_another_node_counts_for_nothing(tmp_path: Path) -> None:
    """A report about somebody else's device is refused, and changes nothing."""
    async with world(tmp_path) as it:
        (gpu,) = await it.add("n1", *gpus(1))
        await it.add("n2", *gpus(1, "n2"))
        it.nodes["n1"].dead = True
        claim = await it.claim(gpu)
        await it.claiming.provision(claim.id)
        epoch = it.claim_of(claim.id).epoch
        told = DeviceReport(gpu, True, part=it.device(gpu).part_key, group=0)
        report = ClaimReport(claim.id, Step.PREPARE, epoch.generation, epoch.sequence, [told])
        await it.carrier.report("n2", [report])
        assert ClaimState.PROVISIONING is it.claim_of(claim.id).state
        await it.carrier.report("n1", [ClaimReport(claim.id, Step.PREPARE, 1, 1, [told])])  # another epoch
        assert ClaimState.PROVISIONING is it.claim_of(claim.id).state
        await it.carrier.report("n1", [report])
        assert ClaimState.ACTIVE is it.claim_of(claim.id).state


async def test_provision_that_nobody_confirms_is_undone_and_converges(tmp_path: Path) -> None:
    """In bounded time, however often it is told (invariant 16)."""
    async with world(tmp_path, Policy(provision_seconds=10.0)) as it:
        (gpu,) = await it.add("n1", *gpus(1))
        it.nodes["n1"].dead = True
        claim = await it.claim(gpu)
        await it.claiming.provision(claim.id)

        def later() -> bool:
            it.now += 1.0
            return it.claim_of(claim.id).state is ClaimState.UNDOING

        await it.until(later)
        it.nodes["n1"].dead = False
        await it.until(lambda: it.claim_of(claim.id).state is ClaimState.FAILED)
        await it.until(lambda: it.lifecycles(gpu) == [FREE])


async def test_fence_needs_a_silent_node_and_leads_to_dirty_not_to_free(tmp_path: Path) -> None:
    """A dead node: an operator's word ends its claims; what they had is cleaned when the node is back."""
    async with world(tmp_path) as it:
        (gpu,) = await it.add("n1", *gpus(1))
        claim = await it.active(gpu)
        with pytest.raises(ClaimError, match="speaks"):
            await it.claiming.fence("n1", "op", statement="it burnt")
        it.nodes["n1"].dead = True
        await it.silence("n1")
        await it.claiming.fence("n1", "op", statement="it burnt")
        assert (ClaimState.RELEASED, [DIRTY]) == (it.claim_of(claim.id).state, it.lifecycles(gpu))
        it.nodes["n1"].dead = False
        it.nodes["n1"].start("b2")
        it.carrier.checkpoint("n1", it.nodes["n1"].worker.checkpoint())
        await it.silence("n1", live=True)
        await it.until(lambda: it.lifecycles(gpu) == [FREE])
        assert [] == it.nodes["n1"].worker.checkpoint().claims


async def test_vf_is_clean_when_it_is_as_it_was_granted_and_not_as_its_tenant_left_it(tmp_path: Path) -> None:
    """The ledger's own memory says what a function should be like, whatever is reported meanwhile."""
    async with world(tmp_path) as it:
        port = document(DeviceKind.NIC, "0000:04:00.0", serial="N1", group=40)
        vf = document(DeviceKind.VF, "0000:04:00.1", parent=port.device, group=41, mac="02:00:00:00:00:01", vlan=7)
        await it.add("n1", port, vf)
        name = next(one.id for one in it.ledger.peek().devices.values() if one.kind is DeviceKind.VF)
        claim = await it.active(name)
        changed = document(DeviceKind.VF, "0000:04:00.1", parent=port.device, group=41, mac="02:66:66:66:66:66", vlan=9)
        await it.see("n1", changed)
        await it.claiming.release(claim.id, "t")
        await it.until(lambda: it.lifecycles(name) == [FREE])
        clean = next(order for order in it.nodes["n1"].orders if order.step is Step.CLEAN)
        assert {"mac": "02:00:00:00:00:01", "vlan": "7"} == clean.device.expected
        await it.see("n1", vf)
        again = await it.active(name)
        it.nodes["n1"].perform = lambda order: (
            DeviceReport(order.device.device, True, evidence=prove(order, vlan=9))
            if order.step is Step.CLEAN
            else good(order)
        )
        await it.claiming.release(again.id, "t")
        await it.until(lambda: it.lifecycles(name) == [QUARANTINED])


@pytest.mark.parametrize(
    ("mac", "before", "lifecycle"),
    [
        ("", "02:66:66:66:66:66", FREE),
        ("02:77:77:77:77:77", "02:66:66:66:66:66", FREE),
        ("02:66:66:66:66:aa", "02:66:66:66:66:AA", QUARANTINED),
        ("02:66:66:66:66:66", "", QUARANTINED),
    ],
)
async def test_function_that_was_granted_without_a_mac_address_keeps_none_of_its_tenants(
    tmp_path: Path, mac: str, before: str, lifecycle: Lifecycle
) -> None:
    """None, or another than when the clean began, as a driver makes one up; whatever its documents say meanwhile."""
    async with world(tmp_path) as it:
        port = document(DeviceKind.NIC, "0000:04:00.0", serial="N1", group=40)
        vf = document(DeviceKind.VF, "0000:04:00.1", parent=port.device, group=41)
        await it.add("n1", port, vf)
        name = next(one.id for one in it.ledger.peek().devices.values() if one.kind is DeviceKind.VF)
        claim = await it.active(name)
        changed = document(DeviceKind.VF, "0000:04:00.1", parent=port.device, group=41, mac="02:66:66:66:66:66")
        await it.see("n1", changed)
        it.nodes["n1"].perform = lambda order: (
            DeviceReport(order.device.device, True, evidence=prove(order, mac=mac, mac_before=before))
            if order.step is Step.CLEAN
            else good(order)
        )
        await it.claiming.release(claim.id, "t")
        await it.until(lambda: it.lifecycles(name) == [lifecycle])
        clean = next(order for order in it.nodes["n1"].orders if order.step is Step.CLEAN)
        assert {} == clean.device.expected


async def test_port_is_not_cleaned_while_a_function_of_it_is_claimed(tmp_path: Path) -> None:
    """Cleaning the whole would take the part from under its tenant."""
    async with world(tmp_path) as it:
        port = document(DeviceKind.NIC, "0000:04:00.0", serial="N1", group=40)
        vf = document(DeviceKind.VF, "0000:04:00.1", parent=port.device, group=41)
        await it.add("n1", port, vf)
        by_kind = {one.kind: one.id for one in it.ledger.peek().devices.values()}
        await it.claiming.retire(by_kind[DeviceKind.NIC], "op", "")
        await it.claiming.reinstate(by_kind[DeviceKind.NIC], "op", "")
        await it.active(by_kind[DeviceKind.VF])
        with pytest.raises(NotGrantedError, match="a part of"):
            await it.claiming.clean(by_kind[DeviceKind.NIC], "op")


async def test_no_node_is_told_of_a_provision_that_is_not_on_disk(tmp_path: Path) -> None:
    """It was decided while the disk failed on something else; the claim is but reserved, and could be free at once."""
    async with world(tmp_path) as it:
        one, two = await it.add("n1", *gpus(2))
        before, claim = await it.active(one), await it.claim(two)
        failing = it.database.fail_once(lambda: it.lifecycles(one) == [Lifecycle.CLEANING])
        await it.claiming.release(before.id, "t")
        cleaned = asyncio.create_task(it.until(lambda: it.ledger.ready and it.lifecycles(one) == [FREE]))
        await failing.wait()
        with pytest.raises(ControlError, match="I/O error"):
            await it.claiming.provision(claim.id)
        await cleaned
        assert (ClaimState.RESERVED, [Lifecycle.RESERVED]) == (it.claim_of(claim.id).state, it.lifecycles(two))
        assert [] == [order.step for order in it.nodes["n1"].orders if order.claim == claim.id]
