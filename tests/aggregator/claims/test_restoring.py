"""Ledgers that are lost, new or set back, and nodes that remember: nobody gets what somebody else has."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.claim_work import claim_device
from aggregator.control_sqlite import SqliteControl
from aggregator.ledger import claims, cleaning, expecting, restoring
from aggregator.ledger.asks import Ask, NotGrantedError, Pick
from aggregator.ledger.entries import Forgotten, NodeReached, NodeRun
from aggregator.ledger.facts import Sighting, observe, seen_free
from aggregator.ledger.journal import LeadLostError
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.words import ClaimState, Epoch, Lifecycle, Mode, Reach
from aggregator.migrate import LEDGER
from aggregator.restoring import PENDING_SECONDS
from schemas.claims import Checkpoint, CheckpointClaim
from schemas.device import DeviceKind
from schemas.digest import blake2b
from tests.aggregator.claims.rig import gpus, world
from tests.aggregator.ledger.worlds import Book, begin, document

FREE = Lifecycle.FREE


async def test_new_ledger_gives_nothing_of_a_node_that_has_not_shown_what_it_keeps(tmp_path: Path) -> None:
    """Every device is unverified until then, even one that an operator vouches for."""
    async with world(tmp_path) as it:
        (gpu,) = await it.add("n1", *gpus(1))
        assert it.ledger.peek().generation > 1_700_000_000
        assert it.ledger.peek().reach(it.device(gpu)) is Reach.LIVE
        begun, _ = restoring.begin_generation(it.ledger.peek(), 0, "restored by a test")
        await it.ledger.decide(lambda _: (begun, None))
        assert it.ledger.peek().reach(it.device(gpu)) is Reach.UNVERIFIED
        with pytest.raises(NotGrantedError, match="unverified"):
            await it.claim(gpu)
        await it.until(lambda: it.ledger.peek().reach(it.device(gpu)) is Reach.LIVE)  # it was shown in this run


async def test_lost_ledger_is_built_again_from_checkpoints_piece_by_piece(tmp_path: Path) -> None:
    """A claim over two nodes comes back, a piece with each; nobody else gets any of it; it ends as any other."""
    async with world(tmp_path / "one") as it:
        (one,), (two,) = await it.add("n1", *gpus(1)), await it.add("n2", *gpus(1, "n2"))
        claim = await it.active(one, two, lease_seconds=77.0)
    async with world(tmp_path / "two") as it:
        for node in ("n1", "n2"):
            (tmp_path / "two" / f"{node}.json").write_bytes((tmp_path / "one" / f"{node}.json").read_bytes())
        await it.add_known("n1", *gpus(1))
        await it.until(lambda: claim.id in it.ledger.peek().claims)
        assert [one] == [held.device for held in it.claim_of(claim.id).devices]
        await it.add_known("n2", *gpus(1, "n2"))
        await it.until(lambda: len(it.claim_of(claim.id).devices) == 2)
        found = it.claim_of(claim.id)
        assert (ClaimState.ACTIVE, "t", 77.0, claim.epoch) == (
            found.state,
            found.tenant,
            found.lease_seconds,
            found.epoch,
        )
        assert [Lifecycle.ASSIGNED] * 2 == it.lifecycles(one, two)
        with pytest.raises(NotGrantedError):
            await it.claim(two, tenant="other")
        await it.claiming.release(claim.id, "t")
        await it.until(lambda: it.lifecycles(one, two) == [FREE, FREE])


@pytest.mark.parametrize("model", ["", "H100"])
async def test_device_that_nobody_describes_in_time_stays_its_claims(tmp_path: Path, model: str) -> None:
    """It is absent; when it is seen after all, no policy for what is seen first gives it away."""
    one = document(DeviceKind.GPU, "0000:01:00.0", serial="" if model else "G1", group=1, model=model)
    async with world(tmp_path / "one") as it:
        (gpu,) = await it.add("n1", one)
        claim = await it.active(gpu)
    async with world(tmp_path / "two") as it:
        (tmp_path / "two" / "n1.json").write_bytes((tmp_path / "one" / "n1.json").read_bytes())
        await it.add_known("n1")
        await it.until(lambda: it.ledger.peek().generation > claim.epoch.generation)  # it was set back, as it seems
        await asyncio.sleep(0.1)
        assert {} == it.ledger.peek().devices
        it.now += PENDING_SECONDS + 1
        await it.until(lambda: it.ledger.peek().nodes["n1"].shown == it.ledger.peek().generation)
        assert (Lifecycle.ASSIGNED, Reach.ABSENT) == (it.device(gpu).lifecycle, it.device(gpu).reach)
        seen = Sighting("n1", "n1", "pci", one, "b1")
        await it.ledger.decide(lambda state: (observe(state, seen, seen_free), None))
        assert [gpu] == list(it.ledger.peek().devices)
        assert (Lifecycle.ASSIGNED, Reach.LIVE) == (it.device(gpu).lifecycle, it.device(gpu).reach)
        assert [gpu] == [held.device for held in it.claim_of(claim.id).devices]
        with pytest.raises(NotGrantedError):
            await it.claim(gpu, tenant="other")


async def test_amounts_come_back_with_the_claim_and_are_given_to_nobody_twice(tmp_path: Path) -> None:
    """Of two nodes, each with its own; what is left of them may be given, and not more (used never exceeds total)."""
    async with world(tmp_path / "one") as it:
        (one,), (two,) = await it.add("n1", *gpus(1)), await it.add("n2", *gpus(1, "n2"))
        await it.active(one, two, amounts={"n1": {"vcpus": 40}, "n2": {"vcpus": 20}})
    async with world(tmp_path / "two") as it:
        for node in ("n1", "n2"):
            (tmp_path / "two" / f"{node}.json").write_bytes((tmp_path / "one" / f"{node}.json").read_bytes())
            await it.add_known(node, *gpus(1, node))
        await it.until(lambda: {one.shown for one in it.ledger.peek().nodes.values()} == {it.ledger.peek().generation})
        assert [40, 20] == [it.ledger.peek().nodes[node].used["vcpus"] for node in ("n1", "n2")]
        with pytest.raises(NotGrantedError, match="8 of 48 left"):
            await it.claim(amounts={"n1": {"vcpus": 9}})
        await it.claim(amounts={"n1": {"vcpus": 8}, "n2": {"vcpus": 28}})
        (claim,) = (one for one in it.ledger.peek().claims.values() if one.devices)
        await it.claiming.release(claim.id, "t")
        await it.until(lambda: it.ledger.peek().nodes["n1"].used["vcpus"] == 8)


async def test_ledger_that_was_set_back_learns_of_it_and_gives_the_device_to_nobody(tmp_path: Path) -> None:
    """An old copy of the file: the grant after it is lost, its node still has the device (invariant 1)."""
    folder = tmp_path / "it"
    async with world(folder) as it:
        (gpu,) = await it.add("n1", *gpus(1))
    _copy(folder / "ledger.db", tmp_path / "old.db")
    async with world(folder) as it:
        it.revive("n1")
        await it.until(lambda: it.ledger.peek().reach(it.device(gpu)) is Reach.LIVE)
        claim = await it.active(gpu)
    for left in folder.glob("ledger.db*"):
        left.unlink()
    _copy(tmp_path / "old.db", folder / "ledger.db")
    async with world(folder) as it:
        before = it.ledger.peek().generation
        it.revive("n1")
        await it.until(lambda: claim.id in it.ledger.peek().claims)
        assert it.ledger.peek().generation > before
        assert [Lifecycle.ASSIGNED] == it.lifecycles(gpu)
        with pytest.raises(NotGrantedError):
            await it.claim(gpu, tenant="other")
        await it.claiming.release(claim.id, "t")
        await it.until(lambda: it.lifecycles(gpu) == [FREE])
        assert (await it.active(gpu)).epoch > claim.epoch


def _copy(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)


@given(before=st.integers(1, 99), known=st.integers(0, 99), seconds=st.integers(0, 99))
def test_no_generation_comes_twice_whatever_the_clock_says(before: int, known: int, seconds: int) -> None:
    """It is above the ledger's own and whatever another is known to have had; the clock names it where it can."""
    book = Book()
    book.decide(restoring.begin_generation(book.state, 0, "made by a test", known=before - 1))
    first = book.state.generation
    book.decide(restoring.begin_generation(book.state, seconds * 10**9, "set back", known=known))
    assert max(first + 1, known + 1, seconds) == book.state.generation


async def test_a_ledger_made_anew_while_the_clock_was_behind_begins_above_what_its_nodes_have_seen(
    tmp_path: Path,
) -> None:
    """Else its epochs would be refused there, and when the clock has come so far, those of lost grants come again."""
    async with world(tmp_path / "one") as it:
        (gpu,) = await it.add("n1", *gpus(1))
        claim = await it.active(gpu)
    kept = msgspec.json.decode((tmp_path / "one" / "n1.json").read_bytes().splitlines()[0])
    kept["generation"] += 3000
    body = msgspec.json.encode(kept)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "n1.json").write_bytes(b"%b\n%b\n" % (body, blake2b(body, digest_size=16).hexdigest().encode()))
    async with world(tmp_path / "two") as it:
        assert it.ledger.peek().generation < kept["generation"]
        await it.add_known("n1", *gpus(1))
        await it.until(lambda: claim.id in it.ledger.peek().claims)
        assert kept["generation"] + 1 == it.ledger.peek().generation
        await it.until(lambda: it.ledger.peek().reach(it.device(gpu)) is Reach.LIVE)
        await it.claiming.release(claim.id, "t")
        await it.until(lambda: it.lifecycles(gpu) == [FREE])
        assert (await it.active(gpu)).epoch.generation == kept["generation"] + 1


@pytest.mark.parametrize("commit_seconds", [0.0, 0.05])
async def test_late_writer_with_an_old_lead_is_refused(tmp_path: Path, commit_seconds: float) -> None:
    """Two ledgers on one file: the one that was overtaken writes nothing more, however long it slept."""
    async with world(tmp_path) as it:
        it.database.seconds = commit_seconds
        (gpu,) = await it.add("n1", *gpus(1))
        database = SqliteControl(it.path, schema=LEDGER)
        database.open()
        late, it_leads = it.ledger, Ledger(database, "another")
        await it_leads.open(force=True)
        await it_leads.decide(lambda state: claims.grant(state, Ask("a", "j", [Pick(gpu)]), "c-first"))
        with pytest.raises(LeadLostError):
            await late.decide(lambda state: claims.grant(state, Ask("b", "j", [Pick(gpu)]), "c-late"))
        assert ["c-first"] == list(it_leads.peek().claims)
        await it_leads.close()
        await database.close()


def test_claim_that_the_ledger_saw_ending_does_not_come_back_with_an_old_checkpoint() -> None:
    """Fenced, then forgotten: what the dead node kept is no news when it is back."""
    book, gpu, kept = _kept()
    book.write([NodeReached("n1", live=False)])
    book.decide(cleaning.fence(book.state, "n1", "op", now_ns=0, statement="off"))
    assert not restoring.lost(book.state, kept)
    assert [] == restoring.restore(book.state, "n1", kept)[0]
    book.write([Forgotten(["c1"])])
    assert not restoring.lost(book.state, kept)
    assert Lifecycle.DIRTY is book.state.devices[gpu].lifecycle


async def test_a_claim_on_amounts_alone_is_kept_and_comes_back(tmp_path: Path) -> None:
    """Nobody has anything to do for it: it is active with its provision, its nodes keep it, and let it go."""
    async with world(tmp_path / "one") as it:
        for node in ("n1", "n2"):
            await it.add(node)
        claim = await it.active(amounts={"n1": {"vcpus": 40}, "n2": {"vcpus": 7}}, lease_seconds=77.0)
        await it.until(lambda: all(it.nodes[node].worker.checkpoint().claims for node in ("n1", "n2")))
    async with world(tmp_path / "two") as it:
        for node in ("n1", "n2"):
            (tmp_path / "two" / f"{node}.json").write_bytes((tmp_path / "one" / f"{node}.json").read_bytes())
            await it.add_known(node)
        await it.until(lambda: {one.shown for one in it.ledger.peek().nodes.values()} == {it.ledger.peek().generation})
        found = it.claim_of(claim.id)
        assert (ClaimState.ACTIVE, claim.amounts, 77.0, claim.epoch) == (
            found.state,
            found.amounts,
            found.lease_seconds,
            found.epoch,
        )
        with pytest.raises(NotGrantedError, match="8 of 48 left"):
            await it.claim(amounts={"n1": {"vcpus": 9}})
        assert all(it.nodes[node].worker.checkpoint().claims for node in ("n1", "n2"))
        await it.claiming.release(claim.id, "t")
        await it.until(lambda: not any(it.nodes[node].worker.checkpoint().claims for node in ("n1", "n2")))
        assert {"n1": 0, "n2": 0} == {one.id: one.used.get("vcpus", 0) for one in it.ledger.peek().nodes.values()}


def test_what_a_kept_part_is_a_part_of_is_not_given_whole_when_it_is_seen_first() -> None:
    """A function of a port that nobody describes: the port is recorded with it, and no policy makes both free."""
    port = document(DeviceKind.NIC, "0000:04:00.0", serial="N1", group=4)
    function = document(DeviceKind.VF, "0000:04:00.1", parent=port.device, group=5)
    book, fresh = Book(), Book()
    for one in (book, fresh):
        begin(one)
    book.see(port)
    vf = book.see(function)
    assert vf is not None
    book.decide(cleaning.attest(book.state, vf.id, "op", "new"))
    book.decide(claims.grant(book.state, Ask("t", "j", [Pick(vf.id)]), "c1"))
    kept = CheckpointClaim("c1", "t", "j", 9, 5, 60.0, [claim_device(book.state, vf)])
    assert 1 == fresh.decide(expecting.expect(fresh.state, ["n1"], kept))
    fresh.decide(restoring.restore(fresh.state, "n1", kept))
    fresh.write(observe(fresh.state, Sighting("n1", "n1", "pci", port, "b1"), seen_free))
    (whole,) = (one for one in fresh.state.devices.values() if one.kind is DeviceKind.NIC)
    assert whole.id == fresh.state.devices[vf.id].parent
    fresh.decide(cleaning.attest(fresh.state, whole.id, "op", "new"))
    with pytest.raises(NotGrantedError, match=vf.id):
        fresh.decide(claims.grant(fresh.state, Ask("x", "j", [Pick(whole.id)]), "c-x"))


def test_of_a_publisher_with_several_nodes_each_device_is_expected_where_it_was() -> None:
    """What an agent kept that did not know of nodes is no node's: nobody guesses."""
    book, fresh = Book(), Book()
    nodes = ["n1", "n2"]
    for one in (book, fresh):
        for node in nodes:
            begin(one, node)
            one.write([NodeRun(node, "fleet", "e", "b1")])
    found = [book.see(next(gpus(1, node)), node) for node in nodes]
    told = [claim_device(book.state, device) for device in found if device is not None]
    kept = CheckpointClaim("c1", "t", "j", 9, 5, 60.0, told)
    assert 2 == fresh.decide(expecting.expect(fresh.state, nodes, kept))
    assert (False, "") == (
        (restored := fresh.decide(restoring.restore(fresh.state, "fleet", kept))).pending,
        restored.conflict,
    )
    assert [("n1", Lifecycle.ASSIGNED), ("n2", Lifecycle.ASSIGNED)] == [
        (fresh.state.devices[one.device].node, fresh.state.devices[one.device].lifecycle) for one in told
    ]
    old = msgspec.structs.replace(kept, claim="c2", devices=[msgspec.structs.replace(told[0], node="", part="uuid:U")])
    assert ([], 0) == expecting.expect(fresh.state, nodes, old)


def test_node_brings_back_amounts_of_its_own_and_such_as_there_are() -> None:
    """What it kept under an id that it no longer has is its own still; of other nodes' amounts it has no say.

    Whatever it says, it is not more than it has.
    """
    book, _, kept = _kept(grant=False)
    begin(book, "n2")
    amounts = {"n2": {"vcpus": 3}, "before": {"memory_bytes": 5, "magic": 7, "vcpus": -1}}
    book.decide(restoring.restore(book.state, "n1", msgspec.structs.replace(kept, amounts=amounts)))
    assert {"n1": {"vcpus": 3, "memory_bytes": 5}} == book.state.claims["c1"].amounts
    assert {} == book.state.nodes["n2"].used
    forged = CheckpointClaim("c2", "t", "j", 9, 6, 60.0, [], {"n1": {"vcpus": 1 << 60}})
    book.decide(restoring.restore(book.state, "n1", forged))
    assert {"n1": {"vcpus": 48}} == book.state.claims["c2"].amounts


def test_claim_that_only_the_lost_ledger_told_its_node_of_is_never_free_again_by_itself() -> None:
    """The copy knows it as reserved: its lease would free it. Its node's word provisions it, or brings it back."""
    for ended in (False, True):
        book, gpu, kept = _kept(provisioned=False)
        if ended:
            book.decide(claims.expire(book.state, "c1"))
            assert FREE is book.state.devices[gpu].lifecycle
        book.decide(restoring.restore(book.state, "n1", kept))
        book.decide(claims.expire(book.state, "c1"))
        assert Lifecycle.SUSPECT is book.state.devices[gpu].lifecycle


def test_device_that_was_promised_again_before_the_checkpoint_came_goes_back_to_its_holder() -> None:
    """A claim that no node was told of gives way; one that was is told with both views."""
    for told in (False, True):
        book, gpu, kept = _kept(provisioned=False, grant=False)
        book.decide(claims.grant(book.state, Ask("other", "j", [Pick(gpu)]), "c2"))
        if told:
            book.decide(claims.provision(book.state, "c2"))
        entries, restored = restoring.restore(book.state, "n1", kept)
        book.write(entries)
        assert told == bool(restored.conflict)
        assert (ClaimState.PROVISIONING if told else ClaimState.INVALID) is book.state.claims["c2"].state
        assert ("c1" in book.state.claims) is not told


def _kept(*, provisioned: bool = True, grant: bool = True) -> tuple[Book, str, CheckpointClaim]:
    book = Book()
    begin(book)
    device = book.see(next(gpus(1)))
    assert device is not None
    book.decide(cleaning.attest(book.state, device.id, "op", "new"))
    epoch = (9, 5)
    if grant:
        book.decide(claims.grant(book.state, Ask("t", "j", [Pick(device.id)]), "c1"))
        epoch = (1, book.state.claims["c1"].epoch.sequence)
        if provisioned:
            book.decide(claims.provision(book.state, "c1"))
            book.decide(claims.confirm(book.state, "c1", book.state.claims["c1"].epoch, [device.id]))
    return book, device.id, CheckpointClaim("c1", "t", "j", *epoch, 60.0, [claim_device(book.state, device)])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_prefix_of_a_ledger_is_left_checkpoints_make_it_safe(data: st.DataObject) -> None:  # noqa: C901, PLR0912
    """Claims are granted, provisioned, confirmed, undone; the ledger is cut anywhere; then nodes show what they keep.

    No device that a node still has is free, or somebody else's, and none that was used and not cleaned (1, 11, 17).
    """
    book = Book()
    begin(book)
    ids = [device.id for one in gpus(4) if (device := book.see(one)) is not None]
    for name in ids:
        book.decide(cleaning.attest(book.state, name, "op", "new"))
    least = len(book.written)
    node: dict[str, CheckpointClaim] = {}
    seen = (0, 0)
    for turn in range(data.draw(st.integers(1, 12))):
        name = data.draw(st.sampled_from(ids))
        device = book.state.devices[name]
        holder = book.state.claims.get(device.hold.claim) if device.hold else None
        if device.lifecycle is FREE:
            book.decide(claims.grant(book.state, Ask("t", "j", [Pick(name)]), f"c{turn}"))
        elif holder is not None and holder.state is ClaimState.RESERVED:
            book.decide(claims.provision(book.state, holder.id))
        elif holder is not None and holder.state is ClaimState.PROVISIONING:
            told = claim_device(book.state, device)
            node[name] = CheckpointClaim(holder.id, "t", "j", *_epoch(holder.epoch), 60.0, [told])
            seen = max(seen, _epoch(holder.epoch))
            if data.draw(st.booleans()):
                book.decide(claims.confirm(book.state, holder.id, holder.epoch, [name]))
        elif holder is not None and holder.state is ClaimState.ACTIVE:
            book.decide(claims.release(book.state, holder.id))
        elif holder is not None and holder.state is ClaimState.RELEASING:
            node.pop(name, None)
            book.decide(claims.undone(book.state, holder.id, holder.epoch, [name]))
            if data.draw(st.booleans()):
                book.decide(cleaning.attest(book.state, name, "op", "by hand"))
    left = Book()
    for written in book.written[: data.draw(st.integers(least, len(book.written)))]:
        left.write([written.entry])
    if restoring.ahead(left.state, Checkpoint(*seen, [])) or data.draw(st.booleans()):
        left.decide(restoring.begin_generation(left.state, 0, "set back"))
    for kept in node.values():
        left.decide(restoring.restore(left.state, "n1", kept))
    left.decide(restoring.show(left.state, ["n1"], Checkpoint(*seen, [])))
    dirty = {name for name in ids if book.state.devices[name].lifecycle is Lifecycle.DIRTY}
    assert FREE not in {left.state.devices[name].lifecycle for name in dirty}
    for name, kept in node.items():
        device = left.state.devices[name]
        assert device.lifecycle is not FREE
        assert device.hold is not None
        assert device.hold.claim == kept.claim
        with pytest.raises(NotGrantedError):
            left.decide(claims.grant(left.state, Ask("x", "j", [Pick(name, Mode.DRIVER)]), "c-x"))


def _epoch(epoch: Epoch) -> tuple[int, int]:
    return (epoch.generation, epoch.sequence)
