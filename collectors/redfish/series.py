"""How many series one BMC may have: what it makes up without end fills neither the memory nor the store."""

from array import array
from bisect import bisect_left
from typing import Final

from schemas.rows import Reading

MOST: Final = 8192
"""Series of one BMC, and sensors that are looked at; the largest machine known has some thousands."""


class Series:
    """The series that one BMC has had since this was made, each as eight bytes."""

    def __init__(self) -> None:
        self._known = array("q")

    def admit(self, row: Reading) -> bool:
        """Tell whether a row is of a series that is known, or there is room for one more."""
        key = hash((row.measurement, row.device, *sorted(row.attributes.items())))
        at = bisect_left(self._known, key)
        if at < len(self._known) and self._known[at] == key:
            return True
        if len(self._known) >= MOST:
            return False
        self._known.insert(at, key)
        return True
