"""Storms of log records: what comes again and again is folded into one record with a count, and none is uncounted.

Two records are copies when they differ in numbers and addresses alone: same way, host, program, severity and device,
and the same text once numbers and hexadecimal words are masked. Copies beyond `copies` within one window are folded: of
these, one record a window goes on, the last one, and says for how many it stands and when they came. A storm lasts
until a window brings no more than `copies`.

What it costs: of each record all hexadecimal digits are taken out, and what is left is counted in 64 Ki counters of a
byte (half a microsecond a record); only texts whose counter is high are masked and looked up. Memory is bounded by
that, by the 1,024 texts that are followed at a time, and by the 4,096 whose mask is kept; the count of one that is
pushed out is told at once.

What was folded and not told yet is kept by the host (`remember`) beside the position of a source that can be read
again, and told at the next start: so a kernel log is counted exactly over a crash too.
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
"""Of more storms of sources that can be read again than that the counts are told, not remembered."""
_MOST_MASKS: Final = 4096
_LONGEST_MASK: Final = 2048
"""Characters by which copies are told from others; longer texts are rare, and need not be alike to the end."""
_BUCKETS: Final = 1 << 16
_HOTTEST: Final = 255
_HEXADECIMAL: Final = b"0123456789abcdefABCDEF"
_NUMBERS: Final = re.compile(r"[0-9][0-9A-Fa-fx]*+", re.ASCII)

Fingerprint = tuple[str, int, str | None, str | None, str, str]
"""Source, severity, host, app, device, masked text."""


def mask(text: str) -> str:
    """Give a text with `#` for each number and hexadecimal word, from its first digit on; of a long one its beginning.

    Two texts with the same mask are copies of each other.
    """
    return _NUMBERS.sub("#", text[:_LONGEST_MASK])


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
    """The last one's values of columns that few records have."""


class _Storm(msgspec.Struct):
    """What is known of one fingerprint."""

    bucket: int
    seen: int = 0
    """Copies in this window."""
    raging: bool = False
    """Copies are folded."""
    held: Folded | None = None
    """What is folded and not told."""


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
        self._ends = clock() + seconds
        self._storms: OrderedDict[Fingerprint, _Storm] = OrderedDict()
        self._masks: dict[str, str] = {}
        self._told: list[Folded] = _recalled(remembered)
        self._changed = bool(remembered)

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
        kept: list[Row] | None = None
        for at, key in enumerate(keys):
            bucket = hash(key) & (_BUCKETS - 1)
            degree = heat[bucket]
            if degree < warm:
                heat[bucket] = degree + 1
            elif (held := self._folded(source, level, rows[at], bucket, now_ns)) is not None:
                if further:
                    number = rows[at][0]
                    held.further = {name: values[number] for name, values in further.items() if number in values}
                if kept is None:
                    kept = rows[:at]
                continue
            if kept is not None:
                kept.append(rows[at])
        return rows if kept is None else kept

    def _folded(self, source: str, level: Level, row: Row, bucket: int, now_ns: int) -> Folded | None:
        """Look at a row whose text is frequent: give what it was folded into, None when it goes on."""
        text = row[1] or ""
        masked = self._masks.get(text)
        if masked is None:
            if len(self._masks) >= _MOST_MASKS:
                self._masks.clear()
            masked = mask(text)
            if len(text) <= _LONGEST_MASK:
                self._masks[text] = masked
        name = (source, row[2], row[4], row[5], row[11], masked)
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
                return None
            storm.raging = True
        if source in self._resumable:
            self._changed = True
        held = storm.held
        if held is None:
            held = storm.held = Folded(source, level, row, 1, now_ns, now_ns)
        else:
            held.row, held.last_ns = row, now_ns
            held.copies += 1
        return held

    def _tell(self, storm: _Storm) -> None:
        held, storm.held = storm.held, None
        if held is not None:
            self._told.append(held)
            self._changed = self._changed or held.source in self._resumable

    def due(self) -> list[Folded]:
        """Give what is to be told now: at the end of a window every storm's count, in between next to nothing."""
        if self._clock() >= self._ends:
            self._begin_window()
        elif self._changed and len(self._resumable_held()) > MOST_REMEMBERED:
            for storm in self._storms.values():
                self._tell(storm)
        told, self._told = self._told, []
        return told

    def finish(self) -> list[Folded]:
        """Give every count that was not told; nothing more will come."""
        for storm in self._storms.values():
            self._tell(storm)
        self._storms.clear()
        told, self._told = self._told, []
        return told

    def _begin_window(self) -> None:
        self._ends = self._clock() + self._seconds
        self._heat = bytearray(_BUCKETS)
        for name, storm in list(self._storms.items()):
            self._tell(storm)
            if storm.raging and storm.seen > self._copies:
                storm.seen = 0
                self._heat[storm.bucket] = _HOTTEST
            else:
                del self._storms[name]

    def _resumable_held(self) -> list[Folded]:
        storms = self._storms.values()
        return [storm.held for storm in storms if storm.held is not None and storm.held.source in self._resumable]

    def remember(self) -> str | None:
        """Give what is folded of sources that can be read again, and not told, as text; None when nothing changed.

        "" when there is none. It belongs to the rows sifted so far, and to what `due` has given.
        """
        if not self._changed:
            return None
        self._changed = False
        held = self._resumable_held()
        return _json.encode(held).decode() if held else ""


_json = msgspec.json.Encoder()
_folded = msgspec.json.Decoder(list[Folded])


def _recalled(text: str) -> list[Folded]:
    try:
        return _folded.decode(text) if text else []
    except msgspec.MsgspecError:  # of another version: nothing is worth a start that fails
        return []


def _keys(rows: list[Row]) -> list[bytes]:
    """Give each row's text without hexadecimal digits."""
    texts = [row[1] or "" for row in rows]
    keys = "\x1e".join(texts).encode("utf-8", "surrogatepass").translate(None, _HEXADECIMAL).split(b"\x1e")
    if len(keys) == len(rows):
        return keys
    return [text.encode("utf-8", "surrogatepass").translate(None, _HEXADECIMAL) for text in texts]
