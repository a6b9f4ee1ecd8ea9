"""Which names an operator wants: shell patterns to include and to exclude."""

from collections.abc import Sequence
from fnmatch import fnmatchcase


class NameFilter:
    """Says of a name whether it matches one of `include` and none of `exclude`; remembers the last answers."""

    _REMEMBERED = 4096

    def __init__(self, include: Sequence[str] = ("*",), exclude: Sequence[str] = ()) -> None:
        self._include = tuple(include)
        self._exclude = tuple(exclude)
        self._known: dict[str, bool] = {}

    def __call__(self, name: str) -> bool:
        """Say whether the name is wanted."""
        known = self._known.get(name)
        if known is None:
            if len(self._known) >= self._REMEMBERED:  # names come and go without end on some machines
                self._known.clear()
            known = any(fnmatchcase(name, pattern) for pattern in self._include) and not any(
                fnmatchcase(name, pattern) for pattern in self._exclude
            )
            self._known[name] = known
        return known
