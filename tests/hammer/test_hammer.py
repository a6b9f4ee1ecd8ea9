"""The hammer, short; and that its reader would see what it looks for."""

import contextlib
import socket
import sqlite3
import time
from pathlib import Path

import msgspec
import pytest
import zstandard

from aggregator.ledger.entries import (
    ClaimRestored,
    Confirmed,
    Fenced,
    Forgotten,
    Granted,
    Proved,
    Provisioned,
    Released,
    Undone,
)
from aggregator.ledger.model import Evidence, Held
from aggregator.ledger.words import Mode
from schemas.claims import Checkpoint, ClaimDevice, ClaimReport, ClaimStep, Step
from tests.hammer.__main__ import hammer
from tests.hammer.machine import Machine
from tests.hammer.reader import Reader


@pytest.mark.slow
@pytest.mark.alone
def test_many_writers_over_http_are_never_given_one_thing_twice(tmp_path: Path) -> None:
    """One device and 64 writers; 64 of an amount and 200 asks; everything at once (invariants 1, 5, 14)."""
    told = hammer(tmp_path, 100_000, 6.0, time.time_ns() & 0xFFFFFFFF, watch=True)
    assert "0 violations" in told
    assert all(f" {what}" in told for what in ("facts", "fenced")), told


def granted(claim: str, *devices: str, vcpus: int = 0, part: str = "serial:x:1") -> Granted:
    """Make the entry of a grant."""
    held = [Held(device, "n1", Mode.PASSTHROUGH, part) for device in devices]
    return Granted(claim, "t", "c", held, {"n1": {"vcpus": vcpus}} if vcpus else {}, 60.0)


def test_reader_reads_rows_that_were_joined(tmp_path: Path) -> None:
    """A long run has old rows joined into compressed ones, in pieces."""
    entries = [Forgotten([f"c-{number}"]) for number in range(3)]
    row = [msgspec.msgpack.encode([(0, one)]) for one in entries]
    joined = zstandard.ZstdCompressor().compress(msgspec.msgpack.encode(row[:2]))
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.db")) as db, db:
        db.execute("CREATE TABLE ledger_entries (first INTEGER, body BLOB)")
        db.executemany("INSERT INTO ledger_entries VALUES (?, ?)", [(1, joined), (3, row[2])])
    assert [] == Reader().read(tmp_path / "ledger.db").problems


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


def test_reader_sees_one_card_given_twice_under_two_names() -> None:
    """What a device is called counts for nothing where its part says who it is."""
    reader = Reader()
    reader.take(granted("a", "gpu-1"))
    reader.take(granted("b", "gpu-2", part="serial:x:2"))
    reader.take(granted("c", "gpu-3"))
    assert ["serial:x:1 is given to c as gpu-3 while it is a's"] == reader.problems


def test_reader_knows_that_amounts_alone_end_with_a_release_or_a_fence() -> None:
    """No node has anything to confirm of them."""
    reader = Reader({"n1": 4})
    proof = Evidence(0, "evidence", "op", "", "")
    for end in (Released("a"), Fenced("a", [], proof)):
        for entry in (granted("a", vcpus=4), Provisioned("a"), end):
            reader.take(entry)
    assert [] == reader.problems


class Spoken(Machine):
    """A machine whose words nobody hears."""

    def _poll(self, kept: Checkpoint | None, reports: list[ClaimReport] | None = None) -> bool:
        return True

    def _publish(self, batches: list[bytes]) -> None:
        pass


def test_a_machine_sees_that_its_card_is_used_twice_or_not_clean(tmp_path: Path) -> None:
    """It goes by its own book, not by the ledger."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path := str(tmp_path / "s"))
        server.listen()
        machine = Spoken(path, "m", 1)
    machine.fails = 0.0
    card = ClaimDevice("gpu", "gpu", "serial:Acme:m-0", "0000:01:00.0", "path/0", "passthrough", 1)
    steps = [ClaimStep(claim, Step.PREPARE, "t", "c", 1, at, [card]) for at, claim in enumerate("abc")]
    machine._step(steps[0], card)
    machine._step(steps[1], card)
    machine._step(msgspec.structs.replace(steps[1], step=Step.UNDO), card)
    machine._step(steps[2], card)
    machine.close()
    told = ["m-0 is to be prepared for b while a uses it", "m-0 is to be prepared for c, not clean after b"]
    assert told == [problem.partition("\n")[0] for problem in machine.problems]
