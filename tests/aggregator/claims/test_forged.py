"""What a node says counts for its own devices, in claims that hold them: a node that lies harms itself alone."""

import math
from pathlib import Path

import msgspec
import pytest

from aggregator import claim_answers
from aggregator.ledger import asks, claims, cleaning, restoring
from aggregator.ledger.apply import apply
from aggregator.ledger.asks import Ask, Pick
from aggregator.ledger.claims import ClaimError
from aggregator.ledger.entries import ClaimRestored, NodeReached
from aggregator.ledger.evidence import EvidenceError
from aggregator.ledger.words import ClaimState, Lifecycle, Reach
from schemas.claims import CheckpointClaim, ClaimDevice, ClaimReport, DeviceReport, Step
from schemas.device import DeviceKind
from schemas.evidence import PowerReadback, encode_readback
from tests.aggregator.claims.rig import gpus, world
from tests.aggregator.ledger.worlds import Book, begin, document, readback


@pytest.mark.parametrize("active", [False, True])
@pytest.mark.parametrize("step", list(Step))
@pytest.mark.parametrize("done", [False, True])
async def test_a_node_cannot_end_a_claim_that_holds_nothing_of_it(
    tmp_path: Path, step: Step, done: bool, active: bool
) -> None:
    """It reports on its own device, and names somebody else's claim, with the right epoch."""
    async with world(tmp_path) as it:
        (gpu,), (own,) = await it.add("n1", *gpus(1)), await it.add("n2", *gpus(1, "n2"))
        it.nodes["n1"].dead = not active
        claim = await (it.active(gpu) if active else it.claim(gpu))
        if not active:
            await it.claiming.provision(claim.id)
        epoch, before = it.claim_of(claim.id).epoch, it.claim_of(claim.id).state
        told = DeviceReport(own, done, "no", "serial:forged", 0)
        await it.carrier.report("n2", [ClaimReport(claim.id, step, epoch.generation, epoch.sequence, [told])])
        assert before is it.claim_of(claim.id).state
        assert [Lifecycle.FREE] == it.lifecycles(own)


async def test_a_prepare_told_late_as_failed_does_not_end_what_is_active(tmp_path: Path) -> None:
    """Its node confirmed it; what it says of the same step after that is of an older try."""
    async with world(tmp_path) as it:
        (gpu,) = await it.add("n1", *gpus(1))
        claim = await it.active(gpu)
        epoch = it.claim_of(claim.id).epoch
        for told in (DeviceReport(gpu, False, "late"), DeviceReport(gpu, True, part="serial:Acme:other", group=0)):
            await it.carrier.report(
                "n1", [ClaimReport(claim.id, Step.PREPARE, epoch.generation, epoch.sequence, [told])]
            )
            assert ClaimState.ACTIVE is it.claim_of(claim.id).state


async def test_confirmation_of_an_older_epoch_with_another_part_undoes_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        (gpu,) = await it.add("n1", *gpus(1))
        it.nodes["n1"].dead = True
        claim = await it.claim(gpu)
        await it.claiming.provision(claim.id)
        told = DeviceReport(gpu, True, part="serial:Acme:other", group=0)
        await it.carrier.report("n1", [ClaimReport(claim.id, Step.PREPARE, 1, 1, [told])])
        assert ClaimState.PROVISIONING is it.claim_of(claim.id).state


@pytest.mark.parametrize("confirmed", [False, True])
def test_a_prepare_told_of_a_part_that_was_replaced_meanwhile_confirms_nothing(confirmed: bool) -> None:
    """Bound to vfio, the other card does not say that it is another. What was confirmed before that stays as it is."""
    book, kept = two_gpus()
    book.decide(claims.grant(book.state, Ask("t", "j", [Pick(one.device) for one in kept]), "c1"))
    book.decide(claims.provision(book.state, "c1"))
    gpu, epoch = book.state.devices[kept[0].device], book.state.claims["c1"].epoch
    told = DeviceReport(gpu.id, done=True, part=gpu.part_key, group=0)
    report = ClaimReport("c1", Step.PREPARE, epoch.generation, epoch.sequence, [told])
    if confirmed:
        book.decide(claim_answers.taken(book.state, "n1", report, told))
    assert gpu is not book.see(document(DeviceKind.GPU, gpu.slot.address, serial="another", group=gpu.group))
    book.decide(claim_answers.taken(book.state, "n1", report, told))
    claim = book.state.claims["c1"]
    if confirmed:
        assert (ClaimState.PROVISIONING, {gpu.id: None}) == (claim.state, claim.confirmed)
    else:
        assert (ClaimState.UNDOING, {}, Reach.ABSENT) == (claim.state, claim.confirmed, gpu.reach)
        assert f"{gpu.id} is absent: the part serial:Acme:another is in its slot" in claim.reason


# --- a node that is off ---------------------------------------------------------------------------------------------

SECOND = 10**9


def held_by_a_silent_node() -> tuple[Book, str]:
    """A claim that its node confirmed, at second 100 silent."""
    book, kept = two_gpus()
    book.decide(claims.grant(book.state, Ask("t", "j", [Pick(kept[0].device)]), "c1"))
    book.decide(claims.provision(book.state, "c1"))
    book.decide(claims.confirm(book.state, "c1", book.state.claims["c1"].epoch, [kept[0].device]))
    apply(book.state, book.state.sequence + 1, 100 * SECOND, NodeReached("n1", live=False))
    return book, kept[0].device


@pytest.mark.parametrize(
    ("read_s", "now_s", "node", "power", "why"),
    [
        (150, 160, "n2", "Off", "of node n2"),
        (150, 160, "n1", "On", "'On'"),
        (150, 160, "n1", "PoweringOff", "'PoweringOff'"),
        (150, 160, "n1", "off", "'off'"),
        (150, 160, "n1", "", "''"),
        (99, 160, "n1", "Off", "before node n1 fell silent"),
        (150, 451, "n1", "Off", "301 s ago"),
        (999, 160, "n1", "Off", "read it again"),
        (0, 160, "n1", "Off", "before node n1 fell silent"),
    ],
)
def test_a_bmcs_word_about_another_machine_state_or_time_ends_nothing(
    read_s: int, now_s: int, node: str, power: str, why: str
) -> None:
    book, device = held_by_a_silent_node()
    readback = PowerReadback(node, power, read_s * SECOND)
    with pytest.raises(EvidenceError, match=why):
        cleaning.fence(book.state, "n1", "op", now_ns=now_s * SECOND, power=readback)
    assert Lifecycle.ASSIGNED is book.state.devices[device].lifecycle


def test_a_bmcs_word_of_now_ends_claims_and_leaves_what_they_had_dirty() -> None:
    """Off is not clean; and the word is kept with the claim's end."""
    book, device = held_by_a_silent_node()
    book.decide(
        cleaning.fence(book.state, "n1", "op", now_ns=160 * SECOND, power=PowerReadback("n1", "Off", 150 * SECOND))
    )
    assert (ClaimState.RELEASED, Lifecycle.DIRTY) == (
        book.state.claims["c1"].state,
        book.state.devices[device].lifecycle,
    )
    assert "fenced: evidence by op" in book.state.claims["c1"].reason


def test_silence_that_is_told_again_is_not_newer() -> None:
    """Since when a node is silent is one moment, until it speaks."""
    book, _ = held_by_a_silent_node()
    for at, live in ((200, False), (300, True), (400, False)):
        apply(book.state, book.state.sequence + 1, at * SECOND, NodeReached("n1", live=live))
        expected = {200: 100, 300: 0, 400: 400}[at]
        assert expected * SECOND == book.state.nodes["n1"].silent_ns


# --- checkpoints ------------------------------------------------------------------------------------------------------


def two_gpus() -> tuple[Book, list[ClaimDevice]]:
    """A node with two free GPUs, and what its checkpoint would say of each."""
    book = Book()
    begin(book)
    kept = []
    for one in gpus(2):
        device = book.see(one)
        assert device is not None
        book.decide(cleaning.attest(book.state, device.id, "op", "new"))
        kept.append(ClaimDevice(device.id, "gpu", device.part_key, device.slot.address, "", "passthrough", -1))
    return book, kept


def test_claim_that_was_promised_several_devices_of_a_checkpoint_gives_way_as_a_whole() -> None:
    """One claim, one end: it names all that it lost, and what it had is the holder's again."""
    book, kept = two_gpus()
    book.decide(claims.grant(book.state, Ask("other", "j", [Pick(one.device) for one in kept]), "c2"))
    book.decide(restoring.restore(book.state, "n1", CheckpointClaim("c1", "t", "j", 9, 5, 60.0, kept)))
    assert ClaimState.INVALID is book.state.claims["c2"].state
    assert {"c1"} == {one.hold.claim for one in book.state.devices.values() if one.hold}
    assert {Lifecycle.ASSIGNED} == {one.lifecycle for one in book.state.devices.values()}


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1.0, 0.0, 1e300])
def test_term_that_is_none_is_not_taken_from_a_checkpoint(seconds: float) -> None:
    book, kept = two_gpus()
    book.decide(restoring.restore(book.state, "n1", CheckpointClaim("c1", "t", "j", 9, 5, seconds, kept)))
    assert asks.MIN_LEASE <= book.state.claims["c1"].lease_seconds <= asks.MAX_LEASE


def test_mode_that_is_none_is_told_and_the_device_is_given_to_nobody() -> None:
    book, kept = two_gpus()
    strange = [msgspec.structs.replace(kept[0], mode="borrowed"), kept[1]]
    restored = book.decide(restoring.restore(book.state, "n1", CheckpointClaim("c1", "t", "j", 9, 5, 60.0, strange)))
    assert "'borrowed'" in restored.conflict
    assert [kept[1].device] == [held.device for held in book.state.claims["c1"].devices]


def test_device_that_a_checkpoint_names_twice_is_held_once() -> None:
    book, kept = two_gpus()
    book.decide(restoring.restore(book.state, "n1", CheckpointClaim("c1", "t", "j", 9, 5, 60.0, [*kept, *kept])))
    assert 2 == book.state.tenants["t"].used["devices"]


def test_a_checkpoint_takes_over_no_claim_that_the_ledger_has() -> None:
    """Another epoch is another claim; and whose a claim is, the ledger knows better than any node."""
    book, kept = two_gpus()
    book.decide(claims.grant(book.state, Ask("t", "j", [Pick(kept[0].device)]), "c1"))
    book.decide(claims.provision(book.state, "c1"))
    epoch = book.state.claims["c1"].epoch
    book.decide(claims.confirm(book.state, "c1", epoch, [kept[0].device]))
    entries, restored = restoring.restore(
        book.state, "n1", CheckpointClaim("c1", "thief", "j", epoch.generation + 7, 1, 60.0, kept)
    )
    assert [] == entries
    assert f"at epoch {epoch}" in restored.conflict
    same = CheckpointClaim("c1", "thief", "elsewhere", epoch.generation, epoch.sequence, 60.0, kept)
    for entry in restoring.restore(book.state, "n1", same)[0]:
        assert isinstance(entry, ClaimRestored)
        assert ("t", "j") == (entry.tenant, entry.consumer)


def test_a_node_can_confirm_nothing_of_a_claim_under_an_epoch_of_its_own() -> None:
    book, kept = two_gpus()
    book.decide(claims.grant(book.state, Ask("t", "j", [Pick(kept[0].device)]), "c1"))
    book.decide(claims.provision(book.state, "c1"))
    epoch = book.state.claims["c1"].epoch
    for other in ((epoch.generation + 1, epoch.sequence), (epoch.generation, epoch.sequence + 1)):
        with pytest.raises(ClaimError, match="has epoch"):
            claims.confirm(book.state, "c1", type(epoch)(*other), [kept[0].device])


@pytest.mark.parametrize("spoilt", [False, True])
def test_a_clean_that_is_told_again_is_no_news(spoilt: bool) -> None:
    """A node tells of it until it hears that it is over: that is no contradiction, and nothing is written."""
    book = Book()
    begin(book)
    gpu = book.see(document(DeviceKind.GPU, "0000:01:00.0", serial="a"))
    assert gpu is not None
    book.decide(cleaning.begin_clean(book.state, gpu.id))
    proof = encode_readback(readback(gpu, reset_seen=not spoilt))
    told = DeviceReport(gpu.id, done=True, part=gpu.part_key, evidence=proof, clean=gpu.cleaning)
    report = ClaimReport("", Step.CLEAN, 1, gpu.cleaning, [told])
    book.decide(claim_answers.taken(book.state, "n1", report, told))
    assert (Lifecycle.QUARANTINED if spoilt else Lifecycle.FREE) is gpu.lifecycle
    assert ([], None) == claim_answers.taken(book.state, "n1", report, told)
