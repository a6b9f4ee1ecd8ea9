"""A BMC as a client sees it: resources by path, members with their collection, what it does not have.

One thread at a time uses a client; only `abort` may be called beside.

Source: DMTF DSP0266: 6.5 (GET, ETag), 7.3 ($expand).
"""

import zlib
from collections.abc import Iterator
from enum import Enum
from typing import Any, Final

import msgspec

from collectors.redfish.asking import Asking
from collectors.redfish.connection import Answer
from collectors.redfish.errors import HUNG, STATUS, UNREADABLE, BmcError, BmcOccupiedError, BmcUnreachableError
from collectors.redfish.resource import ROOT, Resource, UnreadableError, canonical, decode, link, member, objects, uri

_EXPANSION: Final = "?$expand=.($levels=1)"
_MOST_PAGES: Final = 64
_MOST_MEMBERS: Final = 4096
_MOST_MISSING: Final = 2048
_ALONE: Final = 60.0
_LONGEST_ALONE: Final = 3600.0
"""Seconds that a resource is left alone which the BMC does not answer for: at first, and at most."""
_SHELF_BYTES: Final = 96 << 10
"""Of compressed answers that one BMC gave with an ETag."""
_NONE_SUCH: Final = frozenset({400, 404, 405, 410, 501})


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


class Client(Asking):
    """One BMC. Raises BmcError from whatever asks it, when nothing can be had of it now."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Connect to nothing yet; takes what `Asking` takes."""
        super().__init__(*args, **kwargs)
        self.denied: dict[str, None] = {}
        """What this user may not read, in order."""
        self._missing: dict[str, None] = {}
        self._unexpanded: set[str] = set()
        self._doubted: set[str] = set()
        """Collections of which the last attempt to have the members with them failed."""
        self._hung: dict[str, tuple[float, float]] = {}
        """What it does not answer, though it answers others: until when it is not asked for, and how long that is."""
        self._busy: set[str] = set()
        """What it was too busy for the last time."""
        self._answers = False
        """Whether it has answered something since it last did not."""
        self._shelf: dict[str, tuple[str, bytes]] = {}
        self._shelf_bytes = 0

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
        if self._clock() < self._hung.get(path, (0.0, 0.0))[0]:
            self.faults.add(HUNG, path)
            return Reply(Outcome.UNAVAILABLE)
        shelved = self._shelf.get(path) if keep else None
        try:
            answer = self._authorised("GET", path, None, {"If-None-Match": shelved[0]} if shelved else {})
        except BmcUnreachableError:
            if not self._lives():
                raise
            self._leave_alone(path)
            return Reply(Outcome.UNAVAILABLE)
        except BmcOccupiedError:
            if not {path} & (self._busy | self._hung.keys()) or not self._lives():
                self._busy = {path}
                raise
            self._leave_alone(path)  # twice in a row: it is too busy for this one alone
            return Reply(Outcome.UNAVAILABLE)
        self._answers = True
        self._busy.discard(path)
        self._hung.pop(path, None)
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
    def missing(self) -> int:
        """How many resources it said it has not since it was last started over with."""
        return len(self._missing)

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
            if not self._lives():
                raise
            return None
        except BmcOccupiedError:
            self._doubt(path, "too busy")
            raise
        self._answers = True
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

    def _lives(self) -> bool:
        """Whether it answers at all, after it did not answer one request: if it had answered others, it is asked."""
        if not self._answers:
            return False
        self._answers = False
        try:
            self._send("GET", f"{ROOT}/", None, {})
        except BmcError:
            return False
        self._answers = True
        return True

    def _leave_alone(self, path: str) -> None:
        """Ask for nothing at a path for a while, longer each time: waiting for it would cost each reading."""
        self.faults.add(HUNG, path)
        pause = min(_LONGEST_ALONE, 2 * self._hung.get(path, (0.0, _ALONE / 2))[1])
        if len(self._hung) < _MOST_MISSING:
            self._hung[path] = (self._clock() + pause, pause)

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


def is_whole(member: Resource) -> bool:
    """Whether a member of a collection is the resource itself, and not a reference to it."""
    return len(member) >= 3
