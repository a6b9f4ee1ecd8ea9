"""A unix socket that only its owner can open, in a folder that is the process's alone."""

import os
import socket
from pathlib import Path

_BACKLOG = 8


def listen(path: Path) -> socket.socket:
    """Give a listening stream socket at `path`, of mode 0600; a socket that is there was left behind. Raises OSError.

    The path appears once somebody listens, so that whoever sees it is not refused.
    """
    unready = path.with_suffix(".new")
    unready.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old = os.umask(0o177)
    try:
        listener.bind(str(unready))
        listener.listen(_BACKLOG)
        unready.rename(path)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(old)
    return listener
