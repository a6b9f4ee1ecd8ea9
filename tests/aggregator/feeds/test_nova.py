"""nova's configuration out of the inventory: correct by construction. Requirement R002-3."""

import json

import pytest

from aggregator.feeds import nova
from aggregator.feeds.isolation import Policy
from aggregator.ledger import claims, cleaning, uses
from aggregator.ledger.asks import Ask, Pick
from aggregator.ledger.entries import CheckpointShown, GenerationBegun, Passed, Tainted, VariantRemoved
from aggregator.ledger.facts import withdraw
from aggregator.ledger.model import Taint
from aggregator.ledger.outside import Use
from aggregator.ledger.words import Effect, Lifecycle
from schemas.device import DeviceKind
from tests.aggregator.feeds.worlds import DRIVE, FUNCTIONS, PORT, V100, Server
from tests.aggregator.ledger.worlds import document, readback

ONE_OF_EACH = ["0000:27:00.0", "0000:44:00.0", "0000:a3:00.0", "0000:c3:00.0"]


@pytest.fixture
def server() -> Server:
    return Server()


def made(server: Server, policy: Policy = Policy.ONE_PER_GROUP, *variants: str, held: bool = False) -> nova.NovaFeed:
    return nova.feed(server.state, server.state.nodes.values(), policy, variants, held=held)


def addresses(server: Server, policy: Policy = Policy.ONE_PER_GROUP, *variants: str, held: bool = False) -> list[str]:
    return [spec.address for node in made(server, policy, *variants, held=held).nodes for spec in node.device_spec]


def skipped(server: Server, policy: Policy = Policy.ONE_PER_GROUP) -> dict[str, str]:
    return {one.address: one.reason for node in made(server, policy).nodes for one in node.skipped}


def test_six_gpus_in_four_groups_give_one_of_each_group_and_the_alias(server: Server) -> None:
    found = made(server)
    assert ONE_OF_EACH == addresses(server)
    assert {"10de:1db4"} == {f"{spec.vendor_id}:{spec.product_id}" for spec in found.nodes[0].device_spec}
    assert [nova.Alias(V100, "type-PCI", "10de", "1db4")] == found.alias
    assert {V100: f"{V100}:1"} == found.flavors
    assert {"0000:28:00.0", "0000:c4:00.0"} == skipped(server).keys()


def test_text_is_what_nova_reads_and_says_what_is_left_out(server: Server) -> None:
    text = nova.nova_conf(made(server))
    values = [line.partition(" = ")[2] for line in text.splitlines() if line.startswith("device_spec")]
    assert ONE_OF_EACH == [json.loads(value)["address"] for value in values]
    assert (
        'alias = {"name": "tesla-v100", "device_type": "type-PCI", "vendor_id": "10de", "product_id": "1db4"}' in text
    )
    assert "# not 0000:28:00.0: 0000:27:00.0, in the same IOMMU group 19, is handed on" in text
    assert nova.nova_conf(nova.feed(server.state, [])).startswith("# nothing")


def test_what_a_claim_holds_is_given_to_nobody_else_and_takes_its_group_out(server: Server) -> None:
    server.decide(claims.grant(server.state, Ask("t1", "vm", [Pick(server.at("0000:28:00.0").id)]), "c-1"))
    assert ONE_OF_EACH[1:] == addresses(server)
    assert "it is reserved for claim c-1" == skipped(server)["0000:28:00.0"]
    assert "0000:28:00.0, in the same IOMMU group 19, is reserved" == skipped(server)["0000:27:00.0"]


def test_member_that_is_given_already_stands_for_its_group_where_claims_are_novas(server: Server) -> None:
    server.decide(claims.grant(server.state, Ask("t1", "vm", [Pick(server.at("0000:28:00.0").id)]), "c-1"))
    assert ["0000:28:00.0", *ONE_OF_EACH[1:]] == addresses(server, held=True)


@pytest.mark.parametrize("user", ["qemu/900", ""], ids=["seen", "recorded"])
def test_neighbour_in_other_hands_takes_the_group_out(server: Server, user: str) -> None:
    neighbour = "0000:c4:00.0"
    if user:
        gpu = document(DeviceKind.GPU, neighbour, serial=f"G{neighbour}-n1", group=87, in_use_by=[user])
        server.see(gpu)
    else:
        server.decide(uses.take(server.state, "libvirt:n1", "libvirt", [Use("n1", neighbour, "dom")], 1, "op"))
    assert ONE_OF_EACH[:3] == addresses(server)
    assert "0000:c4:00.0, in the same IOMMU group 87, is foreign" == skipped(server)["0000:c3:00.0"]


def test_what_novas_own_record_names_stays_its_own(server: Server) -> None:
    told = [Use("n1", "0000:28:00.0", "web-1")]
    server.decide(uses.take(server.state, "nova", "nova", told, 1, "op"))
    assert ["0000:28:00.0", *ONE_OF_EACH[1:]] == addresses(server)


def test_neighbour_that_the_host_needs_or_that_is_dirty_takes_the_group_out(server: Server) -> None:
    server.see(document(DeviceKind.NVME, "0000:45:00.0", group=32, host_needs=["swap"], pci_device_id="a808"))
    server.write([Passed(server.at("0000:a3:00.0").id, "doubted")])
    assert ["0000:27:00.0", "0000:c3:00.0"] == addresses(server)


def test_neighbour_that_is_gone_or_retired_does_not(server: Server) -> None:
    server.write(withdraw(server.state, "n1", "n1\npci\npci:0000:27:00.0", "pulled"))
    server.write([Passed(server.at("0000:c3:00.0").id, "retired")])
    assert ["0000:28:00.0", "0000:44:00.0", "0000:a3:00.0", "0000:c4:00.0"] == addresses(server)


def test_whole_groups_are_asked_for_as_a_whole(server: Server) -> None:
    found = made(server, Policy.WHOLE_GROUPS)
    assert 6 == len(addresses(server, Policy.WHOLE_GROUPS))
    classes = {spec.address: spec.resource_class for spec in found.nodes[0].device_spec}
    assert {"CUSTOM_TESLA_V100_GROUP19_OF_2"} == {classes["0000:27:00.0"], classes["0000:28:00.0"]}
    assert "" == classes["0000:44:00.0"]
    assert f"{V100}-group19-of-2:2" == found.flavors[f"{V100}-group19-of-2"]
    assert "report_in_placement = true" in nova.nova_conf(found)


def test_whole_group_with_a_member_of_no_variant_is_left_out(server: Server) -> None:
    audio = server.see(document(DeviceKind.PCI_FUNCTION, "0000:44:00.1", group=32, pci_device_id="10f0"))
    assert audio is not None
    server.free(audio)
    assert "0000:44:00.0" not in addresses(server, Policy.WHOLE_GROUPS)
    assert "0000:44:00.0" in addresses(server), "by itself it may be handed on: its neighbour stays with nobody"


def test_functions_go_before_their_port(server: Server) -> None:
    server.port()
    assert list(FUNCTIONS) == [one for one in addresses(server) if one.startswith("0000:61")]
    server.free(server.at(PORT))
    assert "its functions are handed on" == skipped(server)[PORT]
    types = {alias.name: alias.device_type for alias in made(server).alias}
    assert "type-VF" == types["i350-vf"]
    server.decide(claims.grant(server.state, Ask("t1", "vm", [Pick(server.at(PORT).id)]), "c-1"))
    assert [] == [one for one in addresses(server) if one.startswith("0000:61")]
    assert [PORT] == [one for one in addresses(server, held=True) if one.startswith("0000:61")]
    assert "type-PF" == {alias.name: alias.device_type for alias in made(server, held=True).alias}["i350"]


def used(server: Server, address: str) -> None:
    """Let a claim have a device, and give it back before its node has said that it is idle."""
    device = server.at(address)
    server.decide(claims.grant(server.state, Ask("t1", "vm", [Pick(device.id)]), "c-1"))
    server.decide(claims.provision(server.state, "c-1"))
    server.decide(claims.confirm(server.state, "c-1", server.state.claims["c-1"].epoch, [device.id]))


def test_port_is_not_handed_on_while_a_function_of_it_may_be_in_use(server: Server) -> None:
    """Its claim is given back, or its lease ran out: its node has yet to say that nobody uses it."""
    server.port()
    server.write([VariantRemoved("i350-vf")])
    server.free(server.at(PORT))
    assert PORT in addresses(server)
    used(server, FUNCTIONS[0])
    assert PORT not in addresses(server)
    server.decide(claims.expire(server.state, "c-1"))
    assert "suspect" in skipped(server)[PORT]
    server.decide(claims.release(server.state, "c-1"))
    assert "dirty" in skipped(server)[PORT]


def test_free_device_that_somebody_uses_is_not_handed_on_nor_is_its_group(server: Server) -> None:
    """What is seen while a claim has it is no news, and is true still once the claim is over."""
    mine, beside = "0000:28:00.0", "0000:27:00.0"
    used(server, mine)
    server.see(document(DeviceKind.GPU, mine, serial=f"G{mine}-n1", group=19, vfio_in_use=True))
    server.decide(claims.release(server.state, "c-1"))
    gpu = server.at(mine)
    server.decide(claims.undone(server.state, "c-1", server.state.claims["c-1"].epoch, [gpu.id]))
    server.decide(cleaning.begin_clean(server.state, gpu.id))
    server.decide(cleaning.end_clean(server.state, gpu.id, readback(gpu), "n1"))
    assert Lifecycle.FREE is gpu.lifecycle
    assert "it is in use by a program" == skipped(server)[mine]
    server.decide(cleaning.retire(server.state, [gpu.id], "op", "old"))
    assert f"{mine}, in the same IOMMU group 19, is retired, and in use by a program" == skipped(server)[beside]


def test_nothing_is_handed_on_of_a_node_that_may_keep_claims_of_a_lost_ledger(server: Server) -> None:
    server.write([GenerationBegun(7, "restored")])
    assert [] == addresses(server)
    server.write([CheckpointShown("n1", 7)])
    assert ONE_OF_EACH == addresses(server)


def test_variants_that_were_not_asked_for_are_not_told(server: Server) -> None:
    server.port()
    assert list(FUNCTIONS) == addresses(server, Policy.ONE_PER_GROUP, "i350-vf")
    assert DRIVE not in addresses(server)


def test_marked_device_is_not_handed_on_until_it_is_given(server: Server) -> None:
    """A mark keeps new machines away; who has it keeps it."""
    gpu = server.at("0000:44:00.0")
    server.write([Tainted("n1", gpu.id, Taint("flaky", Effect.NO_SCHEDULE, "fell off twice", "op", 1))])
    assert "0000:44:00.0" not in addresses(server)
    assert "it is marked NoSchedule by flaky" == skipped(server)["0000:44:00.0"]
