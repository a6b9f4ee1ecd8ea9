"""Runs the operator's hook: a program in a process group of its own, with a deadline, its output bounded.

Runs in a step's own process, which has one thread. The hook dies with it, and with the agent.
"""

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess  # noqa: TID251 - the operator's own hooks, by the agent's configuration alone
import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from collectors.claims.options import Hook

_GRACE_SECONDS: Final = 0.5
"""How long output is read of what a hook left behind."""
_PR_SET_PDEATHSIG: Final = 1


class Outcome(msgspec.Struct, frozen=True):
    """How a hook ended."""

    problem: str
    """ "" when it ended with status 0."""
    output: str
    """The end of what it wrote."""


def run_hook(
    hook: Hook,
    environment: Mapping[str, str],
    output_bytes: int,
    *,
    lifeline: int = -1,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Run a hook to its end, its deadline, or the end of `lifeline` (a descriptor whose other end closes)."""
    try:
        process = subprocess.Popen(  # noqa: S603 - the operator's own words, and no shell
            hook.run,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - this process has one thread
        )
    except OSError as error:
        return Outcome(f"{hook.run[0]} cannot be run: {error.strerror or error}", "")
    assert process.stdout is not None
    with process:
        output, why = _follow(process, process.stdout.fileno(), hook, output_bytes, lifeline, clock)
        if why:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        status = process.wait()
    # what it started in its own group must not go on alone
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    text = output.decode("utf-8", "replace").strip()
    if not why and status:
        why = f"signal {-status}" if status < 0 else f"exit status {status}"
    last = text.rpartition("\n")[2]
    return Outcome(f"{why}{': ' + last if last else ''}" if why else "", text)


def _follow(
    process: "subprocess.Popen[bytes]",
    out: int,
    hook: Hook,
    most: int,
    lifeline: int,
    clock: Callable[[], float],
) -> tuple[bytes, str]:
    """Read until it ends; give the end of its output, and why it has to be killed."""
    deadline = clock() + hook.timeout_seconds
    ended: float | None = None
    output = b""
    with selectors.DefaultSelector() as selector:
        selector.register(out, selectors.EVENT_READ)
        if lifeline >= 0:
            selector.register(lifeline, selectors.EVENT_READ)
        while True:
            now = clock()
            if ended is None and process.poll() is not None:
                ended = now  # somebody it left behind may hold its output open
            if ended is not None and now >= ended + _GRACE_SECONDS:
                return output, ""
            if now >= deadline:
                return output, "" if ended is not None else f"did not end within {hook.timeout_seconds:g} s"
            for key, _ in selector.select(min(0.05, deadline - now)):
                if key.fd == lifeline:
                    return output, "the agent ended"
                data = os.read(out, 65536)
                output = (output + data)[-most:] if most else b""
                if not data:
                    selector.unregister(out)
                    ended = now - _GRACE_SECONDS if process.poll() is not None else ended
            if out not in selector.get_map():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.02)
                    return output, ""


def _die_with_parent() -> None:
    """Have the kernel kill the hook when this process ends, however it does. Source: prctl(2)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
