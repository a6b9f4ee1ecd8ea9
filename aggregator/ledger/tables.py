"""The tables of the ledger's database, as portable SQLAlchemy Core. Revisions: `aggregator/migrations/ledger`.

Names end as in the rest of Muster: `_ns` is nanoseconds since 1970.
"""

from typing import Any, Final

from sqlalchemy import BigInteger, Column, Float, LargeBinary, MetaData, SmallInteger, String, Table
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

HEAD: Final = "0001"
"""The newest revision in `aggregator/migrations/ledger`: what a new database is made as, and is stamped with."""

METADATA: Final = MetaData(naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "pk": "pk_%(table_name)s"})

LEDGER_HEAD: Final = Table(
    "ledger_head",
    METADATA,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),  # the one row: 1
    Column("ledger", String(64), nullable=False),  # random, made with the ledger: a restored copy keeps it
    Column("sequence", BigInteger, nullable=False),  # of the last entry
    Column("writer", BigInteger, nullable=False),  # the epoch of who may append; grows by one with every taking over
    Column("holder", String(255), nullable=False),
    Column("expires_s", Float(53), nullable=False),  # the lease of `holder`, by this database's clock
)

LEDGER_ENTRIES: Final = Table(
    "ledger_entries",  # what was committed together; old ones are joined and compressed
    METADATA,
    Column("first", BigInteger, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False),
    Column("time_ns", BigInteger, nullable=False, index=True),  # of the first
    Column("subjects", LargeBinary),  # of joined rows: sorted hashes of what they are about; NULL: not known
    Column("body", LargeBinary, nullable=False),
)

LEDGER_SNAPSHOT: Final = Table(
    "ledger_snapshot",  # a state in parts, complete when its part 0 is there: that is written last
    METADATA,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("part", BigInteger, primary_key=True, autoincrement=False),
    Column("time_ns", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

LEDGER_POSITION: Final = Table(
    "ledger_position",  # how far facts were taken from the log, beside the facts
    METADATA,
    Column("log_id", String(64), primary_key=True),
    Column("topic", String(64), primary_key=True),
    Column("partition", SmallInteger, primary_key=True, autoincrement=False),
    Column("offset", BigInteger, nullable=False),
)

LEDGER_SEEN: Final = Table(
    "ledger_seen",  # which rows of which streams the inventory consumer has dealt with, beside the facts
    METADATA,
    Column("publisher", String(255), primary_key=True),
    Column("epoch", String(64), primary_key=True),
    Column("row_class", SmallInteger, primary_key=True, autoincrement=False),
    Column("level", SmallInteger, primary_key=True, autoincrement=False),
    Column("outcome", SmallInteger, primary_key=True, autoincrement=False),
    Column("first", BigInteger, primary_key=True, autoincrement=False),
    Column("end", BigInteger, nullable=False),
)

LEDGER_WORD: Final = Table(
    "ledger_word",  # the last word of every publisher that the inventory consumer heard, and its settled runs
    METADATA,
    Column("publisher", String(255), primary_key=True),
    Column("word", LargeBinary),
    Column("past", LargeBinary),
)

LEDGER_ALERT: Final = Table(
    "ledger_alert",  # the last transition of each alert that was made a taint, or taken off
    METADATA,
    Column("fingerprint", String(64), primary_key=True),
    Column("transition", BigInteger, nullable=False),
)

LEDGER_DOCUMENT: Final = Table(
    "ledger_document",  # which documents publishers hold, as the inventory consumer was told
    METADATA,
    Column("publisher", String(255), primary_key=True),
    Column("collector", String(255), primary_key=True),
    Column("device", String(255), primary_key=True),  # the publisher's name of it
    Column("subject", String(255), nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("epoch", String(64), nullable=False),
    Column("order", BigInteger, nullable=False),
)

LEDGER_PUBLISHED: Final = Table(
    "ledger_published",  # up to which sequence a log has the ledger's entries, in its topic `inventory`
    METADATA,
    Column("log_id", String(64), primary_key=True),
    Column("sequence", BigInteger, nullable=False),
)


LEDGER_USAGE: Final = Table(
    "ledger_usage",  # what each claim had, from when until when; written with the entries that begin and end it
    METADATA,
    Column("claim", String(64), primary_key=True),
    Column("tenant", String(255), nullable=False, index=True),
    Column("consumer", String(255), nullable=False),
    Column("from_ns", BigInteger, nullable=False, index=True),
    Column("until_ns", BigInteger, nullable=True, index=True),  # null: it goes on
    Column("reason", String(255), nullable=False),
    Column("use", LargeBinary, nullable=False),
)


class database_seconds(FunctionElement[float]):  # noqa: N801 - reads as the SQL function that it is
    """The database's own clock, in seconds since 1970: the same for all who compete for a lease."""

    type = Float(53)  # type: ignore[mutable-override]  # SQLAlchemy's own way to declare a function
    inherit_cache = True  # type: ignore[mutable-override]
    name = "database_seconds"


@compiles(database_seconds, "sqlite")
def _sqlite(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(database_seconds, "postgresql")
def _postgresql(*_: Any, **__: Any) -> str:
    return "extract(epoch from clock_timestamp())"
