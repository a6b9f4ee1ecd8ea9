"""The runs of publishers, as far as the inventory consumer has to know them: which is whose latest."""

from collections.abc import Iterable
from functools import partial

import msgspec
from sqlalchemy import Connection, select

from aggregator.control import Control
from aggregator.ledger.state import State
from aggregator.progress import Tracker
from aggregator.tables import EPOCH


class Run(msgspec.Struct, frozen=True, gc=False):
    """A run of a publisher, as the control database knows it."""

    epoch: str
    boot: str
    began_ns: int
    """0: it knows none such."""
    unverified: bool
    """It took over without the word of the one before."""


class Runs:
    """What was asked of the control database, and the latest run that was read of. For one event loop."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._known: dict[tuple[str, str], Run] = {}
        self._latest: dict[str, Run] = {}
        """Publisher -> its latest run that was read of."""
        self._spoke: dict[str, str] = {}
        """Publisher -> its run that spoke for a node when we began."""

    def begin(self, state: State) -> None:
        """Forget everything, and take from the ledger's state who speaks for its nodes."""
        self._known.clear()
        self._latest.clear()
        self._spoke = {}
        for node in state.nodes.values():
            self._spoke.setdefault(node.publisher, node.epoch)

    async def know(self, named: Iterable[tuple[str, str]], tracker: Tracker) -> None:
        """Ask of the runs (publisher, epoch) that are named, and of those that speak for these publishers now.

        Raises ControlError.
        """
        for publisher, epoch in sorted(named):
            if publisher not in self._latest:
                word = tracker.words.get(publisher)
                current = self._spoke.get(publisher, word.epoch if word else "")
                if current:
                    self._latest[publisher] = await self._ask(publisher, current)
            await self._ask(publisher, epoch)

    async def _ask(self, publisher: str, epoch: str) -> Run:
        key = (publisher, epoch)
        run = self._known.get(key)
        if run is None:
            run = await self._control.read(partial(load_run, key=key))
            if run.began_ns:  # one that is not known yet may be so soon
                self._known[key] = run
        return run

    def of(self, publisher: str, epoch: str) -> Run:
        """Give what `know` has found of a run; `began_ns` 0 when there was nothing."""
        return self._known.get((publisher, epoch)) or Run(epoch, "", 0, unverified=False)

    def is_latest(self, publisher: str, run: Run) -> bool:
        """Tell whether nothing later than this run was read of its publisher; from here on it is the latest, if so."""
        latest = self._latest.get(publisher)
        if latest is None or latest.epoch == run.epoch or run.began_ns > latest.began_ns:
            self._latest[publisher] = run
            return True
        return False


def load_run(connection: Connection, key: tuple[str, str]) -> Run:
    """Give what the control database knows of a run; began_ns 0 when it knows none such."""
    publisher, epoch = key
    columns = (EPOCH.c.boot, EPOCH.c.started_ns)
    row = connection.execute(select(*columns).where(EPOCH.c.node == publisher, EPOCH.c.epoch == epoch)).first()
    if row is None:
        return Run(epoch, "", 0, unverified=False)
    before = select(EPOCH.c.end_reason).where(EPOCH.c.node == publisher, EPOCH.c.ended_ns == row.started_ns)
    reason = connection.execute(before).scalar()
    return Run(epoch, row.boot, row.started_ns, unverified=reason == "takeover")
