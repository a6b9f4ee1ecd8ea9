"""The lifeline between `muster up` and a child: each notices when the other is gone, or hangs.

One socket pair a child. The child reads it: its end means that the supervisor went, however it went. The child writes a
beat into it every few seconds, from its main loop: silence means that this hangs, and the supervisor ends it.
"""

import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket

BEAT_SECONDS: Final = 5.0


def watch_lifeline(
    ended: Callable[[], None],
    env: Mapping[str, str] | None = None,
    *,
    ask: Callable[[Callable[[], None]], None] | None = None,
) -> None:
    """Call `ended`, from a thread, when the supervisor's end closes. Nothing without a supervisor.

    `ask` is called from that thread every few seconds, and has the process's main loop call what it is given: a loop
    that hangs does not, and the supervisor notices. None for a process that does not show that it is well.
    """
    env = os.environ if env is None else env
    text = env.get("MUSTER_LIFELINE_FD", "")
    if not text.isdigit():
        return
    import select
    import socket

    try:
        line = socket.socket(fileno=int(text))
    except OSError:
        return  # set by hand, or left over: nobody holds the other end
    line.set_inheritable(False)

    def beat() -> None:
        try:
            line.send(b"\0", socket.MSG_DONTWAIT)
        except OSError:  # nobody reads: the supervisor was stopped for long, or is gone
            return

    def wait() -> None:
        poller = select.poll()
        poller.register(line, select.POLLIN)
        while True:
            if ask is not None:
                ask(beat)
            if poller.poll(BEAT_SECONDS * 1000 if ask is not None else None) and not _read(line):
                break
        ended()

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


def _read(line: "socket.socket") -> bytes:
    try:
        return line.recv(1)
    except OSError:  # it closed with beats unread
        return b""
