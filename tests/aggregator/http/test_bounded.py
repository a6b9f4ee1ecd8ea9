"""No body is read beyond its bound, and nothing of a stranger's is read at all (R003: who asks is checked first)."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from aggregator.access import Caller, Who
from aggregator.app import make_served
from aggregator.routes.bounded import MAX_BODY_BYTES
from schemas.errors import AccessError

SOCKET, NETWORK = ("/run/muster.sock", None), ("127.0.0.1", 8420)
MORE = b" " * (16 << 10)


class Fleet:
    """Is told who was refused."""

    async def refused(self, who: str, error: Exception) -> None:
        """See `fleet.Fleet`."""


class Tokens:
    """Knows one token, and takes every enrolment."""

    async def authenticate(self, text: str) -> Caller:
        """See `token_service.Tokens`."""
        if text != "good":
            raise AccessError("the token is unknown", authenticated=False)
        return Caller(Who.TOKEN, ("admin",), "t1")

    async def revoke(self, token: str) -> list[str]:
        """See `token_service.Tokens`."""
        return [token]


class Client:
    """Sends one request in parts, and counts how many were read."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.read = 0

    async def send(
        self, method: str, path: str, parts: list[bytes], *, token: str = "", server: object = NETWORK, stated: str = ""
    ) -> tuple[int, Any]:
        """Give the status and the answer's JSON. `stated`: the length that is stated; else the body is chunked."""
        framing = (b"content-length", stated.encode()) if stated else (b"transfer-encoding", b"chunked")
        headers = [framing, (b"content-type", b"application/json")]
        if token:
            headers.append((b"authorization", b"Bearer " + token.encode()))
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": headers,
            "client": None, "server": server,
        }  # fmt: skip
        sent: list[dict[str, Any]] = []
        waiting = list(parts)

        async def receive() -> dict[str, Any]:
            self.read += 1
            return {"type": "http.request", "body": waiting.pop(0) if waiting else b"", "more_body": bool(waiting)}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        return sent[0]["status"], msgspec.json.decode(b"".join(part.get("body", b"") for part in sent[1:]))


@pytest.fixture
def service() -> Any:
    parts = SimpleNamespace(missing={})
    config = SimpleNamespace(aggregator=SimpleNamespace(max_request_bytes=1 << 20, beyond_loopback=True))
    return SimpleNamespace(tokens=Tokens(), fleet=Fleet(), config=config, parts=parts, not_ready=lambda: parts.missing)


@pytest.fixture
def client(service: Any) -> Client:
    return Client(make_served(service))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/tokens"),
        ("POST", "/v1/enrolments"),
        ("POST", "/v1/verbosity"),
        ("POST", "/v1/publish"),
        ("POST", "/v1/control"),
        ("GET", "/v1/status"),
        ("GET", "/v1/nothing"),
    ],
)
async def test_nothing_of_a_stranger_is_read(client: Client, method: str, path: str) -> None:
    status, answer = await client.send(method, path, [MORE] * 1000)

    assert (401, "access.denied") == (status, answer["code"])
    assert client.read == 0


async def test_a_token_that_is_no_good_reads_no_more_than_the_bound(client: Client) -> None:
    assert (401, 0) == ((await client.send("POST", "/v1/publish", [MORE] * 1000, token="bad"))[0], client.read)
    assert 413 == (await client.send("POST", "/v1/tokens", [MORE] * 1000, token="bad"))[0]
    assert client.read == MAX_BODY_BYTES // len(MORE) + 1


@pytest.mark.parametrize("path", ["/v1/enrol", "/healthz", "/docs"])
async def test_what_strangers_may_call_is_bounded_as_well(client: Client, path: str) -> None:
    status, answer = await client.send("POST", path, [MORE] * 1000)

    assert (413, "wire.too_large") == (status, answer["code"])
    assert client.read == MAX_BODY_BYTES // len(MORE) + 1


async def test_a_stated_length_is_refused_before_anything_is_read(client: Client) -> None:
    status, answer = await client.send("POST", "/v1/tokens", [MORE], server=SOCKET, stated=str(MAX_BODY_BYTES + 1))

    assert (413, "wire.too_large", 0) == (status, answer["code"], client.read)


async def test_a_body_within_the_bound_arrives_whole(client: Client) -> None:
    body = b'{"token": "t", "node": "n", "nonce": "fifteen letters"}' + MORE
    status, answer = await client.send("POST", "/v1/enrol", [body[:10], body[10:]])

    assert (400, "request.invalid") == (status, answer["code"])
    assert "nonce: String should have at least 16 characters" == answer["detail"]


async def test_a_request_without_body_passes(client: Client) -> None:
    answered = await client.send("DELETE", "/v1/tokens/abc", [], token="good", stated="0")

    assert (200, {"revoked": ["abc"]}) == answered


@pytest.mark.parametrize("asked", ["node=[a-z]", "measurement=[!x]", "node=" + "*a" * 40 + "b", "measurement="])
async def test_a_tap_takes_patterns_only(service: Any, asked: str) -> None:
    app = make_served(service)

    async def with_query(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await app(scope | {"query_string": asked.encode()}, receive, send)

    status, answer = await Client(with_query).send("GET", "/v1/tap", [], server=SOCKET, stated="0")

    assert (400, "query.invalid") == (status, answer["code"])


async def test_an_aggregator_that_is_not_ready_says_which_of_its_parts_are_not(client: Client, service: Any) -> None:
    assert (200, {"status": "ready"}) == await client.send("GET", "/readyz", [], stated="0")
    service.parts.missing = {"log": "it takes nothing: SQLITE_FULL", "ledger": "it is being read"}

    status, answer = await client.send("GET", "/readyz", [], stated="0")

    assert (503, "service.not_ready", service.parts.missing) == (status, answer["code"], answer["not_ready"])
    assert "the log: it takes nothing: SQLITE_FULL; the ledger: it is being read" == answer["detail"]
