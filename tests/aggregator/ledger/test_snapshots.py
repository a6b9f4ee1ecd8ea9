"""A snapshot and the entries after it are the state; so is a snapshot that was copied while the state went on."""

import asyncio
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from aggregator.control_sqlite import SqliteControl
from aggregator.ledger import claims, cleaning, journal, snapshots
from aggregator.ledger.asks import Ask, Pick
from aggregator.ledger.copying import Copying
from aggregator.ledger.entries import Entry, NodeOrdered, NodeReplaced, RatioSet, Tainted
from aggregator.ledger.journal import LedgerDamagedError
from aggregator.ledger.keeping import THIN, Keeping
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.model import Taint
from aggregator.ledger.snapshot import encode_head
from aggregator.ledger.snapshot_form import FORM
from aggregator.ledger.state import State, encode_kept
from aggregator.ledger.tables import LEDGER_ENTRIES, LEDGER_SNAPSHOT
from aggregator.ledger.thinning import DAY_NS
from aggregator.ledger.words import Effect
from aggregator.migrate import LEDGER
from schemas.device import DeviceKind
from tests.aggregator.ledger.copies import copied, restored
from tests.aggregator.ledger.worlds import Book, begin, document


def fleet(book: Book, nodes: int = 3) -> None:
    for number in range(nodes):
        node = f"n{number}"
        begin(book, node)
        for slot in range(1, 5):
            address = f"0000:{slot:02x}:00.0"
            book.see(document(DeviceKind.GPU, address, serial=f"{node}-{slot}", group=slot), node)
            book.see(document(DeviceKind.GPU, address, serial=f"{node}-{slot}", group=slot), node, collector="nvml")


def changes(book: Book) -> Iterator[list[Entry]]:
    """Every kind of change that a copy could miss: of a device, a node, all nodes, and what is of neither."""
    devices = list(book.state.devices.values())
    yield cleaning.attest(book.state, devices[0].id, "op", "new")[0]
    yield claims.grant(book.state, Ask("t", "job", [Pick(devices[0].id)], lease_seconds=60.0), "c-1")[0]
    yield [NodeOrdered("n1", cordoned="a fan")]
    yield [Tainted("n2", devices[-1].id, Taint("r", Effect.DRAIN, "why", "op", 5))]
    yield [RatioSet("vcpus", 2.0)]
    yield [NodeReplaced("n0", "n9")]
    yield [Tainted("n9", "", Taint("r", Effect.NO_SCHEDULE, "why", "op", 5))]


def test_snapshot_gives_the_same_state() -> None:
    book = Book()
    fleet(book)
    for change in changes(book):
        book.write(change)
        again = restored(copied(book.state))
        assert again.digest() == book.state.digest()
        assert (
            again.found.groups,
            again.found.by_part,
            again.found.by_source,
            again.found.by_slot,
            again.found.parts,
        ) == (
            book.state.found.groups,
            book.state.found.by_part,
            book.state.found.by_source,
            book.state.found.by_slot,
            book.state.found.parts,
        )


def test_what_changes_while_it_is_copied_is_in_the_copy() -> None:
    book = Book()
    fleet(book, nodes=40)
    copying = Copying(book.state)
    copy, waiting = None, changes(book)
    while copy is None:
        copy = copying.step(0.0001)
        if copy is None:
            book.write(next(waiting, []))
    assert next(waiting, None) is None, "the copy was done before everything had changed"
    assert copy.sequence == book.state.sequence
    assert restored(copy).digest() == book.state.digest()
    assert book.state.listeners == []


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteControl]:
    made = SqliteControl(tmp_path / "ledger.db", schema=LEDGER)
    made.open()
    yield made
    asyncio.run(made.close())


async def opened(database: SqliteControl, recent_ns: int = DAY_NS) -> tuple[Ledger, Keeping]:
    ledger = Ledger(database, "here")
    await ledger.open()
    return ledger, Keeping(ledger, least=5, join=8, recent_ns=recent_ns)


async def filled(database: SqliteControl, recent_ns: int = DAY_NS) -> tuple[Ledger, dict[int, str]]:
    """A ledger with snapshots and joined rows in it; give the hash of the state at every sequence."""
    book = Book()
    fleet(book)
    for change in changes(book):
        book.write(change)
    ledger, keeping = await opened(database, recent_ns)
    hashes = {}
    for one in book.written:
        await ledger.decide(lambda _, entry=one.entry: ([entry], None))  # type: ignore[misc]
        hashes[one.sequence] = ledger.peek().digest()
        await keeping.tend()
    assert keeping.status.snapshots > 3
    assert keeping.status.joined_rows > 8
    assert (keeping.status.thinned > 3) is (recent_ns == 0)
    return ledger, hashes


def test_any_past_state_is_what_it_was(database: SqliteControl) -> None:
    async def run() -> None:
        ledger, hashes = await filled(database)
        for sequence, digest in hashes.items():
            state = await database.read(partial(snapshots.load, until=sequence))
            assert digest == state.digest(), sequence
        await ledger.close()

    asyncio.run(run())


def test_any_past_state_is_what_it_was_over_thinned_snapshots(database: SqliteControl) -> None:
    """Whether it is read at once or as it is asked for; and no answer replays more than it may."""

    async def run() -> None:
        ledger, hashes = await filled(database, recent_ns=0)
        left = await database.read(snapshots.complete)
        assert all(later - earlier <= THIN * 5 for earlier, later in pairwise(left))
        for sequence, digest in hashes.items():
            assert digest == (await database.read(partial(snapshots.load, until=sequence))).digest(), sequence
            past = await database.read(partial(snapshots.load_past, until=sequence))
            past.whole()
            assert digest == past.digest(), sequence
        await ledger.close()

    asyncio.run(run())


def test_restart_gives_the_same_state(database: SqliteControl) -> None:
    async def run() -> None:
        ledger, hashes = await filled(database)
        await ledger.close()
        again, _ = await opened(database)
        assert hashes[max(hashes)] == again.peek().digest()
        await again.close()

    asyncio.run(run())


def test_incomplete_snapshot_is_none(database: SqliteControl) -> None:
    """Its part 0 is not there: whoever wrote it did not come to the end."""

    async def run() -> None:
        ledger, hashes = await filled(database)
        newest = (await database.read(snapshots.complete))[-1]
        part = LEDGER_SNAPSHOT.c
        await database.write(
            lambda c: c.execute(delete(LEDGER_SNAPSHOT).where(part.sequence == newest, part.part == 0))
        )
        state = await database.read(snapshots.load)
        assert hashes[max(hashes)] == state.digest()
        await ledger.close()

    asyncio.run(run())


@pytest.mark.parametrize("damage", [b"", b"nonsense", encode_head(0, 0, 0, encode_kept(State().keep()))])
def test_damaged_snapshots_are_passed_over(database: SqliteControl, damage: bytes) -> None:
    """The entries hold everything: a snapshot only saves time."""

    async def run() -> None:
        ledger, hashes = await filled(database)
        await database.write(
            lambda c: c.execute(update(LEDGER_SNAPSHOT).where(LEDGER_SNAPSHOT.c.part == 1).values(body=damage))
        )
        state = await database.read(snapshots.load)
        assert hashes[max(hashes)] == state.digest()
        await ledger.close()

    asyncio.run(run())


def test_snapshot_of_another_form_is_passed_over(database: SqliteControl) -> None:
    async def run() -> None:
        ledger, hashes = await filled(database)
        strange = snapshots.pack([bytes([0x95, FORM + 1]) + bytes(4)], [])[0]
        await database.write(
            lambda c: c.execute(update(LEDGER_SNAPSHOT).where(LEDGER_SNAPSHOT.c.part == 0).values(body=strange))
        )
        state = await database.read(snapshots.load)
        assert hashes[max(hashes)] == state.digest()
        await ledger.close()

    asyncio.run(run())


def test_joined_rows_are_a_few_and_give_the_same_entries(database: SqliteControl) -> None:
    async def run() -> None:
        ledger, hashes = await filled(database)
        read = await database.read(lambda connection: list(journal.read(connection, 0)))
        assert [one.sequence for one in read] == sorted(hashes)
        middle = len(hashes) // 2
        some = await database.read(lambda connection: list(journal.read(connection, middle, until=middle + 3)))
        assert some == read[middle : middle + 3]
        await ledger.close()

    asyncio.run(run())


def test_history_is_found_in_joined_rows(database: SqliteControl) -> None:
    async def run() -> None:
        ledger, _ = await filled(database)
        device = next(iter(ledger.peek().devices))
        every = await database.read(lambda connection: list(journal.read(connection, 0)))
        told = await database.read(lambda connection: list(journal.about(connection, [device])))
        assert told == [one for one in every if device in str(one.entry)]
        assert await database.read(lambda connection: list(journal.about(connection, ["gpu-nowhere"]))) == []
        await ledger.close()

    asyncio.run(run())


def test_rows_are_not_read_while_they_are_too_few_to_be_joined(database: SqliteControl) -> None:
    """It is asked every few seconds, and reading them takes a second of a core in the end."""

    async def run() -> None:
        ledger = Ledger(database, "here")
        await ledger.open()
        for number in range(7):
            await ledger.decide(lambda _, number=number: ([RatioSet("vcpus", 1.0 + number)], None))  # type: ignore[misc]
        await database.write(lambda connection: connection.execute(update(LEDGER_ENTRIES).values(body=b"spoilt")))
        assert await database.read(partial(journal.join, entries=8)) is None
        with pytest.raises(LedgerDamagedError):
            await database.read(partial(journal.join, entries=7))
        await ledger.close()

    asyncio.run(run())


def test_time_gives_the_last_entry_decided_until_then(database: SqliteControl) -> None:
    async def run() -> None:
        now = iter(range(1000, 10_000))
        ledger = Ledger(database, "here", clock=lambda: next(now))
        await ledger.open()
        for number in range(12):
            await ledger.decide(lambda _, number=number: ([RatioSet("vcpus", 1.0 + number)] * 2, None))  # type: ignore[misc]
        await Keeping(ledger, join=8).join()
        for time_ns, sequence in ((0, 0), (999, 0), (1000, 2), (1001, 4), (1005, 12), (99_999, 24)):
            assert sequence == await database.read(partial(journal.sequence_at, time_ns=time_ns)), time_ns
        await ledger.close()

    asyncio.run(run())
