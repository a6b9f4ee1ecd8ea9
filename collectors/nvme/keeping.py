"""What outlives the process: how each drive was when it was last seen, and which was being asked when it ended.

So what happened while no agent ran is told by the next one, and a drive that hangs its reader does not hang the next
reader too, which would cost the rows of all other drives.
"""

import contextlib
import os
from pathlib import Path
from typing import Final

import msgspec

from collectors._durable import SmallFile
from collectors._procfs import read_text
from collectors._untold import Untold

_FILE: Final = "seen.json"
_MARK: Final = "asked"
_BOOT: Final = "proc/sys/kernel/random/boot_id"
_MARK_BYTES: Final = 128
_HUNG_S: Final = 60
"""So long a drive that hung its reader is left alone the first time; then twice as long each time, up to an hour."""
_MOST_HUNG_S: Final = 3600


class Seen(msgspec.Struct):
    """A drive as it was. None for what was never told."""

    address: str
    serial: str
    firmware: str = ""
    state: str = ""
    warning: int | None = None
    media_errors: int | None = None
    spare_percent: int | None = None
    heat: int = 0
    """0 within its limits, 1 from the warning temperature on, 2 from the critical one on."""
    errors: int | None = None
    """Number of the newest entry of the error log."""
    self_test: str | None = None
    """The newest self-test: `<kind> <result> <hours>`; "" when none ever ran."""
    sanitize: str = ""
    namespaces: dict[str, tuple[int, str]] | None = None
    """By number: sectors and format."""


class Hung(msgspec.Struct):
    """A drive whose reader did not come back."""

    times: int
    until_ns: int
    """Wall time from which on it is asked again."""


class Kept(msgspec.Struct):
    """The file's content."""

    boot: str = ""
    drives: dict[str, Seen] = {}
    """By device id."""
    hung: dict[str, Hung] = {}
    """By device id; forgotten with the boot."""


class Keep:
    """The file of one collector; without a folder nothing outlives the process."""

    def __init__(self, folder: Path | None, root: Path, found: Untold) -> None:
        """Read what the process before left. `found`: the events that are not handed on yet."""
        self._folder = folder
        self._found = found
        self._mark = -1
        self.kept = self._load()
        self.first = not self.kept.boot
        """Whether no process kept anything here before: then no drive is new."""
        self._file = SmallFile(None if folder is None else folder / _FILE, msgspec.json.encode(self.kept))
        boot = read_text(root / _BOOT) or "unknown"
        self.same_boot = self.kept.boot == boot
        if not self.same_boot:
            self.kept.boot, self.kept.hung = boot, {}

    def save(self) -> None:
        """Write what changed, after the events that tell of it: what the disk does not take is found again."""
        if self._found.save():
            self._file.write(msgspec.json.encode(self.kept))

    def asking(self, device: str) -> None:
        """Mark which drive is asked from now on; "" for none. It is one write of a page that is in memory."""
        if self._folder is None:
            return
        with contextlib.suppress(OSError):
            if self._mark < 0:
                self._mark = os.open(self._folder / _MARK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.pwrite(self._mark, device.encode()[:_MARK_BYTES].ljust(_MARK_BYTES), 0)

    def blame(self, now_ns: int) -> tuple[str, Hung, int] | None:
        """Leave alone the drive that the process before was asking when it was ended; None when it asked none.

        Gives the drive, how often it hung, and for how many seconds it is left alone.
        """
        device = "" if self._folder is None else read_text(self._folder / _MARK)
        self.asking("")
        if not device or not self.same_boot:  # with the machine everything was ended
            return None
        hung = self.kept.hung.setdefault(device, Hung(0, 0))
        hung.times += 1
        seconds = min(_MOST_HUNG_S, _HUNG_S << min(hung.times - 1, 10))
        hung.until_ns = now_ns + seconds * 1_000_000_000
        self.save()
        return device, hung, seconds

    def left_alone(self, device: str, now_ns: int) -> bool:
        """Tell whether a drive hung not long ago."""
        hung = self.kept.hung.get(device)
        return hung is not None and now_ns < hung.until_ns

    def close(self) -> None:
        """Close the mark; safe twice."""
        mark, self._mark = self._mark, -1
        if mark >= 0:
            os.close(mark)

    def _load(self) -> Kept:
        if self._folder is None:
            return Kept()
        try:
            return msgspec.json.decode((self._folder / _FILE).read_bytes(), type=Kept)
        except (OSError, msgspec.MsgspecError):
            return Kept()
