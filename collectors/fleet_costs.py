"""What a process of simulated nodes spends its processor time on, so that a load test can tell load from the rest."""

import threading
import time
from collections.abc import Callable
from typing import Final

PHASES: Final = ("physics", "encoding", "spool", "sending", "control")
"""Simulating; making batches of rows; committing them to the spool; sending them, with reading them back from the
spool; the control channel."""


class _Thread(threading.local):
    """The phases that a thread is in, innermost last, and what it spent on each."""

    def __init__(self, threads: list[dict[str, float]]) -> None:
        self.spent = dict.fromkeys(PHASES, 0.0)
        self.inside: list[str] = []
        self.since = 0.0
        threads.append(self.spent)


class Costs:
    """Adds up CPU seconds by phase, over all threads. A phase within another one is not counted for the outer one."""

    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        self._clock = clock
        self._threads: list[dict[str, float]] = []
        self._thread = _Thread(self._threads)
        self._phases = {name: _Phase(self, name) for name in PHASES}

    def phase(self, name: str) -> "_Phase":
        """Give the context in which CPU time counts for `name`."""
        return self._phases[name]

    def spent(self) -> dict[str, float]:
        """Give the CPU seconds of each phase so far."""
        return {name: sum(thread[name] for thread in list(self._threads)) for name in PHASES}

    def enter(self, name: str) -> None:
        """Begin a phase in this thread."""
        thread, now = self._thread, self._clock()
        if thread.inside:
            thread.spent[thread.inside[-1]] += now - thread.since
        thread.inside.append(name)
        thread.since = now

    def leave(self) -> None:
        """End the innermost phase of this thread."""
        thread, now = self._thread, self._clock()
        thread.spent[thread.inside.pop()] += now - thread.since
        thread.since = now


class _Phase:
    __slots__ = ("_costs", "_name")

    def __init__(self, costs: Costs, name: str) -> None:
        self._costs = costs
        self._name = name

    def __enter__(self) -> None:
        self._costs.enter(self._name)

    def __exit__(self, *_: object) -> None:
        self._costs.leave()
