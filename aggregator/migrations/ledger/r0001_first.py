"""The first tables: head, entries, snapshots, positions, what consumers have seen.

Revision 0001, after nothing.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "ledger_entries",
        sa.Column("first", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("time_ns", sa.BigInteger(), nullable=False),
        sa.Column("subjects", sa.LargeBinary(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("first", name=op.f("pk_ledger_entries")),
    )
    op.create_index(op.f("ix_ledger_entries_time_ns"), "ledger_entries", ["time_ns"])
    op.create_table(
        "ledger_head",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("ledger", sa.String(length=64), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("writer", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.String(length=255), nullable=False),
        sa.Column("expires_s", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_head")),
    )
    op.create_table(
        "ledger_position",
        sa.Column("log_id", sa.String(length=64), nullable=False),
        sa.Column("topic", sa.String(length=64), nullable=False),
        sa.Column("partition", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("log_id", "topic", "partition", name=op.f("pk_ledger_position")),
    )
    op.create_table(
        "ledger_snapshot",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("part", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("time_ns", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", "part", name=op.f("pk_ledger_snapshot")),
    )
    op.create_table(
        "ledger_seen",
        sa.Column("publisher", sa.String(length=255), nullable=False),
        sa.Column("epoch", sa.String(length=64), nullable=False),
        sa.Column("row_class", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("level", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("outcome", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("first", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("end", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "publisher", "epoch", "row_class", "level", "outcome", "first", name=op.f("pk_ledger_seen")
        ),
    )
    op.create_table(
        "ledger_word",
        sa.Column("publisher", sa.String(length=255), nullable=False),
        sa.Column("word", sa.LargeBinary(), nullable=True),
        sa.Column("past", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("publisher", name=op.f("pk_ledger_word")),
    )
    op.create_table(
        "ledger_alert",
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("transition", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_ledger_alert")),
    )
    op.create_table(
        "ledger_document",
        sa.Column("publisher", sa.String(length=255), nullable=False),
        sa.Column("collector", sa.String(length=255), nullable=False),
        sa.Column("device", sa.String(length=255), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("epoch", sa.String(length=64), nullable=False),
        sa.Column("order", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("publisher", "collector", "device", name=op.f("pk_ledger_document")),
    )
    op.create_table(
        "ledger_published",
        sa.Column("log_id", sa.String(length=64), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("log_id", name=op.f("pk_ledger_published")),
    )
    op.create_table(
        "ledger_usage",
        sa.Column("claim", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=255), nullable=False),
        sa.Column("consumer", sa.String(length=255), nullable=False),
        sa.Column("from_ns", sa.BigInteger(), nullable=False),
        sa.Column("until_ns", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.String(length=255), nullable=False),
        sa.Column("use", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("claim", name=op.f("pk_ledger_usage")),
    )
    for column in ("from_ns", "tenant", "until_ns"):
        op.create_index(op.f(f"ix_ledger_usage_{column}"), "ledger_usage", [column])
