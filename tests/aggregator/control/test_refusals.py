"""Who was refused lately: bounded whatever strangers do, and told as an event once for those who are known."""

import pytest

from aggregator.access import ScopeError
from aggregator.announcer import Announcer
from aggregator.config import VerbositySection
from aggregator.control_sqlite import SqliteControl
from aggregator.fleet import Fleet
from aggregator.log_sqlite import SqliteLog
from aggregator.refusals import MAX_REFUSALS, Refusals
from aggregator.routes.common import shown
from aggregator.succession import Decision, RefusedError
from aggregator.token_service import Tokens
from schemas.errors import AccessError, MalformedError
from tests.aggregator.control.conftest import Time

TOKEN = f"mst_{'a' * 12}_{'b' * 52}"
ENROLMENT = f"mse_{'c' * 12}_{'d' * 52}"


@pytest.fixture
def refusals(time: Time) -> Refusals:
    return Refusals(wall_ns=time.wall_ns)


def contested(silent: int) -> RefusedError:
    return RefusedError(Decision(False, "node.contested", f"another run of n1 was heard {silent} s ago", 9.0))


def test_a_known_publisher_that_speaks_for_another_node_is_told_once_an_hour(refusals: Refusals, time: Time) -> None:
    told = []
    for number in range(100):
        told += refusals.note("token:t1", AccessError(f"token:t1 may not publish for 'n{number}'"))
        time.pass_(60)
    assert ["publisher.refused"] == [event.type for event in told]
    assert {"code": "access.denied", "who": "token:t1"}.items() <= told[0].detail.items()
    [one] = refusals.lately()
    assert (100, "token:t1 may not publish for 'n99'") == (one.count, one.reason)
    time.pass_(3601)
    assert [] == refusals.lately()
    assert ["publisher.refused"] == [event.type for event in refusals.note("token:t1", AccessError("again"))]
    assert 1 == refusals.lately()[0].count


def test_strangers_are_counted_and_never_become_events(refusals: Refusals) -> None:
    for number in range(10 * MAX_REFUSALS):
        assert [] == refusals.note(f"token:{number}", AccessError("the token is unknown", authenticated=False))
    assert MAX_REFUSALS == len(refusals.lately())
    assert "token:2559" == refusals.lately()[0].who


def test_a_contested_id_has_an_event_of_its_own_and_is_one_refusal_however_long_it_lasts(refusals: Refusals) -> None:
    assert [] == [event for silent in range(30) for event in refusals.note("token:t1", contested(silent))]
    assert [("node.contested", 30)] == [(one.code, one.count) for one in refusals.lately()]


def test_nodes_that_were_let_go_are_told_apart(refusals: Refusals) -> None:
    gone = [RefusedError(Decision(False, "node.decommissioned", f"n{n} was decommissioned", 300.0)) for n in (1, 2, 1)]
    assert 2 == sum(len(refusals.note("local", error)) for error in gone)


def test_a_bad_name_is_a_refusal_and_a_bad_request_is_none(refusals: Refusals) -> None:
    assert 1 == len(refusals.note("token:t1", ScopeError("'*' cannot name a node")))
    assert [] == refusals.note("token:t1", MalformedError("not a publish request"))
    assert ["access.scope"] == [one.code for one in refusals.lately()]


@pytest.mark.parametrize(
    ("text", "who"),
    [
        (f"Bearer {TOKEN}", "token:aaaaaaaaaaaa"),
        (ENROLMENT, "enrolment:cccccccccccc"),
        (f"{ENROLMENT}_{'0f' * 32}", "enrolment:cccccccccccc"),
        ("", "anonymous"),
        ("Bearer", "anonymous"),
        ("Bearer mst_secret", "anonymous"),
    ],
)
def test_of_a_token_only_the_public_id_is_shown(text: str, who: str) -> None:
    assert who == shown(text)


async def test_the_event_goes_into_the_log(control: SqliteControl, log: SqliteLog) -> None:
    fleet = Fleet(control, Tokens(control), Announcer(log, "b1"), VerbositySection())
    before = log.size_bytes()
    await fleet.refused("token:t1", AccessError("token:t1 may not publish for 'n2'"))
    ends = [await log.end("event", partition) for partition in range(log.partitions)]
    assert (1, True) == (sum(ends), log.size_bytes() >= before)
