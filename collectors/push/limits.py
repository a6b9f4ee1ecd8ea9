"""How much one pusher may hand in, so that one that is mad does not cost the others, or the node, their room."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

from collectors.push.refusal import CARDINALITY, RefusedError
from collectors.ration import Ration

BURST_SECONDS: Final = 10.0
"""So many seconds' worth may come at once: a script that runs every minute is no flood."""
FORGET_SECONDS: Final = 3600.0
"""What was not pushed for so long does not count any more."""


def ration(per_second: float, clock: Callable[[], float]) -> Ration:
    """Give how much one pusher may hand in: `BURST_SECONDS` of it at once."""
    return Ration(per_second, per_second * BURST_SECONDS, clock)


class Seen:
    """Names that were used in the last hour, and not more of them than allowed."""

    __slots__ = ("_clock", "_most", "_seen", "_what")

    def __init__(self, most: int, what: str, clock: Callable[[], float]) -> None:
        """`what`: of what there are too many, in words."""
        self._most = most
        self._what = what
        self._clock = clock
        self._seen: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._seen)

    def __contains__(self, name: Hashable) -> bool:
        """Whether a name is among them."""
        return name in self._seen

    def use(self, name: Hashable, column: int = 1) -> None:
        """Take note of a name. Raises RefusedError when there are too many of them."""
        now = self._clock()
        if name not in self._seen and len(self._seen) >= self._most:
            oldest, at = next(iter(self._seen.items()))
            if now - at < FORGET_SECONDS:
                raise RefusedError(CARDINALITY, f"there are {self._most} {self._what} already", column)
            del self._seen[oldest]
        self._seen[name] = now
        self._seen.move_to_end(name)
