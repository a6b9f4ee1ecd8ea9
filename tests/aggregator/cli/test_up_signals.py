"""What `muster up` makes of SIGHUP: its configuration changed, or its terminal has gone."""

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios

import pytest

from tests.needs import REPOSITORY

pytestmark = pytest.mark.usefixtures("hangs_up")

STOPPED, RELOADED, NEITHER = 3, 4, 5
PROGRAM = f"""
import signal, sys, time
{{before}}
from aggregator.cli.up import _Signals
signals = _Signals()
sys.stderr.write("ready\\n")
sys.stderr.flush()
deadline = time.monotonic() + {{seconds}}
while time.monotonic() < deadline and not (signals.stop or signals.reload):
    time.sleep(0.02)
sys.exit({STOPPED} if signals.stop else {RELOADED} if signals.reload else {NEITHER})
"""


def begin(terminal: int | None, before: str = "", seconds: float = 30) -> "subprocess.Popen[bytes]":
    """Start the program in a session of its own, with this terminal or with none, and wait for its handlers."""

    def take_terminal() -> None:
        if terminal is not None:
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [sys.executable, "-P", "-c", PROGRAM.format(before=before, seconds=seconds)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL if terminal is None else terminal,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=take_terminal,  # noqa: PLW1509  # no thread is running here
    )
    assert process.stderr is not None
    assert b"ready\n" == process.stderr.readline()
    return process


def test_without_a_terminal_it_means_to_read_the_configuration_again() -> None:
    with begin(None) as process:
        process.send_signal(signal.SIGHUP)
        assert RELOADED == process.wait(30)


def test_on_a_terminal_that_is_there_likewise_and_when_it_goes_it_means_to_end() -> None:
    for goes, expected in ((False, RELOADED), (True, STOPPED)):
        ours, theirs = pty.openpty()
        process = begin(theirs)
        os.close(theirs)
        with process:
            if goes:
                os.close(ours)  # the kernel sends it
            else:
                process.send_signal(signal.SIGHUP)
            assert expected == process.wait(30)
        if not goes:
            os.close(ours)


def test_where_it_is_ignored_it_stays_ignored() -> None:
    """As `nohup` has it."""
    with begin(None, "signal.signal(signal.SIGHUP, signal.SIG_IGN)", 0.5) as process:
        process.send_signal(signal.SIGHUP)
        assert NEITHER == process.wait(30)
