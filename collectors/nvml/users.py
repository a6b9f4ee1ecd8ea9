"""Which programs use a GPU or a partition of one.

The driver tells processes of every container by their number on the host; in another PID namespace it tells none, or
numbers that mean nothing there. Source: NVML API reference, nvmlDeviceGetComputeRunningProcesses_v3.
"""

from pathlib import Path
from typing import Any, Final

import msgspec

from collectors._procfs import read_text
from collectors.nvml.library import Asker

_CALLS: Final = (
    ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2"),
    ("nvmlDeviceGetGraphicsRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v2"),
    ("nvmlDeviceGetMPSComputeRunningProcesses_v3", "nvmlDeviceGetMPSComputeRunningProcesses_v2"),
)
MOST_USERS: Final = 64
"""Programs that are named for one device."""


class User(msgspec.Struct, frozen=True):
    """A program with a context on a device."""

    process: int
    memory_bytes: int | None
    """None when the driver does not say."""


def users_of(asker: Asker) -> list[User] | None:
    """Give who uses a device, by number; None when that cannot be told. Raises GpuLostError, NewProcessError."""
    found: dict[int, int | None] = {}
    told = False
    for calls in _CALLS:
        listed: list[Any] | None = asker.first(*((call,) for call in calls))
        if listed is None:
            continue
        told = True
        for one in listed:
            known, more = found.get(one.pid), one.usedGpuMemory
            found[one.pid] = more if known is None else known if more is None else max(known, more)
    return [User(process, memory) for process, memory in sorted(found.items())] if told else None


def named(root: Path, users: list[User]) -> list[str]:
    """Give users as `<program>/<process id>`, `?` for a program that cannot be seen from here."""
    return [f"{read_text(root / f'proc/{user.process}/comm') or '?'}/{user.process}" for user in users]


def counted(users: list[User]) -> list[str]:
    """Give how many users there are, naming none."""
    return [f"{len(users)} {'program' if len(users) == 1 else 'programs'}"] if users else []
