"""What no request gets past, whatever the route: bodies are bounded, and nothing of a stranger's is read.

The framework reads a JSON body to its end, without limit, before any dependency is asked who is asking.
"""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aggregator.access import ANONYMOUS
from aggregator.routes.common import header, is_local, known, problem_of
from aggregator.routes.direct import ROUTES
from collectors.authority import AUTHORITY_PATH
from schemas.errors import AccessError, TooLargeError

MAX_BODY_BYTES: Final = 64 << 10
"""The largest body of any route but those of publishers, which have limits of their own and read no further."""
LARGER: Final = (("/v1/records/", 16 << 20), ("/v1/export/nova/check", 1 << 20))
"""Beginnings of paths whose bodies may be larger: what an operator hands in of a whole fleet, or of a configuration."""
OPEN: Final = frozenset({"/v1/enrol", AUTHORITY_PATH})
"""What strangers may call of the API: the enrolment token is in the body, and certificates are public."""
API: Final = "/v1/"
"""What is outside of it (health, metrics, the description) decides for itself, and reads no body."""


class Bounded:
    """An ASGI application around the whole one."""

    def __init__(self, app: ASGIApp, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._app = app
        self._limit = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on what may come in, its body read already; refuse everything else."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            _admit(scope)
            if scope["method"] != "POST" or scope["path"] not in ROUTES:
                receive = await self._read(scope, receive)
        except (AccessError, TooLargeError) as error:
            await problem_of(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _read(self, scope: Scope, receive: Receive) -> Receive:
        """Read the body; give what gives it again. Raises TooLargeError, by what is stated before anything is read."""
        path = scope["path"]
        limit = next((most for begin, most in LARGER if path.startswith(begin)), self._limit)
        stated = header(scope, b"content-length")
        if stated.isdigit() and int(stated) > limit:
            raise TooLargeError(f"a body of {stated} bytes exceeds {limit}")
        if stated in ("", "0") and not any(name == b"transfer-encoding" for name, _ in scope["headers"]):
            return receive
        read: list[Message] = []
        size, more = 0, True
        while more:
            message = await receive()
            read.append(message)
            size += len(message.get("body", b""))
            more = message["type"] == "http.request" and message.get("more_body", False)
            if size > limit:
                raise TooLargeError(f"a body of more than {limit} bytes")
        read.reverse()

        async def again() -> Message:
            return read.pop() if read else await receive()

        return again


def _admit(scope: Scope) -> None:
    """Raise AccessError for a stranger who calls what needs to know its caller."""
    path = scope["path"]
    if not path.startswith(API) or path in OPEN or is_local(scope):
        return
    if not any(name == b"authorization" for name, _ in scope["headers"]):
        known(ANONYMOUS)
