"""Whether the machine was started anew since the agent last looked, and what is known of the reason."""

import os
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Final

from collectors._procfs import names, number_after, read_bytes, read_integer
from collectors.host_section import Look
from collectors.node_identity import read_boot_id
from schemas.metrics import MetricSpec
from schemas.rows import Event, FieldValue, Item, Position, Severity

SOURCE: Final = "host.boot"
"""The position under which the boot id is kept."""

_WATCHDOG_REASONS: Final = (
    (0x20, "watchdog", "the watchdog reset the machine"),
    (0x01, "overheat", "the watchdog reports that the machine overheated"),
    (0x02, "fan", "the watchdog reports a failed fan"),
    (0x10, "power", "the watchdog reports that the power failed"),
)
"""Source: linux/watchdog.h, WDIOF_CARDRESET, OVERHEAT, FANFAULT, POWERUNDER."""

_UTMP: Final = struct.Struct("<h2xi32s4s32s256shhiii16s20x")
"""Source: utmp(5), glibc on 64 bits: type, process, line, id, user, host, exit, session, seconds, ..."""
_RUN_LEVEL, _BOOT_TIME = 1, 2
_WTMP_TAIL: Final = 512
"""Records that are looked through from the end: a shutdown stands just before the boot."""


class BootSection:
    """Tells of a new boot once: the boot id is kept as a position, in the same commit as the event."""

    METRICS: ClassVar[tuple[MetricSpec, ...]] = ()

    def __init__(self, root: Path, positions: Mapping[str, str]) -> None:
        self._root = root
        self._positions = positions
        self._told = False

    def start(self) -> None:
        """Let the next reading compare."""
        self._told = False

    def read(self, look: Look) -> Iterable[Item]:
        """Give the event of a new boot, and the position; nothing when the boot is the known one."""
        del look  # all of it is always read
        if self._told:
            return
        self._told = True
        boot_id = read_boot_id(self._root)
        known = self._positions.get(SOURCE)
        if not boot_id or boot_id == known:
            return
        if known is not None:
            yield _event(self._root, boot_id, known)
        yield Position(SOURCE, boot_id)

    def close(self) -> None:
        """Nothing is open."""


def _event(root: Path, boot_id: str, known: str) -> Event:
    cause, sentence = boot_cause(root)
    booted = number_after(read_bytes(root / "proc/stat") or b"", b"\nbtime ")
    detail: dict[str, FieldValue] = {"boot_id": boot_id, "boot_id_before": known, "cause": cause}
    return Event(
        "host.reboot",
        f"the machine was started anew: {sentence}",
        Severity.NOTICE if cause == "shutdown" else Severity.WARNING,
        detail=detail,
        source_time_ns=None if booted is None else booted * 1_000_000_000,
    )


def boot_cause(root: Path) -> tuple[str, str]:
    """Give what is known of why the machine was started anew: a word for programs, a sentence for people.

    `panic`, `watchdog`, `overheat`, `fan`, `power`, `shutdown` (orderly), `unclean` (no orderly shutdown on record), or
    `unknown`. Strongest evidence first.
    """
    if any(name.startswith("dmesg-") for name in names(root / "sys/fs/pstore")):
        return "panic", "the kernel left a record of its crash in pstore"
    for name in names(root / "sys/class/watchdog"):
        status = read_integer(root / "sys/class/watchdog" / name / "bootstatus") or 0
        for bit, cause, sentence in _WATCHDOG_REASONS:
            if status & bit:
                return cause, sentence
    orderly = _orderly(root / "var/log/wtmp")
    if orderly is None:
        return "unknown", "nothing tells why"
    if orderly:
        return "shutdown", "it was shut down in order"
    return "unclean", "no orderly shutdown is on record (crash, reset or power loss)"


def _orderly(path: Path) -> bool | None:
    """Say whether wtmp has a shutdown between the last boot and the one before; None when it cannot tell."""
    kinds = []
    for kind, user in _records(path):
        if kind == _BOOT_TIME:
            kinds.append("boot")
        elif kind == _RUN_LEVEL and user == b"shutdown":
            kinds.append("shutdown")
    if len(kinds) < 2 or kinds[-1] != "boot":
        return None  # the records do not reach back, or this boot is not on record yet
    return kinds[-2] == "shutdown"


def _records(path: Path) -> list[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            whole = file.seek(0, os.SEEK_END) // _UTMP.size
            file.seek(max(0, whole - _WTMP_TAIL) * _UTMP.size)
            data = file.read(_WTMP_TAIL * _UTMP.size)
    except OSError:
        return []
    data = data[: len(data) // _UTMP.size * _UTMP.size]
    return [(record[0], record[4].rstrip(b"\0")) for record in _UTMP.iter_unpack(data)]
