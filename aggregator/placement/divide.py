"""Partitions to be made on the GPUs of one node: every way that others could notice, each in its best form.

GPUs of one class are divided one after the other, each by a bundle of partitions that fit together (`mig`); what is
still wanted, and what others notice, tells ways apart. So the cost grows with what is asked for, and not with the ways
to place it.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from aggregator.placement.classes import Class
from aggregator.placement.layout import bits
from aggregator.placement.mig import Bundle, bundles
from aggregator.placement.plan import Plan
from aggregator.placement.summary import Masks
from schemas.mig import Place

Counts = tuple[tuple[int, int], ...]
"""(class, how many of it)."""


class Made(NamedTuple):
    """A partition to be made."""

    need: int
    seat: int
    place: Place


class Division(NamedTuple):
    """A way to make all partitions that are asked for."""

    own: int
    """GPUs that have their root for themselves."""
    loss: int
    numa: int
    roots: int
    counts: Counts
    bundles: tuple[tuple[Bundle, ...], ...]
    """For each of the counts one bundle a GPU."""


class _Way(NamedTuple):
    """What others notice of GPUs that were divided so far."""

    left: tuple[int, ...]
    numa: int
    roots: int
    shared: Counts


def divisions(plan: Plan, masks: Masks, classes: Sequence[Class]) -> list[Division]:
    """Give the best division for each outcome that others could notice."""
    wanted = tuple(plan.parts[need].number for need in plan.divisions)
    ways: dict[_Way, Division] = {_Way(wanted, 0, 0, ()): Division(0, 0, 0, 0, (), ())}
    for one in classes:
        if any(one.needs >> need & 1 for need in plan.divisions):
            ways = _divided(plan, masks, one, ways)
    return [division for way, division in ways.items() if not any(way.left)]


def _divided(plan: Plan, masks: Masks, one: Class, ways: dict[_Way, Division]) -> dict[_Way, Division]:
    """Divide none, one, two ... GPUs of a class."""
    found, last = dict(ways), ways
    for number in range(1, len(one.seats) + 1):
        grown: dict[_Way, Division] = {}
        for way, division in last.items():
            for bundle in _bundles(plan, masks, one, way.left):
                _keep(grown, *_with(plan, one, number, way, division, bundle))
        if not grown:
            break
        for way, division in grown.items():
            _keep(found, way, division)
        last = grown
    return found


def _keep(ways: dict[_Way, Division], way: _Way, division: Division) -> None:
    known = ways.get(way)
    if known is None or division < known:
        ways[way] = division


def _bundles(plan: Plan, masks: Masks, one: Class, left: tuple[int, ...]) -> tuple[Bundle, ...]:
    """Give the bundles that fit on a GPU of a class, of what is still wanted."""
    at = one.seats[0]
    serves = [one.needs >> need & 1 for need in plan.divisions]
    profiles = tuple(plan.parts[need].profile for need in plan.divisions)
    limits = tuple(number if can else 0 for number, can in zip(left, serves, strict=True))
    return bundles(plan.table(at), plan.occupied(masks, at), profiles, limits)


def _with(plan: Plan, one: Class, number: int, way: _Way, division: Division, bundle: Bundle) -> tuple[_Way, Division]:
    """Divide one more GPU of a class, its `number`-th."""
    left = tuple(wanted - made for wanted, made in zip(way.left, bundle.counts, strict=True))
    others = way.shared[:-1] if number > 1 and one.coupled else way.shared
    shared = (*others, (one.number, number)) if one.coupled else way.shared
    more = _Way(left, way.numa | one.numa, way.roots | one.root, shared)
    before, made = (division.counts[:-1], division.bundles[-1]) if number > 1 else (division.counts, ())
    return more, Division(
        division.own + (plan.own_roots and not one.root),
        division.loss + bundle.loss,
        more.numa,
        more.roots,
        (*before, (one.number, number)),
        (*(division.bundles[:-1] if number > 1 else division.bundles), (*made, bundle)),
    )


def made_by(plan: Plan, classes: Sequence[Class], division: Division, seats: int) -> Iterator[Made]:
    """Yield the partitions of a division, on the GPUs that were picked for it."""
    for (number, _), chosen in zip(division.counts, division.bundles, strict=True):
        for at, bundle in zip(bits(seats & classes[number].mask), chosen, strict=True):
            for need, places in zip(plan.divisions, bundle.places, strict=True):
                yield from (Made(need, at, place) for place in places)
