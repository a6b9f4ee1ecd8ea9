"""One connection: bytes become lines, lines are taken or refused, and the answers go back.

| line | means |
|---|---|
| `name,tag=value field=5i` | a row, in line protocol |
| `{...}` | an event or a device, as JSON |
| `sync` | answer `ok ...` once all before it is on disk |
| `# ...`, nothing | nothing |

Answers are lines too. `error LINE:COLUMN REASON: TEXT` comes for a line that was not taken, at once;
`ok rows=N refused=N limited=N` to each `sync`; `accepted rows=N refused=N limited=N` when the pusher has written all
(shut its side down). The numbers are those since the last such answer.
"""

import contextlib
import socket
from typing import Final

from collectors.push.counts import Pusher
from collectors.push.refusal import LENGTH, SYNTAX, RefusedError

READ: Final = 64 << 10
SYNC: Final = "sync"
_MOST_ERRORS: Final = 100
"""Lines about errors between two answers; all of them are counted."""
_MOST_ANSWERS: Final = 64 << 10
"""Bytes of answers that wait for the disk, or for one who does not read them; beyond, they are left out."""


class Connection:
    """One connection, read without blocking."""

    def __init__(self, sock: socket.socket, pusher: Pusher, max_line_bytes: int, now: float) -> None:
        self.sock = sock
        self.pusher = pusher
        self.used_at = now
        self.ended = False
        """The pusher has written all that it had."""
        self.line = 0
        """The number of the last line, from 1."""
        self.syncs: list[str] = []
        """Answers that wait for the disk, in order."""
        self._most = max_line_bytes
        self._rest = bytearray()
        self._out = bytearray()
        self._waiting = 0
        """Bytes of `syncs`."""
        self._taken = self._refused = self._limited = self._errors = 0

    @property
    def unsent(self) -> bool:
        """Whether answers wait to be written."""
        return bool(self._out)

    def read(self) -> list[tuple[int, str]]:
        """Give the lines that have come whole, with their numbers; "" for one too long or no text. Raises OSError."""
        try:
            data = self.sock.recv(READ)
        except (BlockingIOError, InterruptedError):
            return []
        self.pusher.bytes += len(data)
        self.ended = not data
        self._rest += data or b"\n"  # the last line needs no line feed
        *whole, rest = self._rest.split(b"\n")
        self._rest = bytearray(rest)
        lines = []
        for raw in whole:
            self.line += 1
            lines.append((self.line, self._text(raw)))
        del self._rest[self._most + 1 :]  # what is left is enough to know that it is too long
        return lines

    def _text(self, raw: bytearray) -> str:
        """Give a line as text; "" for one that is refused here."""
        if len(raw) > self._most:
            self.refuse(RefusedError(LENGTH, f"more than {self._most} bytes in a line", self._most + 1))
            return ""
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            column = len(raw[: error.start].decode()) + 1
            self.refuse(RefusedError(SYNTAX, f"byte {raw[error.start]:#04x} is no UTF-8", column))
            return ""

    def took(self) -> None:
        """Count something that was taken."""
        self._taken += 1

    def limited(self) -> None:
        """Count something that was one too many."""
        self._limited += 1
        self.pusher.limit()
        self.pusher.budget.patience.owe()

    def refuse(self, error: RefusedError, line: int = 0) -> None:
        """Count a line that was not taken, the last one if none is told, and say so."""
        self._refused += 1
        self._errors += 1
        self.pusher.budget.patience.owe()
        text = "".join(char if char.isprintable() else " " for char in error.text)
        self.pusher.refused(error.reason, text[:300])
        if self._errors <= _MOST_ERRORS:
            answer = f"error {line or self.line}:{error.column} {error.reason}: {text}\n"
            if self.syncs:
                self._wait(answer)  # in order
            else:
                self._say(answer)

    def sync(self) -> None:
        """Answer once all that was taken is on disk."""
        self._wait(self._answer("ok"))

    def synced(self) -> None:
        """It is on disk: give the answers."""
        for answer in self.syncs:
            self._say(answer)
        self.syncs.clear()
        self._waiting = 0

    def close_with_answer(self) -> None:
        """Say what became of it all: the pusher has written what it had."""
        self._say(self._answer("accepted"))

    def _answer(self, word: str) -> str:
        text = f"{word} rows={self._taken} refused={self._refused} limited={self._limited}\n"
        self._taken = self._refused = self._limited = self._errors = 0
        return text

    def _wait(self, answer: str) -> None:
        if self._waiting < _MOST_ANSWERS:
            self.syncs.append(answer)
            self._waiting += len(answer.encode())

    def _say(self, text: str) -> None:
        if len(self._out) < _MOST_ANSWERS:
            self._out += text.encode()

    def write(self) -> None:
        """Write what can be written now. Raises OSError when nobody is there any more."""
        with contextlib.suppress(BlockingIOError, InterruptedError):
            while self._out:
                del self._out[: self.sock.send(self._out)]
