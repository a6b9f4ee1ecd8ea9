"""What outlives the process: which GPUs and partitions there were, and which GPU was being asked when it ended.

Without it a GPU that went while the driver was reloaded would go unsaid, a partition that was made anew under old
numbers would pass for the old one, and a GPU that hangs its reader would hang the next one too.
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
_MARK_BYTES: Final = 64


class Made(msgspec.Struct):
    """A partition, under its numbers."""

    generation: int
    uuid: str
    placement: str
    there: bool = True


class Hung(msgspec.Struct):
    """A GPU whose reader did not come back."""

    times: int
    until_ns: int
    """Wall time from which on it is asked again."""


class Kept(msgspec.Struct):
    """The file's content."""

    boot: str = ""
    driver: str = ""
    gpus: dict[str, str] = {}
    """UUID -> address, as of the last look."""
    partitions: dict[str, Made] = {}
    """`<UUID of the GPU>/<GPU instance>/<compute instance>` -> what was made there last."""
    hung: dict[str, Hung] = {}
    """By UUID."""


class Keep:
    """The file of one collector; without a folder nothing outlives the process."""

    def __init__(self, folder: Path | None, root: Path, found: Untold) -> None:
        """Read what the process before left. `found`: the events that are not handed on yet."""
        self._folder = folder
        self._found = found
        self._mark = -1
        self.boot = read_text(root / _BOOT)
        self.kept = self._load()
        self.before = msgspec.structs.replace(self.kept)
        """As it was found."""
        self._file = SmallFile(None if folder is None else folder / _FILE, msgspec.json.encode(self.kept))
        if self.kept.boot != self.boot:  # partitions do not survive a boot, nor does what hung
            for made in self.kept.partitions.values():
                made.there = False
            self.kept.boot, self.kept.hung = self.boot, {}

    def save(self) -> None:
        """Write what changed, after the events that tell of it: what the disk does not take is found again."""
        if self._found.save():
            self._file.write(msgspec.json.encode(self.kept))

    def generation(self, key: str, uuid: str, placement: str) -> int:
        """Give how often a partition of these numbers was made, counting one that is not the last one seen there."""
        known = self.kept.partitions.get(key)
        if known is None:
            known = self.kept.partitions[key] = Made(1, uuid, placement)
        elif not known.there or (known.uuid, known.placement) != (uuid, placement):
            known = self.kept.partitions[key] = Made(known.generation + 1, uuid, placement)
        return known.generation

    def partitions_are(self, keys: set[str], gpu: str) -> None:
        """Take note which partitions of a GPU there are now."""
        for key, made in self.kept.partitions.items():
            if key.startswith(f"{gpu}/"):
                made.there = key in keys

    def asking(self, uuid: str) -> None:
        """Mark which GPU is asked from now on; "" for none. It is one write of a page that is in memory."""
        if self._folder is None:
            return
        with contextlib.suppress(OSError):
            if self._mark < 0:
                self._mark = os.open(self._folder / _MARK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.pwrite(self._mark, uuid.ljust(_MARK_BYTES).encode(), 0)

    def asked(self) -> str:
        """Give the GPU that the process before was asking when it ended; "" for none."""
        return "" if self._folder is None else read_text(self._folder / _MARK)

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
