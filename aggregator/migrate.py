"""Bring a control database to the schema that this program knows, in one transaction, or refuse it with a reason.

A new database is made at the head revision directly; a test holds that against what the migrations make. An older one
is migrated. A newer one is refused: going back would lose what the newer program wrote. alembic is imported only when
there is something to migrate, because it would cost every start a quarter of a second.
"""

from pathlib import Path
from typing import Final

import msgspec
from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, inspect, select

from aggregator import tables
from aggregator.control import ControlOpenError
from aggregator.ledger import tables as ledger_tables

_MIGRATIONS: Final = Path(__file__).parent / "migrations"


class Schema(msgspec.Struct, frozen=True):
    """The tables of one database, and the way there."""

    name: str
    """Names the version table, so that two schemas can share one PostgreSQL database."""
    metadata: MetaData
    """The tables as of `head`."""
    head: str
    """The newest revision."""
    revisions: Path
    """The folder of its alembic revisions."""
    without: str = "what was in it is gone"
    """What is so without this database, when a new one takes its place."""

    @property
    def version_table(self) -> str:
        """The table that holds the revision of a database."""
        return f"{self.name}_revision"


CONTROL: Final = Schema(
    "control", tables.METADATA, tables.HEAD, _MIGRATIONS / "control", "nodes and people need new tokens"
)
"""The schema of the control database."""
LEDGER: Final = Schema(
    "ledger",
    ledger_tables.METADATA,
    ledger_tables.HEAD,
    _MIGRATIONS / "ledger",
    "claims come back from the nodes that keep them; variants, packages, quotas, marks, attestations and records of"
    " other schedulers are gone",
)
"""The schema of the ledger: on SQLite a file of its own, so that neither waits for the other's commits."""


def prepare(connection: Connection, schema: Schema) -> None:
    """Make or migrate the tables. The caller's transaction is the lock, and commits. Raises ControlOpenError."""
    stored = revision(connection, schema)
    if stored == schema.head:
        return
    if stored is None:
        _refuse_strangers(connection, schema)
        schema.metadata.create_all(connection)
        version = _version_table(schema)
        version.create(connection)
        connection.execute(version.insert().values(version_num=schema.head))
        return
    migrate(connection, schema, stored)


def revision(connection: Connection, schema: Schema) -> str | None:
    """Give the revision of a database, or None when it has none of the schema's tables yet."""
    if not inspect(connection).has_table(schema.version_table):
        return None
    return connection.execute(select(_version_table(schema).c.version_num)).scalar()


def migrate(connection: Connection, schema: Schema, stored: str | None) -> None:
    """Run the revisions after `stored` (all of them when None). Raises ControlOpenError when it is not known here."""
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", _escape(_MIGRATIONS))
    config.set_main_option("version_locations", _escape(schema.revisions))
    config.set_main_option("path_separator", "newline")
    config.attributes.update(connection=connection, schema=schema)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if stored is not None and stored not in known:
        raise ControlOpenError(
            f"the {schema.name} database has revision {stored}, and this version of Muster knows revisions up to"
            f" {schema.head}: a newer version wrote it. Start that version or a later one; going back is not possible,"
            f" short of restoring a backup made before the upgrade."
        )
    command.upgrade(config, "head")


def _escape(path: Path) -> str:
    return str(path).replace("%", "%%")  # alembic's options are read by configparser


def _version_table(schema: Schema) -> Table:
    """Describe the table exactly as alembic makes it."""
    name = schema.version_table
    return Table(
        name,
        MetaData(),
        Column("version_num", String(32), nullable=False),
        PrimaryKeyConstraint("version_num", name=f"{name}_pkc"),
    )


def _refuse_strangers(connection: Connection, schema: Schema) -> None:
    """Raise ControlOpenError when a database without our version table holds tables of our names."""
    there = set(inspect(connection).get_table_names()) & set(schema.metadata.tables)
    if there:
        names = ", ".join(sorted(there))
        raise ControlOpenError(
            f"the database has the tables {names} but no {schema.version_table}: Muster did not make it so."
            f" Restore it from a backup, or name another file."
        )
