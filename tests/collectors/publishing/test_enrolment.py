"""The node's token: got once, kept, rotated (R001-18)."""

import stat
from pathlib import Path

import msgspec
import pytest

from collectors.enrolment import NodeToken
from collectors.transport import Answer, Transport, TransportError
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
        return self.answers.pop(0)


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
