"""The logs of a BMC (SEL, EventLog, Lclog ...), read on from where they were read before.

A cursor is kept for each log: the id of the last entry, and a mark of what it said, so that an id that is used again
after a log was cleared is not taken for the same entry. Told as events: that a log was cleared, that entries went
before they were read.

A first look begins at the newest entry: what is older is history. A log that shows the entries of another one (the
Xid logs of NVIDIA's baseboards) is left to that.

Source: DMTF LogService 1.7, LogEntry 1.17, LogEntryCollection; DSP0266 1.20, 7.3 ($skip), 7.4 (nextLink).
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from collectors._names import NameFilter
from collectors.redfish.alerts import Alert, alert_of, event_of, log_name, record_of
from collectors.redfish.log_pages import MOST_PAGES, Get, Pages, following, newest_first, numeric, total_of
from collectors.redfish.resource import Resource, link, member, objects, text, uri
from schemas.digest import blake2b
from schemas.events import EventSpec
from schemas.rows import Event, FieldValue, Item, Position, Severity

SKIPPED: Final = (
    "Journal",
    "Dump",
    "DebugToken*",
    "DiagnosticLog",
    "FDR",
    "PostCodes",
    "CrashDump",
    "Crashdump",
    "SOL*",
)
"""Names of logs that say nothing of the machine's health, or are as large as a disk."""
_TRIES: Final = 3
"""Readings of a log that wait for an entry, or a page, that could not be read; then it is gone on without."""
MOST_AT_ONCE: Final = 1000
"""Entries that are handed on at once; what is beyond waits for the next time."""
MOST_HELD: Final = 4 * MOST_AT_ONCE
"""Entries of a log that are held at once, and what one page has beyond: a BMC cannot take the memory."""
_LOG: Final = ("log", "entry")

LOG_EVENTS: Final = (
    EventSpec(
        "redfish.log.cleared",
        "A log of the BMC holds other entries than before: it was cleared, or begun anew.",
        (Severity.NOTICE,),
        (*_LOG, "entries"),
    ),
    EventSpec(
        "redfish.log.lost",
        "Entries of a BMC's log were overwritten before they were read; `lost` is absent when nobody can count them.",
        (Severity.WARNING,),
        (*_LOG, "lost"),
    ),
)
"""What is told of logs themselves."""

DeviceOf = Callable[[Alert], str]
"""Gives the device that an alert is about, in our names."""


class Cursor(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a log has been read."""

    entry: str = ""
    """Id of the last entry that was taken; "" when the log was empty."""
    mark: str = ""
    """What tells that entry from a later one of the same id."""
    entries: int = 0
    """Entries that the log had then."""


class Log(msgspec.Struct, frozen=True):
    """A log that can be read."""

    path: str
    entries: str
    """Path of the collection."""
    newest: str = ""
    """Id of its newest entry, where the service says it without being asked for entries."""
    most: int | None = None
    """Entries that it has room for."""

    @property
    def name(self) -> str:
        """What it is called in rows."""
        return log_name(self.path)


def log_of(service: Resource, wanted: NameFilter) -> Log | None:
    """Give the log of a LogService; None for one without entries, switched off, or not wanted."""
    path, entries = uri(service), link(service, "Entries")
    name = path.rpartition("/")[2]
    if not path or not entries or service.get("ServiceEnabled") is False or not wanted(name):
        return None
    newest = text(member(member(service, "Oem"), "Nvidia"), "LatestEntryID")
    most = service.get("MaxNumberOfRecords")
    return Log(
        path, entries, newest, most if isinstance(most, int) and not isinstance(most, bool) and most > 0 else None
    )


class LogReader:
    """Reads the logs of one BMC. For one thread at a time."""

    def __init__(
        self, label: str, positions: Iterable[tuple[str, str]] = (), subject: str = "", board: str = ""
    ) -> None:
        """Go on where `positions` say that logs were read to. `board`: the BMC's id."""
        self._label = label
        self._subject = subject
        self._board = board
        self._cursors: dict[str, Cursor] = {}
        self._foreign: set[str] = set()
        """Logs that show entries of others alone."""
        self._tries: dict[str, int] = {}
        """How often in a row something of a log could not be read."""
        for source, value in positions:
            place, cursor = self._log_of(source), _read_cursor(value)
            if place and cursor is not None:
                self._cursors[place] = cursor

    def read(
        self,
        log: Log,
        get: Get,
        device_of: DeviceOf,
        told: Callable[[Alert], bool],
        until: Callable[[], bool] = lambda: False,
    ) -> Iterator[Item]:
        """Yield what is new in a log: records, their events, and how far it is read, as one unit.

        `told`: whether an alert's event was told before, by the stream of events. `until`: whether the time is over;
        what is left then waits for the next time. Raises what `get` raises.
        """
        before = self._cursors.get(log.path)
        known = before is not None and before.entry and log.newest == before.entry and numeric(log.newest)
        if known or log.path in self._foreign:
            return
        found = _Found(log, before)
        taken = None if before is None else (before.entry, before.entries)
        pages = Pages(log.entries, get, until, taken, found.is_before)
        for page in pages:
            if found.take(page, cut=pages.cut):
                break
        if found.foreign:
            self._foreign.add(log.path)
        if not found.reached:
            return  # it could not be read, or only its beginning
        if found.holed and self._tries.get(log.path, 0) < _TRIES:
            self._tries[log.path] = self._tries.get(log.path, 0) + 1
            return  # by chance, perhaps: what is passed over now is never told
        self._tries.pop(log.path, None)
        if before is None:
            yield from self._keep(log, found.cursor())
            return
        yield from self._news(log, before, found)
        new = found.new()
        for alert in new[:MOST_AT_ONCE]:
            device = device_of(alert)
            yield record_of(alert, device, self._subject)
            if not told(alert):
                event = event_of(alert, device, self._subject)
                if event is not None:
                    yield event
        if len(new) > MOST_AT_ONCE:
            last = new[MOST_AT_ONCE - 1]
            yield from self._keep(log, Cursor(last.entry, mark_of(last), before.entries))
        else:
            yield from self._keep(log, found.cursor())

    def _news(self, log: Log, before: Cursor, found: "_Found") -> Iterator[Event]:
        if found.met or not before.entry:
            return
        detail: dict[str, FieldValue] = {"log": log.path, "entry": before.entry}
        if found.cleared(before):
            message = f"the log {log.name} was cleared: entry {before.entry} is gone"
            yield Event("redfish.log.cleared", message, Severity.NOTICE, self._board,
                        {**detail, "entries": found.count}, None, self._subject)  # fmt: skip
            if not found.dropped or not found.began_anew(before):
                return
            lost: int | None = found.dropped
        else:
            lost = found.lost(before)
        if lost == 0:
            return
        how_many = "entries" if lost is None else f"{lost} entries"
        message = f"{how_many} of the log {log.name} after {before.entry} were overwritten before they were read"
        told = detail if lost is None else {**detail, "lost": lost}
        yield Event("redfish.log.lost", message, Severity.WARNING, self._board, told, None, self._subject)

    def _keep(self, log: Log, cursor: Cursor) -> Iterator[Position]:
        if cursor != self._cursors.get(log.path):
            self._cursors[log.path] = cursor
            yield Position(f"{self._label} {log.path}", msgspec.json.encode(cursor).decode())

    def _log_of(self, source: str) -> str:
        label, _, path = source.rpartition(" ")
        return path if label == self._label else ""


def _read_cursor(value: str) -> Cursor | None:
    try:
        return msgspec.json.decode(value, type=Cursor)
    except msgspec.MsgspecError:
        return None


class _Found:
    """What pages of a log show, in whatever order they come."""

    def __init__(self, log: Log, before: Cursor | None) -> None:
        self._log = log
        self._before = before
        self._alerts: dict[str, Alert] = {}
        self.pages = 0
        self.count = 0
        """Entries that there are, as far as is known."""
        self.met = False
        """Whether the last entry that was taken before was among them."""
        self._others = 0
        self._unread = False
        """Whether an entry after the one before is there, and could not be read."""
        self._past = False
        """Whether it was come below the entry before."""
        self._newest_first = False
        self._ended = False
        """Whether no page follows the last one."""
        self._full = False
        """Whether there was no room for older ones."""
        self.dropped = 0
        """Entries that were seen and let go of, as there was no room for them."""

    @property
    def foreign(self) -> bool:
        """Whether all that it shows are entries of other logs."""
        return bool(self._others) and not self._alerts

    @property
    def reached(self) -> bool:
        """Whether its newest entry was seen, or that it has none."""
        newer = self._before is not None and any(_is_after(entry, self._before.entry) for entry in self._alerts)
        return self.pages > 0 and (self._ended or self._newest_first or newer)

    @property
    def holed(self) -> bool:
        """Whether something between the entry before and the newest one could not be read."""
        if self._before is None:
            return self._unread and not self._alerts
        broken_off = (
            self._newest_first
            and not (self._ended or self.met or self._past or self._full)
            and self.pages <= MOST_PAGES
        )
        return self._unread or (broken_off and bool(self._before.entry))

    def is_before(self, entry: Resource) -> bool:
        """Whether this is the last entry that was taken before, and no other of its id."""
        return self._before is not None and mark_of(alert_of(entry)) == self._before.mark

    def take(self, page: Resource, *, cut: bool = False) -> bool:
        """Take a page; tell whether enough was seen: the entry before, a first look at the newest, or all that is held.

        `cut`: the time was over before all of it was there.
        """
        self.pages += 1
        self._ended = not (following(page) or cut)
        ids = []
        for one in objects(page, "Members"):
            alert = alert_of(one)
            if alert.log == self._log.path and alert.entry:
                self._alerts.setdefault(alert.entry, alert)
                ids.append(alert.entry)
            elif alert.log == self._log.path:
                ids.append(uri(one).rpartition("/")[2])
                self._unread = self._unread or self._is_new(ids[-1])
            elif alert.log:
                self._others += 1
        self.count = max(self.count, total_of(page) or 0, len(self._alerts), len(ids))
        if self._before is not None and self._before.entry in self._alerts:
            self.met = mark_of(self._alerts[self._before.entry]) == self._before.mark
        self._newest_first = self._newest_first or newest_first(ids)
        self._past = self._past or self._is_past(ids)
        return (self._newest_first and (self._before is None or self.met or self._past)) or self._enough()

    def _enough(self) -> bool:
        """Let go of what there is no room for; tell whether there is as much as can be handed on."""
        before = self._before
        if len(self._alerts) <= MOST_HELD:
            return False
        if self._newest_first:
            self._full = True
            return True
        if (
            before is not None
            and (self.met or not before.entry or not self.began_anew(before))
            and len(self.new()) > MOST_AT_ONCE
        ):
            return True
        self.dropped += len(self._alerts) - MOST_HELD
        self._alerts = {one.entry: one for one in self.ordered()[-MOST_HELD:]}
        return False

    def _is_new(self, entry: str) -> bool:
        before = self._before.entry if self._before else ""
        return not before or _is_after(entry, before)

    def _is_past(self, ids: list[str]) -> bool:
        """Whether ids that count down have come below the one before: it is not there any more."""
        before = self._before.entry if self._before else ""
        return bool(before) and bool(ids) and numeric(before) and numeric(ids[-1]) and int(ids[-1]) <= int(before)

    def ordered(self) -> list[Alert]:
        """Give all that was seen, the oldest first."""
        found = list(self._alerts.values())
        if all(numeric(one.entry) for one in found):
            return sorted(found, key=lambda one: int(one.entry))
        if all(one.created_ns is not None for one in found):
            return sorted(found, key=lambda one: one.created_ns or 0)
        return found

    def new(self) -> list[Alert]:
        """Give what came after the entry before: all, where that is gone and ids began anew."""
        found, before = self.ordered(), self._before
        if before is None:
            return []
        if self.met:
            at = next(index for index, one in enumerate(found) if one.entry == before.entry)
            return found[at + 1 :]
        if self.began_anew(before):
            return found
        return [one for one in found if int(one.entry) > int(before.entry)]

    def began_anew(self, before: Cursor) -> bool:
        """Whether the entry before says nothing of which entries are new."""
        if not before.entry or not numeric(before.entry) or not all(map(numeric, self._alerts)):
            return True
        return before.entry in self._alerts or all(int(entry) < int(before.entry) for entry in self._alerts)

    def cleared(self, before: Cursor) -> bool:
        """Whether the log was emptied since: ids began anew, or there are fewer entries and none fell off its end."""
        if self.began_anew(before):
            return True
        return self.count < before.entries and (self._log.most is None or self.count < self._log.most)

    def lost(self, before: Cursor) -> int | None:
        """Give how many entries went unread; None when their ids do not count them."""
        ids = sorted(int(entry) for entry in self._alerts if numeric(entry))
        after = [entry for entry in ids if entry > int(before.entry)]
        if not after:
            return 0
        dense = len(after) > 1 and after[-1] - after[0] == len(after) - 1
        return after[0] - int(before.entry) - 1 if dense or len(after) == 1 else None

    def cursor(self) -> Cursor:
        """Give how far the log is read with all that was seen."""
        found = self.ordered()
        if not found:
            return Cursor(entries=self.count)
        return Cursor(found[-1].entry, mark_of(found[-1]), self.count)


def _is_after(entry: str, before: str) -> bool:
    return numeric(entry) and numeric(before) and int(entry) > int(before)


def mark_of(alert: Alert) -> str:
    """Give what tells an entry from another of the same id."""
    said = "\n".join((alert.entry, *alert.key))
    return blake2b(said.encode("utf-8", "backslashreplace"), digest_size=6).hexdigest()
