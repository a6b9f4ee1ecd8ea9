"""A real journald of the tests' own: its sockets, its journal and nothing of this machine's, in a folder.

It runs as one of journald's namespaces in a mount namespace, and so neither sees nor disturbs the journal of the
machine. What it writes is read by the real `journalctl`.

Source: systemd-journald.service(8), "Journal namespaces"; systemd's "Native Journal Protocol".
"""

import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.collectors.syslog.harness import PATIENCE
from tests.needs import unmet

_PLACES: Final = ("/usr/lib/systemd/systemd-journald", "/lib/systemd/systemd-journald")
_INSIDE: Final = (
    'mount --bind "$0/run" /run && mount --bind "$0/log" /var/log && mount --bind "$0/empty" /etc/systemd && '
    'exec "$1" muster'
)


class Journald:
    """`with Journald(folder) as journald:` has one running."""

    def __init__(self, folder: Path) -> None:
        program = next((place for place in _PLACES if Path(place).exists()), "")
        if not program or shutil.which("journalctl") is None or shutil.which("unshare") is None:
            unmet("there is no systemd-journald, journalctl or unshare; install systemd and util-linux")
        self._program = program
        self._folder = folder
        for name in ("run/systemd", "log/journal", "empty"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.directory = Path()
        """The folder of the journal's files."""
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        # As root, or as root of a user namespace of our own.
        more = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        self._process = subprocess.Popen(
            ["unshare", *more, "--mount", "sh", "-c", _INSIDE, str(self._folder), self._program],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        until = time.monotonic() + PATIENCE
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > until:
                self.__exit__(None, None, None)
                unmet(f"systemd-journald does not run in a mount namespace here: {self._said!r}")
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE)
        self._process.kill()
        self._process.wait()
        assert self._process.stderr is not None
        self._said = self._process.stderr.read().decode(errors="replace").strip()
        self._process.stderr.close()
        self._process = None

    _said = ""

    def _ready(self) -> bool:
        """Tell whether there are sockets, and a record to read: who opens a file that is being made sees none."""
        for found in (self._folder / "log/journal").glob("*/system.journal"):
            self.directory = found.parent
        return self._socket("socket").exists() and bool(self.directory.name) and bool(self.records())

    def records(self) -> list[bytes]:
        """Give what another reader finds in the journal: a line of JSON each."""
        command = ["journalctl", "--output=json", "--no-tail", "--quiet", f"--directory={self.directory}"]
        return subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False).stdout.splitlines()

    def _socket(self, name: str) -> Path:
        return self._folder / "run/systemd/journal.muster" / name

    def syslog(self, *messages: bytes) -> None:
        """Let programs log as the C library does."""
        self._send("dev-log", messages)

    def native(self, *records: dict[str, bytes]) -> None:
        """Let programs log in journald's own protocol: any fields, any bytes. A `+` after a name repeats the field."""
        self._send(
            "socket",
            [
                b"".join(b"%s\n%s%s\n" % (name.rstrip("+").encode(), struct.pack("<Q", len(value)), value)
                         for name, value in record.items())
                for record in records
            ],
        )  # fmt: skip

    def _send(self, name: str, datagrams: "list[bytes] | tuple[bytes, ...]") -> None:
        path = self._socket(name)
        folder = os.open(path.parent, os.O_PATH)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.connect(f"/proc/self/fd/{folder}/{path.name}")  # the path itself may be longer than sockets take
                for datagram in datagrams:
                    sock.sendall(datagram)
        finally:
            os.close(folder)

    def rotate(self) -> None:
        """Have journald begin a new file, and wait until it has."""
        assert self._process is not None
        before = set(self.directory.iterdir())
        os.kill(self._process.pid, signal.SIGUSR2)
        until = time.monotonic() + PATIENCE
        current = self.directory / "system.journal"
        while set(self.directory.iterdir()) == before or not current.exists():
            assert time.monotonic() < until, "journald does not rotate"
            time.sleep(0.02)

    def vacuum(self) -> None:
        """Remove all but the newest file, as journald itself does when its space is used up."""
        for path in self.directory.glob("system@*"):
            path.unlink()
