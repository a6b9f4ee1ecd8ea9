"""What of a BMC outlives the process: its session, so that none is ever left behind there, and its fingerprint.

One small file for each BMC in a folder of the collector's own, readable by the agent's user alone.
"""

import contextlib
import os
from pathlib import Path
from typing import Final

import msgspec

from collectors.redfish.config import Bmc

_FOLDER: Final = "bmcs"
_MOST_BYTES: Final = 16384


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept of one BMC."""

    url: str = ""
    user: str = ""
    token: str = ""
    """Of the open session; "" without one."""
    session: str = ""
    """Where the session can be ended; "" when the BMC did not say."""
    fingerprint: str = ""
    """Of the certificate that it showed first."""


class Keeping:
    """The folder. Safe for several threads, each with BMCs of its own."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / _FOLDER

    def load(self, bmc: Bmc) -> Kept:
        """Give what is kept of a BMC; nothing of it when it is another one now, or logs in as somebody else."""
        path = self._path(bmc)
        try:
            with path.open("rb") as file:
                kept = msgspec.json.decode(file.read(_MOST_BYTES), type=Kept)
        except (OSError, msgspec.DecodeError):
            return Kept()
        if kept.url != bmc.url:
            return Kept()
        if kept.user != bmc.user:
            return msgspec.structs.replace(kept, token="", session="")
        return kept

    def save(self, bmc: Bmc, kept: Kept) -> None:
        """Keep it. What cannot be written is not kept, and the next start logs in anew."""
        path = self._path(bmc)
        said = msgspec.json.encode(msgspec.structs.replace(kept, url=bmc.url, user=bmc.user))
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = path.with_suffix(".new")
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(said)
            temporary.replace(path)

    def _path(self, bmc: Bmc) -> Path:
        from schemas.digest import blake2b

        return self._folder / f"{blake2b(bmc.label.encode(), digest_size=12).hexdigest()}.json"
