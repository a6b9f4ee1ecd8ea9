"""Who may ask: sessions that end, a limit on them, and passwords by basic authentication."""

import base64
import itertools
from collections.abc import Callable

from tests.fakes.redfish.message import Answer, Request, answer, refusal

PATH = "/redfish/v1/SessionService/Sessions"


class Sessions:
    """The sessions of one BMC."""

    def __init__(self, user: str, password: str, limit: int, seconds: float, clock: Callable[[], float]) -> None:
        self._user, self._password = user, password
        self.limit, self.seconds = limit, seconds
        self._clock = clock
        self._numbers = itertools.count(1)
        self._open: dict[str, tuple[str, float]] = {}
        self.made = 0
        """How many were ever made."""
        self.refused = 0
        """How many were refused for the limit."""

    def open(self) -> list[str]:
        """Give the numbers of those that are open now."""
        now = self._clock()
        self._open = {token: one for token, one in self._open.items() if now - one[1] <= self.seconds}
        return [number for number, _ in self._open.values()]

    def expire(self) -> None:
        """End them all, as a BMC that starts anew does."""
        self._open.clear()

    def occupy(self, count: int) -> None:
        """Open sessions of somebody else, who leaves them."""
        for _ in range(count):
            self._begin()

    def admits(self, request: Request, *, basic: bool = True) -> bool:
        """Tell whether a request's token or password is good. A token's time begins anew."""
        token = request.headers.get("x-auth-token", "")
        self.open()
        if token in self._open:
            self._open[token] = (self._open[token][0], self._clock())
            return True
        return basic and self._knows(request.headers.get("authorization", ""))

    def make(self, request: Request) -> Answer:
        """Answer to somebody who logs in."""
        told = request.decoded()
        if (told.get("UserName"), told.get("Password")) != (self._user, self._password):
            return refusal(401, "The user name or the password is wrong.", "Base.1.8.NoValidSession")
        if len(self.open()) >= self.limit:
            self.refused += 1
            return refusal(503, "The maximum number of user sessions is reached.", "Base.1.8.SessionLimitExceeded")
        token, number = self._begin()
        return answer(self.resource(number), 201, X_Auth_Token=token, Location=f"{PATH}/{number}")

    def end(self, number: str) -> Answer:
        """Answer to somebody who logs out."""
        kept = {token: one for token, one in self._open.items() if one[0] != number}
        if len(kept) == len(self._open):
            return refusal(404, f"There is no session {number}.", "Base.1.8.ResourceMissingAtURI")
        self._open = kept
        return Answer(204)

    def resource(self, number: str) -> dict[str, str]:
        """Give a session as a resource."""
        path, kind = f"{PATH}/{number}", "#Session.v1_3_0.Session"
        return {"@odata.id": path, "@odata.type": kind, "Id": number, "Name": "User Session", "UserName": self._user}

    def _begin(self) -> tuple[str, str]:
        number = str(next(self._numbers))
        token = f"token-{number}-{id(self):x}"
        self._open[token] = (number, self._clock())
        self.made += 1
        return token, number

    def _knows(self, authorization: str) -> bool:
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            told = base64.b64decode(value, validate=True).decode()
        except ValueError:
            return False
        return told == f"{self._user}:{self._password}"
