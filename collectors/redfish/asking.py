"""Requests to one BMC, as its user: one session that is kept, made again when it is over, and ended at the end.

Source: DMTF DSP0266, 13.3 (sessions, X-Auth-Token, HTTP Basic).
"""

import base64
import time
from collections.abc import Callable
from typing import Final

import msgspec

from collectors.http_client import HttpError, Response
from collectors.redfish.config import Bmc, RedfishConfig
from collectors.redfish.connection import Answer, Connect, Line, TimedSocket, Trust, connect_tcp
from collectors.redfish.errors import (
    BmcDeniedError,
    BmcError,
    BmcOccupiedError,
    BmcUnreachableError,
    BmcUntrustedError,
    Faults,
)
from collectors.redfish.keeping import Keeping, Kept
from collectors.redfish.resource import ROOT, Resource, UnreadableError, canonical, decode, link, member, uri

SESSIONS: Final = f"{ROOT}/SessionService/Sessions"
_ELSEWHERE: Final = frozenset({301, 302, 307, 308})
_NO_SESSIONS: Final = frozenset({400, 404, 405, 501})
_KEEP_AGAIN_SECONDS: Final = 30.0
"""Between attempts to write what is to outlive the process."""


class Asking:
    """The way to one BMC. Raises BmcError from whatever asks it, when nothing can be had of it now."""

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
        self.unkept = ""
        """Why its session and fingerprint would not outlive the process; "" when they would, or need not."""
        self._config = config
        self._keeping = keeping
        self._keep_due = float("inf")
        self._pace, self._clock, self._sleep = pace, clock, sleep
        self._kept = Kept()
        self._unread = ""
        """Why what was kept of it is not known; "" when it is."""
        self._line = Line(
            bmc.url,
            trust,
            mode=config.tls,
            fingerprint=bmc.digest,
            clock=clock,
            connect=connect,
            learnt=self._learnt,
        )
        self._basic = not config.sessions
        self._last = float("-inf")
        self._recall()
        self._given_up = False

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

    @property
    def token(self) -> str:
        """What tells its session from others, and is a secret; "" without one."""
        return self._kept.token

    def give_up(self) -> None:
        """Ask nothing more: whoever asks next gets BmcUnreachableError. From any thread."""
        self._given_up = True

    def take_up(self) -> None:
        """Ask again, to take back what was left there."""
        self._given_up = False

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

    def keep_no_more(self) -> None:
        """Write nothing any more of what outlives the process."""
        self._keeping, self._keep_due, self.unkept = None, float("inf"), ""

    def close(self) -> None:
        """Close the connection; the session stays. Safe twice."""
        self._line.close()

    def abort(self) -> None:
        """Hang up, from another thread: whoever waits for an answer gets BmcUnreachableError, now and from then on."""
        self._line.abort()

    def _authorised(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        """Ask as the user; a session that is over is made again, once."""
        if self._clock() >= self._keep_due:
            self._keep()
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

    def _recall(self) -> None:
        """Read what was kept of it. What cannot be read is told, and no other certificate believed in its place."""
        self._unread = ""
        if self._keeping is None:
            return
        try:
            self._kept = self._keeping.load(self.bmc)
        except OSError as error:
            self.faults.add("unread", str(error))
            if self._config.tls == "first" and not self.bmc.digest and self.bmc.url.startswith("https://"):
                self._unread = str(error)
        else:
            self._line.expect(self.bmc.digest or self._kept.fingerprint)

    def _learnt(self, fingerprint: str) -> None:
        self._kept = msgspec.structs.replace(self._kept, fingerprint=fingerprint)
        self._keep()

    def _forget(self) -> None:
        if self._kept.token:
            self._kept = msgspec.structs.replace(self._kept, token="", session="")
            self._keep()

    def _keep(self) -> None:
        """Have what is known outlive the process. What cannot be written now is told, and tried again."""
        if self._keeping is None:
            return
        try:
            self._keeping.save(self.bmc, self._kept)
        except OSError as error:
            self.unkept, self._keep_due = str(error), self._clock() + _KEEP_AGAIN_SECONDS
            self.faults.add("unkept", self.unkept)
        else:
            self.unkept, self._keep_due = "", float("inf")

    # --- requests -----------------------------------------------------------------------------------------------------

    def _send(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        """Send one request when it may be sent. Raises BmcUnreachableError, BmcUntrustedError, BmcOccupiedError."""
        if self._given_up:
            raise BmcUnreachableError("it is read no more")
        if self._unread:
            self._recall()
        if self._unread:
            raise BmcUntrustedError(
                f"which certificate it showed first cannot be read ({self._unread}): put the file back, set its"
                " `fingerprint`, or remove the file to believe what it shows next"
            )
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
