"""The sockets that logs come in by: how they are opened, and what the kernel says it dropped on them.

Source: socket(7), udp(7), unix(7), tcp(7).
"""

import contextlib
import errno
import logging
import os
import socket
import stat
import struct
import threading
from pathlib import Path

from collectors.syslog_config import split_address
from schemas.errors import StartupError

_SO_RCVBUFFORCE = 33
_SO_MEMINFO = 55
_DROPS = 8
"""The place of SK_MEMINFO_DROPS in what SO_MEMINFO gives."""
_MEMINFO = struct.Struct("=9I")
_BACKLOG = 128


def open_udp(address: str, buffer_bytes: int, log: logging.Logger) -> socket.socket:
    """Bind a UDP socket. Raises StartupError."""
    sock = _bind(address, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, buffer_bytes)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        granted = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2  # the kernel doubles it for its own use
        if granted < buffer_bytes:
            log.warning(
                "the kernel grants %d of %d bytes of receive buffer on udp %s: raise net.core.rmem_max, "
                "grant CAP_NET_ADMIN, or lower udp_receive_buffer_bytes",
                granted,
                buffer_bytes,
                address,
            )
    return sock


def open_tcp(address: str) -> socket.socket:
    """Listen on a TCP socket. Raises StartupError."""
    return _bind(address, socket.SOCK_STREAM)


def _bind(address: str, kind: socket.SocketKind) -> socket.socket:
    host, port = split_address(address)
    word = "udp" if kind is socket.SOCK_DGRAM else "tcp"
    if host == "localhost":
        host = "127.0.0.1"
    sock: socket.socket | None = None
    try:
        found = socket.getaddrinfo(host or "0.0.0.0", port, type=kind, flags=socket.AI_NUMERICHOST)
        family, _, protocol, _, where = found[0]
        sock = socket.socket(family, kind, protocol)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # an address means what it says
        if kind is socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
        if kind is socket.SOCK_STREAM:
            sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        if sock is not None:
            sock.close()
        raise StartupError(f"cannot listen on {word} {address}: {_reason(error)}") from None
    return sock


def _reason(error: OSError) -> str:
    remedies = {
        errno.EADDRINUSE: "another program listens there; choose another port or stop that program",
        errno.EADDRNOTAVAIL: "this machine does not have that address",
        errno.EACCES: "not permitted; use a port above 1023, or grant CAP_NET_BIND_SERVICE",
    }
    return remedies.get(error.errno or 0, error.strerror or str(error))


def open_unix(path: str, kind: socket.SocketKind, mode: int) -> socket.socket:
    """Make a unix socket at `path`. Raises StartupError.

    A socket file that nobody listens on any more is replaced; one in use, or any other file, is never touched.
    """
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            _remove_stale(path, kind)
            sock.bind(path)
        Path(path).chmod(mode)
        if kind is socket.SOCK_STREAM:
            sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise StartupError(f"cannot make the socket {path}: {error.strerror or error}") from None
    except StartupError:
        sock.close()
        raise
    return sock


def _remove_stale(path: str, kind: socket.SocketKind) -> None:
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise StartupError(f"cannot make the socket {path}: there is a file there that is no socket")
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
            return
        except OSError as error:  # of another kind (EPROTOTYPE), or too busy to answer (EAGAIN): somebody listens
            raise StartupError(f"cannot make the socket {path}: another program uses it ({error.strerror})") from None
    raise StartupError(f"cannot make the socket {path}: another program listens there")


def file_identity(path: str) -> tuple[int, int] | None:
    """Give what tells a file at `path` from a later one there; None when there is none."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def remove_own(path: str, identity: tuple[int, int] | None) -> None:
    """Remove the socket file, unless another has taken its place."""
    if identity is not None and file_identity(path) == identity:
        with contextlib.suppress(OSError):
            Path(path).unlink()


def keep_alive(sock: socket.socket) -> None:
    """Find a dead TCP peer within some five minutes."""
    with contextlib.suppress(OSError):  # the peer is gone already; the next read will tell
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 120)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 30)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 6)


class Drops:
    """Counts what the kernel dropped on a socket because its buffer was full or a checksum was wrong.

    Source: SO_MEMINFO (Linux 4.12), which tells at any time, where SO_RXQ_OVFL tells only with the next message.
    """

    def __init__(self, sock: socket.socket, before: int = 0) -> None:
        """Take what sockets `before` this one dropped."""
        self._sock = sock
        self._seen = 0
        self._total = before
        self._lock = threading.Lock()

    def total(self) -> int | None:
        """Give how many were dropped so far; None where the kernel does not tell."""
        with self._lock:
            try:
                answer = self._sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
                drops = _MEMINFO.unpack(answer)[_DROPS]
            except (OSError, struct.error):  # closed, or an old kernel
                return None
            self._total += (drops - self._seen) & 0xFFFFFFFF  # the kernel counts in 32 bits
            self._seen = drops
            return self._total
