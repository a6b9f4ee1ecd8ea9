"""Where a MIG partition can lie on a GPU, and what each place leaves to others.

A GPU tells its profiles with their possible placements, `<profile>:{<starts>}:<size>`, in slices of its memory, as
`nvidia-smi mig -lgipp` prints them. Which partitions fit beside each other is a matter of places, not of sums.
Source: NVIDIA Multi-Instance GPU user guide, "GPU instance placements".
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

_PLACEMENTS = re.compile(r"(?P<profile>[^:]+):\{(?P<starts>\d+(?:,\d+)*)\}:(?P<size>\d+)\Z")
_PLACED = re.compile(r"(?P<start>\d+):(?P<size>\d+)\Z")


class Start(NamedTuple):
    """Where a partition would lie."""

    start: int
    loss: int
    """How much less fits beside it than beside the best place of the smallest loss: 0 to 4095, to be compared."""


def best_start(profile: str, placements: Sequence[str], taken: Sequence[str]) -> Start | None:
    """Give the place of a new partition that leaves the most; None when there is none.

    `taken` are the places of those that are there, `<start>:<size>`; one that cannot be read takes the whole GPU.
    """
    return _best(profile, tuple(placements), tuple(sorted(taken)))


@lru_cache(maxsize=4096)
def _best(profile: str, placements: tuple[str, ...], taken: tuple[str, ...]) -> Start | None:
    profiles = _profiles(placements)
    occupied = 0
    for text in taken:
        match = _PLACED.match(text)
        if match is None:
            return None
        occupied |= _slices(int(match["start"]), int(match["size"]))
    if profile not in profiles:
        return None
    starts, size = profiles[profile]
    free = [start for start in starts if not occupied & _slices(start, size)]
    if not free:
        return None
    rests = {start: _rest(profiles, occupied | _slices(start, size)) for start in free}
    start = max(free, key=lambda one: (rests[one], one))
    before = _rest(profiles, occupied)
    return Start(start, min(4095, sum(was - now for was, now in zip(before, rests[start], strict=True))))


def _profiles(placements: tuple[str, ...]) -> dict[str, tuple[list[int], int]]:
    found = {}
    for text in placements:
        match = _PLACEMENTS.match(text)
        if match is not None:
            found[match["profile"]] = ([int(start) for start in match["starts"].split(",")], int(match["size"]))
    return found


def _slices(start: int, size: int) -> int:
    return ((1 << size) - 1) << start


def _rest(profiles: dict[str, tuple[list[int], int]], occupied: int) -> tuple[int, ...]:
    """Give how many places are left to each profile, the largest first: what is compared."""
    ordered = sorted(profiles.values(), key=lambda one: (-one[1], len(one[0])))
    return tuple(sum(not occupied & _slices(start, size) for start in starts) for starts, size in ordered)
