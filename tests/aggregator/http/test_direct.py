"""What stands ahead of the framework answers as the framework would, for every kind of request and failure."""

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from aggregator.access import Caller, Who
from aggregator.app import make_app
from aggregator.ingest import BusyError
from aggregator.routes.direct import ROUTES, Direct
from schemas.batch import WIRE_VERSION
from schemas.control import ControlRequest, Watch, encode_answer, encode_request
from schemas.errors import AccessError, MalformedError, MusterError

LIMIT = 1000
ASKED = encode_request(ControlRequest(WIRE_VERSION, "node", "epoch", "boot", [], wait=0.0))
SOCKET, NETWORK = ("/run/muster.sock", None), ("127.0.0.1", 8420)


class Ingest:
    """Takes what it is given, or fails as it is told to."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.read = 0

    @contextlib.contextmanager
    def reading(self) -> Iterator[Callable[[int], None]]:
        """See `ingest.Ingest`."""

        def take(size: int) -> None:
            self.read += size

        yield take

    async def publish(self, data: bytes, caller: Caller) -> bytes:
        """Say what came, and from whom."""
        if self.failure is not None:
            raise self.failure
        return data + b" from " + caller.name.encode()


class Tokens:
    """Knows one token."""

    async def authenticate(self, text: str) -> Caller:
        """See `token_service.Tokens`."""
        if text != "good":
            raise AccessError("the token is unknown", authenticated=False)
        return Caller(Who.TOKEN, ("ingest:node",), "t1")


class Fleet:
    """Has one thing to tell, and notes whom it refused."""

    def __init__(self) -> None:
        self.refusals: list[tuple[str, str]] = []

    async def refused(self, who: str, error: MusterError) -> None:
        """See `fleet.Fleet`."""
        self.refusals.append((who, error.code))

    async def poll(self, request: ControlRequest) -> list[Watch]:
        """See `fleet.Fleet`."""
        return [Watch("w", 1.0)]


@pytest.fixture
def service() -> Any:
    config = SimpleNamespace(aggregator=SimpleNamespace(max_request_bytes=LIMIT))
    return SimpleNamespace(config=config, ingest=Ingest(), tokens=Tokens(), fleet=Fleet())


async def call(
    app: Any, path: str, body: bytes, *, token: str = "", server: object = SOCKET, method: str = "POST"
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Put one request to an ASGI application; give status, headers and body."""
    headers = [(b"content-length", str(len(body)).encode())]
    if token:
        headers.append((b"authorization", token.encode()))
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": headers,
        "client": None, "server": server,
    }  # fmt: skip
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    try:
        await app(scope, receive, send)
    except RuntimeError:
        assert sent  # the framework raises an unexpected error again, for the server, once it has answered
    start = sent[0]
    return start["status"], dict(start["headers"]), b"".join(part.get("body", b"") for part in sent[1:])


@pytest.mark.parametrize(
    ("path", "body", "token", "server", "status"),
    [
        ("/v1/publish", b"rows", "", SOCKET, 200),
        ("/v1/publish", b"rows", "Bearer good", NETWORK, 200),
        ("/v1/publish", b"rows", "", NETWORK, 401),
        ("/v1/publish", b"rows", "Bearer bad", NETWORK, 401),
        ("/v1/publish", b"rows", "Basic x", NETWORK, 401),
        ("/v1/publish", b"x" * (LIMIT + 1), "", SOCKET, 413),
        ("/v1/control", ASKED, "", SOCKET, 200),
        ("/v1/control", ASKED, "", NETWORK, 401),
        ("/v1/control", b"no message", "", SOCKET, 400),
    ],
)
async def test_the_answer_is_the_frameworks_own(
    service: Any, path: str, body: bytes, token: str, server: object, status: int
) -> None:
    app = make_app(service)

    direct = await call(Direct(app), path, body, token=token, server=server)

    assert direct[0] == status
    assert direct == await call(app, path, body, token=token, server=server)
    assert service.ingest.read == (2 * len(body) if status == 200 and path == "/v1/publish" else 0)


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (MalformedError("not a publish request"), 400),
        (BusyError("come again", status=503, retry_after=2.0), 503),
        (AccessError("not for these"), 403),
        (RuntimeError("internals"), 500),
    ],
)
async def test_so_is_every_refusal(service: Any, failure: Exception, status: int) -> None:
    app = make_app(service)
    service.ingest.failure = failure

    direct = await call(Direct(app), "/v1/publish", b"rows")

    assert direct[0] == status
    assert direct == await call(app, "/v1/publish", b"rows")
    assert b"internals" not in direct[2]


async def test_everything_else_goes_to_the_framework(service: Any) -> None:
    app = Direct(make_app(service))

    assert (await call(app, "/healthz", b"", method="GET"))[0] == 200
    assert (await call(app, "/v1/publish", b"", method="GET"))[0] == 405
    assert (await call(app, "/v1/nothing", b""))[0] == 404


async def test_what_is_told_arrives(service: Any) -> None:
    _, headers, body = await call(Direct(make_app(service)), "/v1/control", ASKED)

    assert body == encode_answer([Watch("w", 1.0)])
    assert headers[b"content-type"] == b"application/vnd.muster.control+msgpack"


def test_every_direct_route_is_described_by_the_framework(service: Any) -> None:
    described = make_app(service).openapi()["paths"]
    assert all("post" in described[path] for path in ROUTES)


async def test_who_is_refused_is_noted_by_what_may_be_shown(service: Any) -> None:
    direct = Direct(make_app(service))
    service.ingest.failure = AccessError("for another node")
    await call(direct, "/v1/publish", b"rows", token="Bearer good", server=NETWORK)
    await call(direct, "/v1/publish", b"rows", token=f"Bearer mst_{'a' * 12}_{'b' * 52}", server=NETWORK)
    assert [("token:t1", "access.denied"), ("token:aaaaaaaaaaaa", "access.denied")] == service.fleet.refusals
