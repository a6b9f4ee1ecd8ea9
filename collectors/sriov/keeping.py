"""What outlives the process: how ports and functions were, and what differed, as of the last events that were found.

So what was set, made or taken away while no agent ran is told by the next one. Not over a boot: that makes all anew.
"""

from pathlib import Path
from typing import Final

import msgspec

from collectors._durable import SmallFile
from collectors._procfs import read_text
from collectors._untold import Untold
from collectors.sriov.standing import Drift
from collectors.sriov.survey import Survey

_FILE: Final = "seen.msgpack"
_BOOT: Final = "proc/sys/kernel/random/boot_id"


class _Kept(msgspec.Struct, array_like=True):
    boot: str
    survey: Survey
    drift: Drift = Drift()


class Keep:
    """The file of one collector; without a folder, or where a boot has no name, nothing outlives the process."""

    def __init__(self, folder: Path | None, root: Path, found: Untold) -> None:
        """Prepare; nothing is read of the file. `found`: the events that are not handed on yet."""
        self._found = found
        self._boot = read_text(root / _BOOT)
        self._file = SmallFile(folder / _FILE if folder is not None and self._boot else None)

    def load(self) -> tuple[Survey, Drift] | None:
        """Give what was kept in this boot; None for nothing that can be used."""
        if self._file.path is None:
            return None
        try:
            data = self._file.path.read_bytes()
            kept = msgspec.msgpack.decode(data, type=_Kept)
        except (OSError, msgspec.MsgspecError):
            return None
        self._file.written = data
        return (kept.survey, kept.drift) if kept.boot == self._boot else None

    def save(self, survey: Survey, drift: Drift) -> None:
        """Keep it, after the events that tell of it: what the disk does not take is found again."""
        if self._found.save() and self._file.path is not None:
            self._file.write(msgspec.msgpack.encode(_Kept(self._boot, survey, drift)))
