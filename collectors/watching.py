"""The watch of one collector: the `start` that it goes with, what it emits, and whether it ended by itself."""

from collectors.channel import Emitted, Ended
from collectors.counters import Counters
from collectors.handover import Handover
from collectors.trouble import Trouble


class Watch:
    """What comes of it. What a watch sends that is over by now is left."""

    def __init__(self, counters: Counters, trouble: Trouble, handover: Handover) -> None:
        self.call = 0
        """The call of `start` that it goes with; 0 for none."""
        self.ended = False
        """It ended by itself: the collector is to be stopped, and started again."""
        self._counters = counters
        self._trouble = trouble
        self._handover = handover

    def begin(self, call: int) -> None:
        """Begin with a call of `start`, before that is answered: it may emit at once."""
        self.call, self.ended = call, False

    def end(self) -> None:
        """Expect nothing more."""
        self.call = 0

    def emitted(self, emitted: Emitted, now: float) -> bool:
        """Take rows; False when it does not wait for its turn, as it must."""
        if emitted.call != self.call:
            return True
        if self._handover.watch_waiting:
            return False
        self._counters.rows += emitted.rows
        self._counters.emissions += 1
        self._counters.merge(emitted.faults)
        if emitted.note:
            self._trouble.note(emitted.note)
        self._handover.offer_watched(emitted.call, emitted.delivery, emitted.rows, now, durable=emitted.durable)
        return True

    def failed(self, ended: Ended) -> bool:
        """Take note that it ended by itself; False when it was over before."""
        if ended.call != self.call:
            return False
        self._trouble.fail(ended.problem)
        self.ended = True
        return True
