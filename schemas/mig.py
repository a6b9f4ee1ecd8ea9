"""Partitions of a GPU (MIG): how they are named, and where they can lie.

A GPU tells its profiles with their possible placements, `<profile>:{<starts>}:<size>`, in slices of its memory, as
`nvidia-smi mig -lgipp` prints them. Which partitions fit beside each other is a matter of places, not of sums: those
whose slices overlap do not. A place gives its slices of compute with those of memory.

A partition that is to be made is named by its plan, `<profile>@<start>:<size>`, on a GPU. One that is there has a UUID,
and the ids of its GPU instance and compute instance. The driver gives all of them again, so its generation counts:
which making under these ids it is.

Sources: NVIDIA Multi-Instance GPU user guide, "GPU instance placements"; NVML API reference,
`nvmlDeviceGetGpuInstancePossiblePlacements_v2`.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from schemas.device import Slot

SLICES: Final = 16
"""More slices of memory no GPU has; there are 4 or 8."""
WHOLE: Final = (1 << SLICES) - 1
"""All slices of a GPU, as a mask."""
_PLACEMENTS: Final = re.compile(r"(?P<profile>[^:{}@]+):\{(?P<starts>\d{1,2}(?:,\d{1,2})*)\}:(?P<size>\d{1,2})\Z")
_PLACE: Final = re.compile(r"(\d{1,2}):(\d{1,2})\Z")


class Place(NamedTuple):
    """Where a partition lies on its GPU."""

    start: int
    """Its first slice of memory, from 0."""
    size: int
    """How many slices of memory it has."""

    @property
    def mask(self) -> int:
        """Its slices, as a mask."""
        return ((1 << self.size) - 1) << self.start

    def __str__(self) -> str:
        return f"{self.start}:{self.size}"


class Plan(NamedTuple):
    """A partition that is to be made."""

    profile: str
    place: Place

    def __str__(self) -> str:
        return f"{self.profile}@{self.place}"


class Placements(NamedTuple):
    """Where partitions of a profile can lie."""

    profile: str
    places: tuple[Place, ...]
    """In the order of their starts."""


def read_place(text: str) -> Place | None:
    """Read `<start>:<size>`; None when it is none."""
    match = _PLACE.match(text)
    if match is None:
        return None
    place = Place(int(match[1]), int(match[2]))
    return place if place.size and place.start + place.size <= SLICES else None


def read_plan(text: str) -> Plan | None:
    """Read `<profile>@<start>:<size>`; None when it is none."""
    profile, _, where = text.rpartition("@")
    place = read_place(where)
    return None if place is None or not profile else Plan(profile, place)


def read_placements(told: object) -> tuple[Placements, ...]:
    """Read the capability `mig_placements`, in its order; what cannot be read, or has no room on a GPU, is left out."""
    return _placements(tuple(told)) if isinstance(told, list) else ()


@lru_cache(maxsize=256)
def _placements(texts: tuple[str, ...]) -> tuple[Placements, ...]:
    found = []
    for text in texts:
        match = _PLACEMENTS.match(text)
        if match is None:
            continue
        size = int(match["size"])
        starts = sorted({int(start) for start in match["starts"].split(",")})
        places = tuple(Place(start, size) for start in starts if size and start + size <= SLICES)
        if places:
            found.append(Placements(match["profile"], places))
    return tuple(found)


def partition_slot(gpu: Slot, place: Place) -> Slot:
    """Give the slot of a partition: its place on the GPU that sits in the slot `gpu`."""
    return Slot(path=f"{gpu.path or gpu.address}/mig{place}")


def partition_uuid(uuid: str, generation: int) -> str:
    """Give what tells a partition from every other for good: the driver's UUID, which it may give again.

    `generation`: which making under its ids on its GPU it is: 1, and higher for each later one.
    """
    return uuid if generation == 1 else f"{uuid}.{generation}"


def partition_serial(gpu_instance: int, compute_instance: int, generation: int) -> str:
    """Give the ids of a partition as one text."""
    return f"gi{gpu_instance}/ci{compute_instance}/{generation}"


def union(places: Iterable[Place]) -> int:
    """Give the slices of several places, as a mask."""
    found = 0
    for place in places:
        found |= place.mask
    return found
