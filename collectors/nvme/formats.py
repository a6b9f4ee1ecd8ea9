"""Sees name spaces being formatted: no log of a drive tells of that, but the kernel sees the commands go by.

A trace instance of our own keeps the format commands of all drives and how each ended, while an operator's hook cleans.
Source: linux/drivers/nvme/host/trace.h and trace.c (nvme_setup_cmd, nvme_complete_rq); Documentation/trace/ftrace.rst;
NVM Express Base Specification 2.0, 5.14 (Format NVM).
"""

import contextlib
import re
import weakref
from pathlib import Path
from typing import Final, Self

import msgspec

PLACES: Final = ("sys/kernel/tracing", "sys/kernel/debug/tracing")
ALL: Final = 0xFFFFFFFF
_EVENTS: Final = (("nvme_setup_cmd", "qid == 0 && opcode == 128"), ("nvme_complete_rq", "qid == 0"))
_BEGUN: Final = re.compile(
    r"nvme_setup_cmd: nvme(\d+): (?:disk=[^,]*, )?qid=0, cmdid=(\d+), nsid=(\d+),.*cmd=\(nvme_admin_format_nvm (.*)\)"
)
_ENDED: Final = re.compile(r"nvme_complete_rq: nvme(\d+): (?:disk=[^,]*, )?qid=0, cmdid=(\d+),.*status=0x([0-9a-f]+)")
_ERASE: Final = re.compile(r"ses=(\d+)")
_WORD: Final = re.compile(r"cdw10=([0-9a-f]{2}) ([0-9a-f]{2})")
_ERASES: Final = (1, 2)
"""Secure erase settings: all user data erased, or its key."""


class Format(msgspec.Struct, frozen=True):
    """A format with erase that the drive completed."""

    controller: str
    """`nvme0`."""
    nsid: int
    """`ALL` for all name spaces."""


class FormatTrace:
    """An open trace. It is gone with the object; what a killed process left is taken away by the next for that name."""

    def __init__(self, folder: Path) -> None:
        """Take over an instance that is set up."""
        self._folder = folder
        self._gone = weakref.finalize(self, _remove, folder)

    @classmethod
    def open(cls, root: Path, name: str) -> Self | None:
        """Begin; None where the kernel has no such trace, or does not let us."""
        for place in PLACES:
            folder = root / place / "instances" / f"muster-{name.replace(':', '-')}"
            if not (root / place / "events/nvme").is_dir():
                continue
            _remove(folder)
            try:
                folder.mkdir()
            except OSError:
                continue
            trace = cls(folder)
            try:
                for event, pattern in _EVENTS:
                    (folder / "events/nvme" / event / "filter").write_text(pattern)
                    (folder / "events/nvme" / event / "enable").write_text("1")
            except OSError:
                trace.close()
                continue
            return trace
        return None

    def found(self) -> list[Format]:
        """Give the formats with erase that ended well since the trace was opened, in their order."""
        try:
            return parse_formats((self._folder / "trace").read_text(errors="replace"))
        except OSError:
            return []

    def close(self) -> None:
        """End it; safe twice."""
        self._gone()


def parse_formats(text: str) -> list[Format]:
    """Read a trace: each format with erase whose completion says success."""
    under_way: dict[tuple[str, str], Format] = {}
    found = []
    for line in text.split("\n"):
        begun, ended = _BEGUN.search(line), _ENDED.search(line)
        if begun is not None:
            key = begun[1], begun[2]
            under_way.pop(key, None)
            if _setting(begun[4]) in _ERASES:
                under_way[key] = Format(f"nvme{begun[1]}", int(begun[3]))
        elif ended is not None:
            one = under_way.pop((ended[1], ended[2]), None)
            if one is not None and not int(ended[3], 16):
                found.append(one)
    return found


def _setting(words: str) -> int | None:
    """Give the secure erase setting of a format's words, which older kernels print as bytes."""
    match = _ERASE.search(words)
    if match is not None:
        return int(match[1])
    match = _WORD.search(words)
    return None if match is None else int(match[2], 16) >> 1 & 7


def _remove(folder: Path) -> None:
    """Take an instance away; the kernel empties it."""
    with contextlib.suppress(OSError):
        folder.rmdir()
