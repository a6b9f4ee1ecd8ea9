"""All nodes as placement sees them, kept up to date with the state: only nodes that changed are looked at again.

Nodes of one layout under equal masks are one shape: they are solved once. What each condition removes is counted for
each seat of each layout as nodes change, so that a refusal's counts cost no walk over the fleet.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator

from aggregator.ledger.state import State
from aggregator.placement.layout import Layout, bits
from aggregator.placement.summary import Layouts, Masks, Summary, summarise


class Index:
    """Summaries of the nodes of one state."""

    def __init__(self, state: State, layouts: Layouts | None = None) -> None:
        self.state = state
        self.layouts = layouts or Layouts()
        self.nodes: dict[str, Summary] = {}
        self.shapes: dict[Layout, dict[Masks, list[str]]] = {}
        """Layout -> masks -> ids of nodes, sorted."""
        self.counts: dict[Layout, dict[str, list[int]]] = {}
        """Layout -> condition -> for each seat the nodes where it removes the device."""
        self.closed: dict[str, None] = {}
        """Nodes to which nothing may go, those that are marked among them."""
        self.marked: dict[str, None] = {}
        """Nodes with a taint, their own or a device's."""
        self.special: dict[str, dict[str, None]] = {}
        """Tenant -> nodes where the relations leave it more than others."""
        self._touched: set[str] = set(state.nodes)

    def follow(self) -> None:
        """Be told of the state's changes from now on. Again: nothing new."""
        if not any(one is self._touched for one in self.state.listeners):
            self.state.listeners.append(self._touched)

    def leave(self, state: State) -> None:
        """Be told no more: of `state`, to which who listened to ours was handed on."""
        state.listeners = [one for one in state.listeners if one is not self._touched]

    def refresh(self, most: int | None = None) -> bool:
        """Look at what changed, at most so many nodes; tell whether some are left."""
        touched = self._touched
        while touched and most != 0:
            self._look_at(touched.pop())
            most = None if most is None else most - 1
        return bool(touched)

    def touch(self, nodes: Iterable[str]) -> None:
        """Have nodes looked at again."""
        self._touched.update(nodes)

    def fork(self, state: State, touched: Iterable[str]) -> "Index":
        """Give the index of a state that differs from this one in some nodes; this one stays as it is."""
        made = Index(state, self.layouts)
        made.nodes = dict(self.nodes)
        made.shapes = {
            layout: {masks: list(nodes) for masks, nodes in shapes.items()} for layout, shapes in self.shapes.items()
        }
        made.counts = {
            layout: {word: list(numbers) for word, numbers in words.items()} for layout, words in self.counts.items()
        }
        made.closed, made.marked = dict(self.closed), dict(self.marked)
        made.special = {tenant: dict(nodes) for tenant, nodes in self.special.items()}
        made._touched = set(touched)
        made.refresh()
        return made

    def in_layout(self, layout: Layout) -> Iterator[Summary]:
        """Yield the nodes of a layout."""
        for nodes in self.shapes.get(layout, {}).values():
            for name in nodes:
                yield self.nodes[name]

    def _look_at(self, name: str) -> None:
        before = self.nodes.pop(name, None)
        if before is not None:
            self._take(before)
        if name in self.state.nodes:
            self._put(summarise(self.state, name, self.layouts))

    def _put(self, summary: Summary) -> None:
        self.nodes[summary.node] = summary
        insort(self.shapes.setdefault(summary.layout, {}).setdefault(summary.masks, []), summary.node)
        self._count(summary, 1)
        if summary.closed:
            self.closed[summary.node] = None
        if summary.taints:
            self.marked[summary.node] = None
        for tenant in summary.special:
            self.special.setdefault(tenant, {})[summary.node] = None

    def _take(self, summary: Summary) -> None:
        shapes = self.shapes[summary.layout]
        nodes = shapes[summary.masks]
        del nodes[bisect_left(nodes, summary.node)]
        if not nodes:
            del shapes[summary.masks]
        self._count(summary, -1)
        if not shapes:
            del self.shapes[summary.layout], self.counts[summary.layout]
        self.closed.pop(summary.node, None)
        self.marked.pop(summary.node, None)
        for tenant in summary.special:
            self.special[tenant].pop(summary.node)
            if not self.special[tenant]:
                del self.special[tenant]

    def _count(self, summary: Summary, sign: int) -> None:
        words = self.counts.setdefault(summary.layout, {})
        for word, mask in summary.reasons.items():
            numbers = words.get(word)
            if numbers is None:
                numbers = words[word] = [0] * summary.layout.size
            for at in bits(mask):
                numbers[at] += sign
