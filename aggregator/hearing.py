"""Which nodes were not heard for a while: silent, unless it is us who are behind."""

from collections.abc import Callable, Sequence
from typing import Final

from aggregator.ledger import conflicts
from aggregator.ledger.entries import Entry, NodeReached
from aggregator.ledger.state import State
from aggregator.log import Record

BEHIND_SECONDS: Final = 5.0
"""While we are so far behind in a partition, nobody in it is called silent."""


class Hearing:
    """When each publisher was last heard, by our clock. For one event loop."""

    def __init__(self, silence_s: float, clock: Callable[[], float], wall_ns: Callable[[], int]) -> None:
        """Whoever is not heard for `silence_s` is silent; `wall_ns` is the log's clock."""
        self._silence_s = silence_s
        self._clock = clock
        self._wall_ns = wall_ns
        self._heard: dict[str, tuple[float, int]] = {}
        """Publisher -> when, and its partition."""
        self._late: dict[tuple[int, str], float] = {}
        self.behind: dict[int, float] = {}
        """Partition -> seconds that we are behind in it, in any topic; only those where we are."""

    def begin(self, state: State) -> None:
        """Take those who speak for nodes as heard just now: nobody was before, because nobody listened."""
        now = self._clock()
        for node in state.nodes.values():
            if node.publisher:
                self._heard.setdefault(node.publisher, (now, -1))

    def hear(self, publisher: str, partition: int) -> None:
        """Note that a publisher speaks."""
        self._heard[publisher] = (self._clock(), partition)

    def note_lateness(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        """Note how long the log had what was read of a partition just now, all that there is when it is nothing."""
        late = (self._wall_ns() - records[0].appended_ns) / 1e9 if records else 0.0
        if late > BEHIND_SECONDS:
            self._late[partition, topic] = late
        elif self._late.pop((partition, topic), None) is None:
            return
        mine = [seconds for (where, _), seconds in self._late.items() if where == partition]
        if mine:
            self.behind[partition] = max(mine)
        else:
            del self.behind[partition]

    def news(self, state: State) -> list[Entry]:
        """Give which nodes fell silent, and which speak again; nothing of partitions where we are behind."""
        now = self._clock()
        entries: list[Entry] = []
        again: list[str] = []
        for node in state.nodes.values():
            if not node.publisher:
                continue
            heard, partition = self._heard.get(node.publisher, (now, -1))
            silent = now - heard >= self._silence_s and partition not in self.behind
            if silent and node.live:
                entries.append(NodeReached(node.id, live=False, why=f"not heard for {now - heard:.0f} s"))
            elif not silent and not node.live and now - heard < self._silence_s:
                entries.append(NodeReached(node.id, live=True))
                again.append(node.id)
        return [*entries, *conflicts.of_nodes(state, again)]
