"""Snapshots on disk, and how a state is read: the newest snapshot before a moment, and the entries after it.

The parts of a snapshot are rows; it is complete when its part 0 is there, which is written last. Most parts are
compressed against the same part of an older snapshot, their base, from which they differ little; a base has none.
"""

import contextlib
import gc
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import zstandard
from sqlalchemy import Connection, delete, insert, select

from aggregator.ledger import journal
from aggregator.ledger.apply import apply
from aggregator.ledger.shelf import Shelf
from aggregator.ledger.snapshot import Reading
from aggregator.ledger.snapshot_form import SnapshotError
from aggregator.ledger.state import State
from aggregator.ledger.tables import LEDGER_SNAPSHOT
from aggregator.ledger.thinning import Listed

_log = logging.getLogger("muster.ledger")
CHAIN: Final = 16
"""So many snapshots in a row have one base."""
_LEVEL: Final = 9
_WINDOW_LOG: Final = 24
_MAX_PART_BYTES: Final = 1 << 28


def load(connection: Connection, *, until: int | None = None) -> State:
    """Read the state as of sequence `until`, the last one when None; "as of" an empty ledger it is empty.

    A snapshot that cannot be read is
    passed over: the entries hold everything. Raises ControlError, LedgerDamagedError, or LedgerGapError.
    """
    with _no_collections():
        state = _newest(connection, until)
        state.indexed = False
        for written in journal.read(connection, state.sequence, until=until):
            apply(state, written.sequence, written.time_ns, written.entry)
        state.build_index()
    return state


def load_past(connection: Connection, until: int) -> Shelf:
    """Read the state as of a sequence for questions: devices are made when they are asked for. Raises as `load`."""
    with _no_collections():
        shelf = _newest_shelf(connection, until)
        for written in journal.read(connection, shelf.sequence, until=until):
            shelf.follow(written)
        shelf.settle()
    return shelf


@contextlib.contextmanager
def _no_collections() -> Iterator[None]:
    """Keep the collector of garbage from looking at a state in the making, again and again, and at it once it is made.

    A state has a million objects and no cycles: it goes when nobody refers to it, frozen or not.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def _newest(connection: Connection, until: int | None) -> State:
    reading = next(_readable(connection, until, lazy=False), None)
    return State() if reading is None else reading.state()


def _newest_shelf(connection: Connection, until: int) -> Shelf:
    reading = next(_readable(connection, until, lazy=True), None)
    return Shelf() if reading is None else Shelf.open(reading)


def _readable(connection: Connection, until: int | None, *, lazy: bool) -> Iterator[Reading]:
    """Yield the snapshots up to a sequence that can be read, the newest first."""
    for sequence in reversed(complete(connection)):
        if until is None or sequence <= until:
            try:
                yield read(connection, sequence, lazy=lazy)
            except SnapshotError as error:
                _log.error("snapshot_unreadable sequence=%d error=%s", sequence, error)


def complete(connection: Connection) -> list[int]:
    """Give the sequences of all complete snapshots, oldest first."""
    table = LEDGER_SNAPSHOT.c
    question = select(table.sequence).where(table.part == 0).order_by(table.sequence)
    return [int(row.sequence) for row in connection.execute(question)]


def listed(connection: Connection, known: Mapping[int, Listed]) -> dict[int, Listed]:
    """Give all complete snapshots whose part 0 can be read, by sequence; those of `known` are not read again."""
    table = LEDGER_SNAPSHOT.c
    question = select(table.sequence, table.time_ns).where(table.part == 0)
    found: dict[int, Listed] = {}
    for row in connection.execute(question).all():
        if row.sequence in known:
            found[row.sequence] = known[row.sequence]
            continue
        with contextlib.suppress(SnapshotError):
            head = Reading(_unpack(_body(connection, row.sequence, 0), None)).head
            found[row.sequence] = Listed(row.sequence, row.time_ns, head.base)
    return found


def read(connection: Connection, sequence: int, *, lazy: bool = False) -> Reading:
    """Read all parts of a snapshot. Raises SnapshotError."""
    reading = Reading(_unpack(_body(connection, sequence, 0), None), lazy=lazy)
    bodies = _bodies(connection, sequence)
    bases = _bodies(connection, reading.head.base) if reading.head.base else {}
    for part in range(1, reading.parts + 1):
        if part not in bodies:
            raise SnapshotError(f"the snapshot at {sequence} lacks part {part}")
        against = _unpack(bases[part], None) if part in bases else None
        reading.add(_unpack(bodies[part], against))
    reading.kept()
    return reading


def base_parts(connection: Connection) -> tuple[int, list[bytes]]:
    """Give the base for a next snapshot, with its parts as they were before compression; 0 when that begins a chain."""
    heads: list[tuple[int, int]] = []
    for sequence in complete(connection)[-CHAIN:]:
        try:
            heads.append((sequence, Reading(_unpack(_body(connection, sequence, 0), None)).head.base))
        except SnapshotError:
            continue
    bases = [sequence for sequence, base in heads if not base]
    if not bases:
        return 0, []
    base = bases[-1]
    if sum(1 for sequence, against in heads if against == base) + 1 >= CHAIN:
        return 0, []
    try:
        head = Reading(_unpack(_body(connection, base, 0), None))
        return base, [_unpack(_body(connection, base, part), None) for part in range(1, head.parts + 1)]
    except SnapshotError:
        return 0, []


def pack(parts: Sequence[bytes], base: Sequence[bytes]) -> list[bytes]:
    """Compress parts, each against that of a base, if there is one. Slow: for a thread."""
    return [_pack(part, base[place] if place < len(base) else None) for place, part in enumerate(parts)]


def write_part(connection: Connection, sequence: int, part: int, time_ns: int, body: bytes) -> None:
    """Keep a part as `pack` gave it. With part 0 the snapshot is complete."""
    row = {"sequence": sequence, "part": part, "time_ns": time_ns, "body": body}
    connection.execute(insert(LEDGER_SNAPSHOT).values(**row))


def forget(connection: Connection, sequence: int) -> None:
    """Let a snapshot go."""
    connection.execute(delete(LEDGER_SNAPSHOT).where(LEDGER_SNAPSHOT.c.sequence == sequence))


def forget_incomplete(connection: Connection) -> None:
    """Let the parts go of which whoever wrote them never came to the last."""
    whole = select(LEDGER_SNAPSHOT.c.sequence).where(LEDGER_SNAPSHOT.c.part == 0).scalar_subquery()
    connection.execute(delete(LEDGER_SNAPSHOT).where(LEDGER_SNAPSHOT.c.sequence.not_in(whole)))


def _body(connection: Connection, sequence: int, part: int) -> bytes:
    table = LEDGER_SNAPSHOT.c
    row = connection.execute(select(table.body).where(table.sequence == sequence, table.part == part)).first()
    if row is None:
        raise SnapshotError(f"the snapshot at {sequence} lacks part {part}")
    return bytes(row.body)


def _bodies(connection: Connection, sequence: int) -> dict[int, bytes]:
    """Give the parts of a snapshot that are there, as they lie on disk."""
    table = LEDGER_SNAPSHOT.c
    rows = connection.execute(select(table.part, table.body).where(table.sequence == sequence))
    return {row.part: bytes(row.body) for row in rows}


def _pack(part: bytes, base: bytes | None) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL, window_log=_WINDOW_LOG, write_checksum=True, write_content_size=True
    )
    return zstandard.ZstdCompressor(compression_params=parameters, dict_data=_dictionary(base)).compress(part)


def _unpack(body: bytes, base: bytes | None) -> bytes:
    try:
        opened = zstandard.ZstdDecompressor(dict_data=_dictionary(base), max_window_size=_MAX_PART_BYTES)
        return opened.decompress(body, max_output_size=_MAX_PART_BYTES)
    except zstandard.ZstdError as error:
        raise SnapshotError(f"a snapshot cannot be read: {error}") from error


def _dictionary(base: bytes | None) -> zstandard.ZstdCompressionDict | None:
    if not base:
        return None
    return zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
