"""The routes that are called all the time, by every publisher and by schedulers, ahead of the framework.

Its routing, dependencies and middleware cost several times what taking a batch costs. The functions behind them are the
routes' own, and so are errors; the framework keeps both, for its description of the API.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final

from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from aggregator.access import Caller
from aggregator.routes import claims, publish, verbosity
from aggregator.routes.common import caller_of, header, problem_of, shown, unexpected
from schemas.errors import MusterError

if TYPE_CHECKING:
    from aggregator.service import Service

Handler = Callable[[Request, "Service", Caller], Awaitable[Response]]
ROUTES: Final[Mapping[str, Handler]] = {"/v1/publish": publish.publish, "/v1/control": verbosity.control}
"""By path, what is done with a POST of a publisher; who is refused is noted."""
_ASKED: Final[Mapping[str, Handler]] = {**ROUTES, "/v1/claims": claims.claim}


class Direct:
    """An ASGI application around the whole one."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._service: Service = app.state.service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a publisher; hand everything else on."""
        handler = _ASKED.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if handler is None:
            await self._app(scope, receive, send)
            return
        scope["app"] = self._app
        request = Request(scope, receive)
        who = ""
        try:
            caller = await caller_of(request)
            who = caller.name
            response = await handler(request, self._service, caller)
        except MusterError as error:
            if scope["path"] in ROUTES:
                await self._service.fleet.refused(who or shown(header(scope, b"authorization")), error)
            response = problem_of(error)
        except ClientDisconnect:
            return  # nobody is there to be answered
        except Exception as error:  # noqa: BLE001  # one bad request is told, and harms nobody else
            response = unexpected(request, error)
        await response(scope, receive, send)
