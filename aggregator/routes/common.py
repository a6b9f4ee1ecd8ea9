"""What every route shares: who is asking, whether they may, and how an error becomes an answer."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import Scope

from aggregator.access import ANONYMOUS, Action, Caller, Who, authorise, may
from aggregator.control import ControlError
from aggregator.ingest import BusyError
from aggregator.local_peer import local_caller
from aggregator.nodes import NodeError
from aggregator.quarantine import QuarantineError
from aggregator.tokens import ACCESS, ENROLS, token_id
from collectors.authority import split_pin
from schemas.errors import (
    AccessError,
    MalformedError,
    MusterError,
    QueryError,
    StoreError,
    TooLargeError,
    UnknownVersionError,
)

if TYPE_CHECKING:
    from aggregator.service import Service

_log = logging.getLogger("muster.http")
PROBLEM: Final = "application/problem+json"
PROBLEM_TYPE: Final = "urn:muster:problem:"
"""The prefix of problem types."""
NOT_FOUND: Final = "request.not_found"


class NotFoundError(MusterError):
    """What was asked for is not there."""

    code = NOT_FOUND


async def service_of(request: Request) -> "Service":
    """Give the service behind a request. Were it not async, the framework would have a thread do it."""
    service: Service = request.app.state.service
    return service


async def caller_of(request: Request) -> Caller:
    """Tell who is asking: by the local socket, by token, or nobody. Raises AccessError for a token that is no good."""
    text = header(request.scope, b"authorization")
    scheme, _, token = text.partition(" ")
    if text and (scheme.lower() != "bearer" or not token.strip()):
        raise AccessError("the header Authorization is not 'Bearer <token>'", authenticated=False)
    if token.strip():
        service: Service = request.app.state.service
        return await service.tokens.authenticate(token.strip())
    return await local_caller(request.scope.get("state")) if is_local(request.scope) else ANONYMOUS


def header(scope: Scope, name: bytes) -> str:
    """Give the first header of a name (in lower case) as it was sent; "" without one.

    For what every request is asked: the framework's own mapping takes ten times as long.
    """
    return next((value.decode("latin-1") for one, value in scope["headers"] if one == name), "")


def shown(text: str) -> str:
    """Give what may be shown of a token that is no good: its public id; `anonymous` where it has none."""
    token = text.rsplit(maxsplit=1)[-1] if text.split() else ""
    for kind, word in ((ACCESS, "token"), (ENROLS, "enrolment")):
        if (id_ := token_id(split_pin(token)[0], kind)) is not None:
            return f"{word}:{id_}"
    return ANONYMOUS.name


def is_local(scope: Scope) -> bool:
    """Tell whether a request came over the unix socket, which has no port; ours is 0600."""
    server = scope.get("server")
    return server is not None and server[1] is None


def known(caller: Caller) -> None:
    """Raise AccessError (401) for somebody of whom nothing is known, before anything of theirs is read."""
    if caller.who is Who.ANONYMOUS and not caller.scopes:
        raise AccessError("this needs a token: send the header 'Authorization: Bearer <token>'", authenticated=False)


def informed(caller: Caller) -> None:
    """Raise AccessError unless the caller may read, or claims for some tenant: whoever claims must know for what."""
    if not (may(caller, Action.READ) or any(scope.startswith("claims:") for scope in caller.scopes)):
        known(caller)
        has = ", ".join(caller.scopes) or "none"
        raise AccessError(f"{caller.name} may not look: that needs the scope 'read' or 'claims:TENANT'; it has: {has}")


def allow(action: Action) -> Callable[[Request], Awaitable[Caller]]:
    """Make the dependency that lets only those through who may do `action`."""

    async def check(request: Request) -> Caller:
        caller = await caller_of(request)
        authorise(caller, action)
        return caller

    return check


ServiceOf = Annotated["Service", Depends(service_of)]
CallerOf = Annotated[Caller, Depends(caller_of)]


def answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Give a value as JSON, past the framework's own encoder."""
    return Response(msgspec.json.encode(value), status, headers, "application/json")


def problem(status: int, code: str, detail: str, retry_after: float | None = None, **more: object) -> Response:
    """Give a refusal as problem details. Source: RFC 9457."""
    body = {"type": PROBLEM_TYPE + code, "title": code, "status": status, "code": code, "detail": detail, **more}
    headers = {} if retry_after is None else {"Retry-After": f"{max(1, round(retry_after))}"}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(msgspec.json.encode(body), status, headers, PROBLEM)


_STATUS: Final[tuple[tuple[type[MusterError], int], ...]] = (
    (UnknownVersionError, 400),
    (TooLargeError, 413),
    (MalformedError, 400),
    (QueryError, 400),
    (StoreError, 503),
    (NotFoundError, 404),
    (QuarantineError, 404),
    (NodeError, 404),
    (ControlError, 503),
)


def problem_of(error: MusterError) -> Response:
    """Give the answer for one of our own errors."""
    if isinstance(error, AccessError):
        return problem(403 if error.authenticated else 401, error.code, str(error))
    retry_after = getattr(error, "retry_after", None)
    status = getattr(error, "status", None)
    if isinstance(error, BusyError) or isinstance(status, int):
        return problem(int(status or 503), error.code, str(error), retry_after)
    more: dict[str, object] = {}
    if isinstance(error, UnknownVersionError):
        more["understood"] = list(error.understood)
    for kind, code in _STATUS:
        if isinstance(error, kind):
            return problem(code, error.code, str(error), 1.0 if code == 503 else retry_after, **more)
    return problem(400 if retry_after is None else 409, error.code, str(error), retry_after)


def unexpected(request: Request, error: Exception) -> Response:
    """Give the answer for an error that is none of ours, and log it."""
    _log.exception("request_failed method=%s path=%s", request.method, request.url.path, exc_info=error)
    return problem(500, "request.failed", "this is a defect of Muster; its log has the details")


def install_errors(app: FastAPI) -> None:
    """Answer every error as problem details."""

    async def ours(_: Request, error: Exception) -> Response:
        assert isinstance(error, MusterError)
        return problem_of(error)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        details = [
            f"{'.'.join(str(part) for part in one['loc'][1:]) or one['loc'][0]}: {one['msg']}" for one in error.errors()
        ]
        return problem(400, "request.invalid", "; ".join(details))

    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, (HTTPException, StarletteHTTPException))
        code = NOT_FOUND if error.status_code == 404 else f"request.http_{error.status_code}"
        return problem(error.status_code, code, str(error.detail))

    async def others(request: Request, error: Exception) -> Response:
        return unexpected(request, error)

    app.add_exception_handler(MusterError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(StarletteHTTPException, http)
    app.add_exception_handler(Exception, others)
