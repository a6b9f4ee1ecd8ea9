"""The HTTP application: routes, documentation and errors over one service."""

from fastapi import FastAPI

from aggregator.routes import (
    adoption,
    bounded,
    catalog,
    claims,
    common,
    devices,
    direct,
    docs,
    enrolment,
    exports,
    health,
    lifecycles,
    marks,
    nodes,
    place,
    publish,
    quarantine,
    queries,
    tokens,
    usage,
    verbosity,
    watch,
)
from aggregator.service import Service
from schemas import __version__

_DESCRIPTION = """Muster's aggregator. Errors are problem details (RFC 9457) with a stable `code`. Over the network
every route but health needs `Authorization: Bearer <token>`; over the local unix socket none does."""


def make_app(service: Service) -> FastAPI:
    """Make the application. It may be served on several sockets at once."""
    app = FastAPI(title="Muster", version=__version__, description=_DESCRIPTION, docs_url=None, redoc_url=None)
    app.state.service = service
    for module in (
        claims,  # the framework tries routes in this order: what schedulers ask all the time comes first
        place,
        adoption,
        catalog,
        exports,
        docs,
        health,
        publish,
        enrolment,
        queries,
        nodes,
        devices,
        lifecycles,
        usage,
        marks,
        watch,
        verbosity,
        tokens,
        quarantine,
    ):
        app.include_router(module.router)
    common.install_errors(app)
    return app


def make_served(service: Service) -> bounded.Bounded:
    """Make what is served: the application, the publishers' own routes ahead of it, and the bounds around both."""
    return bounded.Bounded(direct.Direct(make_app(service)))
