"""The machine that the agent runs on: processors, memory, disks, file systems, network, and what it is.

Everything is read from `/proc` and `/sys` below `Context.root`, so that a recorded machine can be replayed; files that
are read at every collection stay open. One part that fails harms no other.
"""

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Final

from collectors._statvfs import StatVfs
from collectors.contract import Context, Emit, Objection
from collectors.host_boot import BootSection
from collectors.host_cpu import CpuSection
from collectors.host_disk import DiskSection
from collectors.host_events import EVENTS
from collectors.host_file_system import FileSystemSection
from collectors.host_machine import describe_machine
from collectors.host_memory import MemoryErrorSection, MemorySection
from collectors.host_network import NetworkSection
from collectors.host_section import HostConfig, HostPart, Look, Section
from collectors.host_system import PressureSection, ProcessSection, SystemSection
from collectors.isolation import MACHINE
from schemas.device import Document
from schemas.errors import NoDataError, PartialCollectError
from schemas.events import EventSpec
from schemas.metrics import MetricSpec
from schemas.rows import Item

_LINK_CHANGES: Final = 1
"""RTMGRP_LINK of linux/rtnetlink.h: the group that hears of every change of an interface."""
_LOOK_S: Final = 0.5
"""The longest wait before `stopping` is looked at."""


class HostCollector:
    """Reads this machine. On a root other than `/` it reads a recorded one, and hears no changes from the kernel."""

    name: ClassVar[str] = "host"
    isolation: ClassVar[str] = MACHINE
    METRICS: ClassVar[tuple[MetricSpec, ...]] = (
        *CpuSection.METRICS,
        *SystemSection.METRICS,
        *PressureSection.METRICS,
        *MemorySection.METRICS,
        *MemoryErrorSection.METRICS,
        *DiskSection.METRICS,
        *FileSystemSection.METRICS,
        *NetworkSection.METRICS,
        *ProcessSection.METRICS,
    )
    EVENTS: ClassVar[tuple[EventSpec, ...]] = EVENTS
    Config: ClassVar[type[HostConfig]] = HostConfig

    def __init__(
        self,
        config: HostConfig,
        context: Context,
        clock: Callable[[], float] = time.monotonic,
        statvfs: StatVfs = os.statvfs,
    ) -> None:
        self._config = config
        self._context = context
        self._clock = clock
        self._statvfs = statvfs
        self._slow_due = float("-inf")
        root = context.root
        self._network = NetworkSection(root, config)
        sections: dict[HostPart, Section] = {
            HostPart.BOOT: BootSection(root, context.positions),
            HostPart.CPU: CpuSection(root),
            HostPart.SYSTEM: SystemSection(root),
            HostPart.PRESSURE: PressureSection(root),
            HostPart.MEMORY: MemorySection(root),
            HostPart.MEMORY_ERRORS: MemoryErrorSection(root),
            HostPart.DISK: DiskSection(root, config),
            HostPart.FILE_SYSTEM: FileSystemSection(root, config, statvfs),
            HostPart.NETWORK: self._network,
            HostPart.PROCESSES: ProcessSection(root, config, clock),
        }
        self._sections = {part: section for part, section in sections.items() if part in config.parts}

    def probe(self) -> str:
        """Give "" where there is a Linux `/proc`, else what is missing."""
        if (self._context.root / "proc/stat").is_file():
            return ""
        return f"{self._context.root / 'proc'} is not mounted, or this is no Linux: mount proc there."

    def start(self) -> None:
        """Take what later readings are compared with. Raises NoDataError without `/proc`."""
        missing = self.probe()
        if missing:
            raise NoDataError(missing)
        self._slow_due = float("-inf")
        for section in self._sections.values():
            section.start()

    def collect(self) -> Iterator[Item]:
        """Read every part once. Raises PartialCollectError at the end when a part failed altogether."""
        now = self._clock()
        look = Look(self._context.level(), slow=now >= self._slow_due)
        if look.slow:
            self._slow_due = now + self._config.slow_every_seconds
        failures = []
        for part, section in self._sections.items():
            try:
                yield from section.read(look)
            except Exception as error:  # noqa: BLE001 - whatever one part stumbles over, the others are read
                failures.append(f"{part.value}: {error.__class__.__name__}: {error}")
        if failures:
            raise PartialCollectError("; ".join(failures), failed=len(failures))

    def describe(self) -> Iterable[Document]:
        """Give the node, its processors and its memory modules."""
        return list(describe_machine(self._context.root, self._config.disk_path, self._statvfs))

    def check_options(self, *, attempt: bool) -> Iterator[Objection]:
        """Give what is wrong with the path of disks; whether it is there is looked at only when that may be tried."""
        path = self._config.disk_path
        if attempt and path and not (self._context.root / path.lstrip("/")).exists():
            yield Objection(
                "disk_path",
                f"there is no {path}: no claim would get disk of this node. Name the folder of disks, or ''",
            )

    def watch(self, emit: Emit, stopping: threading.Event) -> None:
        """Hear of links from the kernel, and emit at once what changed."""
        network = self._network if HostPart.NETWORK in self._sections else None
        bell = _link_bell() if network is not None and self._context.root == Path("/") else None
        if network is None or bell is None:
            while not stopping.wait(_LOOK_S):
                pass
            return
        try:
            while not stopping.is_set():
                if _rings(bell):
                    _drain(bell)
                    events = network.changes()
                    if events:
                        emit(events)
        finally:
            bell.close()

    def stop(self) -> None:
        """Close every file and connection."""
        for section in self._sections.values():
            section.close()


def _link_bell() -> socket.socket | None:
    """Open what rings when an interface changes; None where the kernel lets nobody listen."""
    try:
        bell = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        bell.bind((0, _LINK_CHANGES))
    except OSError:
        return None
    bell.setblocking(False)
    return bell


def _rings(bell: socket.socket) -> bool:
    """Wait until it rings, and tell whether it did before it was time to look."""
    poller = select.poll()
    poller.register(bell, select.POLLIN)
    return bool(poller.poll(_LOOK_S * 1000))


def _drain(bell: socket.socket) -> None:
    """Take all messages unread: that one came says everything. An overflow (ENOBUFS) says no less."""
    for _ in range(1024):
        try:
            bell.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            continue
