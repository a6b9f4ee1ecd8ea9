"""The ledger and everything that lives by it alone, put together."""

from collections.abc import Coroutine, Iterator

from aggregator import usage
from aggregator.control import Control
from aggregator.ledger.keeping import Keeping, KeepingStatus
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.past import Past
from aggregator.ledger_publisher import LedgerPublisher, PublishingStatus
from aggregator.ledger_watch import LedgerWatch
from aggregator.log import Log
from aggregator.marking import Marking
from aggregator.placement.placing import Placer


class LedgerService:
    """One ledger at work. For one event loop."""

    def __init__(self, database: Control, holder: str, log: Log) -> None:
        """Put it together; `holder` is who leads it while we do."""
        self.ledger = Ledger(database, holder, note=usage.note)
        self.keeping = Keeping(self.ledger)
        self.past = Past(self.ledger)
        self.placer = Placer()
        self.marking = Marking(self.ledger)
        self.watching = LedgerWatch(self.ledger)
        self.publisher = LedgerPublisher(self.ledger, log)

    def work(self) -> Iterator[tuple[str, Coroutine[object, object, None]]]:
        """Give what runs for as long as the ledger is open, by name; each until it is cancelled."""
        yield "lead", self.ledger.keep_lead()
        yield "keeping", self.keeping.run()
        yield "marks", self.marking.run()
        yield "publisher", self.publisher.run()
        yield "placement", self.placer.keep_up(self.ledger)

    @property
    def status(self) -> dict[str, KeepingStatus | PublishingStatus]:
        """How its parts fare."""
        return {"kept": self.keeping.status, "published": self.publisher.status}
