"""What of a BMC outlives the process: its session, its fingerprint, and what was described of it.

So no session is ever left behind there; and parts are not gone because somebody restarts before they are read again.
Small files for each BMC in a folder of the collector's own, readable by the agent's user alone.
"""

import contextlib
import zlib
from pathlib import Path
from typing import Final

import msgspec

from collectors._durable import replace_file
from collectors.redfish.config import Bmc
from schemas.device import Document
from schemas.digest import blake2b

_FOLDER: Final = "bmcs"
_MOST_BYTES: Final = 16384
_MOST_DOCUMENTS: Final = 1 << 20


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
        """Give what is kept of a BMC; nothing of it when it is another one now, or logs in as somebody else.

        Raises OSError when something is kept that cannot be read: whom to believe is not known then.
        """
        path = self._path(bmc, "json")
        try:
            with path.open("rb") as file:
                kept = msgspec.json.decode(file.read(_MOST_BYTES), type=Kept)
        except (FileNotFoundError, NotADirectoryError):
            return Kept()
        except msgspec.DecodeError as error:
            raise OSError(f"{path}: {error}") from error
        if kept.url != bmc.url:
            return Kept()
        if kept.user != bmc.user:
            return msgspec.structs.replace(kept, token="", session="")
        return kept

    def save(self, bmc: Bmc, kept: Kept) -> None:
        """Keep it, a fingerprint over a power loss too. Raises OSError when it cannot be written."""
        said = msgspec.json.encode(msgspec.structs.replace(kept, url=bmc.url, user=bmc.user))
        self._write(self._path(bmc, "json"), said, durable=bool(kept.fingerprint))

    def load_documents(self, bmc: Bmc) -> list[Document]:
        """Give what was described of a BMC last; nothing where that is not known."""
        try:
            with self._path(bmc, "documents").open("rb") as file:
                packed = file.read(_MOST_DOCUMENTS)
            opener = zlib.decompressobj()
            return msgspec.json.decode(opener.decompress(packed, 16 * _MOST_DOCUMENTS), type=list[Document])
        except (OSError, zlib.error, msgspec.DecodeError):
            return []

    def save_documents(self, bmc: Bmc, documents: list[Document]) -> None:
        """Keep what is described of a BMC now. What cannot be written, the next start does not know."""
        with contextlib.suppress(OSError):
            self._write(self._path(bmc, "documents"), zlib.compress(msgspec.json.encode(documents), 1), durable=False)

    def forget(self, bmc: Bmc) -> None:
        """Keep nothing of a BMC any more."""
        for what in ("json", "documents"):
            with contextlib.suppress(OSError):
                self._path(bmc, what).unlink()

    def _write(self, path: Path, said: bytes, *, durable: bool) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, said, durable=durable)

    def _path(self, bmc: Bmc, what: str) -> Path:
        return self._folder / f"{blake2b(bmc.label.encode(), digest_size=12).hexdigest()}.{what}"
