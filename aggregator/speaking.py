"""Which nodes a publisher speaks for, kept from what changes: nobody goes through a fleet for each of them."""

from aggregator.ledger.state import State


class Speaking:
    """Publisher -> its nodes, of one state at a time. For one event loop."""

    def __init__(self) -> None:
        self._touched: set[str] = set()
        self._publishers: dict[str, str] = {}
        self._nodes: dict[str, dict[str, None]] = {}
        self._state: State | None = None

    def changed(self, state: State) -> list[str]:
        """Give the nodes that changed since this was last asked; all of them when it is another state."""
        if state is not self._state:
            mine = set(state.nodes)
            state.listeners = [*(one for one in state.listeners if one is not self._touched), mine]
            self._state, self._touched = state, mine
            self._publishers.clear()
            self._nodes.clear()
        names = sorted(self._touched)
        self._touched.clear()
        for name in names:
            before, now = self._publishers.get(name, ""), state.nodes[name].publisher
            if before == now:
                continue
            self._publishers[name] = now
            if before:
                del self._nodes[before][name]
            self._nodes.setdefault(now, {})[name] = None
        return names

    def of(self, publisher: str) -> list[str]:
        """Give the nodes that a publisher speaks for, as of the last `changed`."""
        return list(self._nodes.get(publisher, ()))
