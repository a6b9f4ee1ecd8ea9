"""The node's token: got once, kept, rotated (R001-18)."""

import logging
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from collectors.enrolment import Enrolment, NodeToken
from collectors.transport import Answer, Backoff, Transport, TransportError
from schemas.errors import AccessError, ConfigError


class Desk(Transport):
    """An aggregator that gives what it is told to give, and remembers what it was asked."""

    def __init__(self, *answers: Answer) -> None:
        super().__init__(["http://127.0.0.1:1"])
        self.answers = list(answers)
        self.asked: list[dict[str, str]] = []

    def request(self, method: str, path: str, body: bytes | None = None, headers: object = None) -> Answer:
        assert (method, path) == ("POST", "/v1/enrol")
        self.asked.append(msgspec.json.decode(body or b""))
        answer = self.answers.pop(0)
        if not answer.status:
            raise TransportError("nobody answers")
        return answer


def given(token: str) -> Answer:
    return Answer(200, {}, msgspec.json.encode({"token": token}))


def test_an_enrolment_token_becomes_the_nodes_own_and_is_kept_for_root_alone(tmp_path: Path) -> None:
    token = NodeToken(tmp_path / "token")
    token.enrol(Desk(given("mst_one")), "mse_once", "n1")

    assert (token(), NodeToken(tmp_path / "token")()) == ("mst_one", "mst_one")
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "answer", [Answer(503, {}, b""), Answer(429, {}, b"{}"), Answer(200, {}, b"<html>"), Answer(200, {}, b'"\xff"')]
)
def test_an_answer_that_is_none_is_asked_for_again_with_the_same_nonce(tmp_path: Path, answer: Answer) -> None:
    desk = Desk(answer, given("mst_one"))
    token = NodeToken(tmp_path / "token")
    with pytest.raises(TransportError):
        token.enrol(desk, "mse_once", "n1")

    NodeToken(tmp_path / "token").enrol(desk, "mse_once", "n1")

    assert desk.asked[0] == desk.asked[1]


def test_a_refusal_is_final(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="used up"):
        NodeToken(tmp_path / "token").enrol(Desk(Answer(401, {}, b'{"detail": "used up"}')), "mse_once", "n1")


def test_a_token_that_was_discarded_is_shown_again_when_there_is_no_other_to_be_had(tmp_path: Path) -> None:
    """An aggregator that was started on the wrong data, and mended, must not have locked the whole fleet out."""
    (tmp_path / "token").write_text("mst_old\n")
    token = NodeToken(tmp_path / "token")
    token.discard()
    assert token() == ""

    with pytest.raises(AccessError):
        token.enrol(Desk(Answer(401, {}, b"{}")), "mse_used_up", "n1")

    assert token() == "mst_old"


def test_a_rotated_token_outlives_a_restart_though_the_configuration_names_the_one_before(tmp_path: Path) -> None:
    NodeToken(tmp_path / "token", "mst_configured").keep("mst_rotated")

    assert NodeToken(tmp_path / "token", "mst_configured")() == "mst_rotated"
    assert NodeToken(tmp_path / "token", "mst_another")() == "mst_another"


def test_a_token_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"\xff\xfe")

    with pytest.raises(ConfigError, match="enrol again"):
        NodeToken(tmp_path / "token")


def enrolment(
    folder: Path, *answers: Answer, text: str = "mse_once", waits: Callable[[str], None] = lambda _: None
) -> Enrolment:
    token, quick = NodeToken(folder / "token"), Backoff(0.001, 0.002)
    return Enrolment(token, text, "n1", lambda: Desk(*answers), waits=waits, backoff=quick)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().split()[0].rstrip(":") for record in caplog.records]


def test_nobody_speaks_until_the_token_is_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Else every new node is refused once, and says so, before it is let in."""
    caplog.set_level(logging.INFO)
    seen: list[bool] = []
    made = enrolment(tmp_path, Answer(0, {}, b""), given("mst_one"), waits=lambda _: seen.append(made.over.is_set()))
    made.begin()
    assert made.over.wait(10)
    assert [False] == seen
    assert ["enrolment_waits", "enrolled"] == told(caplog)


def test_standing_condition_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    away, full = Answer(0, {}, b""), Answer(503, {}, b'{"detail": "full"}')
    made = enrolment(tmp_path, away, away, away, full, full, given("mst_one"))
    made.begin()
    assert made.over.wait(10)
    assert ["enrolment_waits", "enrolment_waits", "enrolled"] == told(caplog)


def test_after_a_refusal_it_is_spoken_all_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = enrolment(tmp_path, Answer(401, {}, b'{"detail": "used up"}'))
    made.begin()
    assert made.over.wait(10)
    made.refused()
    assert ["enrolment_refused"] == told(caplog)


def test_without_any_token_it_is_said_once_what_to_set(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = enrolment(tmp_path, text="")
    made.begin()
    assert made.over.is_set()
    made.refused()
    made.refused()
    assert ["token_missing"] == told(caplog)
    assert "publish.enrolment_token" in caplog.text
    assert "publish.token" in caplog.text
