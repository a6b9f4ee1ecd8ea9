"""One schema, however a database came to it; and never a guess about one that a newer Muster wrote."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Connection, Integer, MetaData, Table, create_engine, inspect, text

from aggregator import migrate
from aggregator.control import ControlOpenError
from aggregator.control_sqlite import SqliteControl
from aggregator.migrate import CONTROL, LEDGER, Schema
from tests.contract.control_conformance import put, value_of

SECOND = '''"""A later revision, as a test needs one."""
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table("later", sa.Column("id", sa.Integer(), primary_key=True))
    with op.batch_alter_table("counter") as batch:
        batch.add_column(sa.Column("note", sa.Text()))
    {last}
'''


def later_schema(folder: Path, last: str = "") -> Schema:
    """Give the schema of a program one revision ahead."""
    folder.mkdir(parents=True)
    for script in CONTROL.revisions.glob("r*.py"):
        (folder / script.name).write_text(script.read_text())
    (folder / "r0002_later.py").write_text(SECOND.replace("{last}", last))
    metadata = MetaData(naming_convention=CONTROL.metadata.naming_convention)
    for table in CONTROL.metadata.tables.values():
        table.to_metadata(metadata)
    Table("later", metadata, Column("id", Integer, primary_key=True))
    return Schema("control", metadata, "0002", folder)


def described(connection: Connection) -> dict[str, Any]:
    """Everything that SQLite knows of the tables."""
    looked = inspect(connection)
    return {
        name: {
            "columns": [{**column, "type": str(column["type"])} for column in looked.get_columns(name)],
            "key": looked.get_pk_constraint(name),
            "indexes": looked.get_indexes(name),
            "unique": looked.get_unique_constraints(name),
            "options": looked.get_table_options(name),
        }
        for name in sorted(looked.get_table_names())
    }


@contextmanager
def memory() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        yield connection
    engine.dispose()


BOTH = pytest.mark.parametrize("schema", [CONTROL, LEDGER], ids=lambda schema: schema.name)


@BOTH
def test_a_new_database_and_a_migrated_one_are_the_same(schema: Schema) -> None:
    with memory() as new, memory() as migrated:
        migrate.prepare(new, schema)
        migrate.migrate(migrated, schema, None)
        assert described(migrated) == described(new)
        assert migrate.revision(migrated, schema) == migrate.revision(new, schema) == schema.head


@BOTH
def test_the_stated_head_is_the_newest_revision(schema: Schema) -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(schema.revisions.parent))
    config.set_main_option("version_locations", str(schema.revisions))
    config.set_main_option("path_separator", "newline")
    assert [schema.head] == ScriptDirectory.from_config(config).get_heads()


async def test_an_older_database_is_migrated_and_keeps_what_it_holds(tmp_path: Path) -> None:
    old = SqliteControl(tmp_path / "c.db")
    old.open()
    await old.write(put("kept", 7))
    await old.close()
    new = SqliteControl(tmp_path / "c.db", schema=later_schema(tmp_path / "revisions"))
    new.open()
    assert await new.read(value_of) == {"kept": 7}
    assert await new.read(lambda connection: inspect(connection).has_table("later"))
    await new.close()


async def test_a_migration_that_fails_leaves_the_database_as_it_was(tmp_path: Path) -> None:
    old = SqliteControl(tmp_path / "c.db")
    old.open()
    await old.write(put("kept", 7))
    await old.close()
    broken = later_schema(tmp_path / "revisions", 'op.execute("SELECT * FROM nowhere")')
    new = SqliteControl(tmp_path / "c.db", schema=broken)
    with pytest.raises(ControlOpenError, match="nowhere"):
        new.open()
    await new.close()
    old = SqliteControl(tmp_path / "c.db")
    old.open()
    assert await old.read(value_of) == {"kept": 7}
    assert not await old.read(lambda connection: inspect(connection).has_table("later"))
    await old.close()


async def test_a_database_of_a_newer_program_is_refused_and_told_what_to_do(tmp_path: Path) -> None:
    newer = SqliteControl(tmp_path / "c.db", schema=later_schema(tmp_path / "revisions"))
    newer.open()
    await newer.close()
    control = SqliteControl(tmp_path / "c.db")
    with pytest.raises(
        ControlOpenError, match=r"revision 0002.*up to 0001: a newer version wrote it.*Start that version"
    ):
        control.open()
    await control.close()


async def test_somebody_elses_tables_are_not_taken_for_ours(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'c.db'}")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE token (id TEXT)"))
    engine.dispose()
    control = SqliteControl(tmp_path / "c.db")
    with pytest.raises(ControlOpenError, match="tables token but no control_revision"):
        control.open()
    await control.close()


async def test_two_schemas_can_share_one_database(tmp_path: Path) -> None:
    """On PostgreSQL the ledger and the rest are one database."""
    ledger = Schema("ledger", MetaData(), "0001", CONTROL.revisions)
    Table("entry", ledger.metadata, Column("id", Integer, primary_key=True))
    for schema in (CONTROL, ledger, CONTROL):
        control = SqliteControl(tmp_path / "c.db", schema=schema)
        control.open()
        await control.close()


def test_opening_at_the_head_does_not_pay_for_alembic(tmp_path: Path) -> None:
    """DESIGN part 9, start: alembic would cost every start a quarter of a second."""
    program = (
        "import sys; from pathlib import Path; from aggregator.control_sqlite import SqliteControl\n"
        "for _ in range(2):\n"
        f"    control = SqliteControl(Path({str(tmp_path / 'c.db')!r})); control.open()\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in ('alembic', 'mako')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
