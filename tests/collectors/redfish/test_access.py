"""What is told of the way to a BMC, once each, and how long it is left alone."""

from collectors.redfish.access import LONGEST, LOST_AFTER, Access, word
from collectors.redfish.errors import (
    BmcDeniedError,
    BmcError,
    BmcOccupiedError,
    BmcUnreachableError,
    BmcUntrustedError,
)
from collectors.redfish.pace import Pace

GONE = BmcUnreachableError("no answer")


def access() -> Access:
    return Access("b", "https://b", "bmc:b")


def fail(way: Access, error: BmcError, times: int = 1) -> list[str]:
    return [event.type for _ in range(times) for event in way.failed(error)]


def test_lost_is_told_after_some_failures_once_and_back_once() -> None:
    way = access()
    assert [] == fail(way, GONE, LOST_AFTER - 1)
    assert ["redfish.bmc.lost"] == fail(way, GONE, 5)
    assert "no answer" == way.reason
    [back] = way.worked([])
    assert ("redfish.bmc.back", "bmc:b", "bmc:b") == (back.type, back.device, back.subject)
    assert ([], "", 0) == (list(way.worked([])), way.reason, way.failures)


def test_one_failure_that_passes_is_not_told() -> None:
    way = access()
    assert [] == fail(way, GONE)
    assert [] == list(way.worked([]))


def test_who_is_refused_and_what_is_not_believed_is_told_at_once() -> None:
    assert ["redfish.bmc.denied"] == fail(access(), BmcDeniedError("no"), 3)
    assert ["redfish.bmc.untrusted"] == fail(access(), BmcUntrustedError("no"), 3)


def test_what_may_not_be_read_is_told_as_it_changes() -> None:
    way = access()
    told = [list(way.worked(denied)) for denied in ([], ["/a", "/b"], ["/a"], [])]
    assert [[], ["redfish.bmc.restricted"], [], ["redfish.bmc.restricted"]] == [
        [one.type for one in each] for each in told
    ]
    assert {"bmc": "b", "address": "https://b", "denied": 2, "first": "/a"} == told[1][0].detail


def pauses(error: BmcError, every: float = 60.0, times: int = 12) -> list[float]:
    way = access()
    found = []
    for _ in range(times):
        list(way.failed(error))
        found.append(way.pause(error, every))
    return found


def test_pauses_grow_to_a_limit() -> None:
    found = pauses(GONE)
    assert 45 <= found[0] <= 75
    assert found[3] > 3 * found[0]
    assert all(0.75 * LONGEST <= pause <= 1.25 * LONGEST for pause in found[6:])


def test_a_refused_password_is_not_tried_often() -> None:
    assert min(pauses(BmcDeniedError("no"), every=1.0)) > 600


def test_a_busy_bmc_gets_the_time_that_it_asks_for() -> None:
    assert pauses(BmcOccupiedError("busy", 3000.0))[0] >= 3000.0
    assert pauses(BmcOccupiedError("busy", None))[0] < 100.0


def test_states_are_words_of_the_declaration() -> None:
    errors = (GONE, BmcDeniedError("x"), BmcUntrustedError("x"), BmcOccupiedError("x", None))
    assert ["unreachable", "denied", "untrusted", "occupied"] == [word(error) for error in errors]


def test_requests_are_spread_over_the_seconds() -> None:
    now, slept = [100.0], list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)

    pace = Pace(10.0, clock=lambda: now[0], sleep=sleep)
    for _ in range(13):
        pace()
    assert 10 == len(slept)  # a quarter of a second's worth goes at once
    assert abs(max(slept) - 0.95) < 0.2
    now[0] += 1000.0
    slept.clear()
    pace()
    assert [] == slept
