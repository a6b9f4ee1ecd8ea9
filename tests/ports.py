"""Ports on loopback for servers that tests start in other processes."""

import itertools
import os
import random
import socket
from typing import Final

FIRST: Final = 12_000
END: Final = 32_000
"""Below the ports that Linux gives to outgoing connections (32768 on), so that none of them takes one meanwhile."""
WORKERS: Final = 8
"""Workers of pytest-xdist beside one another, each with ports of its own: no two of them are given the same one."""

_share = (END - FIRST) // WORKERS
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
_numbers = itertools.count(random.randrange(_share))


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Give a port on 127.0.0.1 that nobody uses now, and that this process was not given before."""
    for number in itertools.islice(_numbers, _share):
        port = FIRST + _worker * _share + number % _share
        with socket.socket(socket.AF_INET, kind) as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no port is free between {FIRST} and {END}")
