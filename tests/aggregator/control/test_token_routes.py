"""What the token routes do beside the tokens: a rotated one is handed to its node, an enrolled node may speak."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import event

from aggregator.access import LOCAL
from aggregator.announcer import Announcer
from aggregator.app import make_app
from aggregator.config import VerbositySection
from aggregator.control_sqlite import SqliteControl
from aggregator.fleet import Fleet
from aggregator.log_sqlite import SqliteLog
from aggregator.succession import RefusedError
from aggregator.token_service import Tokens
from schemas.batch import WIRE_VERSION
from schemas.control import ControlRequest, Message, TokenRotated
from schemas.verbosity import Level


class House:
    """A fleet, its tokens, and the HTTP API over both as a local caller has it."""

    def __init__(self, control: SqliteControl, log: SqliteLog) -> None:
        self.tokens = Tokens(control)
        self.fleet = Fleet(control, self.tokens, Announcer(log, "b1"), VerbositySection())
        self._app: Any = make_app(SimpleNamespace(tokens=self.tokens, fleet=self.fleet, authority=None))  # type: ignore[arg-type]

    async def post(self, path: str, body: object = None, query: str = "") -> tuple[int, Any]:
        """Give the status and the answer."""
        data = b"" if body is None else json.dumps(body).encode()
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
            "headers": [(b"content-type", b"application/json")], "client": None, "server": ("/run/muster.sock", None),
        }  # fmt: skip
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": data, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent[1:]))

    async def enrol(self, node: str) -> tuple[str, str]:
        """Give the id and the secret of a node's token, got over HTTP."""
        made = await self.tokens.issue_enrolment("one", [node], LOCAL)
        asked = {"token": made.secret.reveal(), "node": node, "nonce": "n" * 16}
        status, answer = await self.post("/v1/enrol", asked)
        assert 200 == status
        return answer["id"], answer["token"]

    async def ask(self, node: str) -> list[Message]:
        return await self.fleet.poll(ControlRequest(WIRE_VERSION, node, "e1", "b1", [], wait=0.0))


@pytest.fixture
async def house(control: SqliteControl, log: SqliteLog) -> House:
    house = House(control, log)
    await house.fleet.load()
    return house


async def test_the_successor_of_a_nodes_token_is_handed_to_the_node_with_the_grace_asked_for(house: House) -> None:
    id_, old = await house.enrol("n1")
    await house.ask("n1")
    status, answer = await house.post(f"/v1/tokens/{id_}/rotate", query="grace_seconds=600")
    assert (201, True) == (status, answer["handed"])
    (told,) = await house.ask("n1")
    assert isinstance(told, TokenRotated)
    assert answer["secret"] == told.token != old
    assert 590 < told.grace <= 600
    assert ("n1", "n1") == tuple([(await house.tokens.authenticate(one)).node for one in (told.token, old)])


async def test_nothing_is_handed_to_a_node_that_is_not_connected(house: House) -> None:
    id_, _ = await house.enrol("n1")
    status, answer = await house.post(f"/v1/tokens/{id_}/rotate")
    assert (201, False) == (status, answer["handed"])


async def test_a_token_that_is_no_nodes_is_handed_to_nobody(house: House) -> None:
    await house.ask("n1")
    issued = await house.tokens.issue("relay", ["ingest:n*"], LOCAL)
    _, answer = await house.post(f"/v1/tokens/{issued.token.id}/rotate")
    assert not answer["handed"]
    assert [] == [one for one in await house.ask("n1") if isinstance(one, TokenRotated)]


@pytest.mark.parametrize("grace", ["-1", "inf", "nan"])
async def test_a_grace_that_is_no_time_is_refused_and_nothing_is_rotated(house: House, grace: str) -> None:
    id_, _ = await house.enrol("n1")
    status, _ = await house.post(f"/v1/tokens/{id_}/rotate", query=f"grace_seconds={grace}")
    assert 400 <= status < 500
    assert [id_] == [token.id for token in await house.tokens.access_tokens()]


async def test_an_enrolment_reads_nothing_of_the_fleet(house: House, control: SqliteControl) -> None:
    """So that a thousand cost a thousand times one, and grants that run are let alone."""
    await house.fleet.grants.set("*", Level.DEBUG, 60, LOCAL)
    read: list[str] = []
    event.listen(control._reading, "before_cursor_execute", lambda *call: read.append(call[2]))
    await house.enrol("n1")
    assert [] == read


async def test_a_decommissioned_node_that_enrolled_again_may_speak(house: House) -> None:
    await house.enrol("n1")
    await house.ask("n1")
    await house.fleet.nodes.decommission("n1")
    with pytest.raises(RefusedError, match="n1 was decommissioned"):
        await house.ask("n1")
    await house.enrol("n1")
    await house.ask("n1")
    assert ["live"] == [view.state for view in await house.fleet.nodes.views()]
