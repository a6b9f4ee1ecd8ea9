"""Who is at the other end of a unix socket, by the kernel's word: its user, and the service or container it runs in.

Source: unix(7), SO_PEERCRED; systemd, CGROUP_DELEGATION; cgroups(7).
"""

import re
import socket
import struct
from pathlib import Path
from typing import Final

import msgspec

_CREDENTIALS: Final = struct.Struct("3i")
_UNIT: Final = re.compile(r"(?P<name>[^/]{1,200})\.service\Z")
_CONTAINER: Final = re.compile(r"(?:[a-z-]+-)?(?P<id>[0-9a-f]{12})[0-9a-f]{52}(?:\.scope)?\Z")
_USERS: Final = "user.slice"


class Peer(msgspec.Struct, frozen=True):
    """One who pushes."""

    name: str
    """What its rows are filed under: `service:NAME` for a service of systemd, `container:ID`, else `user:NAME`."""
    user: str
    """Its user's name in this machine's `/etc/passwd`, else its number."""
    uid: int


def peer_of(sock: socket.socket, root: Path = Path("/")) -> Peer:
    """Tell who connected. Raises OSError when the socket is not connected.

    The user is the kernel's word. Service and container are where that process is now: told for order, not for safety.
    A process may move within what its user was given: to another service of that user, or, in a service with
    `Delegate=yes`, to a cgroup that it has called after a container.
    """
    pid, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    user = user_name(uid, root)
    return Peer(place_of(pid, root) or f"user:{user}", user, uid)


def place_of(pid: int, root: Path = Path("/")) -> str:
    """Give the service or container in which a process runs; "" when it is in neither, or nobody knows."""
    try:
        lines = (root / f"proc/{pid}/cgroup").read_text(errors="replace").splitlines() if pid > 0 else []
    except OSError:
        return ""
    for line in lines:
        hierarchy, _, path = line.partition(":")
        controllers, _, path = path.partition(":")
        if hierarchy == "0" or controllers == "name=systemd":
            return _place(path)
    return ""


def _place(path: str) -> str:
    parts = path.strip("/").split("/")
    if parts[0] == _USERS:  # what runs below is the user's, and so are the names there
        return ""
    for part in reversed(parts):
        if container := _CONTAINER.match(part):
            return f"container:{container['id']}"
    for part in parts:
        if (unit := _UNIT.match(part)) and part.isprintable():
            return f"service:{unit['name']}"
    return ""


def user_name(uid: int, root: Path = Path("/")) -> str:
    """Give a user's name; its number where this machine does not know it. No directory is asked: it may hang."""
    try:
        lines = (root / "etc/passwd").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        words = line.split(":")
        if len(words) > 3 and words[2] == str(uid) and words[0].isprintable():
            return words[0][:64]
    return str(uid)
