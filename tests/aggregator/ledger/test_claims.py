"""Decisions about claims, in the orders that would give a device twice, or never give it back."""

import msgspec
import pytest

from aggregator.claim_work import work_of
from aggregator.ledger import claims, cleaning, nodes, restoring
from aggregator.ledger.asks import Ask, Pick
from aggregator.ledger.entries import Fenced, NodeReached, Provisioned, decode_entry, encode_entry
from aggregator.ledger.model import Claim, Device, Evidence
from aggregator.ledger.state import State, decode_kept, encode_kept
from aggregator.ledger.words import ClaimState, Lifecycle
from schemas.claims import CheckpointClaim, Step
from schemas.device import DeviceKind
from tests.aggregator.ledger.worlds import Book, begin, document, readback


class World:
    """Two nodes with a GPU each, and a claim `c1` of tenant `t1` on both, of which the nodes were told."""

    def __init__(self, *, confirmed: bool) -> None:
        self.book = Book()
        self.first, self.second = (self._node(name) for name in ("n1", "n2"))
        self.provision("t1", "c1", self.first, self.second)
        if confirmed:
            self.confirm("c1", self.first, self.second)

    def _node(self, node: str) -> Device:
        begin(self.book, node)
        gpu = self.book.see(document(DeviceKind.GPU, "0000:01:00.0", serial=f"S-{node}"), node)
        assert gpu is not None
        self.book.decide(cleaning.attest(self.state, gpu.id, "op", "new from the factory"))
        return gpu

    @property
    def state(self) -> State:
        return self.book.state

    def claim(self, name: str = "c1") -> Claim:
        return self.state.claims[name]

    def grant(self, tenant: str, name: str, *devices: Device, vcpus: int = 0) -> None:
        amounts = {"n1": {"vcpus": vcpus}} if vcpus else {}
        self.book.decide(claims.grant(self.state, Ask(tenant, "job", [Pick(one.id) for one in devices], amounts), name))

    def provision(self, tenant: str, name: str, *devices: Device, vcpus: int = 0) -> None:
        self.grant(tenant, name, *devices, vcpus=vcpus)
        self.book.decide(claims.provision(self.state, name))

    def keep(self, name: str, *nodes: str) -> None:
        self.book.decide(claims.confirm(self.state, name, self.claim(name).epoch, [], nodes=nodes))

    def confirm(self, name: str, *devices: Device) -> None:
        self.book.decide(claims.confirm(self.state, name, self.claim(name).epoch, [one.id for one in devices]))

    def fence(self, node: str = "n1") -> None:
        self.book.write([NodeReached(node, live=False)])
        self.book.decide(cleaning.fence(self.state, node, "op", now_ns=0, statement="it burns"))
        self.book.write([NodeReached(node, live=True)])

    def fence_and_clean_first(self) -> None:
        """Fence the first node, which then comes back and cleans its GPU: it is anybody's."""
        self.fence()
        self.book.decide(cleaning.begin_clean(self.state, self.first.id))
        self.book.decide(cleaning.end_clean(self.state, self.first.id, readback(self.first), "n1"))
        assert Lifecycle.FREE is self.first.lifecycle

    def holder(self, device: Device) -> str:
        return device.hold.claim if device.hold else ""


@pytest.mark.parametrize("told", [False, True])
def test_lease_that_runs_out_moves_nothing_that_a_fence_took_away(told: bool) -> None:
    """The fenced node's GPU is another tenant's by now, reserved or in use: it stays theirs (invariants 1, 3)."""
    world = World(confirmed=True)
    world.fence_and_clean_first()
    world.grant("t2", "c2", world.first)
    if told:
        world.book.decide(claims.provision(world.state, "c2"))
        world.confirm("c2", world.first)
    before = world.first.lifecycle
    world.book.decide(claims.expire(world.state, "c1"))
    assert (before, "c2") == (world.first.lifecycle, world.holder(world.first))
    assert (Lifecycle.SUSPECT, "c1") == (world.second.lifecycle, world.holder(world.second))
    with pytest.raises(claims.ClaimError, match="part of it was taken back"):
        claims.renew(world.state, "c1")
    world.book.decide(claims.release(world.state, "c1"))
    assert (before, "c2") == (world.first.lifecycle, world.holder(world.first))


def test_fence_of_one_node_undoes_a_provision_on_the_others() -> None:
    """It can never be all that was asked for: nobody is told to prepare any more, and late words count for nothing."""
    world = World(confirmed=False)
    epoch = world.claim().epoch
    world.fence()
    assert ClaimState.UNDOING is world.claim().state
    assert [] == work_of(world.state, "n1")
    assert [Step.UNDO] == [one.step for one in work_of(world.state, "n2")]
    for device in (world.first, world.second):
        with pytest.raises(claims.ClaimError):
            claims.confirm(world.state, "c1", epoch, [device.id])
    world.book.decide(claims.undone(world.state, "c1", epoch, [world.second.id]))
    assert ClaimState.FAILED is world.claim().state
    assert Lifecycle.DIRTY is world.second.lifecycle


def test_late_confirmation_of_a_fenced_device_takes_nothing_from_who_has_it_now() -> None:
    world = World(confirmed=False)
    epoch = world.claim().epoch
    world.fence_and_clean_first()
    world.provision("t2", "c2", world.first)
    with pytest.raises(claims.ClaimError):
        claims.confirm(world.state, "c1", epoch, [world.first.id])
    world.confirm("c2", world.first)
    assert (Lifecycle.ASSIGNED, "c2") == (world.first.lifecycle, world.holder(world.first))
    assert ClaimState.ACTIVE is world.claim("c2").state


def test_active_claim_keeps_what_a_fence_left_it() -> None:
    world = World(confirmed=True)
    world.fence()
    assert (ClaimState.ACTIVE, Lifecycle.ASSIGNED) == (world.claim().state, world.second.lifecycle)
    world.book.decide(claims.renew(world.state, "c1"))
    world.book.decide(claims.release(world.state, "c1"))
    assert ClaimState.RELEASING is world.claim().state
    world.book.decide(claims.undone(world.state, "c1", world.claim().epoch, [world.second.id]))
    assert ClaimState.RELEASED is world.claim().state


def test_claim_that_was_confirmed_meanwhile_is_not_undone() -> None:
    """Whoever found it late looked at a list that was older than the confirmation."""
    world = World(confirmed=True)
    entries, _ = claims.begin_undo(world.state, "c1", "not confirmed within 300 s")
    assert [] == entries


@pytest.mark.parametrize("how", ["released", "expired and released", "expired and renewed", "fenced"])
def test_claim_of_amounts_alone_lives_and_ends(how: str) -> None:
    """Its node has it before it is active, and nothing of it is left when it is over."""
    world = World(confirmed=True)
    world.provision("t2", "c2", vcpus=40)
    assert ClaimState.PROVISIONING is world.claim("c2").state
    world.keep("c2", "n1")
    assert ClaimState.ACTIVE is world.claim("c2").state
    if how.startswith("expired"):
        world.book.decide(claims.expire(world.state, "c2"))
        assert ClaimState.SUSPECT is world.claim("c2").state
        assert 40 == world.state.nodes["n1"].used["vcpus"]
    if how.endswith("renewed"):
        world.book.decide(claims.renew(world.state, "c2"))
        assert ClaimState.ACTIVE is world.claim("c2").state
    if how == "fenced":
        world.fence()
    else:
        world.book.decide(claims.release(world.state, "c2"))
    assert ClaimState.RELEASED is world.claim("c2").state
    assert 0 == world.state.nodes["n1"].used.get("vcpus", 0)
    assert "t2" not in world.state.tenants


def test_a_claim_is_active_once_each_node_has_what_it_holds_of_it() -> None:
    """Devices of one, amounts alone of two: whoever confirms last. A ledger lost then learns of all of it."""
    world = World(confirmed=False)
    for node in ("n3", "n4"):
        begin(world.book, node)
    world.book.decide(claims.release(world.state, "c1"))
    world.book.decide(claims.undone(world.state, "c1", world.claim().epoch, [world.first.id, world.second.id]))
    world.book.decide(cleaning.attest(world.state, world.first.id, "op", "by hand"))
    amounts = {node: {"vcpus": 4} for node in ("n1", "n3", "n4")}
    ask = Ask("t2", "job", [Pick(world.first.id)], amounts)
    world.book.decide(claims.grant(world.state, ask, "c2"))
    world.book.decide(claims.provision(world.state, "c2"))
    steps = {node: work_of(world.state, node) for node in ("n1", "n3", "n4")}
    assert {"n1": (1, False), "n3": (0, True), "n4": (0, True)} == {
        node: (len(step.devices), step.confirm) for node, (step,) in steps.items()
    }
    world.keep("c2", "n3", "n1", "n9")
    world.keep("c2", "n3")
    world.confirm("c2", world.first)
    assert (ClaimState.PROVISIONING, {"n4": None}) == (world.claim("c2").state, world.claim("c2").unkept)
    world.keep("c2", "n4")
    assert ClaimState.ACTIVE is world.claim("c2").state
    assert [False, False] == [step.confirm for node in ("n3", "n4") for step in work_of(world.state, node)]


def test_amounts_that_no_node_confirms_to_keep_are_given_back() -> None:
    world = World(confirmed=True)
    world.provision("t2", "c2", vcpus=40)
    world.book.decide(claims.begin_undo(world.state, "c2", "not confirmed within 300 s"))
    assert (ClaimState.FAILED, 0) == (world.claim("c2").state, world.state.nodes["n1"].used.get("vcpus", 0))
    with pytest.raises(claims.ClaimError, match="takes no confirmation"):
        world.keep("c2", "n1")


def test_a_lease_that_ends_before_its_node_confirmed_is_not_renewed() -> None:
    world = World(confirmed=True)
    world.provision("t2", "c2", vcpus=40)
    world.book.decide(claims.expire(world.state, "c2"))
    with pytest.raises(claims.ClaimError, match="release it"):
        claims.renew(world.state, "c2")


def test_an_old_provision_of_amounts_alone_is_active_as_it_was_then() -> None:
    """Entries keep their meaning: what was written before nodes confirmed it asks nobody."""
    world = World(confirmed=True)
    world.grant("t2", "c2", vcpus=40)
    world.book.write([Provisioned("c2")])
    assert (ClaimState.ACTIVE, {}) == (world.claim("c2").state, world.claim("c2").unkept)


class Shares:
    """A claim `c2` of amounts alone, of the nodes n1 and n2."""

    def __init__(self, *, kept: bool = True) -> None:
        self.world = World(confirmed=True)
        ask = Ask("t2", "job", [], {node: {"vcpus": 40} for node in ("n1", "n2")})
        self.world.book.decide(claims.grant(self.world.state, ask, "c2"))
        self.world.book.decide(claims.provision(self.world.state, "c2"))
        if kept:
            self.world.keep("c2", "n1", "n2")

    @property
    def claim(self) -> Claim:
        return self.world.claim("c2")

    @property
    def used(self) -> list[int]:
        return [self.world.state.nodes[node].used.get("vcpus", 0) for node in ("n1", "n2")]

    @property
    def told(self) -> list[int]:
        """Count what each node is told to keep of it."""
        work = (work_of(self.world.state, node) for node in ("n1", "n2"))
        return [sum(step.claim == "c2" for step in steps) for steps in work]


def test_a_claim_of_amounts_alone_loses_what_it_holds_of_each_node_that_is_fenced() -> None:
    """With the last of them it is over; again, a fence changes nothing."""
    shares = Shares()
    shares.world.fence("n1")
    assert (ClaimState.ACTIVE, [0, 40], [0, 1]) == (shares.claim.state, shares.used, shares.told)
    assert 40 == shares.world.state.tenants["t2"].used["vcpus"]
    before = shares.world.state.sequence
    shares.world.fence("n1")
    assert before + 2 == shares.world.state.sequence  # silent, and back
    assert [0, 40] == shares.used
    shares.world.book.decide(claims.renew(shares.world.state, "c2"))
    shares.world.fence("n2")
    assert (ClaimState.RELEASED, [0, 0], [0, 0]) == (shares.claim.state, shares.used, shares.told)
    assert "t2" not in shares.world.state.tenants


def test_a_fence_ends_what_can_never_be_all_that_was_asked_for() -> None:
    shares = Shares(kept=False)
    shares.world.fence("n1")
    assert (ClaimState.FAILED, [0, 0], [0, 0]) == (shares.claim.state, shares.used, shares.told)


def test_a_suspect_claim_of_which_a_share_was_taken_is_not_renewed() -> None:
    shares = Shares()
    shares.world.book.decide(claims.expire(shares.world.state, "c2"))
    shares.world.fence("n1")
    assert (ClaimState.SUSPECT, [0, 40]) == (shares.claim.state, shares.used)
    with pytest.raises(claims.ClaimError, match="part of it was taken back"):
        claims.renew(shares.world.state, "c2")
    shares.world.fence("n2")
    assert ClaimState.RELEASED is shares.claim.state


@pytest.mark.parametrize("first", ["n1", "n2"])
def test_devices_of_one_node_and_amounts_of_another_go_with_their_nodes(first: str) -> None:
    world = World(confirmed=True)
    world.book.decide(claims.release(world.state, "c1"))
    world.book.decide(claims.undone(world.state, "c1", world.claim().epoch, [world.first.id, world.second.id]))
    world.book.decide(cleaning.attest(world.state, world.first.id, "op", "by hand"))
    amounts = {node: {"vcpus": 4} for node in ("n1", "n2")}
    world.book.decide(claims.grant(world.state, Ask("t2", "job", [Pick(world.first.id)], amounts), "c2"))
    world.book.decide(claims.provision(world.state, "c2"))
    world.confirm("c2", world.first)
    world.keep("c2", "n2")
    world.fence(first)
    left = {"n1": [0, 4], "n2": [4, 0]}[first]
    assert left == [world.state.nodes[node].used.get("vcpus", 0) for node in ("n1", "n2")]
    assert ClaimState.ACTIVE is world.claim("c2").state
    assert (Lifecycle.DIRTY if first == "n1" else Lifecycle.ASSIGNED) is world.first.lifecycle
    world.fence("n2" if first == "n1" else "n1")
    assert (ClaimState.RELEASED, Lifecycle.DIRTY) == (world.claim("c2").state, world.first.lifecycle)


@pytest.mark.parametrize("fenced", ["n1", "n2", "both"])
def test_what_a_fence_took_away_does_not_come_back_with_another_id_of_its_node(fenced: str) -> None:
    """Whichever of the two ids was fenced: what was held under the other is held of the machine that goes on."""
    shares = Shares()
    shares.world.fence("n2" if fenced == "n2" else "n1")
    shares.world.book.decide(nodes.replace(shares.world.state, "n1", "n2", "op"))
    assert (ClaimState.ACTIVE, [0, 40]) == (shares.claim.state, shares.used)
    if fenced == "both":
        shares.world.fence("n2")
        assert (ClaimState.RELEASED, [0, 0]) == (shares.claim.state, shares.used)


def test_a_node_that_comes_back_does_not_bring_back_what_a_fence_took_away() -> None:
    shares = Shares()
    shares.world.fence("n1")
    kept = CheckpointClaim("c2", "t2", "job", *_epoch(shares.claim), 60.0, [], {"n1": {"vcpus": 40}})
    entries, _ = restoring.restore(shares.world.state, "n1", kept)
    assert [] == entries
    state = State.of(decode_kept(encode_kept(shares.world.state.keep())))
    assert (shares.claim, 40) == (state.claims["c2"], state.tenants["t2"].used["vcpus"])
    assert "c2" not in state.claims_on["n1"]


def _epoch(claim: Claim) -> tuple[int, int]:
    return (claim.epoch.generation, claim.epoch.sequence)


def test_an_old_fence_took_no_amounts_and_still_does_not() -> None:
    """Entries keep their meaning: what was written before they named nodes."""
    shares = Shares()
    evidence = Evidence(0, "attestation", "op", "", "{}")
    tag, *fields, _ = msgspec.msgpack.decode(encode_entry(Fenced("c1", [shares.world.first.id], evidence, ["n1"])))
    old = decode_entry(msgspec.msgpack.encode([tag, *fields]))
    assert Fenced("c1", [shares.world.first.id], evidence) == old
    shares.world.book.write([old])
    assert (ClaimState.ACTIVE, {}) == (shares.world.claim().state, shares.world.claim().fenced)
    shares.world.book.write([Fenced("c2", [], evidence)])
    assert (ClaimState.RELEASED, [0, 0]) == (shares.claim.state, shares.used)
