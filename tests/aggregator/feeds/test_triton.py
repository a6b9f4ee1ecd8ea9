"""Triton's words for devices of servers and of virtual machines. Requirement R004-4, R004-6, R004-8."""

from aggregator.feeds import triton
from aggregator.ledger import claims, cleaning
from aggregator.ledger.asks import Ask, Pick
from aggregator.ledger.entries import NodeReached, Tainted
from aggregator.ledger.model import Taint
from aggregator.ledger.words import Effect, Lifecycle
from tests.aggregator.feeds.worlds import GPUS, V100, Server
from tests.aggregator.ledger.worlds import readback

GPU = "0000:a3:00.0"
VM = "7b7b6c3e-9c2b-4f0e-9d0a-0c7bb0b6b0a7"


def told(server: Server, address: str = GPU) -> tuple[str, str | None]:
    (one,) = triton.feed(server.state, server.state.nodes.values()).servers
    (device,) = [each for each in one.assignable_devices if each.id == f"path/{address}"]
    return device.state, device.used_by


def test_devices_of_a_server_have_id_state_type_and_variant() -> None:
    server = Server()
    feed = triton.feed(server.state, server.state.nodes.values())
    (one,) = feed.servers
    assert ("n1", "host-n1", len(GPUS)) == (one.server, one.hostname, len(one.assignable_devices))
    assert {("unassigned", "gpu", V100, None)} == {
        (device.state, device.type, device.variant, device.used_by) for device in one.assignable_devices
    }
    assert {} == feed.vms


def test_states_follow_a_claim_and_used_by_goes_with_the_dirt() -> None:
    server = Server()
    device = server.at(GPU)
    claim = server.decide(claims.grant(server.state, Ask("t1", VM, [Pick(device.id)]), "c-1"))
    assert ("provisioning", VM) == told(server)
    server.decide(claims.provision(server.state, claim))
    assert ("provisioning", VM) == told(server)
    epoch = server.state.claims[claim].epoch
    server.decide(claims.confirm(server.state, claim, epoch, [device.id]))
    assert ("used", VM) == told(server)
    feed = triton.feed(server.state, server.state.nodes.values())
    assert {VM: [triton.Assigned(f"path/{GPU}", "gpu", V100, "n1")]} == feed.vms
    server.decide(claims.release(server.state, claim))
    assert ("dirty", None) == told(server)
    server.decide(claims.undone(server.state, claim, epoch, [device.id]))
    server.decide(cleaning.begin_clean(server.state, device.id))
    assert ("dirty", None) == told(server)
    server.decide(cleaning.end_clean(server.state, device.id, readback(device), "n1"))
    assert ("unassigned", None) == told(server)


def test_every_lifecycle_is_told_or_left_out() -> None:
    left_out = {one for one in Lifecycle if one not in triton.STATES}
    assert {Lifecycle.HOST, Lifecycle.FOREIGN, Lifecycle.RETIRED} == left_out


def test_free_devices_that_nobody_can_be_given_are_skipped_with_the_reason() -> None:
    """A neighbour in use, a mark, a silent node: to Triton none of them is `unassigned`."""
    server = Server()
    server.decide(claims.grant(server.state, Ask("t1", VM, [Pick(server.at("0000:27:00.0").id)]), "c-1"))
    marked = server.at("0000:44:00.0")
    server.write([Tainted("n1", marked.id, Taint("flaky", Effect.NO_SCHEDULE, "fell off twice", "op", 1))])
    (one,) = triton.feed(server.state, server.state.nodes.values()).servers
    reasons = {each.address: each.reason for each in one.skipped}
    assert {"0000:28:00.0", "0000:44:00.0"} == reasons.keys()
    assert "in the same IOMMU group 19" in reasons["0000:28:00.0"]
    assert "flaky" in reasons["0000:44:00.0"]
    server.write([NodeReached("n1", live=False)])
    (one,) = triton.feed(server.state, server.state.nodes.values()).servers
    assert ["provisioning"] == [each.state for each in one.assignable_devices]
