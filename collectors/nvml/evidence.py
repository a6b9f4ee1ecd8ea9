"""What a GPU shows after its clean, for the evidence that the ledger checks: reset, users, memory.

No call tells of a reset. But the energy that the driver counts for a GPU begins anew with it, so a count that is lower
after the hook than before proves one; of bytes moved over the bus it does not, for those counts wrap. With ECC the
whole memory is written then, before anybody can use it: what was in it is gone, and a cell that does not take it is
counted. Without ECC nothing tells.
Source: NVML API reference, nvmlDeviceGetTotalEnergyConsumption (64 bits of mJ); nvml.h, NVML_FI_DEV_PCIE_COUNT_TX_BYTES
("Value can be wrapped"); NVIDIA GPU Memory Error Management.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from collectors.nvml.fields import Field, Fields
from collectors.nvml.gpus import Gpu, enumerate_gpus
from collectors.nvml.library import GpuLostError, initialize, load_binding, shut_down
from collectors.nvml.partitions import partition_places
from collectors.nvml.presence import look
from collectors.nvml.readings import memory_of
from collectors.nvml.users import users_of
from schemas.errors import StartupError
from schemas.evidence import UNSUPPORTED
from schemas.rows import FieldValue
from schemas.verbosity import Level

_COUNTS: Final = (("energy", 83),)
_HEALTH: Final = (("uncorrected", 4), ("remap_pending", 144), ("remap_failed", 145))


class Marks(msgspec.Struct, frozen=True):
    """What the driver counts for one GPU at one moment; what it does not tell is left out."""

    counts: dict[str, int] = {}


class Shown(msgspec.Struct, frozen=True):
    """What a GPU shows."""

    marks: Marks
    processes: int | None
    memory_used_bytes: int | None
    memory_check: str
    partitions: frozenset[str] | None
    """Places that are taken by partitions; None when that cannot be told."""

    def reset_since(self, before: Marks | None) -> bool:
        """Whether something that only grows is less than it was."""
        return before is not None and any(
            name in before.counts and count < before.counts[name] for name, count in self.marks.counts.items()
        )


def shown(root: Path, address: str, library: str = "") -> Shown | None:
    """Ask the GPU at an address; None when the driver does not show it. Nothing is open when this returns."""
    if not library and look(root).missing:
        return None
    try:
        with _gpus(library) as gpus:
            return next((_shown(gpu) for gpu in gpus if gpu.identity.address == address), None)
    except (StartupError, GpuLostError):
        return None


@contextmanager
def _gpus(library: str) -> Iterator[list[Gpu]]:
    nvml = load_binding(library)
    initialize(nvml)
    try:
        yield enumerate_gpus(nvml, set()).gpus
    finally:
        shut_down(nvml)


def _shown(gpu: Gpu) -> Shown:
    asker = gpu.asker
    memory: dict[str, FieldValue] = {}
    memory_of(asker, memory, Level.ESSENTIAL)
    users = users_of(asker)
    used = memory.get("memory_used_bytes")
    return Shown(
        Marks(_numbers(gpu, _COUNTS)),
        None if users is None else len(users),
        used if isinstance(used, int) else None,
        _memory_check(gpu),
        partition_places(gpu),
    )


def _numbers(gpu: Gpu, fields: tuple[tuple[str, int], ...]) -> dict[str, int]:
    found: dict[str, FieldValue] = {}
    Fields(gpu.asker, [Field(name, number, Level.ESSENTIAL) for name, number in fields]).read(found, Level.ESSENTIAL)
    return {name: value for name, value in found.items() if isinstance(value, int)}


def _memory_check(gpu: Gpu) -> str:
    """Give what ECC says of the memory since the GPU was last reset."""
    mode = gpu.asker.ask("nvmlDeviceGetEccMode")
    if mode is None:
        return UNSUPPORTED
    if not mode[0]:
        return "not-run"
    health = _numbers(gpu, _HEALTH)
    if "uncorrected" not in health:
        return UNSUPPORTED
    return "failed" if any(health.values()) else "passed"
