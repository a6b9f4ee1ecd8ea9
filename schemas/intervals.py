"""Sets of whole numbers kept as intervals: how Muster knows which rows it has, and which it has not.

A high-water mark cannot say that rows 10 to 19 are missing while 20 to 29 are here. An interval set can, and for the
usual case, numbers that come in order, it is a single pair.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Interval = tuple[int, int]
"""Half open, `[first, end)`."""


class Intervals:
    """A set of non-negative whole numbers as sorted, disjoint, non-adjacent half-open intervals.

    `add` at the end is O(1); anywhere else it is O(log n) to find and O(n) to shift, n being the number of gaps.
    """

    __slots__ = ("_ends", "_firsts")

    def __init__(self, intervals: Iterable[Interval] = ()) -> None:
        self._firsts: list[int] = []
        self._ends: list[int] = []
        for first, end in intervals:
            self.add(first, end)

    def __iter__(self) -> Iterator[Interval]:
        return zip(self._firsts, self._ends, strict=True)

    def __bool__(self) -> bool:
        return bool(self._firsts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Intervals):
            return NotImplemented
        return self._firsts == other._firsts and self._ends == other._ends

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"Intervals({list(self)!r})"

    def copy(self) -> "Intervals":
        """Give a set of the same numbers that changes on its own."""
        twin = Intervals()
        twin._firsts = self._firsts.copy()
        twin._ends = self._ends.copy()
        return twin

    @property
    def count(self) -> int:
        """How many numbers are in the set."""
        return sum(self._ends) - sum(self._firsts)

    @property
    def end(self) -> int:
        """One more than the largest number; 0 for the empty set."""
        return self._ends[-1] if self._ends else 0

    def add(self, first: int, end: int) -> int:
        """Put `[first, end)` in; give how many of its numbers were not in before. Raises ValueError if negative."""
        if first < 0:
            raise ValueError(f"row numbers start at 0, not {first}")
        if end <= first:
            return 0
        firsts, ends = self._firsts, self._ends
        if not ends or first > ends[-1]:
            firsts.append(first)
            ends.append(end)
            return end - first
        if first == ends[-1]:
            ends[-1] = end
            return end - first
        low = bisect_left(ends, first)  # the first interval that touches or follows
        high = bisect_right(firsts, end)  # one past the last interval that touches or precedes
        if low == high:
            firsts.insert(low, first)
            ends.insert(low, end)
            return end - first
        had = sum(ends[low:high]) - sum(firsts[low:high])
        merged_first, merged_end = min(first, firsts[low]), max(end, ends[high - 1])
        firsts[low:high] = [merged_first]
        ends[low:high] = [merged_end]
        return merged_end - merged_first - had

    def update(self, other: Iterable[Interval]) -> None:
        """Put every interval of `other` in."""
        for first, end in other:
            self.add(first, end)

    def missing(self, first: int, end: int) -> list[Interval]:
        """Give the parts of `[first, end)` that are not in the set, in order."""
        holes: list[Interval] = []
        index = bisect_right(self._ends, first)
        while first < end:
            if index == len(self._firsts) or self._firsts[index] >= end:
                holes.append((first, end))
                break
            if self._firsts[index] > first:
                holes.append((first, self._firsts[index]))
            first = self._ends[index]
            index += 1
        return holes

    def contains(self, first: int, end: int) -> bool:
        """Tell whether every number of `[first, end)` is in the set."""
        return not self.missing(first, end)

    def minus(self, other: "Intervals") -> "Intervals":
        """Give the numbers that are in this set and not in `other`."""
        rest = Intervals()
        for first, end in self:
            for hole_first, hole_end in other.missing(first, end):
                rest.add(hole_first, hole_end)
        return rest

    def pairs(self) -> list[Interval]:
        """Give the intervals as a list, as they travel."""
        return list(self)
