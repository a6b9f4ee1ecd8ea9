"""A real systemd, as a user's manager with units of the test's own, in a mount namespace of its own. Needs root."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

PROGRAM: Final = Path("/lib/systemd/systemd")
_BEGIN: Final = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && exec {} --user --log-target=null"
"""It starts only where systemd runs the machine: that is what this folder says, and nobody else sees it."""


def missing() -> str:
    """Give what keeps it from running here; "" when it can."""
    if os.geteuid() != 0:
        return "a mount namespace needs root"
    if not PROGRAM.is_file() or shutil.which("systemctl") is None or shutil.which("unshare") is None:
        return "systemd is not installed"
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "mount namespaces are not allowed here"


class RealSystemd:
    """Runs while the block runs; `root` is where the collector finds it."""

    def __init__(self, folder: Path, units: dict[str, str]) -> None:
        """`units`: by name, what stands in the section [Service]."""
        self.root = folder / "root"
        self._runtime = folder / "xdg"
        self._units = folder / "units"
        for path in (self.root / "run/systemd/system", self._runtime, self._units):
            path.mkdir(parents=True)
        self._runtime.chmod(0o700)
        for name, text in units.items():
            (self._units / name).write_text(
                f"[Unit]\nDefaultDependencies=no\nStartLimitIntervalSec=0\n[Service]\n{text}\n"
            )
        (self._units / "default.target").write_text("[Unit]\nDefaultDependencies=no\n")
        (self._units / "exit.target").write_text("[Unit]\nDefaultDependencies=no\n")
        self.socket = self._runtime / "systemd/private"
        (self.root / "run/systemd/private").symlink_to(self.socket)
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(self._runtime),
            "SYSTEMD_UNIT_PATH": str(self._units),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = ["unshare", "--mount", "sh", "-c", _BEGIN.format(PROGRAM)]
        self._process = subprocess.Popen(command, env=self._environment)
        end = time.monotonic() + 60
        while not self._listens():
            assert time.monotonic() < end, "systemd did not start"
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        for name in self._units.glob("*.service"):
            self.ask("stop", name.name)
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as tried, contextlib.suppress(OSError):
            tried.connect(str(self.socket))
            return True
        return False

    def ask(self, *words: str) -> str:
        """Run `systemctl --user`."""
        done = subprocess.run(["systemctl", "--user", *words], env=self._environment, capture_output=True, text=True,
                              timeout=60, check=False)  # fmt: skip
        return done.stdout.strip()
