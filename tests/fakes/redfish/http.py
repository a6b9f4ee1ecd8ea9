"""HTTP/1.1 as BMCs speak it: one connection, and what goes wrong on it."""

import asyncio
import heapq
import socket
import struct
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, cast

from tests.fakes.redfish.bmc import Bmc
from tests.fakes.redfish.faults import Drop, Fault, Huge, Raw, Slow, Stall, Trickle
from tests.fakes.redfish.message import Answer, Request

_PIECE: Final = 65536
_REASONS: Final = {one.value: one.phrase for one in HTTPStatus}


class Desk:
    """When a BMC gets round to a request: it works on so many at a time, and each takes so long."""

    def __init__(self, bmc: Bmc) -> None:
        self._bmc = bmc
        self._free: list[float] = [0.0] * (bmc.options.at_once or 0)

    def ready_at(self, now: float, seconds: float) -> float:
        """Give when the answer to what is asked now is ready, if working on it takes so long."""
        seconds += self._bmc.pace_seconds
        if not self._free:
            return now + seconds
        ready = max(now, self._free[0]) + seconds
        heapq.heapreplace(self._free, ready)
        return ready


class Connection(asyncio.Protocol):
    """One connection to a BMC: one request after another."""

    def __init__(
        self, bmc: Bmc, desk: Desk, open_now: set["Connection"], gone: Callable[[], bool] = lambda: False
    ) -> None:
        """`gone`: whether the BMC is not there any more, for which a connection was accepted before."""
        self._bmc, self._desk, self._open, self._gone = bmc, desk, open_now, gone
        self._buffer = bytearray()
        self._busy = False
        self._asked = 0.0
        self._loop = asyncio.get_running_loop()
        self._leave: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._open.add(self)
        if self._gone():
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._open.discard(self)
        self._room.set()
        if self._leave is not None:
            self._leave()
        if self._timer is not None:
            self._timer.cancel()

    def pause_writing(self) -> None:
        """Wait until the client has read."""
        self._room.clear()

    def resume_writing(self) -> None:
        """Go on."""
        self._room.set()

    def close(self) -> None:
        """End it, whatever is on its way."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Gather a request, and work on it."""
        self._buffer += data
        self._next()

    def _next(self) -> None:
        if self._busy:
            return
        head, found, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        if not found:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return
        self._buffer = bytearray(rest[length:])
        method, _, target = first.rpartition(" ")[0].partition(" ")
        request = Request(method, target, headers, rest[:length])
        request = Request(method, target, headers, request.body, self._bmc.faults.of(method, request.path))
        self._busy = True
        self._asked = self._loop.time()
        wait = self._desk.ready_at(self._asked, self._seconds(request.faults)) - self._asked
        if wait > 0:
            self._timer = self._loop.call_later(wait, self._work, request)
        else:
            self._work(request)

    @staticmethod
    def _seconds(faults: tuple[Fault, ...]) -> float:
        return sum(fault.seconds for fault in faults if isinstance(fault, Slow))

    def _work(self, request: Request) -> None:
        if self._transport.is_closing():
            return
        faults = {type(fault): fault for fault in request.faults}
        if isinstance(raw := faults.get(Raw), Raw):
            self._transport.write(raw.data)
            self._done(close=True)
            return
        told = self._bmc.answer(request)
        self._bmc.watch(self._asked, self._loop.time())
        huge = faults.get(Huge)
        size = huge.size_bytes if isinstance(huge, Huge) else None
        close = request.headers.get("connection", "").lower() == "close"
        data = _head(told, request.method, size, close=close) + told.body
        if isinstance(stall := faults.get(Stall), Stall):
            self._transport.write(data[: stall.after_bytes])
        elif isinstance(drop := faults.get(Drop), Drop):
            self._transport.write(data[: drop.after_bytes])
            self._drop(reset=drop.reset)
        elif isinstance(trickle := faults.get(Trickle), Trickle):
            self._trickle(data, trickle, close=close)
        elif size is not None:
            self._task = self._loop.create_task(self._huge(data[: len(data) - len(told.body)], size))
        else:
            self._transport.write(data)
            if told.stream:
                self._leave = self._bmc.events.listen(self._told)
            else:
                self._done(close=close)

    def _done(self, *, close: bool) -> None:
        if close:
            self._transport.close()
            return
        self._busy = False
        if self._buffer:
            self._loop.call_soon(self._next)

    def _told(self, data: bytes | None) -> None:
        """Write an event of the stream, told by any thread."""
        write: Callable[[], Any] = self._transport.close if data is None else lambda: self._transport.write(data)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(write)

    def _drop(self, *, reset: bool) -> None:
        if reset:
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        else:
            self._transport.close()

    def _trickle(self, data: bytes, fault: Trickle, *, close: bool) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(data[: fault.piece_bytes])
        rest = data[fault.piece_bytes :]
        if rest:
            self._timer = self._loop.call_later(fault.seconds, lambda: self._trickle(rest, fault, close=close))
        else:
            self._done(close=close)

    async def _huge(self, head: bytes, size: int) -> None:
        begin, end = b'{"Members":[],"Text":"', b'"}'
        self._transport.write(head + begin)
        left = size - len(begin) - len(end)
        while left > 0 and not self._transport.is_closing():
            self._transport.write(b"x" * min(left, _PIECE))
            left -= _PIECE
            await self._room.wait()
        if not self._transport.is_closing():
            self._transport.write(end)
            self._done(close=False)


def _head(told: Answer, method: str, size: int | None, *, close: bool) -> bytes:
    headers = dict(told.headers)
    if told.stream:
        headers["Connection"] = "close"
    elif told.status not in {204, 304}:
        headers["Content-Length"] = str(len(told.body) if size is None else size)
    if told.body and "Content-Type" not in headers:
        headers["Content-Type"] = "application/json"
    if close:
        headers["Connection"] = "close"
    lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
    return f"HTTP/1.1 {told.status} {_REASONS.get(told.status, 'Odd')}\r\n{lines}\r\n".encode("latin-1")
