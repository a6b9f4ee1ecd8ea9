"""The control channels of many nodes on one thread: a connection each, all waited for at once.

Source: RFC 9112 for the requests and answers; answers come with a Content-Length.
"""

import heapq
import logging
import random
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from collectors.control_client import CONTROL_PATH, WAIT_SECONDS, ControlSession
from collectors.fleet_costs import Costs
from collectors.transport import Answer, Transport, TransportError
from schemas.control import MAX_CONTROL_BYTES
from schemas.errors import WireError

_log = logging.getLogger("muster.fleet")
ANSWER_SECONDS: Final = WAIT_SECONDS + 15.0
"""When a request is given up."""
SEND_SECONDS: Final = 5.0
_MAX_HEAD: Final = 16 << 10
_TICK: Final = 0.5


class _Line:
    """One node's connection."""

    __slots__ = ("buffer", "deadline", "sock")

    def __init__(self) -> None:
        self.sock: socket.socket | None = None
        self.buffer = bytearray()
        self.deadline: float | None = None
        """When the answer that it waits for is given up; None while it waits for none."""


class FleetChannel:
    """Asks for every session, and hands each its answers. All of it happens on a thread of its own."""

    def __init__(
        self,
        transport: Transport,
        sessions: Sequence[ControlSession],
        costs: Costs,
        *,
        silent: Callable[[int], bool] = lambda _index: False,
    ) -> None:
        """`silent`: tells which nodes are dead: they neither ask nor hear."""
        self._silent = silent
        self._transport = transport
        self._sessions = sessions
        self._costs = costs
        self._lines = [_Line() for _ in sessions]
        self._turns: list[tuple[float, int]] = []
        self._selector = selectors.DefaultSelector()
        self._no_connection_before = 0.0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self, first: Sequence[float]) -> None:
        """Begin; `first` gives for each session the seconds until its first request."""
        now = time.monotonic()
        self._turns = sorted((now + seconds, index) for index, seconds in enumerate(first))
        self._thread.start()

    def stop(self) -> None:
        """End; requests that are waited for are given up."""
        self._stopping = True
        if self._thread.is_alive():
            self._thread.join(2 * _TICK)

    def _run(self) -> None:
        swept = time.monotonic()
        while not self._stopping:
            now = time.monotonic()
            with self._costs.phase("control"):
                while self._turns and self._turns[0][0] <= now:
                    self._ask(heapq.heappop(self._turns)[1], now)
                if now - swept >= 1.0:
                    swept = now
                    self._give_up(now)
            wait = min(_TICK, max(0.0, self._turns[0][0] - now)) if self._turns else _TICK
            for key, _ in self._selector.select(wait):
                with self._costs.phase("control"):
                    self._read(key.data)
        for line in self._lines:
            if line.sock is not None:
                line.sock.close()
        self._selector.close()

    def _ask(self, index: int, now: float) -> None:
        line = self._lines[index]
        if self._silent(index):
            self._close(index)
            self._turn(index, now + 1.0)
            return
        if line.sock is None and now < self._no_connection_before:
            self._turn(index, self._no_connection_before + random.random())
            return
        try:
            if line.sock is None:
                self._connect(index)
            body, headers = self._sessions[index].question()
            self._send(index, body, headers)
        except (TransportError, OSError) as error:
            self._failed(index, error)
            return
        line.deadline = now + ANSWER_SECONDS

    def _connect(self, index: int) -> None:
        line = self._lines[index]
        try:
            line.sock = self._transport.open_socket()
        except TransportError:
            self._no_connection_before = time.monotonic() + 1.0
            raise
        line.buffer.clear()
        self._selector.register(line.sock, selectors.EVENT_READ, index)

    def _send(self, index: int, body: bytes, headers: dict[str, str]) -> None:
        sock = self._lines[index].sock
        assert sock is not None
        lines = [f"POST {CONTROL_PATH} HTTP/1.1", "Host: muster", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        sock.settimeout(SEND_SECONDS)
        sock.sendall(head + body)
        sock.settimeout(0.0)

    def _read(self, index: int) -> None:
        """Take what came, and the answer if that is the whole of it."""
        line = self._lines[index]
        if line.sock is None:
            return
        try:
            ended = not _receive(line.sock, line.buffer)
            answer = parse_answer(line.buffer)
        except OSError as error:
            self._failed(index, error)
            return
        if answer is not None and line.deadline is not None:
            line.deadline = None
            self._answered(index, answer)
        if ended:
            idle = line.deadline is None
            self._close(index)
            if not idle:
                self._failed(index, ConnectionResetError("the aggregator closed the connection"))

    def _answered(self, index: int, answer: Answer) -> None:
        if answer.headers.get("connection", "").lower() == "close":
            self._close(index)
        if self._silent(index):
            self._failed(index, ConnectionResetError("the node is dead"))
            return
        try:
            wait = self._sessions[index].heed(answer)
        except WireError as error:
            self._failed(index, error)
            return
        self._turn(index, time.monotonic() + wait)

    def _failed(self, index: int, error: Exception) -> None:
        self._close(index)
        self._turn(index, time.monotonic() + self._sessions[index].failed(error))

    def _give_up(self, now: float) -> None:
        for index, line in enumerate(self._lines):
            if line.deadline is not None and line.deadline < now:
                self._failed(index, TimeoutError(f"no answer within {ANSWER_SECONDS:.0f} s"))

    def _close(self, index: int) -> None:
        line = self._lines[index]
        line.deadline = None
        if line.sock is not None:
            self._selector.unregister(line.sock)
            line.sock.close()
            line.sock = None

    def _turn(self, index: int, when: float) -> None:
        heapq.heappush(self._turns, (when, index))


def _receive(sock: socket.socket, into: bytearray) -> bool:
    """Read what there is without waiting; tell whether there may be more later. Raises OSError."""
    while True:
        try:
            data = sock.recv(65536)
        except BlockingIOError:
            return True
        except OSError as error:
            if type(error).__name__ == "SSLWantReadError":  # ssl is not imported unless an address asks for it
                return True
            raise
        if not data:
            return False
        into += data


def parse_answer(buffer: bytearray) -> Answer | None:
    """Take an HTTP answer off the front of a buffer; None while it is not whole. Raises OSError on what is none."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        if len(buffer) > _MAX_HEAD:
            raise OSError("the answer's head has no end")
        return None
    status, *lines = bytes(buffer[:end]).decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    words, length = status.split(" ", 2), headers.get("content-length", "")
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit() or not length.isdigit():
        raise OSError(f"not an answer that is understood: {status[:60]!r}")
    whole = end + 4 + int(length)
    if whole > MAX_CONTROL_BYTES + _MAX_HEAD:
        raise OSError(f"an answer of {whole} bytes")
    if len(buffer) < whole:
        return None
    body = bytes(buffer[end + 4 : whole])
    del buffer[:whole]
    return Answer(int(words[1]), headers, body)
