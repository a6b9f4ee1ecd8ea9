"""Backup and restore of what must be decided once: the control database and the ledger, in one archive.

A backup is taken while the aggregator works: each database is copied as of one moment, by SQLite's own means. The
archive is a tar file that any tar reads: the databases, and `manifest.json` with their sizes and checksums.

A ledger that is restored is older than what its nodes did since. So it begins a new generation before anything else:
every device is unverified until its node has shown what it holds, and no claim's epoch is ever given twice.

Source: SQLite, "Online Backup API" (sqlite.org/backup.html).
"""

import asyncio
import hashlib
import io
import os
import shutil
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from aggregator.control_sqlite import SqliteControl
from aggregator.ledger import restoring
from aggregator.ledger.ledger import Ledger
from aggregator.migrate import LEDGER
from schemas import __version__
from schemas.errors import MusterError

CONTROL_FILE: Final = "control.db"
LEDGER_FILE: Final = "ledger.db"
FILES: Final = (CONTROL_FILE, LEDGER_FILE)
FORM: Final = 1
_MANIFEST: Final = "manifest.json"
_MAX_MANIFEST_BYTES: Final = 1 << 20


class BackupError(MusterError):
    """The backup cannot be made, or is not one that can be restored here; nothing was changed."""

    code = "backup.failed"


class SavedFile(msgspec.Struct, frozen=True):
    """A database in an archive."""

    name: str
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What an archive says of itself."""

    form: int
    version: str
    """Of Muster."""
    made_ns: int
    ledger: str
    """The ledger's id; "" when there was none yet."""
    sequence: int
    """Of its last entry."""
    files: list[SavedFile]


def make_backup(folder: Path, archive: Path) -> Manifest:
    """Copy the databases under an aggregator's `folder` into a new file. Blocks. Raises BackupError.

    The file is complete, or not there; it holds secrets (hashes of tokens, the ledger), so only its owner may read it.
    """
    sources = [folder / name for name in FILES if (folder / name).is_file()]
    if not sources:
        raise BackupError(f"{folder} holds no {' and no '.join(FILES)}: name the aggregator's data folder")
    if archive.exists():
        raise BackupError(f"{archive} is there already: choose another name")
    try:
        with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".muster-backup-") as place:
            copies = [_copied(source, Path(place)) for source in sources]
            manifest = _manifest(copies)
            whole = Path(place) / "archive"
            _pack(whole, copies, manifest)
            os.link(whole, archive)  # never over a file that came to be meanwhile
            _sync(archive.parent)
            return manifest
    except (OSError, sqlite3.Error) as error:
        raise BackupError(f"{archive} cannot be written: {error}") from error


def read_manifest(archive: Path) -> Manifest:
    """Give what an archive says of itself. Raises BackupError."""
    with _opened(archive) as tar:
        return _read_manifest(archive, tar)


def restore_backup(
    archive: Path, folder: Path, *, force: bool = False, wall_ns: Callable[[], int] = time.time_ns
) -> Manifest:
    """Put what an archive holds in the place of an aggregator's databases, and begin a new generation. Blocks.

    The aggregator must not run: the caller holds the folder's lock. With `force` what is there is kept beside it, in
    `before-restore-<nanoseconds since 1970>`. `wall_ns` names the generation; whatever it says, that is above the one
    that is replaced. Raises BackupError; then nothing was changed.
    """
    there = [name for name in FILES if (folder / name).exists()]
    if there and not force:
        raise BackupError(
            f"{folder} holds {' and '.join(there)}: a restore takes their place. Say --force to keep them aside"
        )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".restore-") as name:
            place = Path(name)
            with _opened(archive) as tar:
                manifest = _read_manifest(archive, tar)
                for saved in manifest.files:
                    _unpack(archive, tar, saved, place)
            if (place / LEDGER_FILE).exists():
                above = _generation_of(folder / LEDGER_FILE)
                asyncio.run(_begin_generation(place / LEDGER_FILE, above, manifest, wall_ns()))
            _put_aside(folder, there)
            for saved in manifest.files:
                _sync(place / saved.name)
                (place / saved.name).replace(folder / saved.name)
            _sync(folder)
        return manifest
    except (OSError, sqlite3.Error, tarfile.TarError) as error:
        raise BackupError(f"{archive} cannot be restored into {folder}: {error}") from error


# --- making -----------------------------------------------------------------------------------------------------------


def _copied(source: Path, place: Path) -> Path:
    """Copy a database as of one moment, beside whoever writes it."""
    copy = place / source.name
    copy.touch(mode=0o600)
    with (
        closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as reading,
        closing(sqlite3.connect(copy)) as writing,
    ):
        reading.backup(writing)
        writing.execute("PRAGMA journal_mode=DELETE")  # one file, nothing beside it
    return copy


def _manifest(copies: list[Path]) -> Manifest:
    files = [SavedFile(copy.name, copy.stat().st_size, _sha256(copy)) for copy in copies]
    ledger, sequence = "", 0
    for copy in copies:
        if copy.name == LEDGER_FILE:
            with closing(sqlite3.connect(f"file:{copy}?mode=ro", uri=True)) as reading:
                ledger, sequence = reading.execute("SELECT ledger, sequence FROM ledger_head").fetchone() or ("", 0)
    return Manifest(FORM, __version__, time.time_ns(), ledger, sequence, files)


def _pack(whole: Path, copies: list[Path], manifest: Manifest) -> None:
    whole.touch(mode=0o600)
    with tarfile.open(whole, "w") as tar:
        text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
        entry = tarfile.TarInfo(_MANIFEST)
        entry.size, entry.mtime, entry.mode = len(text), manifest.made_ns // 10**9, 0o600
        tar.addfile(entry, io.BytesIO(text))
        for copy in copies:
            tar.add(copy, copy.name, recursive=False)
    _sync(whole)


# --- restoring --------------------------------------------------------------------------------------------------------


def _opened(archive: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(archive, "r:")
    except (OSError, tarfile.TarError) as error:
        raise BackupError(f"{archive} is not a backup of Muster: {error}") from None


def _read_manifest(archive: Path, tar: tarfile.TarFile) -> Manifest:
    try:
        member = tar.getmember(_MANIFEST)
        file = tar.extractfile(member)
        if file is None or member.size > _MAX_MANIFEST_BYTES:
            raise BackupError(f"{archive} is not a backup of Muster: its manifest is none")
        manifest = msgspec.json.decode(file.read(), type=Manifest)
    except (KeyError, msgspec.MsgspecError, tarfile.TarError, OSError) as error:
        raise BackupError(f"{archive} is not a backup of Muster: {error}") from None
    if manifest.form != FORM:
        raise BackupError(
            f"{archive} has form {manifest.form}, and this version reads {FORM}: use Muster {manifest.version}"
        )
    strange = [saved.name for saved in manifest.files if saved.name not in FILES]
    if strange:
        raise BackupError(f"{archive} holds {', '.join(strange)}, which no backup does")
    return manifest


def _unpack(archive: Path, tar: tarfile.TarFile, saved: SavedFile, place: Path) -> None:
    try:
        file = tar.extractfile(saved.name)
    except KeyError:
        file = None
    if file is None:
        raise BackupError(f"{archive} is cut off: {saved.name} is missing")
    path = place / saved.name
    path.touch(mode=0o600)
    with path.open("wb") as copy:
        shutil.copyfileobj(file, copy, 1 << 20)
    if path.stat().st_size != saved.bytes or _sha256(path) != saved.sha256:
        raise BackupError(f"{archive} is damaged: {saved.name} is not what was saved. Use another backup")
    with closing(sqlite3.connect(path)) as raw:
        found = [row[0] for row in raw.execute("PRAGMA quick_check")]
    if found != ["ok"]:
        raise BackupError(f"{archive}: {saved.name} is damaged: {found[0]}. Use another backup")


def _generation_of(path: Path) -> int:
    """Give the generation of the ledger that is replaced; 0 when there is none that can be read."""
    if not path.exists():
        return 0

    async def ask() -> int:
        database = SqliteControl(path, schema=LEDGER)
        database.open()
        try:
            ledger = Ledger(database, "restore")
            await ledger.open()
            generation = ledger.peek().generation
            await ledger.close()
            return generation
        finally:
            await database.close()

    try:
        return asyncio.run(ask())
    except MusterError:
        return 0


async def _begin_generation(path: Path, above: int, manifest: Manifest, now_ns: int) -> None:
    database = SqliteControl(path, schema=LEDGER)
    database.open()
    try:
        ledger = Ledger(database, "restore")
        await ledger.open()
        why = f"restored from a backup of sequence {manifest.sequence}"
        await ledger.decide(partial(restoring.begin_generation, now_ns=now_ns, why=why, known=above))
        await ledger.close()
    finally:
        await database.close()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        raw.execute("PRAGMA journal_mode=DELETE")  # nothing is beside it when it is moved


def _put_aside(folder: Path, there: list[str]) -> None:
    if not there:
        return
    aside = folder / f"before-restore-{time.time_ns()}"
    aside.mkdir(mode=0o700)
    for name in there:
        for path in _with_logs(folder / name):
            path.replace(aside / path.name)
    _sync(aside)


def _with_logs(path: Path) -> Iterator[Path]:
    for end in ("", "-wal", "-shm"):
        one = path.with_name(path.name + end)
        if one.exists():
            yield one


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
