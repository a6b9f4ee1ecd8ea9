"""How partitions fit on a GPU (MIG), and what each way to place them leaves to others. Places are `schemas.mig`'s.

A choice is as bad as what it takes from others: each place lost to a profile counts as much as the profile is large. So
what is divided already is filled first, and whole GPUs stay whole.
"""

from functools import lru_cache
from typing import NamedTuple

from schemas.mig import Place, Placements, union

Table = tuple[Placements, ...]
"""The profiles of a model of GPU, with their places."""


class Bundle(NamedTuple):
    """Partitions that are made on one GPU."""

    counts: tuple[int, ...]
    """How many of each profile that was asked for."""
    loss: int
    """What others lose by it: slices of memory of every place that is one no more."""
    places: tuple[tuple[Place, ...], ...]
    """For each profile that was asked for."""


def places_of(table: Table, profile: str) -> tuple[Place, ...]:
    """Give where partitions of a profile can lie; () when there is no such profile."""
    return next((one.places for one in table if one.profile == profile), ())


@lru_cache(maxsize=256)
def slices(table: Table) -> int:
    """Give how many slices partitions can take on a GPU."""
    return union(place for one in table for place in one.places).bit_count()


@lru_cache(maxsize=1 << 14)
def most(table: Table, profile: str, occupied: int) -> int:
    """Give how many partitions of one profile fit beside the slices that are occupied."""
    limit = len(places_of(table, profile))
    return max((one.counts[0] for one in bundles(table, occupied, (profile,), (limit,))), default=0)


@lru_cache(maxsize=1 << 12)
def bundles(table: Table, occupied: int, profiles: tuple[str, ...], limits: tuple[int, ...]) -> tuple[Bundle, ...]:
    """Give every number of partitions of some profiles that fit together, at most so many of each, in its best way.

    The best way loses least; of several, the one that lies highest, where the fewest profiles begin.
    """
    ways: dict[tuple[int, ...], dict[int, tuple[tuple[Place, ...], ...]]] = {
        (0,) * len(profiles): {occupied: ((),) * len(profiles)}
    }
    for at, profile in enumerate(profiles):
        places = places_of(table, profile)
        for counts in list(ways):
            for number in range(counts[at], limits[at]):
                before = (*counts[:at], number, *counts[at + 1 :])
                more = _one_more(ways[before], at, places)
                if not more:
                    break
                ways[(*counts[:at], number + 1, *counts[at + 1 :])] = more
    worth = _worth(table, occupied)
    return tuple(_best(table, worth, counts, found) for counts, found in ways.items() if any(counts))


def _one_more(
    ways: dict[int, tuple[tuple[Place, ...], ...]], at: int, places: tuple[Place, ...]
) -> dict[int, tuple[tuple[Place, ...], ...]]:
    """Give what can be occupied with one partition more, each with one way to do so: which way makes no difference."""
    found: dict[int, tuple[tuple[Place, ...], ...]] = {}
    for occupied, chosen in ways.items():
        for place in places:
            if not occupied & place.mask:
                found.setdefault(occupied | place.mask, (*chosen[:at], (*chosen[at], place), *chosen[at + 1 :]))
    return found


def _best(table: Table, worth: int, counts: tuple[int, ...], ways: dict[int, tuple[tuple[Place, ...], ...]]) -> Bundle:
    left, occupied = max((_worth(table, occupied), occupied) for occupied in ways)
    return Bundle(counts, worth - left, ways[occupied])


@lru_cache(maxsize=1 << 12)
def _worth(table: Table, occupied: int) -> int:
    """Give the slices of all places that are left."""
    return sum(place.size for one in table for place in one.places if not occupied & place.mask)
