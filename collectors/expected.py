"""Devices held against what their operator expects of them: told as events when it changes, and in their documents.

For collectors whose documents are all there is to compare. The file is read again when it changes; one that cannot be
read any more leaves what it said before.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from collectors.contract import Objection
from collectors.expectation import Expectation, ExpectationError, Unmet, compare, read_expectations
from schemas.device import DeviceKind, Document
from schemas.events import EventSpec
from schemas.rows import Event, Severity

MOST_TOLD: Final = 16
"""Of one device, so many differences are told one by one."""


def drift_events(source: str, what: str) -> tuple[EventSpec, ...]:
    """Declare the events of the collector `source`, of `what` it describes."""
    return (
        EventSpec(
            f"{source}.drift",
            f"{what} are not as the file of expectations says. `kind` is `wrong-count`, or `wrong-` and the word.",
            (Severity.WARNING,),
            ("kind",),
        ),
        EventSpec(f"{source}.drift_over", "A difference is over.", (Severity.NOTICE,), ("kind",)),
    )


def objections(path: str) -> Iterator[Objection]:
    """Say what is wrong with the option `expectations`."""
    if path:
        try:
            read_expectations(Path(path))
        except ExpectationError as error:
            yield Objection("expectations", str(error))


class Expected:
    """The file, and what differed at the last look. For one thread at a time."""

    def __init__(self, source: str, path: str, kinds: Iterable[DeviceKind]) -> None:
        """Prepare; nothing is read. `source`: the collector. `path`: "" for no file. `kinds`: that it describes."""
        self._source = source
        self._path = Path(path) if path else None
        self._kinds = frozenset(kinds)
        self._read: tuple[int, int, int] | None = None
        self._expected: list[Expectation] = []
        self._standing: dict[str, frozenset[Unmet]] = {}
        """By subject."""
        self.problem = ""
        """Why the file cannot be read."""

    def check(self, documents: Iterable[Document], subject: str = "") -> tuple[list[Document], list[Event]]:
        """Give documents with the word `drift` where they differ, and what came and what is over since the last look.

        `subject`: whose they are; "" for the node.
        """
        found = list(documents)
        if self._path is None:
            return found, []
        self._look_at_file(self._path)
        before = self._standing.get(subject, frozenset())
        now = frozenset(compare(self._expected, found))
        self._standing[subject] = now
        events = [self._event(one, subject, over=True) for one in sorted(before - now)]
        events += [self._event(one, subject, over=False) for one in sorted(now - before)]
        return [_marked(one, now) for one in found], events

    @property
    def stale(self) -> bool:
        """Whether the file is another than it was at the last look, or can be read again."""
        return self._path is not None and _stamp(self._path) not in (None, self._read)

    def forget(self, subject: str) -> None:
        """Let go of what differed of a subject that is looked at no more."""
        self._standing.pop(subject, None)

    def _look_at_file(self, path: Path) -> None:
        stamp = _stamp(path)
        if stamp is not None and stamp == self._read:
            return
        self._read = stamp
        try:
            self._expected = [one for one in read_expectations(path) if one.kind in self._kinds]
            self.problem = ""
        except ExpectationError as error:
            self.problem = str(error)

    def _event(self, one: Unmet, subject: str, *, over: bool) -> Event:
        who = one.device or (subject or "the node")
        kind, severity = (f"{self._source}.drift", Severity.WARNING)
        text = f"{who}: {one.message}"
        if over:
            kind, severity = (f"{self._source}.drift_over", Severity.NOTICE)
            text = f"{who} no longer differs: {one.message}"
        return Event(kind, text, severity, one.device, {"kind": one.kind}, None, subject)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Give what tells one state of a file from another; None when there is none."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino


def _marked(document: Document, unmet: Iterable[Unmet]) -> Document:
    messages = sorted(one.message for one in unmet if one.device == document.device)
    if not messages:
        return document
    more = len(messages) - MOST_TOLD
    told = messages if more <= 0 else [*messages[:MOST_TOLD], f"and {more} more"]
    return msgspec.structs.replace(document, capabilities={**document.capabilities, "drift": told})
