"""The tables of the control database, as portable SQLAlchemy Core. How they came to be: `aggregator/migrations`.

Names end as in the rest of Muster: `_ns` is nanoseconds since 1970. NULL means not known or not yet, never 0.
What is found by pattern (scopes, grants) is small and kept in memory by its module; no query here matches patterns.
"""

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    insert,
    select,
    update,
)

HEAD: Final = "0001"
"""The newest revision in `aggregator/migrations/control`: what a new database is made as, and is stamped with."""

METADATA: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only for a key that is exactly INTEGER.
_ROW_ID = BigInteger().with_variant(Integer, "sqlite")
_NAME = String(255)
_ID = String(64)

TOKEN: Final = Table(
    "token",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("line", _ID, nullable=False),  # the first token of those that were rotated into one another
    Column("name", _NAME, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("node", _NAME),
    Column("who", _NAME, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("life_ns", BigInteger),  # rotation shortens `expires_ns`; its heirs live as long as it would have
    Column("expires_ns", BigInteger),
    Column("revoked_ns", BigInteger),
    Column("used_ns", BigInteger),
    Index(None, "line"),
    Index(None, "node"),
)

ENROLMENT: Final = Table(
    "enrolment",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("name", _NAME, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("subjects", JSON, nullable=False),
    Column("uses", Integer, nullable=False),
    Column("used", Integer, nullable=False),
    Column("who", _NAME, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("expires_ns", BigInteger, nullable=False),
    Column("revoked_ns", BigInteger),
)

ENROLMENT_USE: Final = Table(
    "enrolment_use",
    METADATA,
    Column("enrolment", _ID, primary_key=True),
    Column("node", _NAME, primary_key=True),
    Column("nonce", LargeBinary(32), nullable=False),  # SHA-256; tells a repeated request from a second one
    Column("token", _ID, nullable=False),
    Column("used_ns", BigInteger, nullable=False),
)

NODE: Final = Table(
    "node",
    METADATA,
    Column("id", _NAME, primary_key=True),
    Column("host_name", _NAME),
    Column("boot", _ID),
    Column("agent_version", _ID),
    Column("facts", JSON, nullable=False),
    Column("epoch", _ID),
    Column("first_heard_ns", BigInteger),
    Column("last_heard_ns", BigInteger),
    Column("decommissioned_ns", BigInteger),
    Column("replaced_by", _NAME),
)

EPOCH: Final = Table(
    "epoch",
    METADATA,
    Column("node", _NAME, primary_key=True),
    Column("epoch", _ID, primary_key=True),
    Column("boot", _ID, nullable=False),
    Column("predecessors", JSON, nullable=False),
    Column("started_ns", BigInteger, nullable=False),
    Column("ended_ns", BigInteger),
    Column("end_reason", String(32)),
    Column("lost_ns", BigInteger),
)

GRANT: Final = Table(
    "verbosity_grant",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("who", _NAME, nullable=False),
    Column("nodes", _NAME, nullable=False),
    Column("collector", _NAME, nullable=False),
    Column("row_class", SmallInteger),
    Column("level", SmallInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("until_ns", BigInteger, nullable=False),
    Column("cleared_ns", BigInteger),
    Index(None, "until_ns"),
)

GRANT_ACK: Final = Table(
    "verbosity_grant_ack",
    METADATA,
    Column("grant_id", _ID, primary_key=True),
    Column("node", _NAME, primary_key=True),
    Column("acknowledged_ns", BigInteger, nullable=False),
)

QUARANTINE: Final = Table(
    "quarantine",
    METADATA,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("publisher", _NAME, nullable=False),
    Column("epoch", _ID, nullable=False),  # "", -1, -1, 0, 0 when not even the envelope could be read
    Column("row_class", SmallInteger, nullable=False),
    Column("level", SmallInteger, nullable=False),
    Column("first_row", BigInteger, nullable=False),
    Column("row_count", BigInteger, nullable=False),
    Column("stage", _ID, nullable=False),
    Column("digest", _ID, nullable=False),  # of the bytes when there is no envelope, else ""
    Column("code", _ID, nullable=False),
    Column("reason", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("kept", BigInteger, nullable=False),
    Column("body", LargeBinary),
    Column("times", BigInteger, nullable=False),
    Column("first_ns", BigInteger, nullable=False),
    Column("last_ns", BigInteger, nullable=False),
    UniqueConstraint(
        "publisher",
        "epoch",
        "row_class",
        "level",
        "first_row",
        "row_count",
        "stage",
        "digest",
        name="uq_quarantine_batch",
    ),
    sqlite_autoincrement=True,
)

QUARANTINED_ROWS: Final = Table(
    "quarantined_rows",
    METADATA,
    Column("publisher", _NAME, primary_key=True),
    Column("epoch", _ID, primary_key=True),
    Column("row_class", SmallInteger, primary_key=True, autoincrement=False),
    Column("level", SmallInteger, primary_key=True, autoincrement=False),
    Column("stage", _ID, primary_key=True),
    Column("first_row", BigInteger, primary_key=True, autoincrement=False),
    Column("end_row", BigInteger, nullable=False),
)

EXPIRED_ROWS: Final = Table(
    "expired_rows",
    METADATA,
    Column("consumer", _ID, primary_key=True),
    Column("publisher", _NAME, primary_key=True),
    Column("epoch", _ID, primary_key=True),
    Column("row_class", SmallInteger, primary_key=True, autoincrement=False),
    Column("level", SmallInteger, primary_key=True, autoincrement=False),
    Column("first_row", BigInteger, primary_key=True, autoincrement=False),
    Column("end_row", BigInteger, nullable=False),
)

OUTBOX: Final = Table(
    "outbox",
    METADATA,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("event", Text, nullable=False),
    sqlite_autoincrement=True,
)

OWNERSHIP: Final = Table(
    "ownership",
    METADATA,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
    Column("instance", _NAME, nullable=False),
    Column("taken_ns", BigInteger, nullable=False),
)

POSITIONS: Final = Table(
    "positions",
    METADATA,
    Column("consumer", _ID, primary_key=True),
    Column("log_id", _ID, primary_key=True),
    Column("topic", _NAME, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("offset", BigInteger, nullable=False),
    Column("owner_epoch", BigInteger, nullable=False),
)

EXPIRED_WORD: Final = Table(
    "expired_word",
    METADATA,
    Column("consumer", _ID, primary_key=True),
    Column("publisher", _NAME, primary_key=True),
    Column("word", LargeBinary, nullable=False),  # aggregator.store.Word in MessagePack
)

COUNTER: Final = Table(
    "counter",
    METADATA,
    Column("name", _ID, primary_key=True),
    Column("value", BigInteger, nullable=False),
)


def advance(connection: Connection, name: str, by: int = 1) -> int:
    """Add to a durable counter, made at 0, and give what it holds now. Two transactions never get the same value."""
    changed = connection.execute(update(COUNTER).where(COUNTER.c.name == name).values(value=COUNTER.c.value + by))
    if not changed.rowcount:
        connection.execute(insert(COUNTER).values(name=name, value=by))
    return counted(connection, name)


def counted(connection: Connection, name: str) -> int:
    """Give what a durable counter holds; 0 when nobody ever advanced it."""
    value = connection.execute(select(COUNTER.c.value).where(COUNTER.c.name == name)).scalar()
    return 0 if value is None else int(value)
