"""Who is at the other end of the local socket, by the kernel's word, so that records of what was done name a person.

Only root and the aggregator's own user can open the socket. So beside the user as whom a process runs there is the one
who logged in: `sudo` and `su` change the first and not the second.

Source: unix(7), SO_PEERCRED; proc_pid_loginuid(5); pam_loginuid(8).
"""

import asyncio
import contextlib
import pwd
import socket
import struct
import threading
from pathlib import Path
from typing import Any, Final

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from aggregator.access import LOCAL, Caller, Who

PEER: Final = "muster.peer"
"""Where a request's state has its `Peer`, if it came over the local socket."""
_CREDENTIALS: Final = struct.Struct("iII")  # pid, uid, gid
_NOBODY: Final = 0xFFFFFFFF
"""A login that is not set: of services, and where there is no pam_loginuid."""
_LOOK_UP_SECONDS: Final = 1.0
"""How long a directory of users (LDAP) may take to name one. Its number does as well."""


class Peer:
    """Who opened a connection. Asked for by name once a connection, when it first asks for something."""

    def __init__(self, uid: int, login: int | None) -> None:
        self.uid = uid
        """As whom it runs."""
        self.login = login
        """Who logged in; None where that is not known."""
        self._caller: Caller | None = None

    async def caller(self) -> Caller:
        """Give the caller that it is: `local:alice`, or `local:root(alice)` of one who became somebody else."""
        if self._caller is None:
            user = await _name(self.uid)
            if self.login is not None and self.login != self.uid:
                user += f"({await _name(self.login)})"
            self._caller = Caller(Who.LOCAL, user=user)
        return self._caller


def peer_of(connection: socket.socket, proc: Path = Path("/proc")) -> Peer:
    """Tell who connected. Raises OSError for what is no unix socket, or is not connected any more."""
    pid, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return Peer(uid, _login(pid, proc))


def _login(pid: int, proc: Path) -> int | None:
    try:
        login = int((proc / str(pid) / "loginuid").read_text())
    except (OSError, ValueError):  # it ended, is of another name space, or the kernel keeps none
        return None
    return None if login == _NOBODY else login


async def local_caller(state: dict[str, Any] | None) -> Caller:
    """Give who asks over the local socket, by the state of a request; LOCAL where nobody could tell."""
    peer = (state or {}).get(PEER)
    return await peer.caller() if isinstance(peer, Peer) else LOCAL


class LocalProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]  # one of two classes, by what is installed
    """HTTP as everywhere, on a connection that knows who opened it."""

    app_state: dict[str, Any]
    """What the state of each request begins with."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Take note of who connected."""
        super().connection_made(transport)
        with contextlib.suppress(OSError):
            self.app_state = {**self.app_state, PEER: peer_of(transport.get_extra_info("socket"))}


async def _name(uid: int) -> str:
    """Give the name of a user, or the number where nobody names it in time."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[str] = loop.create_future()

    def tell(name: str) -> None:
        if not told.done():
            told.set_result(name)

    def ask() -> None:
        name = str(uid)
        with contextlib.suppress(KeyError, OSError, OverflowError):
            name = pwd.getpwuid(uid).pw_name
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(tell, name)

    # a thread of its own: one that waits for a directory keeps nobody else waiting, and no process from ending
    threading.Thread(target=ask, name="user", daemon=True).start()
    try:
        return await asyncio.wait_for(told, _LOOK_UP_SECONDS)
    except TimeoutError:
        return str(uid)
