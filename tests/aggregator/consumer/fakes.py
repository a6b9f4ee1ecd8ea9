"""A store in memory with the contract's atomicity, that can be told to fail; and batches to feed it with."""

from collections.abc import Callable

import msgspec

from aggregator.ownership import taken_over
from aggregator.store import Bad, Progress, Rows, Transaction
from schemas.account import Account, EpochAccount, StreamAccount
from schemas.batch import Block, Envelope
from schemas.codec import encode_batch, encode_body
from schemas.errors import StoreError
from schemas.verbosity import Level, RowClass


class MemoryStore:
    """Commits whole transactions or none; what `fail` says happens before the next commits."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, int]] = []
        self.progress = Progress()
        self.before_commit: Callable[[], None] = lambda: None
        """Called at the beginning of every commit: the moment for somebody else to write."""
        self.failures: list[str] = []
        self.bad: set[str] = set()
        self.opened = 0
        self.closed = False

    def open(self) -> Progress:
        self.opened += 1
        self.closed = False
        return msgspec.convert(msgspec.to_builtins(self.progress), Progress)

    def check(self, rows: list[Rows]) -> list[Bad]:
        return [
            Bad(at, "a text in a column of numbers") for at, one in enumerate(rows) if self._subjects(one) & self.bad
        ]

    def commit(self, transaction: Transaction) -> None:
        if self.closed:
            raise StoreError("closed")
        if self.failures:
            raise StoreError(self.failures.pop(0))
        self.before_commit()
        new = transaction.progress
        taken = taken_over(self.progress.owners, new)
        for one in transaction.rows:
            for block in one.blocks:
                self.rows.extend((block.subject, number) for number in block.ints["number"] if number is not None)
        kept = {(one.topic, one.partition): one for one in (*self.progress.positions, *new.positions)}
        words = {one.publisher: one for one in (*self.progress.words, *new.words)}
        pasts = {one.publisher: one for one in (*self.progress.pasts, *new.pasts)}
        gone = {(run.publisher, run.epoch) for run in new.settled}
        seen = [*self.progress.seen, *new.seen]
        self.progress = Progress(
            new.log_id or self.progress.log_id,
            list(kept.values()),
            [one for one in seen if (one.stream.publisher, one.stream.epoch) not in gone],
            list(words.values()),
            list(pasts.values()),
            owners={**self.progress.owners, **taken},
        )

    def maintain(self, now_ns: int) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    @staticmethod
    def _subjects(rows: Rows) -> set[str]:
        return {block.subject for block in rows.blocks}


def batch(
    publisher: str,
    first: int,
    rows: int,
    *,
    epoch: str = "e1",
    level: Level = Level.STANDARD,
    row_class: RowClass = RowClass.TELEMETRY,
    subject: str = "",
    body: bytes | None = None,
) -> bytes:
    """Give a batch whose rows carry their own numbers."""
    block = Block(
        "oracle",
        subject or publisher,
        [],
        [[""]],
        [0] * rows,
        1_800_000_000_000_000_000 + first,
        [0] + [1] * (rows - 1),
        ints={"number": list(range(first, first + rows))},
    )
    envelope = Envelope(publisher, epoch, row_class, level, first, rows, first)
    return encode_batch(envelope, encode_body([block]) if body is None else body)


def heartbeat(publisher: str, account: Account, *, epoch: str = "e1") -> bytes:
    """Give a heartbeat with a word."""
    return encode_batch(Envelope(publisher, epoch, RowClass.EVENT, Level.ESSENTIAL, 0, 0, 0, account=account), b"")


def account(
    numbered: int, spooled: list[tuple[int, int]], *, word: int = 1, epoch: str = "e1", filtered: int = 0
) -> Account:
    """Give a word about the one stream of these tests."""
    stream = StreamAccount(RowClass.TELEMETRY, Level.STANDARD, numbered + filtered, filtered, 0, numbered, spooled, [])
    return Account(word, [EpochAccount(epoch, "boot", [stream])])
