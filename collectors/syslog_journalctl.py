"""`journalctl` as a child: what it is asked, and its lines.

Source: journalctl(1).
"""

import contextlib
import logging
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from collectors.syslog_journal_entry import FIELDS
from schemas.errors import NoDataError, StartupError

SOURCE: Final = "journald"
_PLACES: Final = ("usr/bin/journalctl", "bin/journalctl", "run/current-system/sw/bin/journalctl")
_JOURNALS: Final = ("var/log/journal", "run/log/journal")
_READ: Final = 1 << 16
_TAIL: Final = 4096
_SAID: Final = 500
_END: Final = 1.0
"""How long a child may take to end when it is told to, in seconds; it is killed after that."""
_CURSOR: Final = re.compile(r"[A-Za-z0-9=;-]{1,512}")


class Where(msgspec.Struct, frozen=True):
    """Which journal is read, from where on."""

    root: Path
    directory: str = ""
    """A folder of journal files; empty: this machine's own journal."""
    begin: Literal["now", "boot"] = "now"
    """Where the first start begins."""
    kernel: bool = True
    """Take the kernel's records as well."""

    @property
    def source(self) -> str:
        """What positions are kept under."""
        return f"{SOURCE}:{self.directory}" if self.directory else SOURCE

    def resume(self, positions: Mapping[str, str]) -> str:
        """Give the cursor of the last record that was taken; "" when there is none, or what is kept is no cursor."""
        cursor = positions.get(self.source, "")
        return cursor if _CURSOR.fullmatch(cursor) else ""

    def program(self) -> str:
        """Give the path of journalctl. Raises NoDataError where there is none, or no journal."""
        program = next((str(self.root / place) for place in _PLACES if os.access(self.root / place, os.X_OK)), "")
        if not program:
            raise NoDataError(f"there is no journalctl under {self.root}: install systemd, or set journald = false")
        folders = [Path(self.directory)] if self.directory else [self.root / place for place in _JOURNALS]
        if not any(folder.is_dir() for folder in folders):
            named = " or ".join(map(str, folders))
            raise NoDataError(
                f"there is no journal in {named}: systemd-journald does not run here; set journald = false, or "
                "journald_directory where the journal of another machine or of a container's host is"
            )
        return program

    def command(self, cursor: str, *, follow: bool) -> list[str]:
        """Give the command that reads the journal from `cursor` on, that record included. Raises NoDataError."""
        begin = {"now": ["--lines=1"], "boot": ["--boot", "--no-tail"]}[self.begin]
        return [
            self.program(),
            *(["--follow"] if follow else []),
            "--output=json",
            "--all",  # without it a field above 4096 bytes is null
            f"--output-fields={','.join(FIELDS)}",
            *([f"--directory={self.directory}"] if self.directory else []),
            *([f"--cursor={cursor}", "--no-tail"] if cursor else begin),
        ]


class Follower:
    """A running child. Its output is read without waiting; what it complains of is kept."""

    def __init__(self, command: list[str], log: logging.Logger) -> None:
        """Start it. Raises StartupError."""
        import subprocess  # noqa: TID251 - the one program that reads every version of the journal's files

        try:
            # It needs no word of this process's environment, and speaks English to whoever reads its complaints.
            self._process = subprocess.Popen(  # noqa: S603 - a fixed program and words that were checked, and no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"LC_ALL": "C", "SYSTEMD_COLORS": "0"},
            )
        except OSError as error:
            raise StartupError(f"{command[0]} cannot be run: {error.strerror}") from None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self.output: Final = self._process.stdout.fileno()
        self.errors: Final = self._process.stderr.fileno()
        for descriptor in (self.output, self.errors):
            os.set_blocking(descriptor, False)
        self.began: Final = time.monotonic()
        """In monotonic seconds."""
        self.said = ""
        """What it complained of last."""
        self._log = log
        self._closed = False

    def read(self) -> bytes:
        """Give some of its output; b"" when there will be no more. Raises BlockingIOError when there is none now."""
        if self._closed:  # both its descriptors were found ready, and the other one was read before
            raise BlockingIOError
        return os.read(self.output, _READ)

    def hear(self) -> bool:
        """Take what it complains of, the first time for the log; False when there will be no more."""
        if self._closed:
            return True
        try:
            data = os.read(self.errors, _READ)
        except BlockingIOError:
            return True
        text = " ".join(data.decode("utf-8", "backslashreplace").split())[:_SAID]
        if text and not self.said:
            self._log.warning("journalctl says: %s", text)
        self.said = text or self.said
        return bool(data)

    def ended(self) -> str:
        """Wait for the end of a child whose output has ended, and give in words how it ended; "" when all is well."""
        with contextlib.suppress(OSError):
            self.hear()
        status = self.close(tell=False)
        if not status:
            return ""
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        return f"{how}: {self.said}" if self.said else how

    @property
    def killed(self) -> bool:
        """A signal ended it."""
        return (self._process.returncode or 0) < 0

    def close(self, *, tell: bool = True) -> int:
        """End it, and give its status: below 0 the signal that ended it. Safe twice."""
        import subprocess  # noqa: TID251 - as above

        process, self._closed = self._process, True
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        if tell:
            process.terminate()
        try:
            return process.wait(_END)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


class Lines:
    """Cuts output into lines. Of one above `limit` bytes the beginning and the end are given."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pending = bytearray()
        self._cut = False

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        """Take what was read; give each line that is complete now, without its end, and whether it is whole."""
        first, *others = data.split(b"\n")
        self._grow(first)
        for part in others:
            yield bytes(self._pending), not self._cut
            self._pending.clear()
            self._cut = False
            self._grow(part)

    def _grow(self, part: bytes) -> None:
        self._pending += part
        if len(self._pending) > self._limit + 2 * _TAIL:
            self._cut = True
            del self._pending[self._limit : -_TAIL]
