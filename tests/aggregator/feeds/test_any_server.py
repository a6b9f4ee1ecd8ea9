"""Whatever a server looks like, what the feed names cannot break isolation, and the checker finds nothing in it."""

from hypothesis import given
from hypothesis import strategies as st

from aggregator.feeds import nova, nova_conf
from aggregator.feeds.isolation import Policy
from aggregator.feeds.nova_check import check
from aggregator.ledger import claims, uses
from aggregator.ledger.asks import Ask, NotGrantedError, Pick
from aggregator.ledger.entries import Passed, VariantSet
from aggregator.ledger.model import Variant
from aggregator.ledger.outside import Use
from aggregator.ledger.relations import together
from aggregator.ledger.words import Lifecycle, Reach
from schemas.device import DeviceKind
from tests.aggregator.ledger.worlds import Book, begin, document

FATES = ("dirty", "free", "claimed", "seen", "recorded", "nova", "host", "retired", "absent", "bridge")
MEMBER = st.tuples(st.integers(0, 3), st.sampled_from(FATES), st.booleans())
"""Group, what became of it, and whether a variant names it."""


def world(members: list[tuple[int, str, bool]]) -> Book:
    """Make a server of such functions, addresses in their order."""
    book = Book()
    begin(book)
    book.write([VariantSet(Variant("v", DeviceKind.GPU, "10de", "1db4"))])
    for number, (group, fate, named) in enumerate(members):
        more: dict[str, object] = {"pci_device_id": "1db4" if named else "ffff"}
        if fate == "seen":
            more["in_use_by"] = ["qemu/9"]
        if fate == "host":
            more["host_needs"] = ["swap"]
        if fate == "bridge":
            more["bridge"] = True
        address = f"0000:{number:02x}:00.0"
        device = book.see(document(DeviceKind.GPU, address, serial=f"s{number}", group=group, **more))  # type: ignore[arg-type]
        assert device is not None
        if fate in ("free", "claimed", "absent"):
            book.write([Passed(device.id, "attested")])
        if fate in ("recorded", "nova"):
            kind = "nova" if fate == "nova" else "libvirt"
            book.decide(uses.take(book.state, f"r{number}", kind, [Use("n1", address, "vm")], 1, "op"))
        if fate == "retired":
            book.write([Passed(device.id, "retired")])
    for number, (_, fate, _) in enumerate(members):
        device = next(one for one in book.state.devices.values() if one.slot.address == f"0000:{number:02x}:00.0")
        if fate == "claimed":
            try:
                book.decide(claims.grant(book.state, Ask("t1", "vm", [Pick(device.id)]), f"c{number}"))
            except NotGrantedError:
                continue
        if fate == "absent":
            device.reach = Reach.ABSENT
    return book


@given(st.lists(MEMBER, max_size=8), st.sampled_from(list(Policy)), st.booleans())
def test_what_the_feed_names_cannot_break_isolation(
    members: list[tuple[int, str, bool]], policy: Policy, held: bool
) -> None:
    book = world(members)
    made = nova.feed(book.state, book.state.nodes.values(), policy, held=held)
    listed = {spec.address: spec for node in made.nodes for spec in node.device_spec}
    by_address = {device.slot.address: device for device in book.state.devices.values()}
    for address, spec in listed.items():
        device = by_address[address]
        assert device.lifecycle in (Lifecycle.FREE, Lifecycle.RESERVED, Lifecycle.FOREIGN)
        assert not device.is_bridge
        assert held or device.hold is None
        for other in together(book.state, device):
            if other.slot.address in listed:
                assert policy is Policy.WHOLE_GROUPS
                assert spec.resource_class == listed[other.slot.address].resource_class != ""
            elif other.lifecycle in (Lifecycle.HOST, Lifecycle.DIRTY):
                assert other.reach is Reach.ABSENT
            elif other.lifecycle is Lifecycle.FOREIGN:
                assert {"nova"} == {book.state.records[one].kind for one in book.state.recorded[other.id]}
    named = {device.slot.address for device in by_address.values() if device.get("pci_device_id") == "1db4"}
    told = {skipped.address for node in made.nodes for skipped in node.skipped}
    bridges = {device.slot.address for device in by_address.values() if device.is_bridge}
    assert named - bridges == told | listed.keys(), "each is handed on, or it is said why not"
    found = check(book.state, book.state.nodes.values(), nova_conf.read(nova.nova_conf(made)), held=held)
    assert [] == [finding for finding in found.findings if finding.severity == "broken"]
    assert len(listed) == found.listed
