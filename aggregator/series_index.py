"""Which series there are: publisher, subject, device and attributes of a row, named by one small whole number.

The writer gives numbers, readers match selectors. The writer alone changes the index; readers work on snapshots that
the interpreter makes in one step (`list(dict.items())`), so neither waits for the other.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from sys import intern
from typing import Final

import msgspec

from aggregator.selector import Selector
from schemas.batch import Block

Key = tuple[str, ...]
"""The device, then the value of each attribute in the group's order."""


class Group(msgspec.Struct, gc=False):
    """The series of one measurement, publisher and subject that have the same attributes."""

    measurement: str
    publisher: str
    subject: str
    names: tuple[str, ...]
    """Attribute names, sorted."""
    ids: dict[Key, int] = {}
    lists: dict[tuple[str, ...], list[int]] = {}
    """The numbers of whole lists of keys, as one tuple: a publisher sends the same list each time."""


class Fresh(msgspec.Struct, frozen=True):
    """A series that got its number in the transaction being prepared."""

    id: int
    group: Group
    key: Key

    @property
    def attributes(self) -> str:
        """The attributes as a JSON object, as `_series` keeps them."""
        return msgspec.json.encode(dict(zip(self.group.names, self.key[1:], strict=True))).decode()


_GroupName = tuple[str, str, tuple[str, ...]]
_Labels = Mapping[str, str]
Names = Callable[[], Mapping[str, str]]
"""Gives the name that people use for each node id; what has none is left out."""
_BUILT_IN: Final = ("node", "device", "publisher")
_MAX_LISTS: Final = 4
"""Lists of keys remembered for one group."""


class SeriesIndex:
    """Every series of a store, in memory: about 400 bytes each."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[_GroupName, Group]] = {}
        self._by_id: dict[int, tuple[Group, Key]] = {}
        self._fresh: list[Fresh] = []
        self._next = 1

    def __len__(self) -> int:
        return len(self._by_id)

    def load(self, number: int, measurement: str, publisher: str, subject: str, device: str, attributes: str) -> None:
        """Take one series as `_series` keeps it."""
        values = msgspec.json.decode(attributes, type=dict[str, str])
        names = tuple(sorted(values))
        key = (device, *(values[name] for name in names))
        self._put(self._group(measurement, publisher, subject, names), key, number)
        self._next = max(self._next, number + 1)

    def numbers(self, publisher: str, block: Block) -> list[int]:
        """Give the number of each of a block's keys, new ones where needed (see `settle`). Not to be changed."""
        names = tuple(block.attributes)
        ordered = names if len(names) < 2 else tuple(sorted(names))
        group = self._group(block.measurement, publisher, block.subject, ordered)
        if names != ordered:
            places = (0, *(1 + names.index(name) for name in ordered))
            return [self._number(group, tuple(key[place] for place in places)) for key in block.keys]
        every = tuple(chain.from_iterable(block.keys))  # all keys are of one length: nothing is mistaken for another
        found = group.lists.get(every)
        if found is None:
            found = [self._number(group, tuple(key)) for key in block.keys]
            if len(group.lists) >= _MAX_LISTS:
                group.lists.clear()
            own = chain.from_iterable(self._by_id[number][1] for number in found)
            group.lists[tuple(own)] = found  # the same texts, but those that are kept anyway
        return found

    def unknown(self, publisher: str, block: Block) -> int:
        """Give how many of a block's keys have no number yet."""
        names = tuple(block.attributes)
        ordered = tuple(sorted(names))
        group = self._groups.get(block.measurement, {}).get((publisher, block.subject, ordered))
        if group is None:
            return len(block.keys)
        places = (0, *(1 + names.index(name) for name in ordered))
        return sum(tuple(key[place] for place in places) not in group.ids for key in block.keys)

    @property
    def fresh(self) -> list[Fresh]:
        """The series that got a number since the last `settle` or `undo`."""
        return self._fresh

    def settle(self) -> None:
        """The new series are committed."""
        self._fresh = []

    def undo(self) -> None:
        """The new series were not committed: forget them."""
        self.forget(fresh.id for fresh in self._fresh)
        self._fresh = []

    def forget(self, numbers: Iterable[int]) -> None:
        """Drop series that have no rows any more."""
        for number in numbers:
            group, key = self._by_id.pop(number)
            del group.ids[key]
            group.lists.clear()
            if not group.ids:
                del self._groups[group.measurement][group.publisher, group.subject, group.names]

    def count(self, measurement: str) -> int:
        """How many series a measurement has."""
        return sum(len(group.ids) for group in list(self._groups.get(measurement, {}).values()))

    def attributes(self, measurement: str) -> frozenset[str]:
        """The attributes that any series of a measurement has."""
        return frozenset(name for group in list(self._groups.get(measurement, {}).values()) for name in group.names)

    def labels(self, number: int, names: tuple[str, ...]) -> tuple[str | None, ...]:
        """Give the labels of one series; None for an attribute it lacks. All None for an unknown number."""
        found = self._by_id.get(number)
        if found is None:
            return (None,) * len(names)
        return tuple(_label(*found, name) for name in names)

    def match(self, measurement: str, where: Selector, people: Mapping[str, str]) -> Iterator[tuple[Group, Key, int]]:
        """Find the series that a selector means. `people` maps node ids to the names that people use: both match."""
        terms = [(term.name, term.predicate(), term.negated) for term in where]
        for group in list(self._groups.get(measurement, {}).values()):
            if not _group_matches(group, terms, people):
                continue
            tests = [(_place(group, name), test) for name, test, _ in terms if name not in ("node", "publisher")]
            for key, number in list(group.ids.items()):
                if all(test("" if place is None else key[place]) for place, test in tests):
                    yield group, key, number

    def _group(self, measurement: str, publisher: str, subject: str, names: tuple[str, ...]) -> Group:
        groups = self._groups.get(measurement)
        if groups is None:
            groups = self._groups[intern(measurement)] = {}
        group = groups.get((publisher, subject, names))
        if group is None:
            publisher, subject = intern(publisher), intern(subject)
            names = tuple(map(intern, names))
            group = groups[publisher, subject, names] = Group(intern(measurement), publisher, subject, names)
        return group

    def _number(self, group: Group, key: Key) -> int:
        known = group.ids.get(key)
        if known is not None:
            return known
        number, self._next = self._next, self._next + 1
        self._put(group, key, number)
        self._fresh.append(Fresh(number, group, key))
        return number

    def _put(self, group: Group, key: Key, number: int) -> None:
        key = tuple(map(intern, key))
        group.ids[key] = number
        self._by_id[number] = (group, key)


def label_of(group: Group, key: Key, names: tuple[str, ...]) -> tuple[str | None, ...]:
    """Give the labels of a matched series; None for an attribute it lacks."""
    return tuple(_label(group, key, name) for name in names)


def _label(group: Group, key: Key, name: str) -> str | None:
    if name == "node":
        return group.subject
    if name == "device":
        return key[0]
    if name == "publisher":
        return group.publisher
    return key[1 + group.names.index(name)] if name in group.names else None


def _place(group: Group, name: str) -> int | None:
    if name == "device":
        return 0
    return 1 + group.names.index(name) if name in group.names else None


def _group_matches(group: Group, terms: list[tuple[str, Callable[[str], bool], bool]], people: _Labels) -> bool:
    for name, test, negated in terms:
        if name == "publisher" and not test(group.publisher):
            return False
        if name == "node":
            person = people.get(group.subject)
            verdicts = [test(group.subject)] + ([test(person)] if person is not None else [])
            if not (all(verdicts) if negated else any(verdicts)):
                return False
    return True
