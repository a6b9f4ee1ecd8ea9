"""Watches the ledger over HTTP while it is hammered: every change once, in order, and as it stands on disk."""

import http.client
import re
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from aggregator.ledger.entries import Entry

CATCH_UP_SECONDS: Final = 60.0
_WORD: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Change(NamedTuple):
    """What is compared of a change."""

    sequence: int
    kind: str
    claim: str


class _Told(msgspec.Struct):
    sequence: int
    kind: str
    claim: str


class Watcher:
    """One reader of `/v1/watch`, from the ledger's first entry on, on a thread of its own."""

    def __init__(self, path: str) -> None:
        self.changes: list[Change] = []
        self.problems: list[str] = []
        self._connection = http.client.HTTPConnection("x", timeout=60.0)
        self._connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.sock.connect(path)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        self._connection.request("GET", "/v1/watch?after=0")
        decoder = msgspec.json.Decoder(_Told)
        with self._connection.getresponse() as response:
            if response.status != 200:
                self.problems.append(f"the watch was answered {response.status}: {response.read()!r}")
                return
            for line in response:
                if line.startswith(b"event: gone"):
                    self.problems.append("the watch ended: a change cannot be gone on from")
                if line.startswith(b'data: {"sequence"'):
                    told = decoder.decode(line[6:])
                    self.changes.append(Change(told.sequence, told.kind, told.claim))

    def catch_up(self, sequence: int) -> None:
        """Wait until everything up to a sequence was told, so long as that comes nearer."""
        end = time.monotonic() + CATCH_UP_SECONDS
        while not self.changes or self.changes[-1].sequence < sequence:
            if time.monotonic() > end or not self._thread.is_alive():
                self.problems.append(f"the watch has not told of {sequence}; the last are {self.changes[-3:]}")
                return
            time.sleep(0.1)

    def compared(self, path: Path) -> list[str]:
        """Give what is wrong with what was told, beside the ledger's file. Call it when the aggregator has stopped."""
        self._thread.join(CATCH_UP_SECONDS)
        self._connection.close()
        for told, written in zip(self.changes, written_in(path), strict=False):
            if told != written:
                return [*self.problems, f"{told} was told where {written} was written"]
        return self.problems


def written_in(path: Path) -> Iterator[Change]:
    """Yield what stands in a ledger's file."""
    decoder = msgspec.msgpack.Decoder(list[tuple[int, Entry]])
    sequence = 0
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        for (body,) in db.execute("SELECT body FROM ledger_entries ORDER BY first"):
            for _, entry in decoder.decode(body):
                sequence += 1
                kind = _WORD.sub(".", type(entry).__name__).lower()
                yield Change(sequence, kind, getattr(entry, "claim", ""))
