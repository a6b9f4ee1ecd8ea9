"""Nodes of one make take the memory of one, as far as they say the same; and nothing that is equal looks different."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from aggregator.ledger.facts import Sighting, observe
from aggregator.ledger.keeping import Keeping
from aggregator.ledger.model import Profile, View
from aggregator.ledger.sharing import Capabilities, Sharing
from schemas.device import DeviceKind, Part, Slot, Value
from tests.aggregator.ledger.rig import opened, settle
from tests.aggregator.ledger.worlds import Book, begin, document

ADDRESS = "0000:01:00.0"
values: st.SearchStrategy[Value] = st.one_of(
    st.booleans(), st.integers(0, 2), st.sampled_from([0.0, 1.0]), st.sampled_from("01"), st.lists(st.just("x"))
)
told = st.dictionaries(st.sampled_from("abcd"), values)


def _views(book: Book) -> list[View]:
    return [view for device in book.state.devices.values() for view in device.views.values()]


def test_devices_of_two_nodes_that_say_the_same_share_it() -> None:
    book = Book()
    for node in ("n1", "n2"):
        begin(book, node)
        book.see(document(DeviceKind.NIC, ADDRESS, group=3, mac=f"of {node}"), node)
        book.see(document(DeviceKind.GPU, "0000:02:00.0", group=4), node)
    nic, gpu, other_nic, other_gpu = _views(book)
    assert gpu.own is other_gpu.own
    assert gpu.slot is other_gpu.slot
    assert nic.own != other_nic.own
    assert [f"of {node}" for node in ("n1", "n2")] == [nic.own["mac"], other_nic.own["mac"]]
    one, other = (device for device in book.state.devices.values() if device.kind is DeviceKind.GPU)
    assert one.capabilities is other.capabilities


async def test_what_is_told_after_a_restart_shares_with_what_was_read(tmp_path: Path) -> None:
    """A node that comes new, and a device that comes back, take no memory for what a snapshot told already."""
    path = tmp_path / "ledger.db"

    def fleet(book: Book) -> None:
        begin(book, "n9")
        book.see(document(DeviceKind.GPU, "0000:09:00.0", group=4), "n9")

    async with opened(path) as ledger:
        await settle(ledger, change=fleet)
        assert await Keeping(ledger).snapshot()
    async with opened(path) as ledger:
        gpu = document(DeviceKind.GPU, "0000:09:00.0", group=4)
        await ledger.decide(lambda state: (observe(state, Sighting("new", "new", "pci", gpu, "b1")), None))
        (old,), (new,) = (list(ledger.peek().devices_of(node)) for node in ("n9", "new"))
        (one,), (other,) = old.views.values(), new.views.values()
        assert one.own is other.own
        assert one.slot is other.slot
        assert old.capabilities is new.capabilities
        assert [True] == [mine is its for mine, its in zip(one.keys, other.keys, strict=True)]


def test_change_of_one_device_is_not_seen_at_another() -> None:
    book = Book()
    for node in ("n1", "n2"):
        begin(book, node)
        book.see(document(DeviceKind.GPU, ADDRESS, driver="nvidia"), node)
    changed = book.see(document(DeviceKind.GPU, ADDRESS, driver="vfio-pci"), "n2")
    assert changed is not None
    assert ["nvidia", "vfio-pci"] == [one.get("driver") for one in book.state.devices.values()]


@given(st.lists(st.tuples(told, st.sampled_from(["n1", "n2", "p"])), min_size=1))
def test_what_is_shared_is_equal_to_what_was_told_types_and_all(all_told: list[tuple[dict[str, Value], str]]) -> None:
    sharing = Sharing()
    for own, publisher in all_told:
        view = View(publisher, "pci", "pci:1", 0, Slot(path="p"), "s", "", "", ["serial:s", "pci:1"], own)
        shared = sharing.view(view, "n1")
        assert view == shared
        assert [type(value) for value in own.values()] == [type(value) for value in shared.own.values()]
        assert shared is sharing.view(shared, "n1") or shared == sharing.view(shared, "n1")


@given(told, told)
def test_capabilities_are_those_of_the_making_with_its_own_on_top(
    making: dict[str, Value], own: dict[str, Value]
) -> None:
    profile = Profile(DeviceKind.GPU, Part(), making)
    view = View("n1", "pci", "pci:1", 0, own=own)
    found, expected = Sharing().capabilities(view, [profile]), {**making, **own}
    assert expected == found
    assert expected == dict(found)
    assert len(expected) == len(found)
    assert [name in expected for name in "abcde"] == [name in found for name in "abcde"]
    assert [expected.get(name) for name in "abcde"] == [found.get(name) for name in "abcde"]
    assert isinstance(found, Capabilities)
