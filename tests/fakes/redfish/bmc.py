"""One BMC: what it answers to a request. No bytes of the network, no waiting."""

import dataclasses
import functools
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any, Final

import msgspec

from tests.fakes.redfish import sessions
from tests.fakes.redfish.events import Events
from tests.fakes.redfish.faults import Garbage, Redirect, Rewrite, Script, Status, Truncated
from tests.fakes.redfish.machine import Machine
from tests.fakes.redfish.message import Answer, Request, answer, refusal
from tests.fakes.redfish.query import Features, QueryError, applied
from tests.fakes.redfish.sessions import Sessions
from tests.fakes.redfish.tree import ROOT, Resource, Tree, encode, normal

OPEN: Final = {"/redfish", ROOT, f"{ROOT}/$metadata", f"{ROOT}/odata"}
"""What anybody may read. Source: DSP0266 1.20, 13.2.2."""
CONTENT: Final = "application/json; charset=utf-8"


@dataclasses.dataclass(frozen=True)
class Options:
    """How a BMC is made."""

    user: str = "watcher"
    password: str = "let me look"
    sessions: bool = True
    """It has sessions; else only basic authentication."""
    basic: bool = True
    """It takes basic authentication."""
    session_limit: int = 8
    session_seconds: float = 1800.0
    etags: bool = True
    """It gives entity tags, and answers 304."""
    expand: bool | None = None
    """It knows $expand; None: as its service root says."""
    page: int | None = None
    """Members at most of one collection in one answer."""
    at_once: int | None = None
    """Requests that it works on at a time; others wait. None: all of them."""
    pace_seconds: float = 0.0
    """What each answer takes."""
    stream_limit: int = 10
    subscription_limit: int = 20


class Bmc:
    """One BMC, whose machine can be changed and whose answers can be spoilt while it is asked."""

    def __init__(self, tree: Tree, options: Options | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.tree = tree
        self.options = options or Options()
        self.clock = clock
        self.user, self.password = self.options.user, self.options.password
        self.faults = Script()
        self.requests: list[tuple[str, str, int]] = []
        """Method, target and status of each request that was answered."""
        self.keeps_requests = True
        self.answered = 0
        self.pace_seconds = self.options.pace_seconds
        self.watch: Callable[[float, float], None] = lambda asked, answered: None
        """Is told of each request when it was asked and answered, by the clock of the event loop."""
        self.url = ""
        """Where it listens; set by the simulator."""
        self.lock = threading.RLock()
        told = self.options
        self.sessions = Sessions(told.user, told.password, told.session_limit, told.session_seconds, clock)
        self._changed: dict[str, bytes | None] = {}
        self.events = Events(self)
        self.machine = Machine(self)

    # ------------------------------------------------------------------------------------------ what it has

    def raw(self, path: str) -> bytes | None:
        """Give a resource as its bytes; None: there is none."""
        path = normal(path)
        return self._changed[path] if path in self._changed else self.tree.get(path)

    def resource(self, path: str) -> Resource | None:
        """Give a resource that may be changed; None: there is none, or it is no JSON."""
        raw = self.raw(path)
        try:
            told = msgspec.json.decode(raw) if raw is not None else None
        except msgspec.DecodeError:
            return None
        return told if isinstance(told, dict) else None

    def put(self, path: str, resource: Resource | bytes) -> None:
        """Set a resource."""
        with self.lock:
            self._changed[normal(path)] = resource if isinstance(resource, bytes) else encode(resource)

    def change(self, path: str, pointer: str = "", **values: Any) -> None:
        """Change members of a resource, or of what a JSON pointer finds in it."""
        with self.lock:
            resource = self.resource(path)
            assert resource is not None, f"{self.tree.name} has no {path}"
            inner: Any = resource
            for step in pointer.strip("/").split("/") if pointer else []:
                inner = inner[int(step)] if isinstance(inner, list) else inner[step]
            inner.update(values)
            self.put(path, resource)

    def remove(self, path: str) -> None:
        """Let a resource vanish, and from the collection that names it."""
        with self.lock:
            self._changed[normal(path)] = None
            parent = normal(path).rpartition("/")[0]
            collection = self.resource(parent) or {}
            if "Members" in collection:
                kept = [one for one in collection["Members"] if normal(one.get("@odata.id", "")) != normal(path)]
                self.put(parent, {**collection, "Members": kept, "Members@odata.count": len(kept)})

    def paths(self) -> list[str]:
        """Give the paths of all that there is now."""
        return sorted(path for path in {*self.tree, *self._changed} if self.raw(path) is not None)

    # ------------------------------------------------------------------------------------------ what it answers

    def answer(self, request: Request) -> Answer:
        """Answer; the faults of the connection are the connection's."""
        with self.lock:
            self.machine.advance()
            told = self._spoilt(request) or self._allowed(request) or self._method(request)
            if request.method == "HEAD":
                told.body = b""
            self.answered += 1
            if self.keeps_requests:
                self.requests.append((request.method, request.target, told.status))
            return told

    def _spoilt(self, request: Request) -> Answer | None:
        for fault in request.faults:
            if isinstance(fault, Status):
                headers = {"Retry-After": fault.retry_after} if fault.retry_after is not None else {}
                told = refusal(fault.code, "The request failed.")
                return Answer(fault.code, told.body if fault.body is None else fault.body, told.headers | headers)
            if isinstance(fault, Redirect):
                return Answer(fault.code, b"", {"Location": fault.location})
            if isinstance(fault, Garbage):
                return Answer(200, fault.body, {"Content-Type": CONTENT})
        return None

    def _allowed(self, request: Request) -> Answer | None:
        free = request.path in OPEN or (request.method, request.path) == ("POST", sessions.PATH)
        if free or self.sessions.admits(request, basic=self.options.basic):
            return None
        return refusal(
            401, "There is no valid session.", "Base.1.8.NoValidSession", WWW_Authenticate='Basic realm="bmc"'
        )

    def _method(self, request: Request) -> Answer:
        if request.path == sessions.PATH or request.path.startswith(sessions.PATH + "/"):
            return self._session(request)
        if (told := self.events.answer(request)) is not None:
            return told
        if request.method in {"GET", "HEAD"}:
            return self._get(request)
        if request.method == "POST":
            return self.machine.act(request)
        if request.method == "PATCH":
            return self._patch(request)
        return refusal(405, f"{request.method} is not possible here.", "Base.1.8.OperationNotAllowed")

    def _session(self, request: Request) -> Answer:
        if not self.options.sessions:
            return refusal(404, "There are no sessions here.", "Base.1.8.ResourceMissingAtURI")
        number = request.path.removeprefix(sessions.PATH).strip("/")
        if request.method == "POST" and not number:
            return self.sessions.make(request)
        if request.method == "DELETE" and number:
            return self.sessions.end(number)
        if request.method != "GET":
            return refusal(405, f"{request.method} is not possible here.", "Base.1.8.OperationNotAllowed")
        open_now = self.sessions.open()
        if number:
            return answer(self.sessions.resource(number)) if number in open_now else _missing(request)
        members = [{"@odata.id": f"{sessions.PATH}/{one}"} for one in open_now]
        return answer({"@odata.id": sessions.PATH, "Members": members, "Members@odata.count": len(members)})

    def _get(self, request: Request) -> Answer:
        # later pages of a collection were recorded under their query
        raw = self.raw(request.target) if "?" in request.target else None
        query = {} if raw is not None else request.query
        raw = self.raw(request.path) if raw is None else raw
        if raw is None:
            return _missing(request)
        rewrites = [fault for fault in request.faults if isinstance(fault, Rewrite)]
        if query or rewrites or self.options.page:
            resource = self.resource(request.path)
            if resource is not None:
                try:
                    resource = applied(resource, query, request.path, self.features, self.resource)
                except QueryError as error:
                    return error.refused
                for rewrite in rewrites:
                    resource = rewrite.function(resource)
                raw = encode(resource)
        for fault in request.faults:
            raw = raw[: fault.keep_bytes] if isinstance(fault, Truncated) else raw
        return self._tagged(request, raw)

    def _tagged(self, request: Request, raw: bytes) -> Answer:
        headers = {
            "Content-Type": CONTENT if raw[:1] in {b"{", b"["} else "application/octet-stream",
            "OData-Version": "4.0",
        }
        if self.options.etags:
            headers["ETag"] = f'W/"{zlib.crc32(raw):08x}"'
            if headers["ETag"] in request.headers.get("if-none-match", ""):
                return Answer(304, b"", headers)
        return Answer(200, raw, headers)

    def _patch(self, request: Request) -> Answer:
        resource = self.resource(request.path)
        if resource is None:
            return _missing(request)
        self.put(request.path, resource | request.decoded())
        return Answer(204)

    @functools.cached_property
    def features(self) -> Features:
        """What may be asked for."""
        told = Features.told(self.resource(ROOT) or {}, self.options.page)
        return told if self.options.expand is None else dataclasses.replace(told, expand=self.options.expand)


def _missing(request: Request) -> Answer:
    return refusal(404, f"There is nothing at {request.path}.", "Base.1.8.ResourceMissingAtURI")
