"""A unix socket that nobody can open before somebody listens, and then only those who may."""

import errno
import os
import socket
import stat
from pathlib import Path

_BACKLOG = 8


def listen(path: Path, *, mode: int = 0o600, group: int = -1, backlog: int = _BACKLOG) -> socket.socket:
    """Give a listening stream socket at `path`, for its owner alone unless `mode` and `group` (-1: ours) say otherwise.

    The path appears once somebody listens, so that whoever sees it is not refused. A socket that is there was left
    behind, by whoever had the folder before. Raises OSError, FileExistsError for a file that is no socket.
    """
    if path.exists() and not stat.S_ISSOCK(path.lstat().st_mode):
        raise FileExistsError(errno.EEXIST, "there is a file there that is no socket", str(path))
    unready = path.with_suffix(".new")
    unready.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old = os.umask(0o177)
    try:
        listener.bind(str(unready))
        if group >= 0:
            os.chown(unready, -1, group)
        if mode != 0o600:
            unready.chmod(mode)
        listener.listen(backlog)
        unready.rename(path)
    except OSError:
        listener.close()
        unready.unlink(missing_ok=True)
        raise
    finally:
        os.umask(old)
    return listener
