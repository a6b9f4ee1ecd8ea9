"""Names for people, from the list of PCI ids where the system has one. Numbers identify; names never do."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

LISTS: Final = ("usr/share/hwdata/pci.ids", "usr/share/misc/pci.ids", "usr/share/pci.ids")
"""Where distributions put it, in the order in which it is looked for."""


class PciNames:
    """Reads the list once for all ids that are asked for, and keeps those alone: all of it would be 10 MB."""

    def __init__(self, root: Path, lists: Iterable[str] = LISTS) -> None:
        self._paths = [root / name for name in lists]
        self._known: dict[tuple[str, str], str] = {}
        self._asked: set[tuple[str, str]] = set()

    def learn(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Look up the names of these (vendor, device); reads the list only when one was never asked for."""
        wanted = set(pairs) - self._asked
        if wanted:
            self._asked |= wanted
            self._read(wanted)

    def vendor(self, vendor: str) -> str:
        """Give the vendor's name, else its number."""
        return self._known.get((vendor, ""), vendor)

    def device(self, vendor: str, device: str) -> str:
        """Give the device's name, else both numbers: `10de:2330`."""
        return self._known.get((vendor, device), f"{vendor}:{device}")

    def _read(self, wanted: set[tuple[str, str]]) -> None:
        """Source: pci.ids(5): `<vendor>  <name>`, with tab `<device>  <name>`, with two tabs what is not read here."""
        vendors = {vendor for vendor, _ in wanted}
        for path in self._paths:
            try:
                with path.open("rb") as file:
                    vendor = ""
                    for line in file:
                        if line.startswith(b"C "):  # classes: the vendors are through
                            return
                        if line[:1] not in b"\t#\n":
                            vendor = line[:4].decode("ascii", "replace")
                            if vendor in vendors:
                                self._known[vendor, ""] = _name(line[4:])
                        elif vendor in vendors and line[:1] == b"\t" and line[1:2] != b"\t":
                            device = line[1:5].decode("ascii", "replace")
                            if (vendor, device) in wanted:
                                self._known[vendor, device] = _name(line[5:])
            except OSError:
                continue
            return


def _name(line: bytes) -> str:
    return line.decode("utf-8", "replace").strip()
