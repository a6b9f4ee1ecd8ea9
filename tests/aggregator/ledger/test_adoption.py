"""Adoption: what waits, why, and whose word makes it free."""

import pytest

from aggregator.ledger import adoption, claims, cleaning, uses
from aggregator.ledger.asks import Ask, ClaimInvalidError, NotGrantedError, Pick
from aggregator.ledger.entries import NodeReached, Proved
from aggregator.ledger.facts import FIRST_SIGHT_POLICIES, Sighting, observe, withdraw
from aggregator.ledger.model import Device
from aggregator.ledger.outside import Use
from aggregator.ledger.transitions import TransitionError
from aggregator.ledger.words import Lifecycle
from schemas.device import DeviceKind
from tests.aggregator.ledger.worlds import Book, begin, document

ADDRESSES = [f"0000:{number:02x}:00.0" for number in range(1, 5)]


@pytest.fixture
def book() -> Book:
    made = Book()
    begin(made)
    for address in ADDRESSES[:3]:
        made.see(document(DeviceKind.GPU, address, serial=address))
    made.see(document(DeviceKind.PCI_FUNCTION, ADDRESSES[3], bridge=True))
    return made


def devices(book: Book) -> list[Device]:
    return list(book.state.devices.values())


def test_what_waits_says_why_and_bridges_do_not(book: Book) -> None:
    book.decide(uses.take(book.state, "nova", "nova", [Use("n1", ADDRESSES[1], "web-1")], 1, "op"))
    found = adoption.waiting(book.state, devices(book))
    assert [
        (ADDRESSES[0], "dirty", "nobody said that it is clean", True),
        (ADDRESSES[1], "foreign", "in use by web-1 (recorded by nova)", False),
        (ADDRESSES[2], "dirty", "nobody said that it is clean", True),
    ] == [(one.address, one.lifecycle, one.why, one.attestable) for one in found]


def test_one_word_for_many_is_one_entry_each_with_statement_and_part(book: Book) -> None:
    chosen = devices(book)[:3]
    entries, names = adoption.attest(book.state, chosen, "token:ops", "new, from the factory")
    assert [device.id for device in chosen] == names
    proofs = [entry.evidence for entry in entries if isinstance(entry, Proved) and entry.cause == "attested"]
    assert [(device.part_key, "token:ops") for device in chosen] == [(proof.part, proof.who) for proof in proofs]
    assert all("from the factory" in proof.document for proof in proofs)
    book.write(entries)
    assert [Lifecycle.FREE] * 3 == [device.lifecycle for device in chosen]
    assert [] == adoption.waiting(book.state, devices(book))


def test_all_or_none(book: Book) -> None:
    with pytest.raises(TransitionError):
        adoption.attest(book.state, devices(book), "op", "the bridge is the host's")
    with pytest.raises(ClaimInvalidError, match="statement"):
        adoption.attest(book.state, devices(book)[:3], "op", " ")
    with pytest.raises(ClaimInvalidError, match="nothing"):
        adoption.attest(book.state, [], "op", "new")


def test_what_a_claim_left_dirty_is_not_adopted(book: Book) -> None:
    chosen = devices(book)[:1]
    book.decide(adoption.attest(book.state, chosen, "op", "new"))
    book.decide(claims.grant(book.state, Ask("t1", "vm", [Pick(chosen[0].id)]), "c-1"))
    book.decide(claims.provision(book.state, "c-1"))
    book.decide(claims.release(book.state, "c-1"))
    assert Lifecycle.DIRTY is chosen[0].lifecycle
    assert not adoption.is_waiting(chosen[0])


@pytest.mark.parametrize(("word", "expected"), [("dirty", Lifecycle.DIRTY), ("free", Lifecycle.FREE)])
def test_policy_decides_only_what_nobody_uses(word: str, expected: Lifecycle) -> None:
    book = Book()
    begin(book)
    told = Use("n1", ADDRESSES[1], "web-1")
    book.decide(uses.take(book.state, "nova", "nova", [told], 1, "op"))
    found = []
    for address, more in ((ADDRESSES[0], {}), (ADDRESSES[1], {}), (ADDRESSES[2], {"vfio_in_use": True})):
        one = document(DeviceKind.GPU, address, serial=address, **more)  # type: ignore[arg-type]
        book.write(observe(book.state, Sighting("n1", "n1", "pci", one, "b1"), FIRST_SIGHT_POLICIES[word]))
        found.append(devices(book)[-1].lifecycle)
    assert [expected, Lifecycle.FOREIGN, Lifecycle.FOREIGN] == found


def test_word_does_not_reach_what_was_in_use_or_replaced_since_it_was_looked_at(book: Book) -> None:
    """A word about first sight that comes late frees no later tenant's dirt, and no other card."""
    first, second, third = devices(book)[:3]
    looked = book.state.sequence
    book.decide(cleaning.attest(book.state, first.id, "op", "new"))
    book.decide(claims.grant(book.state, Ask("t2", "vm", [Pick(first.id)]), "c-1"))
    book.decide(claims.provision(book.state, "c-1"))
    book.decide(claims.release(book.state, "c-1"))
    book.decide(claims.undone(book.state, "c-1", book.state.claims["c-1"].epoch, [first.id]))
    book.write(withdraw(book.state, "n1", next(iter(second.views)), "pulled"))
    assert second is book.see(document(DeviceKind.GPU, "0000:09:00.0", serial=ADDRESSES[1]))
    for device in (first, second):
        with pytest.raises(NotGrantedError, match="look again"):
            adoption.attest(book.state, [third, device], "op", "new", looked)
    with pytest.raises(ClaimInvalidError, match="look again"):
        adoption.attest(book.state, [third], "op", "new", book.state.sequence + 1)
    adoption.attest(book.state, [third], "op", "new", looked)
    adoption.attest(book.state, [first, second, third], "op", "wiped", book.state.sequence)


def test_nobody_vouches_for_what_is_not_there(book: Book) -> None:
    """A word given unseen would be about whatever is in its slot next."""
    pulled = devices(book)[0]
    book.write(withdraw(book.state, "n1", next(iter(pulled.views)), "pulled"))
    with pytest.raises(NotGrantedError, match=f"is absent.*muster clean {pulled.id} --retire"):
        cleaning.attest(book.state, pulled.id, "op", "new")
    book.see(document(DeviceKind.GPU, ADDRESSES[0], serial=ADDRESSES[0]))
    book.decide(cleaning.attest(book.state, pulled.id, "op", "new"))
    assert Lifecycle.FREE is pulled.lifecycle


def test_what_a_fenced_claim_left_is_vouched_for_once_its_node_speaks(book: Book) -> None:
    """Whoever fenced it was wrong, maybe: the node shows what it keeps when it is back, before anybody gets it."""
    gpu, other = devices(book)[:2]
    book.decide(cleaning.attest(book.state, gpu.id, "op", "new"))
    book.decide(claims.grant(book.state, Ask("t1", "vm", [Pick(gpu.id)]), "c-1"))
    book.decide(claims.provision(book.state, "c-1"))
    book.write([NodeReached("n1", live=False)])
    book.decide(cleaning.fence(book.state, "n1", "op", now_ns=0, statement="I pulled the plug"))
    with pytest.raises(NotGrantedError, match="was claim c-1's, and node host-n1 is silent"):
        cleaning.attest(book.state, gpu.id, "op", "wiped")
    cleaning.attest(book.state, other.id, "op", "no claim ever had it")
    book.write([NodeReached("n1", live=True)])
    book.decide(cleaning.attest(book.state, gpu.id, "op", "wiped"))
    assert Lifecycle.FREE is gpu.lifecycle
