"""Storms of log records: what comes again and again is folded into one record with a count, and none is uncounted.

Two records are copies when they differ in numbers and addresses alone: same way, host, program, severity, device, unit
and peer, and the same text once numbers and hexadecimal words are masked. The first go on at once; copies beyond
`copies` within one window are folded: of these one record goes on, the last one, and says for how many it stands and
when they came. It goes when no copy came for two seconds, and of a storm that goes on every six windows: one that ends
within that leaves one such record for each text. A storm lasts until a window brings no more than `copies`.

What it costs: of each record all hexadecimal digits are taken out, and what is left is counted in 64 Ki counters of a
byte (half a microsecond a record); only texts whose counter is high are masked and looked up. Memory is bounded by
that, by the 1,024 texts that are followed at a time, and by the 4,096 whose mask is kept; the count of one that is
pushed out is told at once.

What was folded and not told yet is kept by the host (`remember`) and told at the next start: of a source that can be
read again always, beside its position, so that a kernel log is counted exactly over a crash too; of the others once a
second.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Final

import msgspec

from collectors.log_row import Row
from schemas.verbosity import Level

RINGS: Final = ("kmsg",)
"""Sources that keep a bounded number of records: what was written longer ago than a window, and is read at once at a
start, is no storm for that."""
_TIME: Final = 9
"""Where a row has the record's own time."""
MOST_STORMS: Final = 1024
MOST_REMEMBERED: Final = 64
"""Of more storms of sources that can be read again than that the counts are told, not remembered; of the others, those
beyond are not remembered."""
QUIET: Final = 2.0
"""A storm that brought nothing for so many seconds, or for a window, is told."""
MOST_WINDOWS: Final = 6
"""For so many windows a count is held."""
_LOOK: Final = 0.25
"""How often it is looked whose count is to be told, seconds."""
_REMEMBER: Final = 1.0
"""How often what was folded of sources that cannot be read again is remembered, seconds."""
_MOST_MASKS: Final = 4096
LONGEST_MASK: Final = 2048
"""Characters by which copies are told from others; longer texts are rare, and need not be alike to the end."""
_BUCKETS: Final = 1 << 16
_HOTTEST: Final = 255
_HEXADECIMAL: Final = b"0123456789abcdefABCDEF"
NUMBER: Final = "[0-9][0-9A-Fa-fx]*"
"""What is masked: RE2 understands it too, and takes it for the same."""
_NUMBERS: Final = re.compile(f"{NUMBER}+", re.ASCII)

Further = tuple[tuple[str, str], ...]
"""What a row has of the columns that few have: `unit`, `peer`."""
Fingerprint = tuple[str, int, str | None, str | None, str, Further, str]
"""Source, severity, host, app, device, further columns, masked text."""


def mask(text: str) -> str:
    """Give a text with `#` for each number and hexadecimal word, from its first digit on; of a long one its beginning.

    Two texts with the same mask are copies of each other.
    """
    return _NUMBERS.sub("#", text[:LONGEST_MASK])


class Folded(msgspec.Struct, array_like=True):
    """Copies that stand as one record."""

    source: str
    level: Level
    row: Row
    """The last of them."""
    copies: int
    first_ns: int
    last_ns: int
    """When the first and the last came, nanoseconds since 1970."""
    further: dict[str, str] = {}
    """Their values of columns that few records have."""


class _Storm(msgspec.Struct):
    """What is known of one fingerprint."""

    bucket: int
    seen: int = 0
    """Copies in this window."""
    raging: bool = False
    """Copies are folded."""
    held: Folded | None = None
    """What is folded and not told."""
    since: float = 0.0
    latest: float = 0.0
    """When the first and the last of it came, monotonic seconds."""


class Storms:
    """Sifts the rows of each unit. For one thread."""

    def __init__(
        self,
        copies: int,
        seconds: float,
        clock: Callable[[], float],
        *,
        resumable: Collection[str] = (),
        remembered: str = "",
    ) -> None:
        """Fold copies beyond so many in so many seconds, by a monotonic clock; 0 folds nothing.

        `resumable` are the sources that can be read again, `remembered` is what `remember` gave at last.
        """
        self._copies = copies
        self._warm = max(1, min(copies // 4, _HOTTEST - 1))
        """A counter as high as that: its texts are looked at one by one."""
        self._seconds = seconds
        self._clock = clock
        self._resumable = frozenset(resumable)
        self._heat = bytearray(_BUCKETS)
        self._now = clock()
        self._ends = self._now + seconds
        self._look_at = self._remember_at = self._now
        self._storms: OrderedDict[Fingerprint, _Storm] = OrderedDict()
        self._masks: dict[str, str] = {}
        self._told: list[Folded] = _recalled(remembered)
        self._changed = bool(remembered)
        """What was remembered last must be remembered anew, with the rows at hand."""
        self._grown = False
        """So it may, and not at once: copies were folded of sources that cannot be read again."""

    def sift(
        self, source: str, level: Level, rows: list[Row], now_ns: int, further: Mapping[str, Mapping[int, str]] = {}
    ) -> list[Row]:
        """Give the rows that go on as they are; `rows` itself when all do.

        `now_ns` is when they came, `further` the columns that few records have, by the rows' numbers.
        """
        if not self._copies:
            return rows
        if source in RINGS and rows[0][_TIME] is not None:
            since = now_ns - int(self._seconds * 1e9)
            old = next((at for at, row in enumerate(rows) if (row[_TIME] or since) >= since), len(rows))
            if old:
                return rows[:old] + self._sift(source, level, rows[old:], now_ns, further)
        return self._sift(source, level, rows, now_ns, further)

    def _sift(
        self, source: str, level: Level, rows: list[Row], now_ns: int, further: Mapping[str, Mapping[int, str]]
    ) -> list[Row]:
        keys = _keys(rows)
        heat, warm = self._heat, self._warm
        self._now = self._clock()
        kept: list[Row] | None = None
        for at, key in enumerate(keys):
            bucket = hash(key) & (_BUCKETS - 1)
            degree = heat[bucket]
            if degree < warm:
                heat[bucket] = degree + 1
            elif self._folds(source, level, rows[at], _further(rows[at][0], further), bucket, now_ns):
                if kept is None:
                    kept = rows[:at]
                continue
            if kept is not None:
                kept.append(rows[at])
        return rows if kept is None else kept

    def _folds(self, source: str, level: Level, row: Row, further: Further, bucket: int, now_ns: int) -> bool:
        """Look at a row whose text is frequent: tell whether it was folded; else it goes on."""
        text = row[1] or ""
        masked = self._masks.get(text)
        if masked is None:
            if len(self._masks) >= _MOST_MASKS:
                self._masks.clear()
            masked = mask(text)
            if len(text) <= LONGEST_MASK:
                self._masks[text] = masked
        name = (source, row[2], row[4], row[5], row[11], further, masked)
        storm = self._storms.get(name)
        if storm is None:
            if len(self._storms) >= MOST_STORMS:
                self._tell(self._storms.popitem(last=False)[1])
            storm = self._storms[name] = _Storm(bucket)
        else:
            self._storms.move_to_end(name)
        storm.seen += 1
        if not storm.raging:
            if storm.seen <= self._copies:
                return False
            storm.raging = True
        if source in self._resumable:
            self._changed = True
        else:
            self._grown = True
        held, storm.latest = storm.held, self._now
        if held is None:
            storm.held, storm.since = Folded(source, level, row, 1, now_ns, now_ns, dict(further)), self._now
        else:
            held.row, held.last_ns = row, now_ns
            held.copies += 1
        return True

    def _tell(self, storm: _Storm) -> None:
        held, storm.held = storm.held, None
        if held is not None:
            self._told.append(held)
            self._changed = True

    def due(self) -> list[Folded]:
        """Give what is to be told now: the counts of storms that are quiet, over, or long."""
        self._now = now = self._clock()
        if now >= self._look_at:
            self._look_at = now + _LOOK
            self._tell_quiet(now)
        if now >= self._ends:
            self._begin_window()
        if self._changed and len(self._held(resumable=True)) > MOST_REMEMBERED:
            for storm in self._storms.values():
                self._tell(storm)
        told, self._told = self._told, []
        return told

    def _tell_quiet(self, now: float) -> None:
        quiet, long = now - min(QUIET, self._seconds), now - self._seconds * MOST_WINDOWS
        for storm in self._storms.values():
            if storm.latest <= quiet or storm.since <= long:
                self._tell(storm)

    def finish(self) -> list[Folded]:
        """Give every count that was not told; nothing more will come."""
        for storm in self._storms.values():
            self._tell(storm)
        self._storms.clear()
        told, self._told = self._told, []
        return told

    def _begin_window(self) -> None:
        self._ends = self._now + self._seconds
        self._heat = bytearray(_BUCKETS)
        for name, storm in list(self._storms.items()):
            if storm.raging and storm.seen > self._copies:
                storm.seen = 0
                self._heat[storm.bucket] = _HOTTEST
            else:
                self._tell(storm)
                del self._storms[name]

    def _held(self, *, resumable: bool) -> list[Folded]:
        """Give what is folded and not told, of sources that can be read again or of the others."""
        held = [storm.held for storm in self._storms.values() if storm.held is not None]
        return [one for one in held if (one.source in self._resumable) == resumable]

    def remember(self) -> str | None:
        """Give what is folded and not told as text, "" for nothing; None when what was given last will do.

        It belongs to the rows sifted so far, and to what `due` has given.
        """
        if not (self._changed or (self._grown and self._now >= self._remember_at)):
            return None
        self._changed = self._grown = False
        self._remember_at = self._now + _REMEMBER
        held = (self._held(resumable=True) + self._held(resumable=False))[:MOST_REMEMBERED]
        return _json.encode(held).decode() if held else ""


_json = msgspec.json.Encoder()
_folded = msgspec.json.Decoder(list[Folded])


def _recalled(text: str) -> list[Folded]:
    try:
        return _folded.decode(text) if text else []
    except msgspec.MsgspecError:  # of another version: nothing is worth a start that fails
        return []


def _further(number: int, columns: Mapping[str, Mapping[int, str]]) -> Further:
    """Give what a row has of further columns, by its number."""
    if not columns:
        return ()
    return tuple([(name, values[number]) for name, values in columns.items() if number in values])


def _keys(rows: list[Row]) -> list[bytes]:
    """Give each row's text without hexadecimal digits."""
    texts = [row[1] or "" for row in rows]
    keys = "\x1e".join(texts).encode("utf-8", "surrogatepass").translate(None, _HEXADECIMAL).split(b"\x1e")
    if len(keys) == len(rows):
        return keys
    return [text.encode("utf-8", "surrogatepass").translate(None, _HEXADECIMAL) for text in texts]
