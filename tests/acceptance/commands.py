"""Commands of `muster`, run to their end in forks of a process that has imported the command line.

Scripts ask until something is there. An interpreter with its imports costs ten times what the command does, and takes
the processor from the Muster that is asked. Everything else is as when a user runs it: a process of its own with
its arguments, environment and folder, which ends with an exit status.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final, NoReturn

_LARGEST: Final = 1 << 17
"""Bytes of a request: arguments and environment."""
_COMMON: Final = ("query", "balance", "devices", "claims", "clean", "nodes", "place", "collectors", "token")
"""Commands that are imported beforehand: what scripts ask most."""
_LATER: Final = ("aggregator.cli.client", "aggregator.cli.render", "http.client", "encodings.idna", "schemas.errors")
"""What commands import when they come to it."""
_starting: Final = threading.Lock()


class Commands:
    """A process that becomes commands, in forks. It ends with whoever started it."""

    def __init__(self) -> None:
        """Start it."""
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tests.acceptance.commands", str(theirs.fileno())],
                env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                cwd="/",
            )

    def close(self) -> None:
        """End it. Safe twice."""
        self._channel.close()
        self._process.wait()

    def run(
        self, arguments: Sequence[str], env: Mapping[str, str], folder: Path, seconds: int
    ) -> "subprocess.CompletedProcess[str]":
        """Run one command to its end; from any thread. Raises TimeoutExpired when that takes longer: it is killed."""
        request = json.dumps([arguments, dict(env), str(folder), seconds]).encode()
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            ours, theirs = socket.socketpair()
            with ours:
                with theirs:
                    socket.send_fds(self._channel, [request], [theirs.fileno(), output.fileno(), errors.fileno()])
                answer = ours.recv(16)
            texts = []
            for file in (output, errors):
                file.seek(0)
                texts.append(file.read().decode())
        command = ["muster", *arguments]
        if not answer:
            raise RuntimeError(f"{' '.join(command)} was not run: the process that runs commands is gone")
        status = int(answer)
        if status == -signal.SIGALRM:
            raise subprocess.TimeoutExpired(command, seconds, *texts)
        return subprocess.CompletedProcess(command, status, *texts)


def commands() -> Commands:
    """Give the one of this process, started when it is first asked for."""
    with _starting:
        return _started()


@cache
def _started() -> Commands:
    started = Commands()
    atexit.register(started.close)
    return started


def serve(channel: socket.socket) -> None:
    """Run what is asked for, each in a process of its own, until nobody can ask any more."""
    from aggregator import cli

    for module in (*(cli.COMMANDS[name].module for name in _COMMON), *_LATER):
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait for the commands
    while True:
        request, files, _, _ = socket.recv_fds(channel, _LARGEST, 3)
        if not request:
            return
        if os.fork():
            for file in files:
                os.close(file)
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        channel.close()
        _tell_its_end(request, *files)


def _tell_its_end(request: bytes, told: int, output: int, errors: int) -> NoReturn:
    """Fork the command, and tell its exit status."""
    command = os.fork()
    if not command:
        os.close(told)
        _become(request, output, errors)
    _, status = os.waitpid(command, 0)
    os.write(told, str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(request: bytes, output: int, errors: int) -> NoReturn:
    """Run the command in this process, as `python -m aggregator.cli` does."""
    from aggregator.cli import main

    arguments, env, folder, seconds = json.loads(request)
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    sys.argv[1:] = arguments
    signal.alarm(seconds)
    sys.exit(main())


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as _channel, contextlib.suppress(KeyboardInterrupt):
        serve(_channel)
