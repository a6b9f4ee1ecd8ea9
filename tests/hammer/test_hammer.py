"""The hammer, short; and that its reader would see what it looks for."""

import time
from pathlib import Path

import pytest

from aggregator.ledger.entries import ClaimRestored, Confirmed, Granted, Proved, Provisioned, Released, Undone
from aggregator.ledger.model import Evidence, Held
from aggregator.ledger.words import Mode
from tests.hammer.__main__ import hammer
from tests.hammer.reader import Reader


@pytest.mark.slow
@pytest.mark.alone
def test_many_writers_over_http_are_never_given_one_thing_twice(tmp_path: Path) -> None:
    """One device and 64 writers; 64 of an amount and 200 asks; everything at once (invariants 1, 5, 14)."""
    assert "0 violations" in hammer(tmp_path, 100_000, 6.0, time.time_ns() & 0xFFFFFFFF)


def granted(claim: str, *devices: str, vcpus: int = 0) -> Granted:
    """Make the entry of a grant."""
    held = [Held(device, "n1", Mode.PASSTHROUGH, "serial:x:1") for device in devices]
    return Granted(claim, "t", "c", held, {"n1": {"vcpus": vcpus}} if vcpus else {}, 60.0)


def test_reader_sees_a_device_given_twice() -> None:
    """A second grant before the end of the first is told."""
    reader = Reader()
    reader.take(granted("a", "gpu"))
    reader.take(granted("b", "gpu"))
    assert ["gpu is given to b while it is a's"] == reader.problems


def test_reader_sees_that_release_of_what_a_node_was_told_frees_nothing() -> None:
    """Only its node's word ends it, and only a proof makes it fit for another."""
    reader = Reader()
    for entry in (granted("a", "gpu"), Provisioned("a"), Confirmed("a", ["gpu"]), Released("a"), granted("b", "gpu")):
        reader.take(entry)
    assert ["gpu is given to b while it is a's", "gpu is granted to b before it was proved clean"] == reader.problems


def test_reader_lets_pass_what_was_undone_and_proved() -> None:
    """The whole way round is no problem."""
    reader = Reader()
    proof = Proved("gpu", "cleaned", Evidence(0, "evidence", "n1", "serial:x:1", ""))
    for entry in (granted("a", "gpu"), Provisioned("a"), Released("a"), Undone("a", ["gpu"]), proof):
        reader.take(entry)
    reader.take(granted("b", "gpu"))
    assert [] == reader.problems


def test_reader_sees_more_given_than_there_is_and_a_restored_claim_beside_another() -> None:
    """Amounts and checkpoints count as well."""
    reader = Reader({"n1": 4})
    reader.take(granted("a", "gpu", vcpus=3))
    reader.take(granted("b", vcpus=2))
    reader.take(ClaimRestored("z", "t", "c", 1, 9, [Held("gpu", "n1", Mode.DRIVER, "serial:x:1")], 60.0))
    assert ["n1 gives 5 vcpus of 4", "gpu is given to z while it is a's"] == reader.problems
