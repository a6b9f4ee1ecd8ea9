"""Partitions of a GPU that are made for claims: several on one GPU, each in a place of its own, from grant to clean."""

from typing import Any

import msgspec
import pytest

from aggregator.claim_answers import taken
from aggregator.claim_work import work_of
from aggregator.ledger import claims, cleaning, expecting, restoring
from aggregator.ledger.asks import Ask, ClaimInvalidError, NotGrantedError, Pick, objections
from aggregator.ledger.facts import Sighting, observe, seen_free, withdraw
from aggregator.ledger.model import Claim, Device
from aggregator.ledger.partitions import partitions
from aggregator.ledger.state import State, decode_kept, encode_kept
from aggregator.ledger.words import ClaimState, Lifecycle, Mode, Reach
from schemas.claims import Checkpoint, CheckpointClaim, ClaimReport, DeviceReport, Made, Step
from schemas.device import DeviceKind, Document, Part
from schemas.evidence import encode_readback
from schemas.mig import partition_uuid, read_placements, read_plan
from tests.aggregator.ledger.worlds import Book, begin, document, readback

PLACEMENTS = [
    "1g.10gb:{0,1,2,3,4,5,6}:1",
    "1g.20gb:{0,2,4,6}:2",
    "2g.20gb:{0,2,4}:2",
    "3g.40gb:{0,4}:4",
    "4g.40gb:{0}:4",
    "7g.80gb:{0}:8",
]


def gpu_document(address: str = "0000:01:00.0", serial: str = "G1", group: int = 1, **more: Any) -> Document:
    return document(DeviceKind.GPU, address, serial=serial, group=group, mig_placements=PLACEMENTS, **more)


@pytest.fixture
def book() -> Book:
    found = Book()
    begin(found)
    for one in (gpu_document(), gpu_document("0000:02:00.0", "G2")):
        device = found.see(one)
        assert device is not None
        found.decide(cleaning.attest(found.state, device.id, "op", "new"))
    return found


def gpus(book: Book) -> list[Device]:
    return [one for one in book.state.devices.values() if one.kind is DeviceKind.GPU]


def ask(book: Book, *plans: str, gpu: int = 0, tenant: str = "t1") -> Ask:
    return Ask(tenant, "job", [Pick(gpus(book)[gpu].id, Mode.DRIVER, profile=plan) for plan in plans])


def grant(book: Book, claim: str, *plans: str, gpu: int = 0, tenant: str = "t1") -> Claim:
    book.decide(claims.grant(book.state, ask(book, *plans, gpu=gpu, tenant=tenant), claim))
    return book.state.claims[claim]


def made(number: int) -> Made:
    return Made(f"MIG-{number}", number, 0, 1)


def activate(book: Book, claim: Claim) -> None:
    book.decide(claims.provision(book.state, claim.id))
    names = [held.device for held in claim.devices]
    ids = {name: made(number) for number, name in enumerate(names)}
    book.decide(claims.confirm(book.state, claim.id, claim.epoch, names, ids))


def described(book: Book, device: Device, number: int) -> Document:
    """What a collector says of a partition that was made."""
    gpu = book.state.devices[device.parent]
    plan = read_plan(device.planned)
    assert plan is not None
    ids = made(number)
    return Document(
        f"mig:{ids.uuid}",
        DeviceKind.GPU_PARTITION,
        [f"mig:{ids.uuid}"],
        next(iter(gpu.views.values())).document,
        part=Part("Acme", plan.profile, uuid=partition_uuid(ids.uuid, ids.generation)),
        capabilities={"mig_profile": plan.profile, "mig_placement": str(plan.place)},
    )


def refused(book: Book, wanted: Ask) -> list[str]:
    with pytest.raises(NotGrantedError) as error:
        claims.grant(book.state, wanted, "no")
    return [one.reason for one in error.value.objections]


def check_replay(book: Book) -> None:
    """The entries alone, and a snapshot, give the same state."""
    again = Book()
    again.write([one.entry for one in book.written])
    assert book.state.digest() == again.state.digest()
    kept = State.of(decode_kept(encode_kept(book.state.keep())))
    assert book.state.digest() == kept.digest()
    assert book.state.tenants == kept.tenants
    assert book.state.found.parts == kept.found.parts


# --- what fits beside what --------------------------------------------------------------------------------------------


def test_several_claims_and_tenants_have_partitions_of_one_gpu(book: Book) -> None:
    grant(book, "c1", "3g.40gb@4:4", "1g.10gb@0:1")
    grant(book, "c2", "2g.20gb@2:2", tenant="t2")
    gpu = gpus(book)[0]
    assert Lifecycle.FREE is gpu.lifecycle
    assert ["3g.40gb@4:4", "1g.10gb@0:1", "2g.20gb@2:2"] == [one.planned for one in partitions(book.state, gpu.id)]
    assert {2, 1} == {tenant.used["devices"] for tenant in book.state.tenants.values()}
    check_replay(book)


@pytest.mark.parametrize(
    ("plans", "reason"),
    [
        (["4g.40gb@0:4"], "partition.taken"),
        (["1g.10gb@4:1"], None),
        (["3g.40gb@4:4", "1g.20gb@6:2"], "partition.overlap"),
        (["3g.40gb@2:4"], "partition.place"),
        (["3g.40gb@4:3"], "partition.place"),
        (["3g.40gb"], "partition.place"),
        (["9g.90gb@0:1"], "partition.place"),
    ],
)
def test_a_place_is_one_that_the_gpu_has_and_that_is_nobody_elses(
    book: Book, plans: list[str], reason: str | None
) -> None:
    grant(book, "c1", "3g.40gb@0:4")
    if reason is None:
        grant(book, "c2", *plans)
    else:
        assert [reason] == refused(book, ask(book, *plans))


def test_whole_or_in_parts(book: Book) -> None:
    grant(book, "c1", "1g.10gb@0:1")
    whole = Ask("t1", "job", [Pick(gpus(book)[0].id)])
    assert "relation.excludes" in refused(book, whole)
    other = gpus(book)[1]
    both = Ask("t1", "job", [Pick(other.id, Mode.DRIVER), Pick(other.id, Mode.DRIVER, profile="1g.10gb@0:1")])
    assert ["relation.excludes"] == refused(book, both)
    book.decide(claims.grant(book.state, Ask("t1", "job", [Pick(other.id, Mode.DRIVER)]), "c2"))
    assert "lifecycle.reserved" in refused(book, ask(book, "1g.10gb@0:1", gpu=1))


def test_a_partition_keeps_its_gpu_with_the_hosts_driver_whoever_shares_its_group(book: Book) -> None:
    first, second = gpus(book)
    grant(book, "c1", "1g.10gb@0:1")
    for tenant in ("t1", "t2"):
        assert ["relation.together"] == refused(book, Ask(tenant, "vm", [Pick(second.id)]))
    assert not list(objections(book.state, Ask("t2", "job", [Pick(second.id, Mode.DRIVER)])))
    mixed = Ask("t1", "vm", [Pick(second.id), Pick(first.id, Mode.DRIVER, profile="1g.10gb@1:1")])
    assert "relation.together" in refused(book, mixed)


def test_passthrough_in_the_group_keeps_a_gpu_from_being_divided(book: Book) -> None:
    book.decide(claims.grant(book.state, Ask("t1", "vm", [Pick(gpus(book)[1].id)]), "c1"))
    assert ["relation.together"] == refused(book, ask(book, "1g.10gb@0:1"))


def test_a_partition_is_not_passed_through_and_not_asked_for_twice(book: Book) -> None:
    gpu = gpus(book)[0].id
    assert ["partition.mode"] == refused(book, Ask("t1", "vm", [Pick(gpu, profile="1g.10gb@0:1")]))
    twice = Pick(gpu, Mode.DRIVER, profile="1g.10gb@0:1")
    with pytest.raises(ClaimInvalidError, match="more than once"):
        claims.grant(book.state, Ask("t1", "vm", [twice, twice]), "c1")


def test_a_planned_partition_is_one_claims_alone(book: Book) -> None:
    claim = grant(book, "c1", "1g.10gb@0:1")
    reasons = refused(book, Ask("t1", "vm", [Pick(claim.devices[0].device, Mode.DRIVER)]))
    assert "device.planned" in reasons


def test_a_partition_that_somebody_made_takes_its_place_too(book: Book) -> None:
    claim = grant(book, "c1", "3g.40gb@0:4")
    book.decide(claims.provision(book.state, "c1"))
    device = book.state.devices[claim.devices[0].device]
    static = msgspec.structs.replace(described(book, device, 7), device="mig:other", merge_keys=[])
    book.see(msgspec.structs.replace(static, capabilities={"mig_placement": "4:4"}))
    assert ["partition.taken"] == refused(book, ask(book, "1g.10gb@6:1"))
    unread = msgspec.structs.replace(static, device="mig:x", merge_keys=[], parent="pci:0000:02:00.0")
    book.see(msgspec.structs.replace(unread, capabilities={}, part=Part("Acme")))
    assert ["partition.taken"] == refused(book, ask(book, "1g.10gb@6:1", gpu=1)), "of one that does not say where it is"


# --- its life ---------------------------------------------------------------------------------------------------------


def test_from_the_grant_to_the_clean(book: Book) -> None:
    claim = grant(book, "c1", "3g.40gb@4:4")
    (held,) = claim.devices
    device = book.state.devices[held.device]
    assert (Lifecycle.RESERVED, Reach.LIVE) == (device.lifecycle, book.state.reach(device))
    activate(book, claim)
    assert ClaimState.ACTIVE is claim.state
    assert ("MIG-0", "gi0/ci0/1") == (device.part.uuid, device.part.serial)
    seen = book.see(described(book, device, 0))
    assert seen is device
    book.decide(claims.release(book.state, "c1"))
    assert refused(book, ask(book, "3g.40gb@4:4")) == ["partition.taken"]
    book.decide(claims.undone(book.state, "c1", claim.epoch, [device.id]))
    book.decide(cleaning.begin_clean(book.state, device.id))
    check_replay(book)
    gpu = gpus(book)[0]
    assert gpu.released
    book.decide(cleaning.end_clean(book.state, device.id, readback(device), "n1"))
    assert device.id in book.state.devices, "its collector sees it yet"
    assert refused(book, ask(book, "3g.40gb@4:4")) == ["partition.taken"]
    book.write(withdraw(book.state, "n1", next(iter(device.views)), "destroyed"))
    assert device.id not in book.state.devices
    assert gpu.evidence is not None
    assert gpu.evidence.sequence > gpu.released
    assert {} == book.state.tenants
    grant(book, "c2", "7g.80gb@0:8")
    check_replay(book)


@pytest.mark.parametrize("spoilt", [{"gone": False}, {"processes": 1}, {"memory_check": "not-run"}, {"in_use": True}])
def test_a_place_is_free_only_with_evidence(book: Book, spoilt: dict[str, Any]) -> None:
    claim = grant(book, "c1", "3g.40gb@4:4")
    activate(book, claim)
    device = book.state.devices[claim.devices[0].device]
    book.decide(claims.release(book.state, "c1"))
    with pytest.raises(NotGrantedError):
        cleaning.begin_clean(book.state, device.id)
    book.decide(claims.undone(book.state, "c1", claim.epoch, [device.id]))
    book.decide(cleaning.begin_clean(book.state, device.id))
    book.decide(cleaning.end_clean(book.state, device.id, readback(device, **spoilt), "n1"))
    assert Lifecycle.QUARANTINED is device.lifecycle
    assert ["partition.taken"] == refused(book, ask(book, "1g.10gb@6:1"))
    with pytest.raises(claims.ClaimError, match="retire its GPU"):
        cleaning.retire(book.state, [device.id], "op", "broken")
    book.decide(cleaning.attest(book.state, device.id, "op", "destroyed by hand"))
    assert device.id not in book.state.devices
    check_replay(book)


def test_neighbours_on_one_gpu_are_cleaned_apart(book: Book) -> None:
    first, second = grant(book, "c1", "3g.40gb@0:4"), grant(book, "c2", "3g.40gb@4:4", tenant="t2")
    activate(book, first)
    activate(book, second)
    name = first.devices[0].device
    book.decide(claims.release(book.state, "c1"))
    book.decide(claims.undone(book.state, "c1", first.epoch, [name]))
    book.decide(cleaning.begin_clean(book.state, name))
    book.decide(cleaning.end_clean(book.state, name, readback(book.state.devices[name]), "n1"))
    assert name not in book.state.devices
    assert ClaimState.ACTIVE is second.state
    grant(book, "c3", "4g.40gb@0:4")


@pytest.mark.parametrize("how", ["release", "expire"])
def test_what_no_node_was_told_of_leaves_nothing_behind(book: Book, how: str) -> None:
    claim = grant(book, "c1", "1g.10gb@0:1", "1g.10gb@1:1")
    {
        "release": lambda: book.decide(claims.release(book.state, "c1")),
        "expire": lambda: book.decide(claims.expire(book.state, "c1")),
    }[how]()
    assert 2 == len(book.state.devices)
    assert {} == book.state.tenants
    assert 2 == len(claim.devices)
    check_replay(book)


def test_a_gpu_that_goes_takes_what_was_to_be_made_on_it(book: Book) -> None:
    reserved, active = grant(book, "c1", "1g.10gb@0:1"), grant(book, "c2", "3g.40gb@4:4")
    activate(book, active)
    gpu = gpus(book)[0]
    book.write(withdraw(book.state, "n1", next(iter(gpu.views)), "fell off the bus"))
    assert (ClaimState.INVALID, ClaimState.ACTIVE) == (reserved.state, active.state)
    partition = book.state.devices[active.devices[0].device]
    assert Reach.ABSENT is book.state.reach(partition)
    check_replay(book)


def test_a_partition_that_somebody_made_in_the_place_meanwhile_ends_the_claim_before_its_node_is_told(
    book: Book,
) -> None:
    claim = grant(book, "c1", "3g.40gb@4:4")
    planned = book.state.devices[claim.devices[0].device]
    other = described(book, planned, 3)
    book.see(msgspec.structs.replace(other, capabilities={"mig_placement": "5:1"}))
    objected = book.decide(claims.provision(book.state, "c1"))
    assert ["partition.taken"] == [one.reason for one in objected]
    assert ClaimState.INVALID is claim.state
    claim = grant(book, "c2", "3g.40gb@0:4")
    other = described(book, book.state.devices[claim.devices[0].device], 4)
    seen = book.see(other)
    assert seen is not None
    assert not seen.planned
    assert seen.reach is Reach.LIVE
    book.decide(claims.provision(book.state, "c2"))
    assert ClaimState.INVALID is claim.state, "in the very place"
    check_replay(book)


def test_a_partition_that_disappears_stays_the_claims_and_can_be_cleaned(book: Book) -> None:
    claim = grant(book, "c1", "3g.40gb@4:4")
    activate(book, claim)
    device = book.state.devices[claim.devices[0].device]
    book.see(described(book, device, 0))
    book.write(withdraw(book.state, "n1", next(iter(device.views)), "destroyed by hand"))
    assert (Reach.ABSENT, Lifecycle.ASSIGNED) == (device.reach, device.lifecycle)
    assert ["partition.taken"] == refused(book, ask(book, "3g.40gb@4:4"))
    book.decide(claims.release(book.state, "c1"))
    book.decide(claims.undone(book.state, "c1", claim.epoch, [device.id]))
    book.decide(cleaning.begin_clean(book.state, device.id))
    book.decide(cleaning.end_clean(book.state, device.id, readback(device), "n1"))
    assert device.id not in book.state.devices


def test_made_anew_under_the_same_ids_it_is_another_partition(book: Book) -> None:
    claim = grant(book, "c1", "3g.40gb@4:4")
    activate(book, claim)
    device = book.state.devices[claim.devices[0].device]
    seen = described(book, device, 0)
    book.see(seen)
    again = msgspec.structs.replace(seen, device="again", merge_keys=[], part=Part(uuid=partition_uuid("MIG-0", 2)))
    other = book.see(again)
    assert other is not None
    assert other is not device
    book.write(withdraw(book.state, "n1", next(iter(device.views)), "destroyed"))
    assert (Reach.ABSENT, Reach.LIVE) == (device.reach, other.reach)


# --- the node's side --------------------------------------------------------------------------------------------------


def test_a_node_is_told_what_to_make_and_confirms_it_with_its_ids(book: Book) -> None:
    claim = grant(book, "c1", "3g.40gb@4:4")
    book.decide(claims.provision(book.state, "c1"))
    ((step,), (held,)) = work_of(book.state, "n1"), claim.devices
    (told,) = step.devices
    gpu = gpus(book)[0]
    assert ("3g.40gb@4:4", gpu.part_key, gpu.slot.address) == (told.profile, told.family, told.parent)
    assert held.part == told.part

    def answer(**more: Any) -> None:
        report = DeviceReport(told.device, done=True, part=told.part, **more)
        sent = ClaimReport("c1", Step.PREPARE, step.generation, step.sequence, [report])
        book.decide(taken(book.state, "n1", sent, report))

    answer()
    assert ClaimState.UNDOING is claim.state, "which it made, it did not say"
    claim = grant(book, "c2", "3g.40gb@0:4")
    book.decide(claims.provision(book.state, "c2"))
    step = work_of(book.state, "n1")[-1]
    (told,) = step.devices
    sent = DeviceReport(told.device, done=True, part=told.part, made=made(5))
    book.decide(taken(book.state, "n1", ClaimReport("c2", Step.PREPARE, step.generation, step.sequence, [sent]), sent))
    assert "uuid:MIG-5" == book.state.devices[told.device].part_key
    book.decide(claims.release(book.state, "c2"))
    book.decide(claims.undone(book.state, "c2", claim.epoch, [told.device]))
    book.decide(cleaning.begin_clean(book.state, told.device))
    clean = next(one for one in work_of(book.state, "n1") if one.step is Step.CLEAN)
    assert ("uuid:MIG-5", "3g.40gb@0:4") == (clean.devices[0].part, clean.devices[0].profile)
    text = encode_readback(readback(book.state.devices[told.device]))
    sent = DeviceReport(told.device, done=True, evidence=text, clean=clean.devices[0].clean)
    report = ClaimReport("c2", Step.CLEAN, clean.generation, clean.sequence, [sent])
    book.decide(taken(book.state, "n1", report, sent))
    assert told.device not in book.state.devices


def kept(book: Book, claim: Claim) -> CheckpointClaim:
    (step,) = work_of(book.state, "n1")
    return CheckpointClaim(
        claim.id, claim.tenant, claim.consumer, claim.epoch.generation, claim.epoch.sequence, 60.0, step.devices
    )


@pytest.mark.parametrize("is_described", [False, True])
def test_a_lost_ledger_learns_of_partitions_from_the_checkpoint(book: Book, is_described: bool) -> None:
    claim = grant(book, "c1", "3g.40gb@4:4", "2g.20gb@0:2")
    book.decide(claims.provision(book.state, "c1"))
    checkpoint = kept(book, claim)
    activate(book, claim)
    documents = [described(book, book.state.devices[held.device], at) for at, held in enumerate(claim.devices)]
    fresh = Book()
    begin(fresh)
    fresh.decide(restoring.begin_generation(fresh.state, 10**18, "lost"))
    for one in (gpu_document(), gpu_document("0000:02:00.0", "G2"), *(documents if is_described else ())):
        fresh.see(one)
    restored = fresh.decide(restoring.restore(fresh.state, "n1", checkpoint))
    assert (False, "") == (restored.pending, restored.conflict)
    found = fresh.state.claims["c1"]
    devices = [fresh.state.devices[held.device] for held in found.devices]
    assert [("3g.40gb@4:4", Lifecycle.ASSIGNED), ("2g.20gb@0:2", Lifecycle.ASSIGNED)] == [
        (device.planned, device.lifecycle) for device in devices
    ]
    assert [] == restoring.restore(fresh.state, "n1", checkpoint)[0], "again: nothing new"
    check_replay(fresh)
    assert isinstance(Checkpoint(1, 1, [checkpoint]), Checkpoint)


def test_a_partition_that_a_node_keeps_on_a_gpu_that_nobody_describes_stays_its_claims(book: Book) -> None:
    """The GPU is recorded with it; seen after all, no policy for first sights gives it away, whole or in that place."""
    claim = grant(book, "c1", "3g.40gb@4:4", "2g.20gb@0:2")
    book.decide(claims.provision(book.state, "c1"))
    checkpoint = kept(book, claim)
    fresh = Book()
    begin(fresh)
    fresh.decide(restoring.begin_generation(fresh.state, 10**18, "lost"))
    assert fresh.decide(restoring.restore(fresh.state, "n1", checkpoint)).pending
    assert 2 == fresh.decide(expecting.expect(fresh.state, ["n1"], checkpoint))
    restored = fresh.decide(restoring.restore(fresh.state, "n1", checkpoint))
    assert (False, "") == (restored.pending, restored.conflict)
    fresh.decide(restoring.show(fresh.state, ["n1"], Checkpoint(1, 1, [checkpoint])))
    (gpu,) = gpus(fresh)
    assert ({Reach.ABSENT}, {"3g.40gb@4:4", "2g.20gb@0:2", ""}) == (
        {fresh.state.reach(one) for one in fresh.state.devices.values()},
        {one.planned for one in fresh.state.devices.values()},
    )
    assert ([], 0) == expecting.expect(fresh.state, ["n1"], checkpoint), "again: nothing new"
    fresh.write(observe(fresh.state, Sighting("n1", "n1", "nvml", gpu_document(), "b1"), seen_free))
    assert ([gpu], Reach.LIVE, Lifecycle.DIRTY) == (gpus(fresh), gpu.reach, gpu.lifecycle)
    fresh.decide(cleaning.attest(fresh.state, gpu.id, "op", "new"))
    for pick in (Pick(gpu.id, Mode.DRIVER), Pick(gpu.id, Mode.DRIVER, profile="1g.10gb@5:1")):
        assert list(objections(fresh.state, Ask("t2", "job", [pick])))
    fits = Ask("t2", "job", [Pick(gpu.id, Mode.DRIVER, profile="1g.10gb@2:1")])
    assert [] == list(objections(fresh.state, fits)), "beside them there is room"
    check_replay(fresh)


def test_the_same_ledger_knows_its_partitions_in_a_checkpoint(book: Book) -> None:
    claim = grant(book, "c1", "3g.40gb@4:4")
    book.decide(claims.provision(book.state, "c1"))
    checkpoint = kept(book, claim)
    activate(book, claim)
    entries, restored = restoring.restore(book.state, "n1", checkpoint)
    assert ([], False, "") == (entries, restored.pending, restored.conflict)


def test_who_was_promised_the_place_of_a_partition_that_a_node_keeps_loses_it(book: Book) -> None:
    claim = grant(book, "c1", "3g.40gb@4:4")
    book.decide(claims.provision(book.state, "c1"))
    checkpoint = kept(book, claim)
    fresh = Book()
    begin(fresh)
    fresh.decide(restoring.begin_generation(fresh.state, 10**18, "lost"))
    device = fresh.see(gpu_document())
    assert device is not None
    fresh.decide(cleaning.attest(fresh.state, device.id, "op", "new"))
    fresh.decide(restoring.show(fresh.state, ["n1"], Checkpoint(0, 0, [])))
    promised = grant(fresh, "c9", "1g.10gb@5:1", tenant="t2")
    fresh.decide(restoring.restore(fresh.state, "n1", checkpoint))
    assert (ClaimState.INVALID, ClaimState.ACTIVE) == (promised.state, fresh.state.claims["c1"].state)
    told = grant(fresh, "c8", "1g.10gb@0:1", tenant="t2")
    fresh.decide(claims.provision(fresh.state, "c8"))
    other = msgspec.structs.replace(
        checkpoint,
        claim="c0",
        devices=[msgspec.structs.replace(checkpoint.devices[0], device="p0", part="p0", profile="4g.40gb@0:4")],
    )
    restored = fresh.decide(restoring.restore(fresh.state, "n1", other))
    assert "c8" in restored.conflict
    assert told.state is ClaimState.PROVISIONING


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["3g.40gb", "3g.40gb@", "@0:4", "3g@0", "3g@0:0", "3g@14:4", "3g@-1:4", "3g@0:4:1"])
def test_what_is_no_plan_is_none(text: str) -> None:
    assert read_plan(text) is None


def test_placements_that_cannot_be_read_are_left_out() -> None:
    told = ["1g:{0,1}:1", "2g:{0}", "3g:{x}:4", "4g:{0,14}:4", "5g:{}:1", "1c.3g+me:{4,0}:4"]
    found = {one.profile: [place.start for place in one.places] for one in read_placements(told)}
    assert {"1g": [0, 1], "4g": [0], "1c.3g+me": [0, 4]} == found
    assert () == read_placements("1g:{0}:1")
