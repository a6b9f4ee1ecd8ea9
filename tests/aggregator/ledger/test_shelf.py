"""A past state whose devices are made when they are asked for is what all entries in order give."""

import gc
import random
import weakref
from typing import Any

import msgspec
import pytest

from aggregator.ledger import claims, cleaning
from aggregator.ledger.apply import LedgerGapError, apply
from aggregator.ledger.asks import Ask, Pick
from aggregator.ledger.entries import (
    Entry,
    Forgotten,
    GenerationBegun,
    NodeOrdered,
    NodeReached,
    NodeReplaced,
    NodeRun,
    RatioSet,
    Tainted,
    Untainted,
    Verified,
    ViewChanged,
    ViewGone,
)
from aggregator.ledger.facts import Sighting, observe
from aggregator.ledger.model import Taint
from aggregator.ledger.shelf import Lazy, Shelf
from aggregator.ledger.state import State
from aggregator.ledger.words import Effect
from aggregator.views import device_history, device_view
from schemas.device import DeviceKind
from tests.aggregator.ledger.copies import copied, shelved
from tests.aggregator.ledger.worlds import Book, begin, document


def fleet(book: Book, nodes: int = 4) -> None:
    for number in range(nodes):
        node = f"n{number}"
        begin(book, node)
        for slot in range(1, 4):
            gpu = document(DeviceKind.GPU, f"0000:{slot:02x}:00.0", serial=f"{node}-{slot}", group=1)
            book.see(gpu, node)
            book.see(gpu, node, collector="nvml")
    for device in list(book.state.devices.values()):
        book.write(cleaning.attest(book.state, device.id, "op", "new")[0])


def year(book: Book) -> None:
    """Every way in which an entry can be about one device, its node, several nodes, or none."""
    state = book.state
    by_node = {node: list(state.devices_of(node)) for node in state.nodes}
    one, two = by_node["n0"][0], by_node["n2"][0]
    source = next(iter(one.views))
    taint = Taint("r", Effect.DRAIN, "why", "op", 5)

    def write(*entries: Entry) -> None:
        book.write(list(entries))

    write(ViewChanged(one.id, source, {"power_state": "D3hot"}))
    write(Tainted("n1", by_node["n1"][1].id, taint), Tainted("n1", "", taint))
    ask = Ask("t", "job", [Pick(one.id), Pick(two.id)], lease_seconds=60.0)
    book.write(claims.grant(state, ask, "c-1")[0])
    write(ViewChanged(two.id, next(iter(two.views)), {"iommu_group": 7}))
    write(NodeReached("n3", live=False, why="silent"))
    book.write(claims.provision(state, "c-1")[0])
    book.write(claims.confirm(state, "c-1", state.claims["c-1"].epoch, [one.id])[0])
    write(Verified(by_node["n1"][0].id, seen=False), ViewGone(by_node["n1"][2].id, next(iter(by_node["n1"][2].views))))
    write(NodeRun("n1", "n1", "epoch-2", "b2", unverified=True), Verified(by_node["n1"][0].id, seen=True))
    book.see(document(DeviceKind.NVME, "0000:09:00.0", serial="new", group=9), "n3")
    write(NodeOrdered("n3", cordoned="a fan"), RatioSet("vcpus", 2.0))
    moved = document(DeviceKind.GPU, "0000:02:00.0", serial="another", group=1)
    book.write(observe(state, Sighting("n0", "n0", "pci", moved, "b1")))
    write(NodeReplaced("n2", "n9"), Untainted("n1", by_node["n1"][1].id, "r"))
    write(GenerationBegun(7, "restored"))
    book.write(claims.release(state, "c-1")[0])
    book.write(claims.undone(state, "c-1", state.claims["c-1"].epoch, [one.id, two.id])[0])
    write(Forgotten(["c-1"]))


def worlds() -> tuple[Book, list[int]]:
    """A book of a fleet's year, and the sequences in it."""
    book = Book()
    fleet(book)
    began = book.state.sequence
    year(book)
    return book, list(range(began, book.state.sequence + 1))


def at(book: Book, sequence: int) -> State:
    """Every entry until then, one by one."""
    state = State()
    for one in book.written[:sequence]:
        apply(state, one.sequence, one.time_ns, one.entry)
    return state


def told(state: State, device: str) -> tuple[Any, ...]:
    """Everything that an answer says of a device; the others of its group in whatever order."""
    found = state.devices[device]
    view = device_view(state, found)
    view = msgspec.structs.replace(view, together=sorted(view.together), excludes=sorted(view.excludes))
    return view, device_history(state, found), found.views


def test_from_any_snapshot_to_any_moment_it_is_the_same_state() -> None:
    book, moments = worlds()
    for begin_at in moments:
        copy = copied(at(book, begin_at))
        for end in moments[moments.index(begin_at) :]:
            shelf, state = shelved(copy, book.written[begin_at:end]), at(book, end)
            assert {node: one.changed for node, one in state.nodes.items()} == {
                node: one.changed for node, one in shelf.nodes.items()
            }
            shelf.whole()
            assert state.digest() == shelf.digest(), (begin_at, end)
            assert (state.tenants, state.claims_on, list(state.devices)) == (
                shelf.tenants,
                shelf.claims_on,
                list(shelf.devices),
            )
            of, lazily = state.found, shelf.found
            assert (of.groups, of.parts, of.apart) == (lazily.groups, lazily.parts, lazily.apart)
            assert (of.by_key, of.by_source, of.by_slot) == (lazily.by_key, lazily.by_source, lazily.by_slot)
            assert [node.used for node in state.nodes.values()] == [node.used for node in shelf.nodes.values()]


@pytest.mark.parametrize("seed", range(5))
def test_devices_in_any_order_are_told_as_all_entries_tell_them(seed: int) -> None:
    book, moments = worlds()
    chosen = random.Random(seed)
    for _ in range(20):
        begin_at, end = sorted(chosen.sample(moments, 2))
        shelf, state = shelved(copied(at(book, begin_at)), book.written[begin_at:end]), at(book, end)
        names = list(state.devices)
        chosen.shuffle(names)
        for name in names:
            assert told(state, name) == told(shelf, name)


def test_question_about_a_device_makes_its_node_alone() -> None:
    book = Book()
    fleet(book)
    copy = copied(book.state)
    last = book.state.sequence
    for device in list(book.state.devices.values()):
        book.write([Tainted(device.node, device.id, Taint("r", Effect.DRAIN, "why", "op", 5))])
    shelf = shelved(copy, book.written[last:])
    assert 4 == shelf.left
    told(shelf, next(iter(shelf.devices)))
    assert 3 == shelf.left
    shelf.whole()
    assert 0 == shelf.left
    assert book.state.digest() == shelf.digest()


def test_entries_that_are_missing_are_told() -> None:
    book = Book()
    fleet(book)
    copy = copied(book.state)
    device = next(iter(book.state.devices.values()))
    for _ in range(3):
        book.write([Tainted(device.node, device.id, Taint("r", Effect.DRAIN, "why", "op", 5))])
    with pytest.raises(LedgerGapError):
        shelved(copy, book.written[-1:])


def test_nothing_kept_is_an_empty_state() -> None:
    shelf = Shelf()
    shelf.settle()
    shelf.whole()
    assert State().digest() == shelf.digest()


def test_lazy_is_a_dict_whichever_way_it_is_looked_at() -> None:
    """Nobody sees the node that stands for what is not made, whatever way CPython goes."""

    def lazy() -> Lazy[int]:
        made: Lazy[int] = Lazy(lambda node: made.update({"a": 1, "b": 2} if node == "n0" else {"c": 3}), nodes)
        return made

    nodes = {"a": "n0", "b": "n0", "c": "n1"}
    whole = {"a": 1, "b": 2, "c": 3}
    assert whole == dict(lazy())
    assert whole == {**lazy()}
    assert whole == {} | lazy()
    assert [1, 2, 3] == list(lazy().values())
    assert list(whole.items()) == list(lazy().items())
    assert (["a", "b", "c"], 3, True, False) == (list(lazy()), len(lazy()), "b" in lazy(), "d" in lazy())
    assert (2, 2, None, 7) == (lazy()["b"], lazy().get("b"), lazy().get("d"), lazy().get("d", 7))
    assert (3, 7, 3, 7) == (lazy().setdefault("c", 7), lazy().setdefault("d", 7), lazy().pop("c"), lazy().pop("d", 7))
    with pytest.raises(KeyError):
        lazy().pop("d")
    assert ("n1", None, None) == (lazy().node("c"), lazy().node("d"), dict(lazy()).get("d"))


@pytest.mark.parametrize("whole", [False, True])
def test_nothing_keeps_a_state_that_nobody_refers_to(whole: bool) -> None:
    """The collector of garbage never looks at it: it was frozen (`snapshots.load_past`)."""
    book, moments = worlds()
    gc.disable()
    try:
        shelf = shelved(copied(at(book, moments[0])), book.written[moments[0] :])
        told(shelf, next(iter(shelf.devices)))
        if whole:
            shelf.whole()
        gone = weakref.ref(shelf)
        del shelf
        assert gone() is None
    finally:
        gc.enable()
