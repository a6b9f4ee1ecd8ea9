"""A BMC as a client sees it: one session that is kept and made again, resources by path, what it does not have.

One thread at a time uses a client; only `open_stream` may be called beside.

Source: DMTF DSP0266: 6.5 (GET, ETag), 7.3 ($expand), 13.3 (sessions, X-Auth-Token).
"""

import base64
import time
import zlib
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Final

import msgspec

from collectors.http_client import HttpError, Response
from collectors.redfish.config import Bmc, RedfishConfig
from collectors.redfish.connection import Answer, Connect, Line, TimedSocket, Trust, connect_tcp
from collectors.redfish.errors import (
    STATUS,
    UNREADABLE,
    BmcDeniedError,
    BmcError,
    BmcOccupiedError,
    BmcUnreachableError,
    Faults,
)
from collectors.redfish.keeping import Keeping, Kept
from collectors.redfish.resource import ROOT, Resource, UnreadableError, canonical, decode, link, member, objects, uri

SESSIONS: Final = f"{ROOT}/SessionService/Sessions"
_EXPANSION: Final = "?$expand=.($levels=1)"
_MOST_PAGES: Final = 64
_MOST_MEMBERS: Final = 4096
_MOST_MISSING: Final = 2048
_SHELF_BYTES: Final = 96 << 10
"""Of compressed answers that one BMC gave with an ETag."""
_NONE_SUCH: Final = frozenset({400, 404, 405, 410, 501})
_ELSEWHERE: Final = frozenset({301, 302, 307, 308})
_NO_SESSIONS: Final = frozenset({400, 404, 405, 501})


class Outcome(Enum):
    """What came of a request."""

    FOUND = "found"
    UNSUPPORTED = "unsupported"
    """The BMC has none such, and will not have."""
    DENIED = "denied"
    """It has one, and this user may not read it."""
    UNAVAILABLE = "unavailable"
    """This time it gave nothing that can be read."""


class Reply(msgspec.Struct):
    """What came of a request, and the resource if there is one."""

    outcome: Outcome
    resource: Resource | None = None


class Client:
    """One BMC. Raises BmcError from whatever asks it, when nothing can be had of it now."""

    def __init__(
        self,
        bmc: Bmc,
        config: RedfishConfig,
        trust: Trust,
        *,
        keeping: Keeping | None = None,
        pace: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        connect: Connect = connect_tcp,
    ) -> None:
        """Connect to nothing yet.

        Args:
            bmc: Whom to ask.
            config: How.
            trust: Which certificates are believed.
            keeping: Where sessions and fingerprints outlive the process; None: nowhere.
            pace: Is called before each request, and comes back when it may be sent.
            clock: Monotonic seconds.
            sleep: Waits for seconds.
            connect: How a socket is had.
        """
        self.bmc = bmc
        self.faults = Faults()
        self.requests = 0
        """Sent since this was made."""
        self.root: Resource = {}
        """The service root, once it was read."""
        self.denied: dict[str, None] = {}
        """What this user may not read, in order."""
        self._config = config
        self._keeping = keeping
        self._pace, self._clock, self._sleep = pace, clock, sleep
        self._kept = keeping.load(bmc) if keeping is not None else Kept()
        self._line = Line(
            bmc.url,
            trust,
            mode=config.tls,
            fingerprint=bmc.digest or self._kept.fingerprint,
            clock=clock,
            connect=connect,
            learnt=self._learnt,
        )
        self._basic = not config.sessions
        self._missing: dict[str, None] = {}
        self._unexpanded: set[str] = set()
        self._doubted: set[str] = set()
        """Collections of which the last attempt to have the members with them failed."""
        self._shelf: dict[str, tuple[str, bytes]] = {}
        self._shelf_bytes = 0
        self._last = float("-inf")

    # --- resources ----------------------------------------------------------------------------------------------------

    def get(self, path: str, *, keep: bool = False) -> Resource | None:
        """Give a resource; None when it has none such, or none that can be read (a counted fault). Raises BmcError.

        `keep`: it seldom changes, so its ETag is remembered, and the BMC asked whether it changed.
        """
        return self.ask(path, keep=keep).resource

    def ask(self, path: str, *, keep: bool = False) -> Reply:
        """Give a resource, and why there is none. Raises BmcError."""
        path = canonical(path)
        if not path:
            return Reply(Outcome.UNSUPPORTED)
        if path in self._missing:
            return Reply(Outcome.UNSUPPORTED)
        shelved = self._shelf.get(path) if keep else None
        answer = self._authorised("GET", path, None, {"If-None-Match": shelved[0]} if shelved else {})
        if answer.status == 304 and shelved is not None:
            answer = Answer(200, answer.headers, zlib.decompress(shelved[1]))
        reply = self._understood(path, answer)
        if keep and reply.resource is not None:
            self._put_on_shelf(path, answer)
        return reply

    def members(self, path: str, *, keep: bool = False) -> Iterator[Resource]:
        """Yield the members of a collection, by as few requests as the BMC allows. Raises BmcError."""
        for one in self.listing(path):
            whole = one if is_whole(one) else self.get(uri(one), keep=keep)
            if whole is not None:
                yield whole

    def listing(self, path: str) -> Iterator[Resource]:
        """Yield what a collection says of its members, each once: whole (`is_whole`) or references. Raises BmcError."""
        seen: set[str] = set()
        for page in self._pages(path):
            for one in objects(page, "Members"):
                place = uri(one)
                if not place or place in seen:
                    continue
                if len(seen) >= _MOST_MEMBERS:
                    self.faults.add("flood", f"{path} has more than {_MOST_MEMBERS} members")
                    return
                seen.add(place)
                yield one

    def start_over(self) -> None:
        """Ask again for what was found missing: its firmware may be another now."""
        self._missing.clear()
        self._unexpanded.clear()
        self.denied.clear()

    @property
    def expands(self) -> bool:
        """Whether the BMC says that it gives members with their collection."""
        query = member(member(self.root, "ProtocolFeaturesSupported"), "ExpandQuery")
        return self._config.expand and (query.get("Levels") is True or query.get("NoLinks") is True)

    def read_root(self) -> Resource:
        """Read the service root, which needs no login. Raises BmcError when this is no BMC that speaks Redfish."""
        answer = self._send("GET", f"{ROOT}/", None, {})
        if answer.status in (401, 403):
            answer = self._authorised("GET", f"{ROOT}/", None, {})
        found = self._understood(ROOT, answer).resource
        self._missing.pop(ROOT, None)
        if found is None:
            raise BmcUnreachableError(f"{self.bmc.url}{ROOT}/ is no service root: status {answer.status}")
        self.root = found
        return found

    def _pages(self, path: str) -> Iterator[Resource]:
        path = canonical(path)
        first: Resource | None = None
        if path and self.expands and path not in self._unexpanded and path not in self._missing:
            first = self._expanded(path)
        page = first if first is not None else self.get(path)
        seen = {path}
        while page is not None:
            yield page
            following = page.get("Members@odata.nextLink")
            place = canonical(following if isinstance(following, str) else None) or link(page, "Members@odata.nextLink")
            if not place or place in seen:
                return
            if len(seen) >= _MOST_PAGES:
                self.faults.add("flood", f"{path} has more than {_MOST_PAGES} pages")
                return
            seen.add(place)
            page = self.get(place)

    def _expanded(self, path: str) -> Resource | None:
        """Give a collection with its members within; None when this BMC cannot after all, which is remembered.

        What fails otherwise may do so by chance, and is believed when it happens twice in a row: some BMCs die of it.
        """
        try:
            answer = self._authorised("GET", path + _EXPANSION, None, {})
        except BmcUnreachableError:
            self._doubt(path, "no answer")
            raise
        if answer.status == 200:
            try:
                found, forgiven = decode(answer.body)
            except UnreadableError as error:
                self._doubt(path, str(error))
                return None
            self._forgave(path, forgiven)
            if all(map(is_whole, objects(found, "Members"))):
                self._doubted.discard(path)
                return found
        elif answer.status not in _NONE_SUCH:
            self._doubt(path, f"status {answer.status}")
            return None
        self._unexpanded.add(path)
        return None

    def _doubt(self, path: str, why: str) -> None:
        self.faults.add("expand", f"{path}: {why}")
        if path in self._doubted:
            self._unexpanded.add(path)
        self._doubted.add(path)

    def _understood(self, path: str, answer: Answer) -> Reply:
        if answer.status == 200:
            try:
                found, forgiven = decode(answer.body)
            except UnreadableError as error:
                self.faults.add(UNREADABLE, f"{path}: {error}")
                return Reply(Outcome.UNAVAILABLE)
            self._forgave(path, forgiven)
            return Reply(Outcome.FOUND, found)
        if answer.status == 403:
            self.denied[path] = None
            return Reply(Outcome.DENIED)
        if answer.status in _NONE_SUCH:
            if len(self._missing) < _MOST_MISSING:
                self._missing[path] = None
            return Reply(Outcome.UNSUPPORTED)
        self.faults.add(STATUS, f"{path}: {answer.status}")
        return Reply(Outcome.UNAVAILABLE)

    def _forgave(self, path: str, forgiven: bool) -> None:
        if forgiven:
            self.faults.add("json", f"{path} is no JSON, but could be read")

    def _put_on_shelf(self, path: str, answer: Answer) -> None:
        etag = answer.headers.get("etag", "")
        if not etag or len(etag) > 256:
            return
        before = self._shelf.pop(path, ("", b""))
        self._shelf_bytes -= len(before[1])
        body = zlib.compress(answer.body, 1)
        if self._shelf_bytes + len(body) <= _SHELF_BYTES:
            self._shelf[path] = (etag, body)
            self._shelf_bytes += len(body)

    # --- sessions -----------------------------------------------------------------------------------------------------

    def open_stream(self, path: str) -> tuple[Response, TimedSocket]:
        """Ask for a stream of events on a connection of its own. Raises BmcError, OSError.

        The answer's status may be any; its body is read with `read1`, by the moment that `until` of the socket says.
        """
        headers = {"Accept": "text/event-stream", **self._credentials()}
        return self._line.open_stream(canonical(path), headers, seconds=self._config.answer_seconds)

    def post(self, path: str, body: Resource) -> Answer:
        """Send something new (an event subscription). Raises BmcError."""
        return self._authorised("POST", canonical(path), msgspec.json.encode(body), {})

    def delete(self, path: str) -> Answer:
        """Take something back. Raises BmcError."""
        return self._authorised("DELETE", canonical(path), None, {})

    def log_out(self, seconds: float = 2.0) -> None:
        """End the session there, if one is open; what fails of it is forgotten. Closes the connection."""
        kept = self._kept
        try:
            if kept.token and kept.session:
                headers = {"X-Auth-Token": kept.token}
                answer = self._line.ask("DELETE", kept.session, None, headers, seconds=seconds, limit=65536)
                if answer.status < 500:
                    self._forget()
        except (OSError, ValueError, BmcError):
            pass  # it ends by itself there, or is used again by the next start
        finally:
            self._line.close()

    def close(self) -> None:
        """Close the connection; the session stays. Safe twice."""
        self._line.close()

    def abort(self) -> None:
        """Hang up, from another thread: whoever waits for an answer gets BmcUnreachableError, now and from then on."""
        self._line.abort()

    def _authorised(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        """Ask as the user; a session that is over is made again, once."""
        if self._kept.token == "" and not self._basic and self.bmc.user:
            self._log_in()
        answer = self._send(method, path, body, {**headers, **self._credentials()})
        if answer.status == 401 and self._kept.token and not self._basic:
            self._forget()
            self.faults.add("session", "the session was over")
            self._log_in()
            answer = self._send(method, path, body, {**headers, **self._credentials()})
        if answer.status == 401:
            self._forget()
            raise BmcDeniedError(self._refused(path))
        if answer.status in _ELSEWHERE and method == "GET":
            return self._elsewhere(path, answer, headers)
        return answer

    def _elsewhere(self, path: str, answer: Answer, headers: dict[str, str]) -> Answer:
        """Follow a redirection once, within the BMC: nobody else is told the session's token."""
        location = answer.headers.get("location", "")
        place = canonical(_path(location)) if "://" not in location or location.startswith(f"{self.bmc.url}/") else ""
        if not place:
            self.faults.add("redirect", f"{path} leads to {location[:100]!r}")
            return answer
        return self._send("GET", place, None, {**headers, **self._credentials()})

    def _refused(self, path: str) -> str:
        if not self.bmc.user:
            return f"{path} needs a user: set `user` and `password`"
        return f"the user {self.bmc.user!r} or its password is refused; it needs the role ReadOnly (privilege Login)"

    def _credentials(self) -> dict[str, str]:
        if self._kept.token:
            return {"X-Auth-Token": self._kept.token}
        if not self.bmc.user:
            return {}
        pair = base64.b64encode(f"{self.bmc.user}:{self.bmc.password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}

    def _log_in(self) -> None:
        """Make a session; where there are none, or none is left, each request carries name and password instead."""
        path = link(member(self.root, "Links"), "Sessions") or SESSIONS
        said = msgspec.json.encode({"UserName": self.bmc.user, "Password": self.bmc.password})
        try:
            answer = self._send("POST", path, said, {})
        except BmcOccupiedError:  # no session is left, as idrac says it
            self.faults.add("no_session", "no session is left")
            return
        token = answer.headers.get("x-auth-token", "")
        if answer.status in (200, 201, 202) and token:
            place = canonical(_path(answer.headers.get("location", ""))) or uri(_body(answer))
            self._kept = msgspec.structs.replace(self._kept, token=token, session=place)
            self._keep()
        elif answer.status in (401, 403):
            raise BmcDeniedError(self._refused(path))
        elif answer.status in _NO_SESSIONS:
            self._basic = True
        else:
            self.faults.add("no_session", f"no session: status {answer.status}")

    def _learnt(self, fingerprint: str) -> None:
        self._kept = msgspec.structs.replace(self._kept, fingerprint=fingerprint)
        self._keep()

    def _forget(self) -> None:
        if self._kept.token:
            self._kept = msgspec.structs.replace(self._kept, token="", session="")
            self._keep()

    def _keep(self) -> None:
        if self._keeping is not None:
            self._keeping.save(self.bmc, self._kept)

    # --- requests -----------------------------------------------------------------------------------------------------

    def _send(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        """Send one request when it may be sent. Raises BmcUnreachableError, BmcUntrustedError, BmcOccupiedError."""
        wait = self._last + self._config.gap_seconds - self._clock()
        if wait > 0:
            self._sleep(wait)
        self._pace()
        headers = {"Accept": "application/json", "OData-Version": "4.0", **headers}
        if body is not None:
            headers["Content-Type"] = "application/json"
        self.requests += 1
        try:
            answer = self._line.ask(
                method,
                path,
                body,
                headers,
                seconds=self._config.answer_seconds,
                limit=self._config.max_answer_bytes,
            )
        except HttpError as error:
            self.faults.add("http", str(error))
            raise BmcUnreachableError(f"{path}: {error}") from error
        except TimeoutError as error:
            raise BmcUnreachableError(f"{path}: no answer within {self._config.answer_seconds:g} s") from error
        except (OSError, ValueError) as error:
            raise BmcUnreachableError(f"{path}: {str(error) or type(error).__name__}") from error
        finally:
            self._last = self._clock()
        if answer.status in (429, 503):
            raise BmcOccupiedError(f"{path}: status {answer.status}", answer.retry_after)
        return answer


def is_whole(member: Resource) -> bool:
    """Whether a member of a collection is the resource itself, and not a reference to it."""
    return len(member) >= 3


def _path(location: str) -> str:
    """Give the path of a Location, which may be a whole address."""
    if "://" in location:
        return "/" + location.partition("://")[2].partition("/")[2]
    return location


def _body(answer: Answer) -> Resource:
    try:
        return decode(answer.body)[0]
    except UnreadableError:
        return {}
