"""Of long logs no more is asked for, and held, than is needed and there is time for; what waits is told later."""

import pytest

from collectors.redfish.logs import MOST_AT_ONCE, MOST_HELD, LogReader
from schemas.rows import Event
from tests.collectors.redfish.test_logs import ENTRIES, LOG, Bmc, read, said, types

MANY = MOST_HELD + 2 * MOST_AT_ONCE


def test_of_a_log_whose_pages_are_references_only_what_is_new_is_asked_for() -> None:
    bmc, reader = Bmc(whole=False), LogReader("b1")
    bmc.write(*"abcdefgh")
    read(reader, bmc)
    assert [ENTRIES, f"{ENTRIES}/8"] == bmc.asked, "a first look needs the newest one"
    bmc.write("i", "j")
    bmc.asked.clear()
    assert ["i", "j"] == said(read(reader, bmc))
    assert [ENTRIES, *(f"{ENTRIES}/{number}" for number in (8, 9, 10))] == bmc.asked


@pytest.mark.parametrize("newest_first", [False, True])
def test_references_are_followed_while_there_is_time_and_the_rest_the_next_time(newest_first: bool) -> None:
    bmc, reader = Bmc(whole=False, newest_first=newest_first), LogReader("b1")
    bmc.write("a")
    read(reader, bmc)
    bmc.write(*"bcdefgh")
    found: list[str] = []
    for _ in range(4):
        bmc.asked.clear()
        items = list(reader.read(LOG, bmc.get, lambda _: "", lambda _: False, lambda: len(bmc.asked) >= 4))
        assert len(bmc.asked) <= 4
        assert [] == types(items)
        found += said(items)
    assert list("bcdefgh") == found


def test_where_the_time_is_over_before_the_entry_before_nothing_is_taken_for_cleared() -> None:
    bmc, reader = Bmc(page=3, skips=False), LogReader("b1")
    bmc.write(*"abcdefgh")
    read(reader, bmc)
    bmc.write("i")
    assert [] == list(reader.read(LOG, bmc.get, lambda _: "", lambda _: False, lambda: True))
    assert ["i"] == said(read(reader, bmc))


def test_no_more_of_a_long_log_is_held_than_there_is_room_for_and_what_waits_is_told_in_parts() -> None:
    bmc, reader = Bmc(page=1000, skips=False, room=100_000), LogReader("b1")
    bmc.write("a")
    read(reader, bmc)
    bmc.write(*(str(number) for number in range(MANY)))
    bmc.asked.clear()
    found = read(reader, bmc)
    assert len(bmc.asked) <= MOST_HELD // 1000 + 1
    for _ in range(MANY // MOST_AT_ONCE - 1):
        found += read(reader, bmc)
    assert ([str(number) for number in range(MANY)], []) == (said(found), types(found))


def test_of_a_long_log_with_its_newest_first_what_there_is_no_room_for_is_told_lost() -> None:
    bmc, reader = Bmc(page=1000, newest_first=True, room=100_000), LogReader("b1")
    bmc.write("a")
    read(reader, bmc)
    bmc.write(*(str(number) for number in range(MANY)))
    bmc.asked.clear()
    found = read(reader, bmc)
    assert len(bmc.asked) <= MOST_HELD // 1000 + 1
    [lost] = [one.detail["lost"] for one in found if isinstance(one, Event)]
    assert lost == MANY - 5 * 1000
    assert str(lost) == said(found)[0]
