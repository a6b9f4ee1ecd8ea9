"""What many devices say alike is kept once.

Nodes of one make have the same devices in the same slots, so most of what a device says of itself another one, of
another node, said before: then the second refers to what the first has. Only memory depends on it: equal is equal,
shared or not, and what is shared is never changed in place.
"""

import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from aggregator.ledger.model import Profile, View
from schemas.device import Slot, Value

_MOST: Final = 1 << 15
"""So many are remembered; with more makings in more kinds of slots than that, remembering begins anew."""


class Capabilities(Mapping[str, Value]):
    """What a device can do that one view tells of: what its making has, and its own on top. Not to be changed."""

    __slots__ = ("_making", "_own")

    def __init__(self, making: dict[str, Value], own: dict[str, Value]) -> None:
        self._making = making
        self._own = own

    def __getitem__(self, name: str) -> Value:
        return self._own[name] if name in self._own else self._making[name]

    def get(self, name: str, default: Any = None) -> Any:
        """See `Mapping`."""
        found = self._own.get(name)
        return self._making.get(name, default) if found is None else found

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self._making

    def __iter__(self) -> Iterator[str]:
        return iter(self._making | self._own)

    def __len__(self) -> int:
        return len(self._making | self._own)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._making | self._own!r})"


class _Like(msgspec.Struct, gc=False):
    """What was said last of a device of one making in one kind of slot."""

    view: View
    capabilities: Capabilities | None = None
    """Of a device that is seen by this view alone; None until somebody asks."""


class Sharing:
    """What was said last of devices of every making in every kind of slot."""

    __slots__ = ("_alike", "_profiles")

    def __init__(self) -> None:
        self._alike: dict[tuple[int, Slot], _Like] = {}
        self._profiles: dict[tuple[int, ...], tuple[int, ...]] = {}

    def view(self, view: View, publisher: str) -> View:
        """Give an equal view, which shares what it can: with others, and with `publisher`."""
        key = (view.profile, view.slot)
        like = self._alike.get(key)
        known = view if like is None else like.view
        if like is not None and view.own is known.own and view.slot is known.slot:
            return view  # it shares already
        own = known.own if _same(view.own, known.own) else _values(view.own, known.own)
        shared = View(
            publisher if view.publisher == publisher else sys.intern(view.publisher),
            sys.intern(view.collector),
            sys.intern(view.document),
            view.profile,
            known.slot,
            view.serial,
            view.uuid,
            known.parent if view.parent == known.parent else view.parent,
            known.keys if view.keys == known.keys else [sys.intern(one) for one in view.keys],
            own,
        )
        if like is None or own is not known.own:
            if like is None and len(self._alike) >= _MOST:
                self._alike.clear()
            self._alike[key] = _Like(shared)
        return shared

    def know(self, view: View, capabilities: Capabilities) -> None:
        """Let what is told from now on refer to a view that is there already, read from a snapshot."""
        if len(self._alike) < _MOST:
            self._alike.setdefault((view.profile, view.slot), _Like(view, capabilities))

    def capabilities(self, view: View, profiles: list[Profile]) -> Capabilities:
        """Give what a device can do that is seen by this view alone."""
        like = self._alike.get((view.profile, view.slot))
        if like is None or like.view.own is not view.own:
            return Capabilities(profiles[view.profile].capabilities, view.own)
        if like.capabilities is None:
            like.capabilities = Capabilities(profiles[view.profile].capabilities, view.own)
        return like.capabilities

    def profiles(self, numbers: tuple[int, ...]) -> tuple[int, ...]:
        """Give equal numbers, the same for all devices of one making."""
        return self._profiles.setdefault(numbers, numbers)


def _same(told: dict[str, Value], known: dict[str, Value]) -> bool:
    """Tell whether two say the same; 1 and True are not."""
    return told is known or (told == known and [*map(type, told.values())] == [*map(type, known.values())])


def _values(told: dict[str, Value], known: dict[str, Value]) -> dict[str, Value]:
    """Give what is told, with those values of `known` that are equal."""
    shared = {}
    for name, value in told.items():
        other = known.get(name)
        shared[name] = other if type(other) is type(value) and other == value else value
    return shared
