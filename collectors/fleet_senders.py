"""A few threads that send for many publishers: each takes the publisher that is due and gives it one request."""

import heapq
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from collectors.fleet_costs import Costs
from collectors.transport import Answer, Transport


class Sends(Protocol):
    """What the senders need of a publisher."""

    @property
    def backing_off(self) -> bool:
        """Whether something new is no reason to try sooner."""

    def attempt(self) -> float:
        """Send one request if there is something to say; give the seconds to wait, 0 for not at all."""


class PooledSender:
    """Carries the requests of whichever publisher a thread sends for, over that thread's own connection."""

    def __init__(self, make: Callable[[], Transport]) -> None:
        self._make = make
        self._threads = threading.local()

    @property
    def transport(self) -> Transport:
        """This thread's own."""
        transport: Transport | None = getattr(self._threads, "transport", None)
        if transport is None:
            transport = self._threads.transport = self._make()
        return transport

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """See `Transport.request`."""
        return self.transport.request(method, path, body, headers)

    def close(self) -> None:
        """Close this thread's connection."""
        self.transport.close()


class Senders:
    """Gives every publisher its turn: when it has something new, and when it said that it wants one."""

    def __init__(
        self,
        publishers: Sequence[Sends],
        sender: PooledSender,
        costs: Costs,
        threads: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._publishers = publishers
        self._sender = sender
        self._costs = costs
        self._clock = clock
        self._changed = threading.Condition()
        self._turns: list[tuple[float, int]] = []
        self._when: list[float | None] = [None] * len(publishers)
        """When each is due; None while it is being served."""
        self._again = [False] * len(publishers)
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._run, name=f"sender-{number}", daemon=True) for number in range(threads)
        ]

    def start(self, first: Iterable[float]) -> None:
        """Begin; `first` gives for each publisher the seconds until its first turn."""
        now = self._clock()
        with self._changed:
            for index, seconds in enumerate(first):
                self._schedule(index, now + seconds)
        for thread in self._threads:
            thread.start()

    def wake(self, indexes: Iterable[int]) -> None:
        """These have something new."""
        with self._changed:
            now = self._clock()
            for index in indexes:
                when = self._when[index]
                if when is None:
                    self._again[index] = True
                elif when > now and not self._publishers[index].backing_off:
                    self._schedule(index, now)
            self._changed.notify_all()

    def stop(self, timeout: float = 5.0) -> None:
        """End, each thread after the request that it is at."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        deadline = self._clock() + timeout
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - self._clock()))

    def _schedule(self, index: int, when: float) -> None:
        self._when[index] = when
        heapq.heappush(self._turns, (when, index))

    def _next(self) -> int | None:
        """Wait for the next turn; give whose it is, None to end."""
        with self._changed:
            while not self._stopping:
                now = self._clock()
                while self._turns and self._when[self._turns[0][1]] != self._turns[0][0]:
                    heapq.heappop(self._turns)  # it was given an earlier turn
                if self._turns and self._turns[0][0] <= now:
                    _, index = heapq.heappop(self._turns)
                    self._when[index] = None
                    self._again[index] = False
                    return index
                self._changed.wait(self._turns[0][0] - now if self._turns else None)
        return None

    def _run(self) -> None:
        while (index := self._next()) is not None:
            publisher = self._publishers[index]
            with self._costs.phase("sending"):
                wait = publisher.attempt()
            with self._changed:
                if self._again[index] and not publisher.backing_off:
                    wait = 0.0
                self._schedule(index, self._clock() + wait)
        self._sender.close()
