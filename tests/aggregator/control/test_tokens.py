"""Tokens and enrolment: what is stored, what is valid, and what never shows (R001-18)."""

import logging
from functools import partial

import pytest
from sqlalchemy import Connection, event, select

from aggregator import tokens
from aggregator.access import ANONYMOUS, LOCAL, Action, Caller, ScopeError, Who, may
from aggregator.control_sqlite import SqliteControl
from aggregator.tables import ENROLMENT, NODE, TOKEN
from aggregator.token_service import REFRESH_S, Tokens
from aggregator.tokens import Secret, TokenError
from schemas.errors import AccessError
from tests.aggregator.control.conftest import Time

NONCE = b"n" * 16


@pytest.fixture
def service(control: SqliteControl, time: Time) -> Tokens:
    return Tokens(control, clock=time.clock, wall_ns=time.wall_ns)


async def valid(service: Tokens, secret: Secret) -> bool:
    try:
        await service.authenticate(secret.reveal())
    except AccessError as refused:
        return refused.authenticated  # a token that is not valid must be a 401
    return True


async def test_a_token_is_who_it_was_made_for(service: Tokens) -> None:
    issued = await service.issue("grafana", ["read"], LOCAL)
    caller = await service.authenticate(issued.secret.reveal())
    assert Caller(Who.TOKEN, ("read",), issued.token.id) == caller
    assert f"token:{issued.token.id}" == caller.name


async def test_the_secret_is_stored_nowhere_and_shown_nowhere(
    service: Tokens, control: SqliteControl, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    issued = await service.issue("grafana", ["read"], LOCAL)
    enrolling = await service.issue_enrolment("rack 7", ["n*"], LOCAL)
    await service.authenticate(issued.secret.reveal())
    with pytest.raises(AccessError) as refused:
        await service.authenticate(enrolling.secret.reveal())
    stored = await control.read(
        lambda connection: [tuple(row) for table in (TOKEN, ENROLMENT) for row in connection.execute(select(table))]
    )
    shown = [issued, enrolling, await service.access_tokens(), await service.enrolments(), stored, vars(service)]
    everything = repr(shown) + str(issued.secret) + f"{issued.secret}" + caplog.text + str(refused.value)
    for secret in (issued.secret, enrolling.secret):
        text = secret.reveal()
        assert 69 == len(text)
        assert text.rpartition("_")[2] not in everything
        assert f"Secret({text[:16]}_...)" == repr(secret)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mst_",
        "Bearer x",
        "mst_aaaaaaaaaaaa_" + "a" * 52,
        "mst_" + "a" * 65,
        "\udcff",
        "x" * 100_000,
        "mst_%_' OR 1=1",
    ],
)
async def test_what_is_no_token_is_a_401(service: Tokens, text: str) -> None:
    assert not await valid(service, Secret(text))


async def test_the_right_id_with_a_wrong_secret_is_a_401(service: Tokens) -> None:
    text = (await service.issue("t", ["read"], LOCAL)).secret.reveal()
    wrong = text[:-2] + ("aa" if text[-2:] != "aa" else "bb")
    assert not await valid(service, Secret(wrong))
    assert await valid(service, Secret(text))


async def test_expiry_ends_a_token_that_is_in_memory(service: Tokens, time: Time) -> None:
    issued = await service.issue("t", ["read"], LOCAL, expires_ns=time.wall_ns() + 10 * 10**9)
    assert await valid(service, issued.secret)
    time.pass_(10)
    assert not await valid(service, issued.secret)
    assert [] == await service.access_tokens()
    assert [issued.token.id] == [token.id for token in await service.access_tokens(dead=True)]


async def test_revocation_counts_at_once(service: Tokens) -> None:
    issued = await service.issue("t", ["read"], LOCAL)
    assert await valid(service, issued.secret)
    assert [issued.token.id] == await service.revoke(issued.token.id)
    assert not await valid(service, issued.secret)


async def test_revocation_by_another_process_counts_after_the_refresh(
    service: Tokens, control: SqliteControl, time: Time
) -> None:
    issued = await service.issue("t", ["read"], LOCAL)
    assert await valid(service, issued.secret)
    await Tokens(control, wall_ns=time.wall_ns).revoke(issued.token.id)
    assert await valid(service, issued.secret)
    time.pass_(REFRESH_S)
    assert not await valid(service, issued.secret)


async def test_who_is_asking_is_answered_without_the_database(service: Tokens, control: SqliteControl) -> None:
    issued = await service.issue("t", ["read"], LOCAL)
    await service.authenticate(issued.secret.reveal())
    asked: list[str] = []
    event.listen(control._reading, "before_cursor_execute", lambda *call: asked.append(call[2]))
    for _ in range(100):
        await service.authenticate(issued.secret.reveal())
    assert [] == asked


async def test_a_stranger_who_is_refused_makes_nobody_be_looked_up_again(
    service: Tokens, control: SqliteControl
) -> None:
    """Else anybody could have every publisher wait for the database, by asking to be enrolled."""
    issued = await service.issue("t", ["read"], LOCAL)
    await service.authenticate(issued.secret.reveal())
    enrolling = await service.issue_enrolment("rack 7", ["n*"], LOCAL)
    await service.authenticate(issued.secret.reveal())
    asked: list[str] = []
    event.listen(control._reading, "before_cursor_execute", lambda *call: asked.append(call[2]))
    refused = ("mse_" + "a" * 12 + "_" + "b" * 52, "n1"), (enrolling.secret.reveal(), "m1"), ("rubbish", "*")
    for text, node in refused:
        with pytest.raises((AccessError, ScopeError)):
            await service.enrol(text, node, NONCE)
        await service.authenticate(issued.secret.reveal())
    assert [] == asked


async def test_rotation_keeps_two_valid_then_one(service: Tokens, time: Time) -> None:
    first = await service.issue("t", ["read"], LOCAL)
    second = await service.rotate(first.token.id, LOCAL, grace_s=60)
    assert (True, True) == (await valid(service, first.secret), await valid(service, second.secret))
    assert (("read",), "t", first.token.id) == (second.token.scopes, second.token.name, second.token.line)
    time.pass_(60)
    assert (False, True) == (await valid(service, first.secret), await valid(service, second.secret))


async def test_never_more_than_two_of_a_line_are_valid(service: Tokens) -> None:
    first = await service.issue("t", ["read"], LOCAL)
    second = await service.rotate(first.token.id, LOCAL)
    third = await service.rotate(second.token.id, LOCAL)
    assert [False, True, True] == [await valid(service, issued.secret) for issued in (first, second, third)]


async def test_a_rotation_whose_answer_was_lost_is_repeated_with_the_same_life(service: Tokens, time: Time) -> None:
    life = 100 * 10**9
    first = await service.issue("t", ["read"], LOCAL, expires_ns=time.wall_ns() + life)
    lost = await service.rotate(first.token.id, LOCAL, grace_s=20)
    time.pass_(5)
    second = await service.rotate(first.token.id, LOCAL, grace_s=20)
    assert [True, False, True] == [await valid(service, issued.secret) for issued in (first, lost, second)]
    assert time.wall_ns() + life == second.token.expires_ns


async def test_a_token_that_never_expires_has_heirs_that_never_expire(service: Tokens) -> None:
    first = await service.issue("t", ["read"], LOCAL)
    await service.rotate(first.token.id, LOCAL)
    assert (await service.rotate(first.token.id, LOCAL)).token.expires_ns is None


async def test_revoking_ends_the_whole_line_unless_told_otherwise(service: Tokens) -> None:
    first = await service.issue("t", ["read"], LOCAL)
    second = await service.rotate(first.token.id, LOCAL)
    await service.revoke(first.token.id, whole_line=False)
    assert (False, True) == (await valid(service, first.secret), await valid(service, second.secret))
    assert [second.token.id] == await service.revoke(first.token.id)
    assert not await valid(service, second.secret)


async def test_last_use_is_kept_in_batches(service: Tokens, time: Time, control: SqliteControl) -> None:
    issued = await service.issue("t", ["read"], LOCAL)
    unused = await service.issue("u", ["read"], LOCAL)
    await service.authenticate(issued.secret.reveal())
    when = time.wall_ns()
    await service.flush()
    there = await control.read(partial(tokens.list_tokens, now_ns=when))
    assert {issued.token.id: when, unused.token.id: None} == {token.id: token.used_ns for token in there}


@pytest.mark.parametrize(
    ("name", "scopes", "error"),
    [
        ("t", [], TokenError),
        ("", ["read"], TokenError),
        ("t", ["write"], ScopeError),
        ("t", ["ingest:a b"], ScopeError),
    ],
)
async def test_a_token_that_makes_no_sense_is_refused(
    service: Tokens, name: str, scopes: list[str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await service.issue(name, scopes, LOCAL)
    assert [] == await service.access_tokens(dead=True)


async def test_unknown_ids_are_errors_that_name_them(service: Tokens) -> None:
    for call in (service.revoke("nope"), service.rotate("nope", LOCAL), service.revoke_enrolment("nope")):
        with pytest.raises(TokenError, match="nope"):
            await call


# --- enrolment ----------------------------------------------------------------------------------------------------


async def test_enrolment_gives_a_node_a_token_for_itself_and_nothing_else(service: Tokens) -> None:
    enrolling = await service.issue_enrolment("rack", ["gpu-*"], LOCAL)
    issued = await service.enrol(enrolling.secret.reveal(), "gpu-1", NONCE)
    caller = await service.authenticate(issued.secret.reveal())
    assert "gpu-1" == caller.node
    allowed = {(action, name) for action in Action for name in ("gpu-1", "gpu-2") if may(caller, action, name)}
    own = {(action, "gpu-1") for action in (Action.PUBLISH, Action.CONTROL)}
    anybody = {(action, name) for action in (Action.HEALTH, Action.ENROL) for name in ("gpu-1", "gpu-2")}
    assert own | anybody == allowed


async def test_an_enrolment_token_is_good_for_its_uses(service: Tokens) -> None:
    enrolling = await service.issue_enrolment("rack", ["*"], LOCAL, uses=2)
    for node in ("a", "b"):
        await service.enrol(enrolling.secret.reveal(), node, NONCE)
    with pytest.raises(AccessError, match="used up"):
        await service.enrol(enrolling.secret.reveal(), "c", NONCE)
    assert [2] == [one.used for one in await service.enrolments()]


async def test_a_repeated_enrolment_takes_no_second_use_and_ends_the_token_nobody_got(service: Tokens) -> None:
    enrolling = await service.issue_enrolment("rack", ["n*"], LOCAL)
    lost = await service.enrol(enrolling.secret.reveal(), "n1", NONCE)
    again = await service.enrol(enrolling.secret.reveal(), "n1", NONCE)
    assert (False, True) == (await valid(service, lost.secret), await valid(service, again.secret))
    with pytest.raises(AccessError, match="enrolled already"):
        await service.enrol(enrolling.secret.reveal(), "n1", b"another nonce 123")


async def test_a_pattern_cannot_take_over_a_node_that_is_enrolled(service: Tokens) -> None:
    first = await service.issue_enrolment("rack", ["n*"], LOCAL, uses=5)
    old = await service.enrol(first.secret.reveal(), "n1", NONCE)
    with pytest.raises(AccessError, match="made for exactly 'n1'"):
        await service.enrol(first.secret.reveal(), "n1", b"x" * 16)
    assert await valid(service, old.secret)
    exact = await service.issue_enrolment("n1 anew", ["n1"], LOCAL)
    new = await service.enrol(exact.secret.reveal(), "n1", b"x" * 16)
    assert (False, True) == (await valid(service, old.secret), await valid(service, new.secret))


async def test_enrolment_brings_a_decommissioned_node_back(service: Tokens, control: SqliteControl) -> None:
    def gone(connection: Connection) -> None:
        connection.execute(NODE.insert().values(id="n1", facts={}, decommissioned_ns=1))

    await control.write(gone)
    enrolling = await service.issue_enrolment("rack", ["n*"], LOCAL)
    await service.enrol(enrolling.secret.reveal(), "n1", NONCE)
    assert await control.read(lambda connection: connection.execute(select(NODE.c.decommissioned_ns)).all()) == [
        (None,)
    ]


@pytest.mark.parametrize("node", ["*", "n?", "", "n 1"])
async def test_no_node_can_enrol_under_a_name_that_is_a_pattern(service: Tokens, node: str) -> None:
    """It would get the scope `ingest:*`."""
    enrolling = await service.issue_enrolment("rack", ["*"], LOCAL)
    with pytest.raises(ScopeError):
        await service.enrol(enrolling.secret.reveal(), node, NONCE)


async def test_enrolment_is_refused_when_expired_revoked_foreign_or_no_enrolment_token(
    service: Tokens, time: Time
) -> None:
    access = await service.issue("t", ["admin"], LOCAL)
    foreign = await service.issue_enrolment("rack", ["gpu-*"], LOCAL)
    revoked = await service.issue_enrolment("rack", ["*"], LOCAL)
    await service.revoke_enrolment(revoked.enrolment.id)
    expired = await service.issue_enrolment("rack", ["*"], LOCAL, life_s=5)
    time.pass_(5)
    for secret in (access.secret, foreign.secret, revoked.secret, expired.secret, Secret("nonsense")):
        with pytest.raises(AccessError):
            await service.enrol(secret.reveal(), "n1", NONCE)
    with pytest.raises(TokenError, match="nonce"):
        await service.enrol(foreign.secret.reveal(), "gpu-1", b"short")
    assert [access.token.id] == [token.id for token in await service.access_tokens(dead=True)]


async def test_sweep_forgets_what_ended_long_ago_and_nothing_else(service: Tokens, time: Time) -> None:
    ended = await service.issue("old", ["read"], LOCAL, expires_ns=time.wall_ns() + 10**9)
    lasting = await service.issue("new", ["read"], LOCAL)
    enrolling = await service.issue_enrolment("rack", ["*"], LOCAL)
    node = await service.enrol(enrolling.secret.reveal(), "n1", NONCE)
    assert 0 == await service.sweep()
    time.pass_(31 * 86400)
    assert 2 == await service.sweep()
    left = {token.id for token in await service.access_tokens(dead=True)}
    assert {lasting.token.id, node.token.id} == left
    assert ended.token.id not in left
    assert [] == await service.enrolments()


def test_anonymous_has_no_token() -> None:
    assert ("", "anonymous") == (ANONYMOUS.token, ANONYMOUS.name)
