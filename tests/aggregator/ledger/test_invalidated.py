"""A claim whose devices changed before any node was told of it: all of it is given back, and who changed is named."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.ledger import claims, cleaning
from aggregator.ledger.asks import Ask, Pick
from aggregator.ledger.entries import Invalidated, NodeReached, Verified, decode_entry
from aggregator.ledger.subjects import subjects
from aggregator.ledger.words import ClaimState, Lifecycle
from schemas.device import DeviceKind
from tests.aggregator.ledger.worlds import Book, begin, document

FREE, DIRTY = Lifecycle.FREE, Lifecycle.DIRTY
GPUS = 4


def reserved() -> tuple[Book, list[str]]:
    """Two nodes with four GPUs each, of which one claim has all; give the ids, the first node's first."""
    book = Book()
    ids = []
    for node in ("n1", "n2"):
        begin(book, node)
        for place in range(GPUS):
            serial = f"{node}-{place}"
            device = book.see(document(DeviceKind.GPU, f"0000:0{place}:00.0", serial=serial, group=place), node)
            assert device is not None
            book.decide(cleaning.attest(book.state, device.id, "op", "new"))
            ids.append(device.id)
    book.decide(claims.grant(book.state, Ask("t", "j", [Pick(one) for one in ids]), "c1"))
    return book, ids


@settings(max_examples=60, deadline=None)
@given(doubted=st.sets(st.integers(0, 2 * GPUS - 1)), silent=st.booleans())
def test_every_device_that_changed_is_named_and_dirty_and_the_others_are_free(doubted: set[int], silent: bool) -> None:
    """Whatever changed, in any number: one entry, and what it names is exactly what is not free (invariants 6, 8)."""
    book, ids = reserved()
    book.write([Verified(ids[place], seen=False) for place in doubted])
    if silent:
        book.write([NodeReached("n2", live=False)])
    changed = {ids[place] for place in doubted} | set(ids[GPUS:] if silent else [])
    before = len(book.written)
    told = book.decide(claims.provision(book.state, "c1"))
    (entry,) = [written.entry for written in book.written[before:]]
    assert changed == {objection.device for objection in told}
    if not changed:
        assert ClaimState.PROVISIONING is book.state.claims["c1"].state
        return
    assert isinstance(entry, Invalidated)
    assert changed == {entry.device, *entry.devices}
    assert changed | {"c1"} == subjects(entry)  # the history of each of them has it
    assert changed == {one for one in ids if book.state.devices[one].lifecycle is DIRTY}
    assert set(ids) - changed == {one for one in ids if book.state.devices[one].lifecycle is FREE}
    assert ClaimState.INVALID is book.state.claims["c1"].state
    assert "t" not in book.state.tenants
    assert all(one in book.state.claims["c1"].reason for one in changed)


def test_entry_of_before_it_named_all_is_read_as_it_was_written() -> None:
    """What lies in ledgers: tag, claim, one device, why."""
    book, ids = reserved()
    old = decode_entry(msgspec.msgpack.encode([29, "c1", ids[2], "it is absent"]))
    assert Invalidated("c1", ids[2], "it is absent") == old
    book.write([old])
    assert [DIRTY] == [book.state.devices[ids[2]].lifecycle]
    assert {FREE} == {book.state.devices[one].lifecycle for one in ids if one != ids[2]}


@pytest.mark.parametrize("state", ["provisioning", "over"])
def test_claim_that_a_node_was_told_of_is_not_given_back_by_a_fact(state: str) -> None:
    book, ids = reserved()
    if state == "provisioning":
        book.decide(claims.provision(book.state, "c1"))
    else:
        book.decide(claims.release(book.state, "c1"))
    assert [] == claims.invalidate(book.state, [book.state.devices[one] for one in ids], "gone")
