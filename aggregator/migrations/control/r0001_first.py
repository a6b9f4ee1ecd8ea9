"""The first tables: tokens, enrolment, nodes and their epochs, grants, quarantine, outbox, ownership, counters.

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
        "counter",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counter")),
    )
    op.create_table(
        "enrolment",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("subjects", sa.JSON(), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.Column("who", sa.String(length=255), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.Column("expires_ns", sa.BigInteger(), nullable=False),
        sa.Column("revoked_ns", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_enrolment")),
    )
    op.create_table(
        "enrolment_use",
        sa.Column("enrolment", sa.String(length=64), nullable=False),
        sa.Column("node", sa.String(length=255), nullable=False),
        sa.Column("nonce", sa.LargeBinary(length=32), nullable=False),
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("used_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("enrolment", "node", name=op.f("pk_enrolment_use")),
    )
    op.create_table(
        "epoch",
        sa.Column("node", sa.String(length=255), nullable=False),
        sa.Column("epoch", sa.String(length=64), nullable=False),
        sa.Column("boot", sa.String(length=64), nullable=False),
        sa.Column("predecessors", sa.JSON(), nullable=False),
        sa.Column("started_ns", sa.BigInteger(), nullable=False),
        sa.Column("ended_ns", sa.BigInteger(), nullable=True),
        sa.Column("end_reason", sa.String(length=32), nullable=True),
        sa.Column("lost_ns", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("node", "epoch", name=op.f("pk_epoch")),
    )
    op.create_table(
        "expired_rows",
        sa.Column("consumer", sa.String(length=64), nullable=False),
        sa.Column("publisher", sa.String(length=255), nullable=False),
        sa.Column("epoch", sa.String(length=64), nullable=False),
        sa.Column("row_class", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("level", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("first_row", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("end_row", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "consumer", "publisher", "epoch", "row_class", "level", "first_row", name=op.f("pk_expired_rows")
        ),
    )
    op.create_table(
        "expired_word",
        sa.Column("consumer", sa.String(length=64), nullable=False),
        sa.Column("publisher", sa.String(length=255), nullable=False),
        sa.Column("word", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("consumer", "publisher", name=op.f("pk_expired_word")),
    )
    op.create_table(
        "node",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("host_name", sa.String(length=255), nullable=True),
        sa.Column("boot", sa.String(length=64), nullable=True),
        sa.Column("agent_version", sa.String(length=64), nullable=True),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("epoch", sa.String(length=64), nullable=True),
        sa.Column("first_heard_ns", sa.BigInteger(), nullable=True),
        sa.Column("last_heard_ns", sa.BigInteger(), nullable=True),
        sa.Column("decommissioned_ns", sa.BigInteger(), nullable=True),
        sa.Column("replaced_by", sa.String(length=255), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_node")),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "ownership",
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("instance", sa.String(length=255), nullable=False),
        sa.Column("taken_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("partition", name=op.f("pk_ownership")),
    )
    op.create_table(
        "positions",
        sa.Column("consumer", sa.String(length=64), nullable=False),
        sa.Column("log_id", sa.String(length=64), nullable=False),
        sa.Column("topic", sa.String(length=255), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("owner_epoch", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("consumer", "log_id", "topic", "partition", name=op.f("pk_positions")),
    )
    op.create_table(
        "quarantine",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("publisher", sa.String(length=255), nullable=False),
        sa.Column("epoch", sa.String(length=64), nullable=False),
        sa.Column("row_class", sa.SmallInteger(), nullable=False),
        sa.Column("level", sa.SmallInteger(), nullable=False),
        sa.Column("first_row", sa.BigInteger(), nullable=False),
        sa.Column("row_count", sa.BigInteger(), nullable=False),
        sa.Column("stage", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("kept", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("times", sa.BigInteger(), nullable=False),
        sa.Column("first_ns", sa.BigInteger(), nullable=False),
        sa.Column("last_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quarantine")),
        sa.UniqueConstraint(
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
    op.create_table(
        "quarantined_rows",
        sa.Column("publisher", sa.String(length=255), nullable=False),
        sa.Column("epoch", sa.String(length=64), nullable=False),
        sa.Column("row_class", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("level", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("stage", sa.String(length=64), nullable=False),
        sa.Column("first_row", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("end_row", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "publisher", "epoch", "row_class", "level", "stage", "first_row", name=op.f("pk_quarantined_rows")
        ),
    )
    op.create_table(
        "token",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("line", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("node", sa.String(length=255), nullable=True),
        sa.Column("who", sa.String(length=255), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.Column("life_ns", sa.BigInteger(), nullable=True),
        sa.Column("expires_ns", sa.BigInteger(), nullable=True),
        sa.Column("revoked_ns", sa.BigInteger(), nullable=True),
        sa.Column("used_ns", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token")),
    )
    op.create_index(op.f("ix_token_line"), "token", ["line"], unique=False)
    op.create_index(op.f("ix_token_node"), "token", ["node"], unique=False)
    op.create_table(
        "verbosity_grant",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.String(length=255), nullable=False),
        sa.Column("nodes", sa.String(length=255), nullable=False),
        sa.Column("collector", sa.String(length=255), nullable=False),
        sa.Column("row_class", sa.SmallInteger(), nullable=True),
        sa.Column("level", sa.SmallInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.Column("until_ns", sa.BigInteger(), nullable=False),
        sa.Column("cleared_ns", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_verbosity_grant")),
    )
    op.create_index(op.f("ix_verbosity_grant_until_ns"), "verbosity_grant", ["until_ns"], unique=False)
    op.create_table(
        "verbosity_grant_ack",
        sa.Column("grant_id", sa.String(length=64), nullable=False),
        sa.Column("node", sa.String(length=255), nullable=False),
        sa.Column("acknowledged_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("grant_id", "node", name=op.f("pk_verbosity_grant_ack")),
    )
