"""A hand-written device_spec that would break isolation is found, with what it breaks and what to do."""

import pytest

from aggregator.feeds import nova, nova_conf
from aggregator.feeds.isolation import Policy
from aggregator.feeds.nova_check import Check, check
from aggregator.feeds.nova_conf import NovaConfError
from aggregator.ledger import claims, cleaning, uses
from aggregator.ledger.asks import Ask, Pick
from aggregator.ledger.outside import Use
from schemas.device import DeviceKind
from tests.aggregator.feeds.worlds import DRIVE, FUNCTIONS, PORT, Server
from tests.aggregator.ledger.worlds import document


@pytest.fixture
def server() -> Server:
    return Server()


def checked(server: Server, *lines: str) -> Check:
    text = "[DEFAULT]\ndebug = true\n[pci]\n" + "\n".join(lines)
    return check(server.state, server.state.nodes.values(), nova_conf.read(text))


def rules(found: Check) -> list[tuple[str, int | None]]:
    return [(finding.rule, finding.group) for finding in found.findings]


@pytest.mark.parametrize("policy", list(Policy))
def test_what_the_feed_makes_breaks_nothing(server: Server, policy: Policy) -> None:
    server.port()
    text = nova.nova_conf(nova.feed(server.state, server.state.nodes.values(), policy))
    found = check(server.state, server.state.nodes.values(), nova_conf.read(text))
    assert [] == found.findings
    assert (6 if policy is Policy.ONE_PER_GROUP else 8) == found.listed


def test_all_gpus_by_their_making_share_out_two_groups(server: Server) -> None:
    found = checked(server, 'device_spec = {"vendor_id": "10de", "product_id": "1db4"}')
    assert [("shared_group", 19), ("shared_group", 87)] == rules(found)
    assert found.broken
    first = found.findings[0]
    assert (["0000:27:00.0", "0000:28:00.0"], [4]) == (first.addresses, first.lines)
    assert '"address": "0000:27:00.0"' in first.remedy
    assert "host-n1" in first.message


@pytest.mark.parametrize(
    "spec",
    [
        '{"address": "*:c*:00.*"}',
        '{"address": "0000:c3:00.0"}',
        '{"address": ":c3:00."}',
        '{"address": {"bus": "c[34]", "slot": "00", "function": "0"}}',
        '[{"address": "c3:00.0"}, {"address": "0000:c4:00.0"}]',
    ],
)
def test_every_way_to_write_an_address(server: Server, spec: str) -> None:
    if "*:c*" in spec:  # not a glob of nova's: each field is a number or a star
        with pytest.raises(NovaConfError, match="line 4"):
            checked(server, f"device_spec = {spec}")
        return
    found = checked(server, f"device_spec = {spec}")
    both = "c[34]" in spec or "c4" in spec
    assert ([("shared_group", 87)] if both else []) == rules(found)
    assert (2 if both else 1) == found.listed


def test_lines_go_on_and_old_names_count(server: Server) -> None:
    lines = ['passthrough_whitelist = {"vendor_id": "10de",', '  "product_id": "1db4",', '  "address": "*:27:00.0"}']
    found = checked(server, "# a comment", *lines, 'device_spec = {"address": "28:00.0"}')
    assert [("shared_group", 19)] == rules(found)
    assert [5, 8] == found.findings[0].lines


def test_everything_by_a_star_names_bridges_and_what_the_host_needs(server: Server) -> None:
    found = checked(server, 'device_spec = {"address": "*:*:*.*"}')
    assert {"bridge", "host", "shared_group"} == {rule for rule, _ in rules(found)}
    (host,) = [finding for finding in found.findings if finding.rule == "host"]
    assert [DRIVE] == host.addresses
    assert "mount:/" in host.message


def test_neighbour_that_the_host_needs(server: Server) -> None:
    server.see(document(DeviceKind.NVME, "0000:45:00.0", group=32, host_needs=["swap"], pci_device_id="a808"))
    found = checked(server, 'device_spec = {"address": "0000:44:00.0"}')
    assert [("mixed_group", 32)] == rules(found)
    assert "swap" in found.findings[0].message


def test_neighbour_that_is_retired_and_used_all_the_same(server: Server) -> None:
    beside = server.at("0000:28:00.0")
    server.decide(cleaning.retire(server.state, [beside.id], "op", "old"))
    listed = 'device_spec = {"address": "27:00.0"}'
    assert [] == rules(checked(server, listed)), "idle, it is no danger"
    server.see(document(DeviceKind.GPU, "0000:28:00.0", serial="G0000:28:00.0-n1", group=19, vfio_in_use=True))
    found = checked(server, listed)
    assert [("mixed_group", 19)] == rules(found)
    assert "is retired, and in use by a program" in found.findings[0].message


def test_device_and_neighbour_that_somebody_has(server: Server) -> None:
    told = [Use("n1", "0000:a3:00.0", "dom-1"), Use("n1", "0000:28:00.0", "dom-2")]
    server.decide(uses.take(server.state, "libvirt:n1", "libvirt", told, 1, "op"))
    server.decide(claims.grant(server.state, Ask("t1", "vm", [Pick(server.at("0000:c4:00.0").id)]), "c-1"))
    listed = [f'device_spec = {{"address": "{one}"}}' for one in ("a3:00.0", "27:00.0", "c3:00.0")]
    assert {("foreign", 75), ("mixed_group", 19), ("mixed_group", 87)} == set(rules(checked(server, *listed)))


def test_device_that_a_claim_holds_is_given_twice_unless_claims_are_novas(server: Server) -> None:
    server.decide(claims.grant(server.state, Ask("t1", "vm", [Pick(server.at("0000:44:00.0").id)]), "c-1"))
    found = checked(server, 'device_spec = {"address": "44:00.0"}')
    assert [("held", 32)] == rules(found)
    assert "reserved for claim c-1" in found.findings[0].message
    specs = nova_conf.read('[pci]\ndevice_spec = {"address": "44:00.0"}')
    assert [] == check(server.state, server.state.nodes.values(), specs, held=True).findings


def test_whole_group_under_a_class_of_its_own_is_sound_and_a_shared_class_is_not(server: Server) -> None:
    pair = ('{"address": "27:00.0", "resource_class": "PAIR"}', '{"address": "28:00.0", "resource_class": "pair"}')
    assert [] == rules(checked(server, *(f"device_spec = {one}" for one in pair)))
    more = (*pair, '{"address": "44:00.0", "resource_class": "PAIR"}')
    assert [("shared_group", 19)] == rules(checked(server, *(f"device_spec = {one}" for one in more)))


def test_address_or_name_of_a_port_means_its_functions(server: Server) -> None:
    server.port(group=61)
    for spec in (f'{{"address": "{PORT}", "product_id": "10ca"}}', '{"devname": "eth4", "product_id": "10ca"}'):
        found = checked(server, f"device_spec = {spec}")
        assert len(FUNCTIONS) == found.listed
        assert [] == rules(found), "the port beside one of them is nobody's"


def test_entry_that_matches_nothing_is_a_warning(server: Server) -> None:
    found = checked(server, 'device_spec = {"address": "0000:99:00.0"}')
    assert [("matches_nothing", None)] == rules(found)
    assert not found.broken


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("tesla", "no JSON"),
        ('"27:00.0"', "no object"),
        ('{"address": "27:00.0", "devname": "eth0"}', "both"),
        ('{"address": 27}', "not a text"),
        ('{"address": "0:0:0:0.0"}', "no PCI address"),
        ('{"address": "27:20.0"}', "above 1f"),
        ('{"vendor_id": "nvidia"}', "hexadecimal"),
        ('{"address": {"bus": "("}}', "regular expression"),
        ('{"address": {"bus": "%s"}}' % ("0" * 300), "256"),
    ],
)
def test_what_nova_would_refuse_is_refused_with_its_line(server: Server, value: str, why: str) -> None:
    with pytest.raises(NovaConfError, match=f"line 4: .*{why}"):
        checked(server, f"device_spec = {value}")
