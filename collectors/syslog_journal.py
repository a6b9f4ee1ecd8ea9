"""The journal of systemd: `journalctl` as a child, read without loss or repetition across restarts.

A way in of `syslog`, and no collector of its own: it shares the helper (5 MB), the thread that reads, the events and
counts of listeners, and only here is it known whether `/dev/kmsg` gives the kernel's records already.

The child is given the cursor of the last record that was taken, and begins *with* that record: when it is the first
that comes, nothing is missing; when another comes, the journal was vacuumed, or did not outlive a boot, and what is
missing is told. (`--after-cursor` cannot tell the two apart, and leaves out one record too many then.) While nobody
reads, the child waits and the journal keeps. A child that ends is started again, where it stopped. It ends by itself
when this process does, because nobody reads its output any more.

A first child brings what there is and ends, a second one follows: from version 251 on `--follow` leaves out, without a
word, what earlier boots said, which is what one wants to read after a crash.

Source: journalctl(1), systemd.journal-fields(7), sd_journal_get_cursor(3).
"""

import logging
import re
import time
from pathlib import Path
from typing import Final

import msgspec

from collectors.log_rules.teller import Teller
from collectors.syslog_framing import MARK, cut
from collectors.syslog_journal_entry import Record, oversized_record, read_record
from collectors.syslog_journalctl import SOURCE, Follower, Lines, Where
from collectors.syslog_kmsg import Devices
from collectors.syslog_listener import ALWAYS, Counts, Poller
from collectors.syslog_rows import Rows
from schemas.errors import NoDataError, StartupError
from schemas.rows import Event, Position, Severity

_LONGEST: Final = 1 << 20
"""Of one line; JSON writes a byte as up to six."""
_AGAIN: Final = 1.0
"""After how many seconds a child that ended is started again."""
_YOUNG: Final = 10.0
"""A child that ends sooner than that has something wrong with it."""
_POSITION_EVERY: Final = 10.0
"""Seconds after which the position is kept though nothing but records of the kernel came, which were passed over."""
_WORDS: Final = re.compile(r"(?:\A|;)([a-z])=([0-9a-f]+)")


class Journal:
    """Reads records into rows, says how far it has read, and tells when some were gone."""

    def __init__(
        self,
        where: Where,
        after: str,
        limit: int,
        counts: Counts,
        log: logging.Logger,
        teller: Teller | None = None,
    ) -> None:
        """Start to read after the record of cursor `after`; "" begins anew. Raises NoDataError, StartupError.

        `teller` makes events of what the kernel says, where its records are taken.
        """
        self._teller = teller if where.kernel else None
        self.counts = counts
        self.hurried = False
        self.last = after
        """The cursor of the last record that was taken."""
        self._where = where
        self._limit = limit
        self._log = log
        self._devices = Devices(where.root)
        self._host = _own_name(where.root)
        self._lines = Lines(_LONGEST)
        self._check = ""
        """The cursor that the first record of the child at hand must have."""
        self._seen = False
        """The child before this one, or this one, has read the record that `last` is the cursor of."""
        self._told_at = 0.0
        self._passed = False
        self._uncounted = False
        self._poller: Poller | None = None
        self._again_at = 0.0
        self._died_young = False
        self._following = False
        self._child = self._start(follow=False)

    def _start(self, *, follow: bool) -> Follower:
        child = Follower(self._where.command(self.last, follow=follow), self._log)
        self._following = follow
        self._seen = self._seen and follow
        self._check = self.last
        self._lines = Lines(_LONGEST)
        return child

    def attach(self, poller: Poller) -> None:
        """Ask to be called for what the child says."""
        self._poller = poller
        poller.add(self._child.output, self.read)
        poller.add(self._child.errors, self._hear)

    def read(self, rows: Rows) -> None:
        """Append what is there now, and the position after it. Raises OSError when the child has failed."""
        try:
            data = self._child.read()
        except BlockingIOError:
            return
        if not data:
            self._go_on()
            return
        before = rows.number
        for line, whole in self._lines.feed(data):
            self._take(read_record(line, self._limit) if whole else oversized_record(line), line, rows)
        rows.bytes += len(data)
        self.counts.received_bytes_total += len(data)
        if rows.number > before:
            self._tell_position(rows)
            if self._teller is not None:
                self._teller.tell(rows)

    def _take(self, record: Record | None, line: bytes, rows: Rows) -> None:
        if record is None:
            if line and not line.startswith(b"-- "):  # what journalctl says to people
                self.counts.malformed_total += 1
                self._append(rows, msgspec.structs.replace(oversized_record(b""), text=_shown(line, self._limit)))
            return
        if self._check:
            if not record.cursor:  # most likely the record that was taken last
                self.counts.malformed_total += 1
                return
            expected, self._check = self._check, ""
            known, self._seen = self._seen, True
            if _same(expected, record.cursor):
                return
            if not (known and _words(expected).get("b") != _words(record.cursor).get("b")):  # followed: this boot only
                self._tell_gap(rows, expected, record)
        self._seen = True
        self.last = record.cursor or self.last
        self.counts.suppressed_total += record.suppressed
        self._passed = True
        if self._where.kernel or not record.kernel:
            self.counts.truncated_total += record.truncated
            self._append(rows, record)

    def _append(self, rows: Rows, record: Record) -> None:
        device = ""
        if record.kernel_device:
            properties = f" SUBSYSTEM={record.kernel_subsystem or ''}\n DEVICE={record.kernel_device}"
            device = self._devices.of_properties(properties.encode("ascii", "backslashreplace"))
        if record.kernel and record.facility == 0 and self._teller is not None:  # others wrote into the kernel's log
            device = self._teller.look(record.text or "", device, record.when)
        rows.table(SOURCE)[record.level].append(
            (
                rows.number,
                record.text,
                record.severity,
                record.facility,
                record.host if record.host != self._host else None,
                record.app,
                record.process,
                record.message_id,
                None,
                record.when,
                record.sequence,
                device,
            )
        )
        rows.number += 1
        if record.unit is not None:
            rows.note("unit", record.unit, rows.number - 1)
        self.counts.messages_total += 1

    def _tell_position(self, rows: Rows) -> None:
        if self.last:
            rows.add(Position(self._where.source, self.last))
        self._passed = False
        self._told_at = time.monotonic()

    def _tell_gap(self, rows: Rows, expected: str, record: Record) -> None:
        """Tell that the record read last is there no more, and with it those between it and this one.

        Both numbers count in the same journal when it says so; else nobody knows how many are gone.
        """
        before, now = _words(expected), _words(record.cursor)
        lost: int | None = None
        if before.get("s") and before.get("s") == now.get("s"):
            lost = max(int(now.get("i", "0"), 16) - int(before.get("i", "0"), 16) - 1, 0)
            self.counts.lost_total += lost
        self._uncounted = self._uncounted or lost is None
        detail = {"source": self._where.source, "lost": lost, "after": expected, "next": record.cursor}
        number = "records" if lost is None else f"{lost} records"
        why = "did not outlive a boot" if before.get("b") != now.get("b") else "was vacuumed"
        rows.add(
            Event(
                type="log.gap",
                message=f"{number} of the journal were gone before they could be read: the journal {why}",
                severity=Severity.WARNING,
                detail={name: value for name, value in detail.items() if value is not None},
            )
        )

    def _hear(self, rows: Rows) -> None:  # noqa: ARG002 (called as any reader is)
        """Keep what the child complains of."""
        if not self._child.hear() and self._poller is not None:
            self._poller.remove(self._child.errors)

    def _go_on(self) -> None:
        """Follow when all that there was has been read; else have the child that ended started again soon.

        Raises OSError when it has something wrong with it. A signal is nobody's fault the first time: a service manager
        that stops this agent sends it to the child too.
        """
        if self._poller is not None:
            self._poller.remove(self._child.output)
            self._poller.remove(self._child.errors)
        how = self._child.ended()
        if not (how or self._following):
            self._next(follow=True)
            return
        young = time.monotonic() - self._child.began < _YOUNG
        if young and (self._died_young or not self._child.killed):
            raise OSError(f"journalctl ended with {how or 'status 0'}")
        self._died_young = young
        self._log.warning("journalctl ended, and is started again: %s", how or "status 0")
        self._again_at = time.monotonic() + _AGAIN

    def _next(self, *, follow: bool) -> None:
        try:
            self._child = self._start(follow=follow)
        except (NoDataError, StartupError) as error:
            raise OSError(str(error)) from None
        if self._poller is not None:
            self.attach(self._poller)

    def tick(self, now: float, rows: Rows) -> None:
        """Do what is due: a child to be started again, a position to be kept, events that were held back.

        Raises OSError when the child cannot be started.
        """
        if self._again_at and now >= self._again_at:
            self._again_at = 0.0
            self._next(follow=False)
        if self._passed and now - self._told_at >= _POSITION_EVERY:
            self._tell_position(rows)
        if self._teller is not None:
            self._teller.tell(rows)

    def finish(self, rows: Rows) -> None:
        """Keep the position of what was passed over; an incomplete line is read again by the next start."""
        if self._passed:
            self._tell_position(rows)
        if self._teller is not None:
            self._teller.finish(rows)

    def tell(self) -> dict[str, int]:
        """Give the counts; `lost_total` is known as long as the journal's own numbers tell it."""
        names = (*ALWAYS, "truncated_total", "suppressed_total", *(() if self._uncounted else ("lost_total",)))
        return {name: getattr(self.counts, name) for name in names}

    def close(self) -> None:
        """End the child. Safe twice."""
        self._child.close()


def _own_name(root: Path) -> str:
    """Give the name that this machine's own records carry; "" where the kernel does not tell."""
    try:
        return (root / "proc/sys/kernel/hostname").read_text().strip()
    except OSError:
        return ""


def _words(cursor: str) -> dict[str, str]:
    """Give the parts of a cursor: `s` journal, `i` number in it, `b` boot, `m` and `t` times, `x` a hash."""
    return dict(_WORDS.findall(cursor))


def _same(expected: str, found: str) -> bool:
    """Tell whether two cursors mean one record. One that was moved to another file has another `s` and `i` there."""
    if expected == found:
        return True
    before, now = _words(expected), _words(found)
    return len(before) > 3 and all(before.get(word) == now.get(word) for word in "bmtx")


def _shown(line: bytes, limit: int) -> str:
    return (line if len(line) <= limit else cut(line, limit) + MARK).decode("utf-8", "backslashreplace")
