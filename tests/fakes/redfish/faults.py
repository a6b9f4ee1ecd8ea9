"""What may go wrong with an answer, and the script that says when."""

import dataclasses
import fnmatch
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Fault:
    """Something that goes wrong with one answer."""


@dataclasses.dataclass(frozen=True)
class Slow(Fault):
    """The answer takes its time."""

    seconds: float


@dataclasses.dataclass(frozen=True)
class Stall(Fault):
    """Nothing more comes, and the connection stays: after so many bytes of the answer, or from its start."""

    after_bytes: int = 0


@dataclasses.dataclass(frozen=True)
class Drop(Fault):
    """The connection ends, after so many bytes of the answer; with a reset, or as if all had been said."""

    after_bytes: int = 0
    reset: bool = False


@dataclasses.dataclass(frozen=True)
class Trickle(Fault):
    """The answer comes in pieces, some time apart."""

    piece_bytes: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Truncated(Fault):
    """The resource ends in its middle, and the answer's length says the same."""

    keep_bytes: int = 100


@dataclasses.dataclass(frozen=True)
class Garbage(Fault):
    """Other bytes instead of the resource."""

    body: bytes = b"\x00\xff<html>Please wait, system is initializing</html>"


@dataclasses.dataclass(frozen=True)
class Huge(Fault):
    """A body of so many bytes: a resource with one long text, made while it is sent."""

    size_bytes: int


@dataclasses.dataclass(frozen=True)
class Raw(Fault):
    """These bytes instead of any answer of HTTP."""

    data: bytes


@dataclasses.dataclass(frozen=True)
class Status(Fault):
    """An error instead of the resource."""

    code: int
    retry_after: str | None = None
    """Seconds, or a date."""
    body: bytes | None = None


@dataclasses.dataclass(frozen=True)
class Redirect(Fault):
    """The resource is said to be elsewhere."""

    location: str
    code: int = 307


@dataclasses.dataclass(frozen=True)
class Rewrite(Fault):
    """The resource that another function makes of it: wrong types, other units."""

    function: Callable[[Any], Any]


@dataclasses.dataclass
class Line:
    """One line of the script."""

    fault: Fault
    path: str
    method: str
    skip: int
    left: int | None

    def concerns(self, method: str, path: str) -> bool:
        """Tell whether a request is meant, whatever has happened before."""
        return fnmatch.fnmatchcase(path, self.path) and fnmatch.fnmatchcase(method, self.method)


class Script:
    """The faults of one BMC, by request."""

    def __init__(self) -> None:
        self._lines: list[Line] = []

    def add(
        self, fault: Fault, path: str = "*", *, method: str = "*", skip: int = 0, times: int | None = None
    ) -> Callable[[], None]:
        """Let something go wrong with requests of a path (`*` matches anything), `skip` of them later, `times` of them.

        Returns:
            What ends it.
        """
        line = Line(fault, path, method, skip, times)
        self._lines.append(line)
        return lambda: self._lines.remove(line) if line in self._lines else None

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        self._lines.clear()

    def of(self, method: str, path: str) -> tuple[Fault, ...]:
        """Give what goes wrong with this request, and count it as done."""
        found = []
        for line in list(self._lines):
            if not line.concerns(method, path):
                continue
            if line.skip:
                line.skip -= 1
            elif line.left != 0:
                line.left = None if line.left is None else line.left - 1
                found.append(line.fault)
        return tuple(found)
