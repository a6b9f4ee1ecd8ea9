"""Nobody does what their scopes do not say, by any route that there is (R001-18)."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Final

import pytest
from fastapi.routing import APIRoute

import aggregator.routes
from aggregator.access import Caller, Who
from aggregator.app import make_app, make_served
from collectors.authority import AUTHORITY_PATH
from tests.aggregator.http.test_bounded import Client, Fleet

OPEN: Final = {"/docs", "/healthz", "/health", "/readyz", "/v1/enrol", AUTHORITY_PATH}
"""What needs no scope: it says whether the process is well, what the API is, or takes a secret in its body."""
BY_RESOURCE: Final = re.compile(r"/v1/(publish|control|claims|place)\b")
"""What is allowed by whose it is: the body, or the claim, says so first. `test_by_resource` looks at these."""


class Tokens:
    """Knows somebody who may do nothing here."""

    async def authenticate(self, _text: str) -> Caller:
        """See `token_service.Tokens`."""
        return Caller(Who.TOKEN, ("ingest:another",), "t1")


def service() -> Any:
    config = SimpleNamespace(aggregator=SimpleNamespace(max_request_bytes=1 << 20, beyond_loopback=True))
    return SimpleNamespace(tokens=Tokens(), fleet=Fleet(), config=config)


def asks_by_scope(path: str) -> bool:
    """Tell whether a scope alone decides who may use a route."""
    return not (path in OPEN or BY_RESOURCE.match(path))


def plain(path: str) -> str:
    """Give a path with something in the place of its parameters."""
    return re.sub(r"\{[^}]*\}", "1", path)


def routes() -> Iterator[tuple[str, str]]:
    """Give method and path of every route of every module, hidden ones too."""
    for module in pkgutil.iter_modules(aggregator.routes.__path__):
        router = getattr(importlib.import_module(f"aggregator.routes.{module.name}"), "router", None)
        for route in router.routes if router is not None else ():
            assert isinstance(route, APIRoute)
            for method in sorted(route.methods or ()):
                if asks_by_scope(route.path):
                    yield method, plain(route.path)


@pytest.mark.parametrize(("method", "path"), list(routes()))
async def test_every_route_asks_whether_its_caller_may(method: str, path: str) -> None:
    """With nothing behind it: what asks too late fails in another way."""
    client = Client(make_served(service()))
    assert (await client.send(method, path, [b"{}"], token="good"))[0] == 403
    assert (await client.send(method, path, [b"{}"]))[0] == 401


def test_what_is_looked_at_is_what_is_served() -> None:
    """A module that is not served, or moved elsewhere, would be looked at in vain."""
    described = make_app(service()).openapi()["paths"]
    served = {(method.upper(), path) for path in described for method in described[path]}
    expected = {(method, plain(path)) for method, path in served if asks_by_scope(path)}
    assert expected == set(routes())
    assert len(expected) > 20
