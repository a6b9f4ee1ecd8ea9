"""The store: where telemetry, logs and events stay, and what answers queries.

A store keeps the rows, and in the same transaction how far the log has been read and which row numbers of which stream
have been dealt with. So a crash at any moment leaves the two in step, and a repetition is known for what it is. There
also is the epoch under which each partition is owned: an owner that was replaced and does not know it stores nothing.
"""

from enum import IntEnum
from typing import Protocol

import msgspec

from aggregator.past import Past
from schemas.account import Account
from schemas.batch import Block
from schemas.verbosity import Level, RowClass


class Outcome(IntEnum):
    """What became of rows at a consumer. The number is stored; never change it."""

    DONE = 0
    FILTERED = 1
    """Above the level that the consumer keeps."""
    QUARANTINED = 2


class Stream(msgspec.Struct, frozen=True, order=True, gc=False):
    """One class and level of one epoch of one publisher."""

    publisher: str
    epoch: str
    row_class: RowClass
    level: Level


class Seen(msgspec.Struct, frozen=True, gc=False):
    """Rows of one stream that were dealt with, and how."""

    stream: Stream
    first: int
    end: int
    outcome: Outcome


class Position(msgspec.Struct, frozen=True, gc=False):
    """Every record of a partition below `offset` has been dealt with."""

    topic: str
    partition: int
    offset: int


class Run(msgspec.Struct, frozen=True, order=True, gc=False):
    """One epoch of one publisher."""

    publisher: str
    epoch: str


class Ended(msgspec.Struct, frozen=True, gc=False):
    """That a run is over."""

    at_ns: int
    """When the log took the first word that spoke so of it."""
    drained: bool
    """A later run told that nothing of it is left; else a later run told nothing of it."""


class Word(msgspec.Struct, frozen=True):
    """The latest account that a publisher gave of itself, and when the log took it. One is kept for each publisher."""

    publisher: str
    epoch: str
    """The live epoch, that gave it."""
    received_ns: int
    account: Account
    """What it said, merged with what it had said before and need not repeat (settled epochs, dropped rows)."""
    named: list[str] = []
    """The epochs that it named itself: rows spooled under any other epoch are stranded."""
    ended: dict[str, Ended] = {}
    """The epochs that are over, as this word and those before tell."""


class Progress(msgspec.Struct):
    """What a consumer has dealt with, as committed."""

    log_id: str = ""
    positions: list[Position] = []
    seen: list[Seen] = []
    words: list[Word] = []
    pasts: list[Past] = []
    """Of each publisher, what its settled runs amount to; the latest replaces those before."""
    settled: list[Run] = []
    """Runs of which nothing that was seen is kept from here on: `pasts` counts it. Empty in what a store gives."""
    owners: dict[int, int] = {}
    """By partition, of every topic, its owner's epoch (`aggregator.ownership`). In a transaction: the epochs of whoever
    writes it. As committed: the highest there was; a partition that is not in it was never taken."""


class Rows(msgspec.Struct, frozen=True, gc=False):
    """The blocks of one batch, with what the envelope said of them."""

    publisher: str
    row_class: RowClass
    level: Level
    blocks: list[Block]


class Transaction(msgspec.Struct):
    """What is committed together or not at all."""

    rows: list[Rows] = []
    progress: Progress = msgspec.field(default_factory=Progress)
    """Only what is new since the transaction before."""


class Bad(msgspec.Struct, frozen=True):
    """One element of `Transaction.rows` that the store can never take, and why."""

    index: int
    reason: str


class Store(Protocol):
    """What the store consumer needs. Called from one thread at a time, except where it says so."""

    def open(self) -> Progress:
        """Open, repair what a crash left, and give what was committed. Raises StoreError."""

    def check(self, rows: list[Rows]) -> list[Bad]:
        """Find the batches that can never be stored (a text in a column of numbers), so that the rest can go on."""

    def commit(self, transaction: Transaction) -> None:
        """Keep all of it, on disk, or raise StoreError and keep none of it.

        Raises FencedError, and keeps none of it, when a partition that it moves, or names in `owners`, is known under a
        higher epoch; without an epoch it counts as 0. A higher one than is known takes the partition over from then on,
        also in a transaction that holds nothing else.
        """

    def maintain(self, now_ns: int) -> None:
        """Retention by age and disk budget, folding of what was seen, checkpoint. Called about once a minute."""

    def close(self) -> None:
        """Checkpoint and let go. Safe twice."""
