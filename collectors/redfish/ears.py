"""Listening to the streams of events of all BMCs, on one thread.

A stream is opened by the thread that reads its BMC, and handed over here. One that drips, ends or sends what is no
stream is hung up on, and opened again after a while; what it said meanwhile stands in the logs.
"""

import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec

from collectors.http_client import Response
from collectors.redfish.connection import TimedSocket
from collectors.redfish.events import Stream
from collectors.redfish.unit import Unit
from schemas.rows import Item

_LOOK_MS: Final = 250
"""The longest wait before new streams, and the end, are seen."""
_DRIP_SECONDS: Final = 1.0
"""Whoever has begun to send must have sent something of use by then: others wait."""
_AT_ONCE: Final = 64
"""Pieces that are taken of one stream before the others have their turn."""
_PIECE: Final = 16384
_KEEPALIVE: Final = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 20), (socket.TCP_KEEPCNT, 3))


class _Ear(msgspec.Struct):
    """One stream."""

    unit: Unit
    response: Response
    socket: TimedSocket
    stream: Stream


class Ears:
    """Hands on what streams tell: items, and of which BMC it was. For any thread."""

    def __init__(
        self,
        put: Callable[[list[Item]], None],
        changed: Callable[[Unit], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`put` is given events; `changed` a BMC of which something was heard."""
        self._put, self._changed, self._clock = put, changed, clock
        self._lock = threading.Lock()
        self._new: list[_Ear] = []
        self._more: list[_Ear] = []
        """Those that have said more than they may at a time, which `poll` may not see."""
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, unit: Unit, response: Response, timed: TimedSocket) -> None:
        """Listen to a stream from now on."""
        for option, value in _KEEPALIVE:
            timed.raw.setsockopt(socket.IPPROTO_TCP, option, value)
        timed.raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        with self._lock:
            if self._closed:
                response.close()
                return
            self._new.append(_Ear(unit, response, timed, Stream()))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="redfish events", daemon=True)
                self._thread.start()

    def close(self, seconds: float) -> None:
        """Hang up on all. Waits so long. Safe twice."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def _run(self) -> None:
        poll = select.poll()
        ears: dict[int, _Ear] = {}
        try:
            while not self._closed:
                with self._lock:
                    new, self._new = self._new, []
                    more, self._more = self._more, []
                for ear in new:
                    ears[ear.socket.raw.fileno()] = ear
                    poll.register(ear.socket.raw.fileno(), select.POLLIN)
                for ear in [one for one in ears.values() if one.unit.removed]:
                    self._let_go(ear, ears, poll)
                more += [ear for ear in new if ear.response.buffered or _decrypted(ear.socket.raw)]
                waiting = [descriptor for descriptor, _ in poll.poll(0 if more else _LOOK_MS)]
                waiting += [ear.socket.raw.fileno() for ear in more]
                for descriptor in dict.fromkeys(waiting):
                    if descriptor in ears:
                        self._hear(ears[descriptor], ears, poll)
        finally:
            for ear in [*ears.values(), *self._new]:
                ear.response.close()

    def _hear(self, ear: _Ear, ears: dict[int, _Ear], poll: "select.poll") -> None:
        """Take what one stream says now; it is let go of when it ends."""
        try:
            going = self._take(ear)
        except Exception as error:  # noqa: BLE001  # it is this BMC's alone, and all streams are on this thread
            ear.unit.client.faults.add("stream", str(error) or type(error).__name__)
            going = False
        if not going:
            self._let_go(ear, ears, poll)

    def _let_go(self, ear: _Ear, ears: dict[int, _Ear], poll: "select.poll") -> None:
        """Hang up on one stream."""
        descriptor = ear.socket.raw.fileno()
        poll.unregister(descriptor)
        ears.pop(descriptor, None)
        ear.response.close()
        ear.unit.listened = False
        self._changed(ear.unit)

    def _take(self, ear: _Ear) -> bool:
        """Take what has come; False when the stream has ended."""
        for _ in range(_AT_ONCE):
            if ear.unit.removed:
                return False
            ear.socket.until = self._clock() + _DRIP_SECONDS
            data = ear.response.read1(_PIECE)
            if not data:
                return False
            items: list[Item] = []
            for told in ear.stream.feed(data):
                items += ear.unit.tell(told)
                if told.alerts or told.lost:
                    self._changed(ear.unit)
            if items:
                self._put(items)
            if not (ear.response.buffered or _decrypted(ear.socket.raw)):
                break
        else:  # more has come than one may say at a time: it is asked again with the others
            with self._lock:
                self._more.append(ear)
        if ear.stream.too_long or ear.stream.unreadable:
            ear.unit.client.faults.add("event", "an event of the stream was too long, or could not be read")
            ear.stream.too_long = ear.stream.unreadable = 0
        return True


def _decrypted(sock: socket.socket) -> bool:
    """Whether TLS holds something that `poll` does not see."""
    pending = getattr(sock, "pending", None)
    return pending is not None and pending() > 0
