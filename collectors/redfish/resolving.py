"""Addresses of names, in bounded time: a resolver that does not answer holds a few threads, and nobody who asks.

The call of the system has no deadline and cannot be ended; so it runs on a thread of its own, of which there are few,
and whoever waits for it waits as long as he may.

Source: RFC 3493 (getaddrinfo).
"""

import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

AT_ONCE: Final = 8
"""Names that are looked up at a time."""
Address = tuple[socket.AddressFamily, tuple[Any, ...]]
Lookup = Callable[[str, int], list[Address]]
"""Host and port to addresses. Raises OSError."""


def look_up(host: str, port: int, flags: int = 0) -> list[Address]:
    """Give the addresses of a host, each once, in the system's order of preference. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


class _Search(msgspec.Struct):
    """The search for one name's addresses."""

    found: list[Address] = []
    error: OSError | None = None
    done: bool = False


class Resolver:
    """Looks names up. For any thread."""

    def __init__(self, lookup: Lookup = look_up, clock: Callable[[], float] = time.monotonic) -> None:
        """`lookup` may take for ever."""
        self._lookup, self._clock = lookup, clock
        self._searches: dict[tuple[str, int], _Search] = {}
        self._changed = threading.Condition()

    def addresses(self, host: str, port: int, seconds: float) -> list[Address]:
        """Give the addresses of a host. Raises OSError, TimeoutError when they are not known after so long."""
        try:
            return look_up(host, port, socket.AI_NUMERICHOST)
        except socket.gaierror:
            pass  # it is a name
        end = self._clock() + seconds
        with self._changed:
            search = self._searches.get((host, port))
            while search is None:
                if len(self._searches) < AT_ONCE:
                    search = self._searches[host, port] = _Search()
                    self._begin(host, port, search)
                else:
                    self._wait(host, end)
                    search = self._searches.get((host, port))
            while not search.done:
                self._wait(host, end)
        if search.error is not None:
            raise OSError(*search.error.args) from search.error
        return search.found

    def _begin(self, host: str, port: int, search: _Search) -> None:
        thread = threading.Thread(target=self._run, args=(host, port, search), name="redfish names", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            del self._searches[host, port]
            raise OSError(f"no thread to look {host} up: {error}") from error

    def _run(self, host: str, port: int, search: _Search) -> None:
        try:
            search.found = self._lookup(host, port)
        except OSError as error:
            search.error = error
        except ValueError as error:  # a name that cannot be one
            search.error = OSError(str(error))
        with self._changed:
            search.done = True
            del self._searches[host, port]
            self._changed.notify_all()

    def _wait(self, host: str, end: float) -> None:
        left = end - self._clock()
        if left <= 0:
            raise TimeoutError(f"the resolver does not say in time what the address of {host} is")
        self._changed.wait(left)
