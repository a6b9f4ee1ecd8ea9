"""The life of nodes: orders, names, other boards and other systems; claims and devices survive all of them."""

import msgspec
import pytest

from aggregator.ledger import claims, cleaning, marks, nodes, uses
from aggregator.ledger.apply import apply
from aggregator.ledger.asks import Ask, ClaimInvalidError, NotGrantedError, Pick
from aggregator.ledger.entries import Granted, NodeReached, NodeRun, NodeSeen, decode_entry, encode_entry
from aggregator.ledger.facts import withdraw
from aggregator.ledger.model import Device, Taint
from aggregator.ledger.nodes import NodeUnknownError
from aggregator.ledger.outside import Use
from aggregator.ledger.state import State, decode_kept, encode_kept
from aggregator.ledger.words import CONFLICT, ClaimState, Effect, Lifecycle, Reach
from aggregator.node_life import Amount, life
from aggregator.placement import catalog
from aggregator.placement.edits import Hypothesis
from aggregator.placement.request import UnknownNameError
from schemas.device import DeviceKind, Document, Part
from tests.aggregator.ledger.worlds import Book, begin, document

GPU, PORT, VF = "0000:01:00.0", "0000:04:00.0", "0000:04:00.1"


def documents() -> list[Document]:
    """A GPU that says who it is, and a port with a function, which do not."""
    return [
        document(DeviceKind.GPU, GPU, serial="G1", group=1),
        document(DeviceKind.NIC, PORT, group=4),
        document(DeviceKind.VF, VF, parent=f"pci:{PORT}", group=5),
    ]


def describe(book: Book, node: str = "n1") -> list[Device]:
    found = [book.see(one, node) for one in documents()]
    return [device for device in found if device is not None]


@pytest.fixture
def book() -> Book:
    made = Book()
    begin(made)
    for device in describe(made):
        made.decide(cleaning.attest(made.state, device.id, "op", "new"))
    return made


def claimed(book: Book, *devices: Device) -> str:
    claim = str(book.decide(claims.grant(book.state, Ask("t1", "vm", [Pick(one.id) for one in devices]), "c-1")))
    book.decide(claims.provision(book.state, claim))
    book.decide(claims.confirm(book.state, claim, book.state.claims[claim].epoch, [one.id for one in devices]))
    return claim


def refused(book: Book, device: Device) -> str:
    with pytest.raises(NotGrantedError) as error:
        claims.grant(book.state, Ask("t1", "vm", [Pick(device.id)]), "c-9")
    return error.value.objections[0].reason


def test_cordoned_node_takes_nothing_new_until_uncordoned(book: Book) -> None:
    gpu = describe(book)[0]
    book.decide(nodes.cordon(book.state, "n1", "bad fan", "op"))
    assert "node.cordoned" == refused(book, gpu)
    assert [] == nodes.cordon(book.state, "n1", "bad fan", "op")[0], "again: nothing new"
    book.decide(nodes.cordon(book.state, "n1", "", "op"))
    claims.grant(book.state, Ask("t1", "vm", [Pick(gpu.id)]), "c-1")


def test_drain_gives_the_claims_that_must_leave_and_takes_nothing_from_them(book: Book) -> None:
    gpu = describe(book)[0]
    claim = claimed(book, gpu)
    found = book.decide(nodes.drain(book.state, "n1", "new kernel", "op"))
    assert [claim] == [one.id for one in found]
    assert (ClaimState.ACTIVE, Lifecycle.ASSIGNED) == (book.state.claims[claim].state, gpu.lifecycle)
    assert "node.draining" == refused(book, describe(book)[2])
    book.decide(nodes.cordon(book.state, "n1", "", "op"))
    assert "" == book.state.nodes["n1"].draining, "uncordon ends a drain too"


def test_drain_without_a_reason_and_unknown_nodes_are_refused(book: Book) -> None:
    with pytest.raises(ClaimInvalidError):
        nodes.drain(book.state, "n1", "", "op")
    with pytest.raises(NodeUnknownError, match="n2"):
        nodes.cordon(book.state, "n2", "why", "op")


def test_maintenance_silences_until_it_ends(book: Book) -> None:
    assert "" == nodes.silenced(book.state, "n1")
    until = book.state.time_ns + 10**9
    book.decide(nodes.maintain(book.state, "n1", until, "new fans", "op"))
    assert "maintenance: new fans" == nodes.silenced(book.state, "n1")
    assert "node.maintenance" == refused(book, describe(book)[0])
    book.decide(nodes.maintain(book.state, "n1", 0, "", "op"))
    assert "" == nodes.silenced(book.state, "n1")
    assert [] == nodes.maintain(book.state, "n1", 0, "", "op")[0]
    for wrong in (1, book.state.time_ns + 2 * nodes.MAX_MAINTENANCE_NS):
        with pytest.raises(ClaimInvalidError):
            nodes.maintain(book.state, "n1", wrong, "", "op")


def told_name(name: str) -> Document:
    return Document(f"node:{name}", DeviceKind.NODE, capabilities={"host_name": name, "cores": 48}, part=Part())


def test_machine_that_calls_itself_otherwise_keeps_id_devices_and_claims(book: Book) -> None:
    claim = claimed(book, describe(book)[0])
    book.see(told_name("gpu-17b"))
    node = book.state.nodes["n1"]
    assert ("gpu-17b", [claim]) == (node.name, [one.id for one in nodes.claims_there(book.state, "n1")])


def test_operators_name_goes_before_the_machines_own(book: Book) -> None:
    book.decide(nodes.rename(book.state, "n1", "rack4-top", "op"))
    book.see(told_name("localhost"))
    assert "rack4-top" == book.state.nodes["n1"].name
    before = book.state.sequence
    book.see(told_name("localhost"))
    assert before == book.state.sequence, "said again, and no news"
    assert book.state.nodes["n1"] is nodes.node_of(book.state, "localhost"), "records may still call it that"
    book.decide(nodes.rename(book.state, "n1", "", "op"))
    assert "localhost" == book.state.nodes["n1"].name


def test_a_name_means_one_node_whoever_uses_it(book: Book) -> None:
    """A mark, a record and a question of what if agree on whom they speak of, and on whom they do not."""
    for name in ("n2", "n3", "n4"):
        begin(book, name)
    book.write([NodeSeen("n2", "twin"), NodeSeen("n3", "twin"), NodeSeen("n4", "old")])
    book.decide(nodes.rename(book.state, "n1", "rack4-top", "op"))
    book.decide(nodes.retire(book.state, "n4", "op"))
    for name in ("n1", "rack4-top", "host-n1"):
        assert "n1" == marks.node_target(book.state, name).node == Hypothesis(book.state).node(name).id
    for name, why in (("twin", "2 nodes are called twin"), ("old", "no node 'old'"), ("", "no node ''")):
        assert nodes.node_of(book.state, name) is None
        with pytest.raises(NodeUnknownError, match=why):
            marks.node_target(book.state, name)
        with pytest.raises(UnknownNameError, match=why):
            Hypothesis(book.state).node(name)
    assert "n4" == marks.node_target(book.state, "n4").node


def test_amounts_of_a_machine_under_both_of_its_ids_are_added_up(book: Book) -> None:
    """And what was granted is told as it was granted: an entry does not change with what follows."""
    begin(book, "n2")
    ask = Ask("t1", "vm", [], {"n1": {"vcpus": 3, "memory_bytes": 5}, "n2": {"vcpus": 4}})
    book.decide(claims.grant(book.state, ask, "c1"))
    granted = encode_entry(book.written[-1].entry)
    book.decide(nodes.replace(book.state, "n1", "n2", "op"))
    assert {"n2": {"vcpus": 7, "memory_bytes": 5}} == book.state.claims["c1"].amounts
    assert granted == encode_entry(next(one.entry for one in book.written if isinstance(one.entry, Granted)))
    again = State()
    for written in book.written:
        apply(again, written.sequence, written.time_ns, written.entry)
    assert book.state.digest() == again.digest()


def test_two_nodes_cannot_have_one_name(book: Book) -> None:
    begin(book, "n2")
    with pytest.raises(ClaimInvalidError, match="already"):
        nodes.rename(book.state, "n2", "host-n1", "op")


def test_another_system_on_the_same_machine_finds_devices_and_claims_again(book: Book) -> None:
    gpu, port, function = describe(book)
    claim = claimed(book, gpu)
    book.write([NodeReached("n1", live=False), NodeRun("n1", "n1", "epoch-new", "b2", unverified=True)])
    assert {Reach.UNVERIFIED} == {device.reach for device in (gpu, port, function)}
    book.write([NodeReached("n1", live=True)])
    assert [gpu, port, function] == describe(book)
    assert {Reach.LIVE} == {device.reach for device in (gpu, port, function)}
    assert (ClaimState.ACTIVE, Lifecycle.ASSIGNED) == (book.state.claims[claim].state, gpu.lifecycle)


def test_decommissioned_node_keeps_its_claims_as_orphans(book: Book) -> None:
    gpu, _, function = describe(book)
    claim = claimed(book, gpu)
    assert [] == list(nodes.orphans(book.state))
    book.write([NodeReached("n1", live=False)])
    assert [("silent", claim, [gpu.id])] == [(one.why, one.claim, one.devices) for one in nodes.orphans(book.state)]
    assert [claim] == [one.id for one in book.decide(nodes.retire(book.state, "n1", "op"))]
    assert ["decommissioned"] == [one.why for one in nodes.orphans(book.state)]
    assert refused(book, function).startswith("reach.")
    book.decide(nodes.retire(book.state, "n1", "op", retired=False))
    book.write([NodeReached("n1", live=True)])
    assert [] == list(nodes.orphans(book.state))


def replay(book: Book) -> State:
    return State.of(decode_kept(encode_kept(book.state.keep())))


@pytest.mark.parametrize("spoke_before", [False, True], ids=["before it speaks", "after it spoke"])
def test_swapped_board_brings_devices_and_claims_along(book: Book, spoke_before: bool) -> None:
    gpu, port, function = describe(book)
    claim = claimed(book, gpu, function)
    book.decide(uses.take(book.state, "nova", "nova", [Use("n1", PORT, "web-1")], 1, "op"))
    book.write([NodeReached("n1", live=False)])
    if spoke_before:
        begin(book, "n2")
        assert not {one.id for one in describe(book, "n2")} & {gpu.id, port.id, function.id}
    book.decide(nodes.replace(book.state, "n1", "n2", "op"))
    if not spoke_before:
        begin(book, "n2")
    assert [gpu.id, port.id, function.id] == [one.id for one in describe(book, "n2")], "no device is there twice"
    assert {"n2"} == {device.node for device in book.state.devices.values()}
    assert 3 == len(book.state.devices)
    assert {Reach.LIVE} == {device.reach for device in book.state.devices.values()}
    assert port.id == function.parent
    assert [claim] == [one.id for one in nodes.claims_there(book.state, "n2")]
    held = book.state.claims[claim].devices
    assert [("n2", one.part_key) for one in (gpu, function)] == [(one.node, one.part) for one in held]
    assert [] == nodes.claims_there(book.state, "n1")
    assert [] == nodes.replace(book.state, "n1", "n2", "op")[0], "again: nothing new"
    assert book.state.digest() == replay(book).digest()


@pytest.mark.parametrize(("recorded", "gone"), [("all", 3), ("first", 1), ("none", 0), ("nothing", 3)])
def test_who_was_seen_under_both_ids_is_what_was_recorded(book: Book, recorded: str, gone: int) -> None:
    """Whatever a later version thinks of it; entries of before it was recorded (`nothing`) keep their meaning."""
    old = describe(book)
    begin(book, "n2")
    new = describe(book, "n2")
    pairs = {one.id: other.id for one, other in zip(old, new, strict=True)}
    (decided,) = nodes.replace(book.state, "n1", "n2", "op")[0]
    *before, twins = msgspec.msgpack.decode(encode_entry(decided))
    assert pairs == twins
    some = {"all": pairs, "first": {old[0].id: new[0].id}, "none": {}}
    fields = [*before, some[recorded]] if recorded in some else before
    book.write([decode_entry(msgspec.msgpack.encode(fields))])
    assert gone == len(set(pairs.values()) - book.state.devices.keys())


def test_device_that_was_claimed_under_the_new_id_stays_a_device_of_its_own(book: Book) -> None:
    """A port that does not say who it is: of a part that does, nobody is given a second one while a claim has it."""
    gpu, port, function = describe(book)
    old = claimed(book, gpu, port)
    book.write([NodeReached("n1", live=False)])
    begin(book, "n2")
    found = describe(book, "n2")
    for device in found:
        book.decide(cleaning.attest(book.state, device.id, "op", "new"))
    assert f"taint.{CONFLICT}" == refused(book, found[0])
    book.decide(claims.grant(book.state, Ask("t2", "vm", [Pick(found[1].id)]), "c-2"))
    book.decide(nodes.replace(book.state, "n1", "n2", "op"))
    assert {old, "c-2"} == {one.id for one in nodes.claims_there(book.state, "n2")}
    assert {gpu.id, port.id, function.id, found[1].id} == book.state.devices.keys()


@pytest.mark.parametrize(
    ("told", "expected"), [({}, "free"), ({"in_use_by": "qemu"}, "foreign"), ({"host_needs": ["swap"]}, "host")]
)
def test_of_what_both_ids_know_of_a_device_the_worse_holds(book: Book, told: dict[str, str], expected: str) -> None:
    gpu = describe(book)[0]
    book.write([NodeReached("n1", live=False)])
    begin(book, "n2")
    twin = book.see(msgspec.structs.replace(documents()[0], capabilities={**documents()[0].capabilities, **told}), "n2")
    assert twin is not None
    twin.taints["hot"] = Taint("hot", Effect.NO_SCHEDULE, "95 C", "rule:hot", 1)
    book.decide(nodes.replace(book.state, "n1", "n2", "op"))
    assert (expected, ["hot"]) == (gpu.lifecycle.value, list(gpu.taints))
    assert {gpu.id} == {one.id for one in book.state.devices.values() if one.part.serial}


def test_tenants_count_stays_right_when_the_new_id_tells_a_claimed_device_otherwise(book: Book) -> None:
    """It was counted while the claim itself was not: with a tenant's only claim there was nothing to count in."""
    gpu = describe(book)[0]
    claimed(book, gpu)
    book.write([NodeReached("n1", live=False)])
    begin(book, "n2")
    book.see(msgspec.structs.replace(documents()[0], capabilities={"memory_bytes": 1 << 30}), "n2")
    book.decide(nodes.replace(book.state, "n1", "n2", "op"))
    assert {gpu.profiles: 1} == dict(book.state.tenants["t1"].profiles)
    book.decide(claims.release(book.state, "c-1", who="t1"))
    book.decide(claims.undone(book.state, "c-1", book.state.claims["c-1"].epoch, [gpu.id]))
    assert "t1" not in book.state.tenants


def test_who_contradicts_a_device_under_its_new_id_contradicts_it_under_the_old_one_too(book: Book) -> None:
    """A machine showed its GPU under another id, and a third one says that it has it: nobody knows who is right."""
    gpu = describe(book)[0]
    book.write([NodeReached("n1", live=False)])
    for node in ("n2", "n3"):
        begin(book, node)
    shown, other = describe(book, "n2")[0], describe(book, "n3")[0]
    assert [CONFLICT in one.taints for one in (gpu, shown, other)] == [False, True, True]
    book.decide(nodes.replace(book.state, "n1", "n2", "op"))
    assert shown.id not in book.state.devices
    assert f"taint.{CONFLICT}" == refused(book, gpu)
    assert all(word in gpu.taints[CONFLICT].evidence for word in ("n2", gpu.id, other.id))


@pytest.mark.parametrize("retired", [False, True])
def test_use_under_the_new_id_is_not_forgotten(book: Book, retired: bool) -> None:
    """It was foreign there and let go: nobody said that it is clean since, whatever the old id knew."""
    gpu = describe(book)[0]
    book.write([NodeReached("n1", live=False)])
    begin(book, "n2")
    twin = describe(book, "n2")[0]
    book.decide(uses.take(book.state, "nova", "nova", [Use("n2", GPU, "web")], 1, "op"))
    book.decide(uses.drop(book.state, "nova", "op"))
    if retired:
        book.decide(cleaning.retire(book.state, [twin.id], "op", "old"))
    book.decide(nodes.replace(book.state, "n1", "n2", "op"))
    assert ("retired" if retired else "dirty") == gpu.lifecycle.value
    assert gpu.evidence is not None
    assert gpu.released > gpu.evidence.sequence


def test_consumed_and_remaining_of_a_node_are_told_and_what_it_does_not_tell_is_absent(book: Book) -> None:
    """R001-4: by the policy of over-commit; what is held stays consumed when the policy shrinks."""
    book.write([NodeSeen("n1", totals={"vcpus": 8, "memory_bytes": 64})])
    book.decide(catalog.set_ratio(book.state, "vcpus", 2.0, "op"))
    ask = Ask("t1", "vm", amounts={"n1": {"vcpus": 10, "memory_bytes": 16}})
    book.decide(claims.grant(book.state, ask, "c-1"))
    told = life(book.state, "n1")
    assert told is not None
    assert {"vcpus": Amount(8, 16, 10, 6), "memory_bytes": Amount(64, 64, 16, 48)} == told.amounts
    book.decide(catalog.set_ratio(book.state, "vcpus", 1.0, "op"))
    told = life(book.state, "n1")
    assert told is not None
    assert Amount(8, 8, 10, 0) == told.amounts["vcpus"]


@pytest.mark.parametrize("was", ["free", "being cleaned"])
def test_what_was_away_and_says_nothing_of_itself_is_not_known_under_another_id_of_its_node(was: str) -> None:
    """Another of its making may be in its slot when the new board shows it."""
    book = Book()
    begin(book)
    port = describe(book)[1]
    decide = cleaning.attest(book.state, port.id, "op", "new") if was == "free" else None
    book.decide(decide or cleaning.begin_clean(book.state, port.id))
    book.write(withdraw(book.state, "n1", next(iter(port.views)), "unplugged"))
    begin(book, "n2")
    book.see(documents()[1], "n2")
    book.decide(nodes.replace(book.state, "n1", "n2", "op"))
    expected = Lifecycle.DIRTY if was == "free" else Lifecycle.QUARANTINED
    assert (expected, Reach.LIVE) == (port.lifecycle, port.reach)
