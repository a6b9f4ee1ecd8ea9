"""Logs are read on from where they were read before; what was cleared, overwritten or renumbered is seen and told."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors._names import NameFilter
from collectors.redfish.alerts import Alert
from collectors.redfish.logs import LOG_EVENTS, MOST_AT_ONCE, SKIPPED, Log, LogReader, log_of
from collectors.redfish.resource import Resource, decode, kind
from schemas.rows import Event, Item, LogRecord, Position
from tests.fakes.redfish import recorded

SEL = "/redfish/v1/Managers/BMC/LogServices/SEL"
ENTRIES = f"{SEL}/Entries"
LOG = Log(SEL, ENTRIES, most=100)


class Bmc:
    """A log as BMCs serve it: in pages, the newest or the oldest first, with $skip or without, members whole or not."""

    def __init__(
        self, *, page: int = 1000, newest_first: bool = False, skips: bool = True, whole: bool = True, room: int = 100
    ) -> None:
        self.entries: list[Resource] = []
        self.asked: list[str] = []
        self.number = 0
        self._page, self._newest_first, self._skips, self._whole, self._room = page, newest_first, skips, whole, room

    def write(self, *messages: str, **more: Any) -> None:
        """Write entries."""
        for message in messages:
            self.number += 1
            self.entries.append(
                {
                    "@odata.id": f"{ENTRIES}/{self.number}", "Id": str(self.number), "Message": message,
                    "Severity": "OK", "Created": f"2024-07-08T16:{self.number // 60 % 60:02}:{self.number % 60:02}Z",
                    **more,
                }
            )  # fmt: skip
        del self.entries[: -self._room]

    def clear(self, *, numbers_go_on: bool = False) -> None:
        """Clear the log."""
        self.entries.clear()
        if not numbers_go_on:
            self.number = 0

    def get(self, path: str) -> Resource | None:
        """Answer."""
        self.asked.append(path)
        place, _, query = path.partition("?")
        if place != ENTRIES:
            return next((one for one in self.entries if one["@odata.id"] == place), None)
        at = int(query.rpartition("skip=")[2]) if "skip=" in query and (self._skips or "page" in query) else 0
        ordered = self.entries[::-1] if self._newest_first else self.entries
        shown = ordered[at : at + self._page]
        answer: Resource = {
            "Members": shown if self._whole else [{"@odata.id": one["@odata.id"]} for one in shown],
            "Members@odata.count": len(ordered),
        }
        if at + self._page < len(ordered):
            answer["Members@odata.nextLink"] = f"{ENTRIES}?page&skip={at + self._page}"
        return answer


def read(reader: LogReader, bmc: Bmc, log: Log = LOG, told: Sequence[Alert] = ()) -> list[Item]:
    """Read a log once."""
    return list(reader.read(log, bmc.get, lambda _: "bmc:b1", lambda alert: alert in told))


def said(items: list[Item]) -> list[str]:
    """Give the messages of the records."""
    return [one.message for one in items if isinstance(one, LogRecord)]


def types(items: list[Item]) -> list[str]:
    """Give the types of the events."""
    return [one.type for one in items if isinstance(one, Event)]


_WAYS = [
    {}, {"newest_first": True}, {"page": 3}, {"page": 3, "newest_first": True}, {"page": 3, "skips": False},
    {"whole": False}, {"page": 4, "whole": False, "newest_first": True},
]  # fmt: skip


@pytest.mark.parametrize("way", _WAYS)
def test_each_entry_is_told_once_however_a_bmc_serves_its_log(way: dict[str, Any]) -> None:
    bmc, reader = Bmc(**way), LogReader("b1")
    bmc.write(*"abcdefgh")
    assert [] == said(read(reader, bmc)), "what is older than the first look is history"
    assert [] == read(reader, bmc)
    for batch in ("i", "jk", "lmnopqr", ""):
        bmc.write(*batch)
        assert list(batch) == said(read(reader, bmc))


@pytest.mark.parametrize("way", _WAYS)
def test_a_reader_that_starts_again_goes_on_from_its_position(way: dict[str, Any]) -> None:
    bmc = Bmc(**way)
    bmc.write("a", "b")
    [position] = read(LogReader("b1"), bmc)
    assert isinstance(position, Position)
    bmc.write("c", "d")
    found = read(LogReader("b1", [(position.source, position.value), ("b2 /other", "{")]), bmc)
    assert ["c", "d"] == said(found)
    assert isinstance(found[-1], Position), "rows and how far they go are one unit"


def test_record_says_which_log_it_is_of_when_how_bad_and_its_number() -> None:
    bmc, reader = Bmc(), LogReader("b1", subject="bmc:b1")
    bmc.write("a")
    read(reader, bmc)
    bmc.write("Fan 3 failed", Severity="Critical", MessageId="Environmental.1.0.FanFailed")
    record, event, _ = read(reader, bmc)
    assert isinstance(record, LogRecord)
    assert ("redfish", "BMC/SEL", 2, 2, "bmc:b1", "bmc:b1", "Environmental.1.0.FanFailed") == (
        record.source, record.app, record.severity, record.sequence, record.device, record.subject, record.message_id
    )  # fmt: skip
    assert isinstance(event, Event)
    assert ("redfish.fan", SEL, "2") == (event.type, event.detail["log"], event.detail["entry"])


def test_what_the_stream_told_is_a_record_and_no_second_event() -> None:
    class Everything(list[Alert]):
        def __contains__(self, _alert: object) -> bool:
            return True

    bmc, reader = Bmc(), LogReader("b1")
    read(reader, bmc)
    bmc.write("Fan 3 failed", Severity="Critical")
    found = read(reader, bmc, told=Everything())
    assert (["Fan 3 failed"], []) == (said(found), types(found))


@pytest.mark.parametrize("way", _WAYS)
def test_a_cleared_log_is_told_and_read_from_its_beginning(way: dict[str, Any]) -> None:
    bmc, reader = Bmc(**way), LogReader("b1")
    bmc.write(*"abcdefgh")
    read(reader, bmc)
    bmc.clear()
    bmc.write("log cleared by an administrator", "new")
    found = read(reader, bmc)
    assert "redfish.log.cleared" == types(found)[0]
    assert ["log cleared by an administrator", "new"] == said(found)
    assert [] == read(reader, bmc)


def test_an_id_that_is_used_again_is_another_entry() -> None:
    """Cleared, and as many entries as before: every id is known, no entry is."""
    bmc, reader = Bmc(), LogReader("b1")
    bmc.write("a", "b")
    read(reader, bmc)
    bmc.clear()
    bmc.write("c", "d")
    found = read(reader, bmc)
    assert (["redfish.log.cleared"], ["c", "d"]) == (types(found), said(found))


def test_a_log_that_was_cleared_and_is_empty_is_told_once() -> None:
    bmc, reader = Bmc(), LogReader("b1")
    bmc.write("a")
    read(reader, bmc)
    bmc.clear()
    assert ["redfish.log.cleared"] == types(read(reader, bmc))
    assert [] == read(reader, bmc)
    bmc.write("b")
    assert (["b"], []) == (said(found := read(reader, bmc)), types(found))


def test_numbers_that_go_on_after_a_clear_tell_of_a_clear_and_not_of_a_loss() -> None:
    bmc, reader = Bmc(), LogReader("b1")
    bmc.write(*"abcdefgh")
    read(reader, bmc)
    bmc.clear(numbers_go_on=True)
    bmc.write("x", "y")
    found = read(reader, bmc)
    assert (["redfish.log.cleared"], ["x", "y"]) == (types(found), said(found))


@pytest.mark.parametrize("way", [{}, {"newest_first": True}, {"page": 30}, {"page": 30, "newest_first": True}])
def test_entries_that_were_overwritten_unread_are_counted(way: dict[str, Any]) -> None:
    bmc, reader = Bmc(**way), LogReader("b1")
    bmc.write(*map(str, range(100)))
    read(reader, bmc)
    bmc.write(*map(str, range(100, 230)))
    found = read(reader, bmc)
    [event] = [one for one in found if isinstance(one, Event)]
    assert ("redfish.log.lost", 30) == (event.type, event.detail["lost"])
    assert [str(number) for number in range(130, 230)] == said(found)


def test_a_log_that_was_full_and_turned_without_loss_tells_of_none() -> None:
    bmc, reader = Bmc(), LogReader("b1")
    bmc.write(*map(str, range(100)))
    read(reader, bmc)
    bmc.write(*map(str, range(100, 200)))
    found = read(reader, bmc)
    assert ([], 100) == (types(found), len(said(found)))


def test_a_long_backlog_is_handed_on_in_parts_and_none_is_left_out() -> None:
    bmc, reader = Bmc(page=5000, room=5000), LogReader("b1")
    log = Log(SEL, ENTRIES, most=5000)
    read(reader, bmc, log)
    bmc.write(*map(str, range(2 * MOST_AT_ONCE + 7)))
    parts = [said(read(reader, bmc, log)) for _ in range(4)]
    assert [MOST_AT_ONCE, MOST_AT_ONCE, 7, 0] == list(map(len, parts))
    assert [str(number) for number in range(2 * MOST_AT_ONCE + 7)] == [one for part in parts for one in part]


def test_a_log_that_cannot_be_read_now_is_neither_cleared_nor_lost() -> None:
    bmc, reader = Bmc(), LogReader("b1")
    bmc.write("a", "b")
    read(reader, bmc)
    assert [] == list(reader.read(LOG, lambda _: None, lambda _: "", lambda _: False))
    bmc.write("c")
    assert (["c"], []) == (said(found := read(reader, bmc)), types(found))


def test_only_the_pages_with_something_new_are_asked_for() -> None:
    bmc, reader = Bmc(page=10, newest_first=True), LogReader("b1")
    bmc.write(*map(str, range(100)))
    read(reader, bmc)
    assert 1 == len(bmc.asked)
    bmc.asked.clear()
    bmc.write("x")
    read(reader, bmc)
    assert [ENTRIES] == bmc.asked


def test_a_service_that_says_its_newest_entry_is_not_asked_for_more() -> None:
    bmc, reader = Bmc(), LogReader("b1")
    bmc.write("a")
    read(reader, bmc)
    bmc.asked.clear()
    assert [] == read(reader, bmc, Log(SEL, ENTRIES, newest="1"))
    assert [] == bmc.asked


@given(st.lists(st.one_of(st.integers(0, 60), st.sampled_from(["clear", "clear on", "read"])), max_size=20),
       st.sampled_from(_WAYS))  # fmt: skip
def test_whatever_happens_to_a_log_no_entry_is_told_twice_and_none_is_missed_untold(
    steps: list[int | str], way: dict[str, Any]
) -> None:
    bmc, reader = Bmc(**way), LogReader("b1")
    bmc.write("before")
    written = 0
    read(reader, bmc)
    told: list[str] = []
    excused = 0
    for step in [*steps, "read"]:
        if step == "read":
            found = read(reader, bmc)
            told += said(found)
            excused += len(types(found))
        elif isinstance(step, int):
            bmc.write(*map(str, range(written, written + step)))
            written += step
        else:
            bmc.clear(numbers_go_on=step == "clear on")
    assert [] == [message for message, times in Counter(told).items() if times > 1]
    there = {one["Message"] for one in bmc.entries} - {"before"}
    assert there <= set(told), "what is still there was read"
    if not excused and "clear" not in steps and "clear on" not in steps:
        assert written == len(told)


# --- recorded machines ------------------------------------------------------------------------------------------------


class Recorded:
    """The logs of a recorded machine."""

    def __init__(self, name: str) -> None:
        self._tree = recorded(name)
        self.services = [
            one
            for path in self._tree
            if "/LogServices/" in path and (one := self.get(path)) and kind(one) == "LogService"
        ]

    def get(self, path: str) -> Resource | None:
        """Answer."""
        body = self._tree.get(path)
        return None if body is None else decode(body)[0]


@pytest.mark.parametrize(
    ("name", "logs"),
    [
        ("dell", {"iDRAC.Embedded.1/FaultList": 0, "iDRAC.Embedded.1/Lclog": 5, "iDRAC.Embedded.1/Sel": 5}),
        ("lenovo", {"1/ActiveLog": 0, "1/AuditLog": 5, "1/MaintenanceLog": 5, "1/PlatformLog": 5, "1/SaLog": 0}),
        ("nvidia_viking", {"HGX_Baseboard_0/EventLog": 100, "BMC/SEL": 75, "BMC/AuditLog": 75, "BMC/EventLog": 1}),
    ],
)
def test_logs_of_real_machines_are_read_whole_after_they_were_empty(name: str, logs: dict[str, int]) -> None:
    bmc = Recorded(name)
    wanted = NameFilter(("*",), SKIPPED)
    found = Counter(dict.fromkeys(logs, 0))
    for service in bmc.services:
        log = log_of(service, wanted)
        if log is None:
            continue
        empty = [(f"b1 {log.path}", '{"entries":0}')]
        items = list(LogReader("b1", empty).read(log, bmc.get, lambda _: "", lambda _: False))
        found.update(one.app for one in items if isinstance(one, LogRecord) and one.app)
        assert types(items).count("redfish.log.cleared") == 0
    assert logs == {log: found[log] for log in logs}
    assert set(found) - set(logs) == {log for log in found if not found[log]} - set(logs)


def test_a_log_that_shows_the_entries_of_another_is_left_to_that() -> None:
    """Each GPU of an HGX baseboard has a log of Xids, whose entries are those of the baseboard's log of events."""
    bmc = Recorded("nvidia_viking")
    xids = [log for one in bmc.services if (log := log_of(one, NameFilter())) and log.name.endswith("/XID")]
    assert 12 == len(xids)
    for log in xids:
        empty = [(f"b1 {log.path}", '{"entries":0}')]
        assert [] == said(list(LogReader("b1", empty).read(log, bmc.get, lambda _: "", lambda _: False)))


def test_noise_is_not_read() -> None:
    wanted = NameFilter(("*",), SKIPPED)
    names = {log.name for one in Recorded("nvidia_viking").services if (log := log_of(one, wanted))}
    assert not {name for name in names if name.endswith(("/Journal", "/Dump", "/DiagnosticLog"))}
    assert {"BMC/SEL", "HGX_Baseboard_0/EventLog"} <= names


def test_events_of_logs_are_declared() -> None:
    assert {"redfish.log.cleared", "redfish.log.lost"} == {one.type for one in LOG_EVENTS}


@pytest.mark.parametrize("way", [{"whole": False}, {"page": 4, "whole": False, "newest_first": True}])
def test_an_entry_that_cannot_be_read_once_is_told_the_next_time(way: dict[str, Any]) -> None:
    bmc, reader = Bmc(**way), LogReader("b1")
    bmc.write("a")
    read(reader, bmc)
    bmc.write("b", "c")
    assert [] == spoilt(reader, bmc, f"{ENTRIES}/2")
    assert ["b", "c"] == said(read(reader, bmc))


def test_an_entry_that_can_never_be_read_holds_up_the_others_for_a_few_readings_only() -> None:
    bmc, reader = Bmc(whole=False), LogReader("b1")
    bmc.write("a")
    read(reader, bmc)
    bmc.write("b", "c")
    assert [0, 0, 0, 1, 0] == [len(said(spoilt(reader, bmc, f"{ENTRIES}/2"))) for _ in range(5)]


def test_a_log_of_which_nothing_could_be_read_once_is_read_on() -> None:
    bmc, reader = Bmc(whole=False), LogReader("b1")
    bmc.write("a")
    spoilt(reader, bmc, f"{ENTRIES}/1")
    read(reader, bmc)
    bmc.write("b")
    assert ["b"] == said(read(reader, bmc))


def test_a_page_that_cannot_be_read_once_is_not_taken_for_entries_that_are_gone() -> None:
    bmc, reader = Bmc(page=3, newest_first=True), LogReader("b1")
    bmc.write("a", "b")
    read(reader, bmc)
    bmc.write(*"cdefgh")
    assert [] == spoilt(reader, bmc, f"{ENTRIES}?page&skip=3")
    found = read(reader, bmc)
    assert (list("cdefgh"), []) == (said(found), types(found))


def spoilt(reader: LogReader, bmc: Bmc, path: str) -> list[Item]:
    """Read a log once while one path gives nothing."""
    return list(
        reader.read(LOG, lambda asked: None if asked == path else bmc.get(asked), lambda _: "", lambda _: False)
    )
