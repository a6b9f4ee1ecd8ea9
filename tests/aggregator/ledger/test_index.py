"""What finds devices: the same whatever way led there, and cheap where a key has one device only."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from aggregator.ledger.apply import apply
from aggregator.ledger.entries import Joined, ViewGone
from aggregator.ledger.facts import withdraw
from aggregator.ledger.index import Ids, Index
from aggregator.ledger.state import State, decode_kept, encode_kept
from schemas.device import DeviceKind
from tests.aggregator.ledger.copies import copied, restored
from tests.aggregator.ledger.test_shelf import at, worlds
from tests.aggregator.ledger.worlds import Book, begin, document

BOOK, MOMENTS = worlds()

PORT, FIRST, SECOND = "0000:01:00.0", "0000:01:00.1", "0000:01:00.2"

changes = st.lists(st.tuples(st.booleans(), st.sampled_from("xy"), st.sampled_from(["a", "b", "c"])))


@given(changes)
def test_ids_are_found_by_key_in_the_order_in_which_they_came(steps: Sequence[tuple[bool, str, str]]) -> None:
    ids: Ids[str] = Ids()
    plain: dict[str, list[str]] = {}
    for adding, key, device in steps:
        found = plain.setdefault(key, [])
        if adding:
            ids.add(key, device)
            found += [device] if device not in found else []
        else:
            ids.remove(key, device)
            found[:] = [one for one in found if one != device]
    assert {key: found for key, found in plain.items() if found} == {
        key: list(ids.get(key)) for key in plain if ids.get(key)
    }
    fresh: Ids[str] = Ids()
    for key, found in plain.items():
        for device in reversed(found):
            fresh.add(key, device)
    assert fresh == ids


def test_copy_changes_on_its_own() -> None:
    book = _family()
    before, twin = Index.of(book.state.devices.values()), book.state.found.copy()
    for device in list(book.state.devices.values()):
        twin.remove(device)
    assert before.by_source == book.state.found.by_source
    assert Index().by_source == twin.by_source
    assert Index().apart == twin.apart


def _family() -> Book:
    """Two functions that were seen before the port of which they are."""
    book = Book()
    begin(book)
    for address in (FIRST, SECOND):
        book.see(document(DeviceKind.VF, address, parent=f"pci:{PORT}"))
    return book


def test_parts_that_wait_are_joined_in_the_order_of_first_sight_once_their_whole_is_seen() -> None:
    for again in (False, True):
        book = _family()
        first, second = book.state.devices.values()
        if again:  # what finds them was built anew, as after a restart
            book.state = State.of(decode_kept(encode_kept(book.state.keep())))
        before = len(book.written)
        port = book.see(document(DeviceKind.NIC, PORT))
        assert port is not None
        joined = [one.entry for one in book.written[before:] if isinstance(one.entry, Joined)]
        assert [Joined(first.id, port.id), Joined(second.id, port.id)] == joined
        assert Index().apart == book.state.found.apart
        assert [first.id, second.id] == list(book.state.found.parts.get(port.id))


def test_part_that_is_gone_for_good_waits_no_more_than_it_is_found() -> None:
    book = _family()
    first, _ = book.state.devices.values()
    book.write(withdraw(book.state, "n1", next(iter(first.views)), "unplugged"))
    fresh = Index.of(book.state.devices.values())
    assert (fresh.apart, fresh.by_source, fresh.by_slot) == (
        book.state.found.apart,
        book.state.found.by_source,
        book.state.found.by_slot,
    )


def tables(state: State) -> tuple[object, ...]:
    """Everything that finds devices."""
    found = state.found
    return found.by_key, found.by_source, found.by_part, found.by_slot, found.groups, found.parts, found.apart


@given(st.data())
def test_what_is_found_does_not_depend_on_when_it_was_first_asked_for(data: st.DataObject) -> None:
    """Made at once for a whole state, node by node as somebody asks, or entry by entry: the same."""
    begin_at, end = sorted(data.draw(st.lists(st.sampled_from(MOMENTS), min_size=2, max_size=2)))
    asked = data.draw(st.dictionaries(st.integers(begin_at, end), st.sampled_from([*BOOK.state.nodes])))
    state = restored(copied(at(BOOK, begin_at)))
    for one in BOOK.written[begin_at:end]:
        if one.sequence in asked:
            state.found.by_slot.get((asked[one.sequence], ""))
        apply(state, one.sequence, one.time_ns, one.entry)
    assert tables(at(BOOK, end)) == tables(state)


def test_copy_of_what_nobody_asked_for_yet_changes_on_its_own() -> None:
    state = restored(copied(BOOK.state))
    twin = state.found.copy()
    device = next(iter(state.devices.values()))
    twin.remove(device)
    assert tables(BOOK.state) == tables(state)
    twin.add(device)
    assert state.found.by_source == twin.by_source
    assert state.found.by_part == twin.by_part


def test_part_that_came_back_to_its_slot_is_the_one_found_there_after_a_restart_too() -> None:
    book = Book()
    begin(book)
    first, second = (document(DeviceKind.GPU, PORT, serial=serial) for serial in ("A", "B"))
    back = [book.see(one) for one in (first, second, first)][-1]
    assert back is not None
    source = next(iter(back.views))
    state = restored(copied(book.state))
    assert back.id == book.state.found.by_source.get(("n1", source)) == state.found.by_source.get(("n1", source))
    assert [ViewGone(back.id, source, "unplugged")] == withdraw(state, "n1", source, "unplugged")
