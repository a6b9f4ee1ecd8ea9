"""Ask file systems how full they are, some of which may never answer."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from schemas.rows import Event, Severity

StatVfs = Callable[[str], os.statvfs_result]

MOST: Final = 32
"""File systems that may hang, at most: each costs a thread. Those beyond are not asked."""


class _Worker:
    """One thread that asks one file system; it is handed nothing more until it has answered."""

    def __init__(self, path: str, statvfs: StatVfs, changed: threading.Condition) -> None:
        self._path = path
        self._statvfs = statvfs
        self._changed = changed
        self._asked = False
        self._ended = False
        self.busy = False
        self.answer: os.statvfs_result | None = None
        threading.Thread(target=self._run, name=f"statvfs {path}", daemon=True).start()

    def ask(self) -> None:
        """Have it ask once more. The condition is held."""
        self._asked = self.busy = True
        self._changed.notify_all()

    def end(self) -> None:
        """Let the thread go once it is free. The condition is held."""
        self._ended = True
        self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._asked or self._ended):
                    self._changed.wait()
                if self._ended:
                    return
                self._asked = False
            try:
                answer = self._statvfs(self._path)
            except OSError:
                answer = None
            with self._changed:
                self.answer, self.busy = answer, False
                self._changed.notify_all()


class Asker:
    """Asks file systems: the prompt ones at once, each other one in a thread of its own with a deadline for all.

    One that missed the deadline is not waited for again until it has answered.
    """

    def __init__(self, timeout_s: float, statvfs: StatVfs = os.statvfs) -> None:
        self._timeout_s = timeout_s
        self._statvfs = statvfs
        self._changed = threading.Condition()
        self._workers: dict[str, _Worker] = {}
        self._hung: set[str] = set()
        self._events: list[Event] = []

    def ask(self, paths: Mapping[str, str], prompt: frozenset[str]) -> dict[str, os.statvfs_result]:
        """Give the answers by name; left out is what failed or did not answer in time. `paths` are by name as well."""
        answers = {}
        slow = []
        for name, path in paths.items():
            if name not in prompt:
                slow.append(name)
                continue
            try:
                answers[name] = self._statvfs(path)
            except OSError:
                continue
        if slow or self._workers:
            self._ask_slow(slow, paths, answers)
        return answers

    def events(self) -> Iterable[Event]:
        """Give, once, what stopped or began to answer since the last call."""
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        """Let every thread go that is free; one that hangs goes when it is answered, or with the process."""
        with self._changed:
            for worker in self._workers.values():
                worker.end()
        self._workers.clear()
        self._hung.clear()

    def _ask_slow(self, slow: list[str], paths: Mapping[str, str], answers: dict[str, os.statvfs_result]) -> None:
        with self._changed:
            self._forget(set(slow))
            for name in slow:
                if name not in self._workers and len(self._workers) < MOST:
                    self._workers[name] = _Worker(paths[name], self._statvfs, self._changed)
            asked = [name for name, worker in self._workers.items() if not worker.busy]
            for name in asked:
                self._workers[name].ask()
            deadline = time.monotonic() + self._timeout_s
            while any(self._workers[name].busy for name in asked):
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            for name in asked:
                worker = self._workers[name]
                self._tell(name, hung=worker.busy)
                if not worker.busy and worker.answer is not None:
                    answers[name] = worker.answer

    def _forget(self, wanted: set[str]) -> None:
        """Let go of what is no longer mounted; a thread that hangs is left to its fate."""
        for name in self._workers.keys() - wanted:
            self._workers.pop(name).end()
            self._hung.discard(name)

    def _tell(self, name: str, *, hung: bool) -> None:
        if hung == (name in self._hung):
            return
        detail = {"mountpoint": name}
        if hung:
            self._hung.add(name)
            message = f"{name} does not answer within {self._timeout_s:g} s"
            self._events.append(Event("host.file_system.unavailable", message, Severity.ERROR, detail=detail))
        else:
            self._hung.discard(name)
            message = f"{name} answers again"
            self._events.append(Event("host.file_system.available", message, Severity.NOTICE, detail=detail))
