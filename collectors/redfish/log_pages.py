"""The pages of a BMC's log, with the entries in them where a page only refers to them: no more than are needed.

Source: DSP0266 1.20, 7.3 ($skip), 7.4 (nextLink); a collection of LogEntry may hold references alone.
"""

from collections.abc import Callable, Iterator
from typing import Final

from collectors.redfish.resource import Resource, canonical, link, objects, uri

MOST_PAGES: Final = 64
"""Pages of a log that are gone through at once, back to what was read before."""

Get = Callable[[str], Resource | None]
"""Gives a resource by its path, or None."""


class Pages:
    """The pages of one log, its newest among the first where the BMC can skip; all of it else, up to a limit."""

    def __init__(
        self,
        path: str,
        get: Get,
        until: Callable[[], bool],
        before: tuple[str, int] | None,
        is_before: Callable[[Resource], bool],
    ) -> None:
        """Ask for nothing yet.

        `before`: id of the entry that was taken last ("": the log was empty), and how many there were; None on a first
        look, which needs the newest alone. `is_before`: whether an entry of that id is that very one.
        """
        self._path, self._get, self._until = path, get, until
        self._before, self._is_before = before, is_before
        self._had: dict[str, Resource] = {}
        self.cut = False
        """Whether the time was over before all entries of the last page were there; it has the oldest of them then."""

    def __iter__(self) -> Iterator[Resource]:
        first = self._get(self._path)
        if first is None:
            return
        skipped = self._skipped(first)
        page = first if skipped is None else skipped
        yield self._whole(page)
        seen: set[str] = set()
        while len(seen) < MOST_PAGES and not self.cut and not self._until():
            path = following(page)
            found = None if not path or path in seen else self._get(path)
            if found is None:
                return
            seen.add(path)
            page = found
            yield self._whole(page)

    def _skipped(self, first: Resource) -> Resource | None:
        """Give the page with the entry before and what follows it; None where it need not, or cannot, be skipped to."""
        before, ids, total = self._before, _ids(first), total_of(first)
        if total is None or not 0 < len(ids) < total or newest_first(ids):
            return None
        at = max(0, total - len(ids)) if before is None else max(0, min(before[1], total) - 1)
        skipped = self._get(f"{self._path}?$skip={at}") if at else None
        there = _ids(skipped or {})
        stands = before is None or before[0] in there  # else the log has turned, and more is new
        return skipped if there and there[0] != ids[0] and stands else None

    def _whole(self, page: Resource) -> Resource:
        """Give a page with its entries in it, but for those that are not needed, which stay references."""
        members = list(objects(page, "Members"))
        asked = self._needed([uri(one) for one in members if len(one) == 1])
        found: dict[str, Resource] = {}
        for path in asked:
            if self._until():
                self.cut = True
                break
            found[path] = self._had.pop(path, {}) or self._get(path) or {"@odata.id": path}
            if self._before is None and len(found[path]) > 1 and numeric(_id(path)):
                break
        left = set(asked) - found.keys() if self.cut else set()
        return {**page, "Members": [found.get(uri(one), one) for one in members if uri(one) not in left]}

    def _needed(self, paths: list[str]) -> list[str]:
        """Give which references to follow, in order: what comes after the entry before, if that still is there."""
        if not all(numeric(_id(path)) for path in paths):
            return paths
        ordered = sorted(paths, key=lambda path: int(_id(path)))
        if self._before is None:
            return ordered[::-1]
        last = self._before[0]
        at = next((index for index, path in enumerate(ordered) if _id(path) == last), None)
        if at is None or self._until():
            return ordered
        entry = self._had[ordered[at]] = self._get(ordered[at]) or {}
        return ordered[at:] if self._is_before(entry) else ordered


def following(page: Resource) -> str:
    """Give the path of the page that follows; "" when none does."""
    return canonical(page.get("Members@odata.nextLink")) or link(page, "Members@odata.nextLink")


def total_of(page: Resource) -> int | None:
    """Give how many entries a log says that it has; None when it does not."""
    total = page.get("Members@odata.count")
    return total if isinstance(total, int) and not isinstance(total, bool) and total >= 0 else None


def newest_first(ids: list[str]) -> bool:
    """Tell in which order entries come, by the first and the last whose ids are numbers."""
    numbers = [int(one) for one in ids if numeric(one)]
    return len(numbers) > 1 and numbers[0] > numbers[-1]


def numeric(entry: str) -> bool:
    """Whether an id is a number, of at most 18 digits."""
    return entry.isascii() and entry.isdecimal() and len(entry) <= 18


def _ids(page: Resource) -> list[str]:
    return [_id(uri(one)) for one in objects(page, "Members")]


def _id(path: str) -> str:
    return path.rpartition("/")[2]
