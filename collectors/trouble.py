"""What goes wrong with one collector: counted, remembered, said once, and waited for longer each time."""

import logging
from collections.abc import Callable

from collectors.cadence import backoff, share
from collectors.channel import Problem
from collectors.counters import Counters
from collectors.status import SchedulerOptions

_log = logging.getLogger("muster.scheduler")


class Trouble:
    """The failures of one collector."""

    def __init__(self, name: str, counters: Counters, options: SchedulerOptions, wall_ns: Callable[[], int]) -> None:
        self.failures = 0
        """Calls of `collect` that failed in a row."""
        self.spent = False
        """Its helper is of no more use, and is left as soon as the collector is stopped."""
        self._name = name
        self._counters = counters
        self._options = options
        self._wall_ns = wall_ns
        self._attempts = 0
        self._complaint = ""

    def note(self, text: str) -> None:
        """Keep the text of the last error."""
        self._counters.note(text, self._wall_ns())

    def fail(self, problem: Problem) -> None:
        """Count a failure by the exception's class, and keep it with its text: `KeyError: 'power'`."""
        self.spent = self.spent or problem.new_process
        self._counters.count(problem.name, problem.failed)
        self.note(f"{problem.name}: {problem.text}" if problem.text else problem.name)

    def complain(self, name: str, text: str) -> None:
        """Log a standing condition, once."""
        if self._complaint != name:
            self._complaint = name
            _log.warning("collector_failed collector=%s type=%s error=%s", self._name, name, text)

    def recovered(self) -> None:
        """Say that the condition stands no longer."""
        if self._complaint:
            self._complaint = ""
            _log.info("collector_recovered collector=%s", self._name)

    def start_over(self) -> None:
        """Have the next back-off be as short as the first."""
        self._attempts = 0

    def delay(self) -> float:
        """Give how many seconds to wait after one more failure."""
        self._attempts += 1
        options = self._options
        jitter = share(options.node_id, self._name, str(self._attempts))
        return backoff(self._attempts, options.backoff_first, options.backoff_most, jitter)
