"""Watching the ledger: what was written after a moment, and what is written from then on, as server-sent events.

A reader that is slow costs nothing but its place: it holds a page of entries, and reads on where it was, from memory or
from disk. Only what cannot be gone on from is refused: a sequence that this ledger does not have, or one of another
generation, for a restored ledger gives sequences a second time.

Source: HTML Living Standard, 9.2 "Server-sent events".
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Any, Final

import msgspec

from aggregator.ledger.journal import LedgerGoneError, Written
from aggregator.ledger.ledger import Ledger, LedgerBusyError
from aggregator.ledger.shown import EntryView, entry_view
from aggregator.ledger.state import State
from aggregator.views import device_view
from schemas.errors import MusterError

_log = logging.getLogger("muster.watch")
PAGE: Final = 200
BEAT_SECONDS: Final = 10.0
MOST: Final = 1000
"""Who watch at the same time."""


class WatchFilter(msgspec.Struct, frozen=True):
    """What a watcher wants to see; "" for everything."""

    node: str = ""
    """Id or name."""
    device: str = ""

    def wants(self, state: State, entry: EntryView) -> bool:
        """Tell whether an entry is about it."""
        if self.device and self.device not in entry.devices:
            return False
        return not self.node or any(self.node in (name, _name(state, name)) for name in entry.nodes)


class Mark(msgspec.Struct, frozen=True):
    """A place in a ledger, as a watcher quotes it: `<generation>.<sequence>`, or the sequence alone."""

    sequence: int
    generation: int | None = None

    @classmethod
    def read(cls, text: str) -> "Mark":
        """Read one. Raises LedgerGoneError for what is none."""
        generation, dot, sequence = text.rpartition(".")
        if not sequence.isdecimal() or (dot and not generation.isdecimal()):
            raise LedgerGoneError(f"{text!r} is no place in this ledger: list again, and watch from its answer")
        return cls(int(sequence), int(generation) if generation else None)


class LedgerWatch:
    """Everybody who watches one ledger. For its event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._closed = asyncio.Event()
        self.watchers = 0

    def close(self) -> None:
        """End every watch: the process is about to stop."""
        self._closed.set()

    async def begin(self, after: str) -> Mark:
        """Give the place to watch from; "" is now. Raises LedgerGoneError, LedgerBusyError or ControlError."""
        if self.watchers >= MOST:
            raise LedgerBusyError(f"{MOST} watch already; try again")
        state = self._ledger.peek()
        if not after:
            return Mark(self._ledger.durable, state.generation)
        mark = Mark.read(after)
        if mark.generation not in (None, state.generation):
            raise LedgerGoneError(
                f"the ledger was restored since, with generation {state.generation}, not {mark.generation}: list again"
            )
        await self._ledger.entries(mark.sequence, 1)
        return Mark(mark.sequence, state.generation)

    async def events(self, mark: Mark, wanted: WatchFilter) -> AsyncGenerator[bytes, None]:
        """Give events until the reader goes, the ledger is restored, or we stop."""
        self.watchers += 1
        try:
            async for one in self._follow(mark, wanted):
                yield one
        finally:
            self.watchers -= 1

    async def _follow(self, mark: Mark, wanted: WatchFilter) -> AsyncGenerator[bytes, None]:
        after = mark.sequence
        yield _place(mark.generation, after)  # who loses us before anything happens resumes from here
        while not self._closed.is_set():
            try:
                if not await self._moved(after):
                    yield _place(mark.generation, after)  # a comment keeps proxies from closing it; the id is kept
                    continue
                page = await self._ledger.entries(after, PAGE)
                if self._ledger.peek().generation != mark.generation:
                    raise LedgerGoneError("the ledger was restored: list again")
                if not page:
                    continue
                shown = await self._ledger.read(lambda state, page=page: _shown(state, page, wanted, mark))  # type: ignore[misc]
            except LedgerGoneError as error:
                yield b"event: gone\ndata: " + msgspec.json.encode({"code": error.code, "detail": str(error)}) + b"\n\n"
                return
            except MusterError as error:  # it is read from disk again, or its disk is full: it goes on from there
                _log.debug("watch_waits error=%s", error)
                await self._pause(1.0)
                continue
            after = page[-1].sequence
            if shown:
                yield b"".join(shown)

    async def _moved(self, after: int) -> bool:
        waiting = asyncio.ensure_future(self._ledger.wait(after, BEAT_SECONDS))
        closing = asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait((waiting, closing), return_when=asyncio.FIRST_COMPLETED)
            return waiting.done() and waiting.result()
        finally:
            waiting.cancel()
            closing.cancel()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):  # `wait_for` of Python 3.11 may swallow a cancellation
                await self._closed.wait()
        except TimeoutError:
            pass


def _shown(state: State, page: list[Written], wanted: WatchFilter, mark: Mark) -> list[bytes]:
    found = []
    for written in page:
        entry = entry_view(state, written)
        if not wanted.wants(state, entry):
            continue
        data: dict[str, Any] = msgspec.to_builtins(entry)
        data["views"] = [device_view(state, state.devices[name]) for name in entry.devices if name in state.devices]
        found.append(
            f"id: {mark.generation}.{entry.sequence}\nevent: {entry.kind}\ndata: ".encode()
            + msgspec.json.encode(data)
            + b"\n\n"
        )
    return found


def _place(generation: int | None, sequence: int) -> bytes:
    """Give the reader's place without an event, so that it resumes behind what its filter left out."""
    return f": {sequence}\nid: {generation}.{sequence}\n\n".encode()


def _name(state: State, node: str) -> str:
    found = state.nodes.get(node)
    return found.name if found else ""
