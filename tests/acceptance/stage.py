"""What acceptance scripts and fault tests stand on: a Muster of their own, started as users start it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import psutil

from collectors.transport import Transport, TransportError
from tests.acceptance.commands import commands
from tests.ports import free_port

T = TypeVar("T")

PATIENCE: Final = 60.0
"""Seconds to wait for what comes at once: a limit costs nothing when it does, and machines may be busy."""


class FailedError(AssertionError):
    """The script did not show what it is named after."""


def until(what: str, condition: Callable[[], T | None], seconds: float = PATIENCE) -> T:
    """Wait for something true and give it; fail, naming it, when it does not come."""
    deadline = time.monotonic() + seconds
    pause = 0.02
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise FailedError(f"waited {seconds:g} s in vain for {what}; last seen: {found!r}")
        time.sleep(pause)
        pause = min(1.5 * pause, 0.25)  # who asks all the time takes the processor from what is waited for


def say(step: str) -> None:
    """Tell the reader what was just shown."""
    sys.stdout.write(f"ok  {step}\n")
    sys.stdout.flush()


def check(condition: object, claim: str) -> None:
    """Fail unless a claim holds; say it when it does."""
    if not condition:
        raise FailedError(claim)
    say(claim)


class Muster:
    """One `muster up`, or its parts apart, on a folder and a port of its own."""

    def __init__(self, folder: Path, config: str = "", env: dict[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.data_dir = folder / "data"
        self.port = free_port()
        self.config = folder / "muster.toml"
        self.config.write_text(config)
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("MUSTER_")}
        self.env |= {
            "MUSTER_DATA_DIR": str(self.data_dir),
            "MUSTER_LISTEN": f"127.0.0.1:{self.port}",
            "MUSTER_CONFIG": str(self.config),
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),  # this tree, whatever else is installed
            **(env or {}),
        }
        self.python = sys.executable
        """What runs it; a bench may name the interpreter of another environment."""
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.log_path = folder / "log.txt"

    @property
    def address(self) -> str:
        """The address over the network."""
        return f"http://127.0.0.1:{self.port}"

    def start(
        self, name: str, *arguments: str, env: dict[str, str] | None = None, program: str = ""
    ) -> "subprocess.Popen[bytes]":
        """Start `agent`, or `up`, `aggregator` by that word of the command line; or else the module `program`."""
        module = ["collectors.main"] if name.startswith("agent") else ["aggregator.cli", name]
        module = [program] if program else module
        with self.log_path.open("ab") as log:
            process = subprocess.Popen(
                [self.python, "-P", "-m", *module, *arguments],
                env=self.env | (env or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        self.processes[name] = process
        return process

    def ready(self, seconds: float = PATIENCE) -> None:
        """Wait until the aggregator is ready."""
        until("the aggregator to be ready", self._is_ready, seconds)

    def _is_ready(self) -> bool:
        transport = Transport([f"unix://{self.data_dir / 'muster.sock'}"])
        try:
            return transport.request("GET", "/readyz", None).status == 200
        except TransportError:
            return False
        finally:
            transport.close()

    def run(self, *arguments: str, env: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
        """Run one command of `muster` to its end."""
        return commands().run(arguments, self.env | (env or {}), self.folder, 180)

    def ask(self, *arguments: str) -> Any:
        """Run one command and give its JSON. Fails when the command does."""
        done = self.run(*arguments, "-o", "json")
        if done.returncode != 0:
            raise FailedError(f"muster {' '.join(arguments)}: {done.stderr or done.stdout}")
        return json.loads(done.stdout)

    def rows(self, measurement: str, *more: str) -> list[dict[str, Any]]:
        """Query, and give rows as dictionaries."""
        result = self.ask("query", measurement, *more)
        names = [column["name"] for column in result["columns"]]
        return [dict(zip(names, values, strict=True)) for values in zip(*result["data"], strict=True)]

    def balance(self, wait: float = 0.0) -> dict[str, Any]:
        """Give the balance, after it has settled if `wait` says so. Fails when rows are missing."""
        result: dict[str, Any] = self.ask("balance", *(["--wait", f"{wait:g}"] if wait else []))
        return result

    def family(self, name: str = "up") -> list[psutil.Process]:
        """Give every process under a program that was started, itself first."""
        top = psutil.Process(self.processes[name].pid)
        return [top, *top.children(recursive=True)]

    def child(self, module: str, name: str = "up") -> psutil.Process:
        """Give the child of the supervisor that runs `module`."""

        def find() -> psutil.Process | None:
            for process in psutil.Process(self.processes[name].pid).children():
                try:
                    if module in process.cmdline():
                        return process
                except psutil.Error:
                    continue
            return None

        return until(f"a process that runs {module}", find)

    def stop(self, name: str | None = None, number: int = signal.SIGTERM, seconds: float = PATIENCE) -> None:
        """End one program, or all of them; SIGKILL when it does not end by itself, which fails."""
        for one in [name] if name else list(self.processes):
            process = self.processes.pop(one)
            if process.poll() is not None:
                continue
            family = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(number)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise FailedError(f"{one} did not end within {seconds:g} s of signal {number}") from None
            finally:
                _, alive = psutil.wait_procs(family, timeout=20)
                for child in alive:
                    child.kill()

    def log(self) -> str:
        """Give what the programs wrote."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""


@contextmanager
def stage(folder: Path, config: str = "", env: dict[str, str] | None = None) -> Iterator[Muster]:
    """Give a Muster, and end all of it afterwards; what it logged is shown when the script fails."""
    muster = Muster(folder, config, env)
    try:
        yield muster
    except BaseException:
        sys.stderr.write(muster.log()[-6000:])
        raise
    finally:
        muster.stop()


def main(script: Callable[[Path], None], argv: Sequence[str] | None = None) -> int:
    """Run a script in a folder of its own; 0 when it showed what it is named after."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="muster-acceptance-") as folder:
        try:
            script(Path(folder))
        except FailedError as error:
            sys.stderr.write(f"FAILED  {error}\n")
            return 1
    return 0
