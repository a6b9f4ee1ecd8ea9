"""What a process tells systemd of itself: that it is ready, and every few seconds that its main loop runs.

With `Type=notify` systemd starts what needs the service once it is ready; with `WatchdogSec=` it ends one that hangs,
and starts it again. Under any other supervisor nothing of this happens.

Source: sd_notify(3), sd_watchdog_enabled(3).
"""

import os
import threading
from collections.abc import Callable, Mapping
from typing import Final

_SHORTEST: Final = 0.1
"""Seconds between two words, whatever `WatchdogSec=` asks."""


def say_ready(
    ask: Callable[[Callable[[], None]], None],
    env: Mapping[str, str] | None = None,
    *,
    over: threading.Event | None = None,
) -> None:
    """Say that this process is ready, and from then on that it is well, as often as systemd wants to hear it.

    `ask` is called from here and, for the watchdog, from a thread until `over` is set. It has the process's main loop
    call what it is given, so a loop that hangs says nothing. Nothing without systemd.
    """
    env = os.environ if env is None else env
    address = env.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    ask(lambda: _say(address, b"READY=1"))
    period = _period(env)
    if period is not None:
        over = over or threading.Event()
        threading.Thread(target=_repeat, args=(ask, address, period, over), name="watchdog", daemon=True).start()


def _period(env: Mapping[str, str]) -> float | None:
    """Give the seconds between two words: half of what systemd waits; None where it does not, or not for us."""
    text, ours = env.get("WATCHDOG_USEC", ""), env.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
    if not (ours and text.isascii() and text.isdigit() and int(text)):
        return None
    return max(int(text) / 2e6, _SHORTEST)


def _repeat(ask: Callable[[Callable[[], None]], None], address: str, period: float, over: threading.Event) -> None:
    while not over.wait(period):
        ask(lambda: _say(address, b"WATCHDOG=1"))


def _say(address: str, word: bytes) -> None:
    import socket

    name = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(word, socket.MSG_DONTWAIT, name)
    except OSError:  # systemd is being executed anew, or does not keep up: the next word comes soon
        return
