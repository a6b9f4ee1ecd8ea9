"""What was read is handed on in order, in loads of a bounded size: events at once, rows with others."""

import threading
import time

from collectors.redfish.handing import LINGER, TOGETHER, WAITING, Outbox
from schemas.rows import Event, Reading, Severity

PATIENCE = 30.0
ROW = Reading("bmc_reader", {"state": "ok"})
EVENT = Event("redfish.bmc.lost", "it is lost", Severity.ERROR)


def test_of_much_only_some_is_handed_on_together_and_in_order() -> None:
    outbox = Outbox()
    rows = [Reading("bmc_reader", {"sensors": number}) for number in range(2 * TOGETHER + 4)]
    for first in range(0, len(rows), 1000):
        outbox.put(rows[first : first + 1000])
    loads = [outbox.take(0.0) for _ in range(4)]
    assert [TOGETHER, TOGETHER, 4, 0] == [len(load) for load in loads]
    assert rows == [row for load in loads for row in load]


def test_a_row_waits_a_moment_for_others_and_an_event_waits_for_nobody() -> None:
    outbox = Outbox()
    outbox.put([ROW])
    threading.Timer(LINGER / 5, outbox.put, [[ROW]]).start()
    began = time.monotonic()
    assert [ROW, ROW] == outbox.take(PATIENCE)
    assert time.monotonic() - began >= LINGER / 2
    outbox.put([ROW])
    outbox.put([EVENT])
    began = time.monotonic()
    assert [ROW, EVENT] == outbox.take(PATIENCE)
    assert time.monotonic() - began < LINGER / 2


def test_an_event_ends_the_wait_of_who_waits_already() -> None:
    outbox, loads = Outbox(), []
    taker = threading.Thread(target=lambda: loads.append((outbox.take(PATIENCE), time.monotonic())))
    taker.start()
    began = time.monotonic()
    outbox.put([EVENT])
    taker.join(PATIENCE)
    assert [EVENT] == loads[0][0]
    assert loads[0][1] - began < LINGER / 2


def test_nothing_is_given_when_nothing_comes() -> None:
    began = time.monotonic()
    assert [] == Outbox().take(0.05)
    assert time.monotonic() - began >= 0.04


def test_at_the_end_nobody_waits_for_room_and_what_is_put_is_not_taken() -> None:
    outbox, took = Outbox(), []
    assert outbox.put([ROW] * WAITING)
    waiting = threading.Thread(target=lambda: took.append(outbox.put([ROW])))
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    outbox.close()
    outbox.close()
    waiting.join(PATIENCE)
    assert [False] == took
