"""Logs by datagrams: UDP, and unix sockets such as `/dev/log`."""

import socket

from collectors.syslog_framing import MARK, cut
from collectors.syslog_listener import ALWAYS, Counts, Poller
from collectors.syslog_parser import Parser
from collectors.syslog_rows import Rows
from collectors.syslog_sockets import Drops, file_identity, remove_own

_PORTION = 500
_PORTION_BYTES = 1 << 17


class DatagramListener:
    """A UDP or unix datagram socket: one datagram is one message."""

    def __init__(self, sock: socket.socket, source: str, parser: Parser, limit: int, counts: Counts) -> None:
        self.counts = counts
        self.hurried = sock.family == socket.AF_UNIX  # net.unix.max_dgram_qlen is 10 on many machines
        self._sock = sock
        self._source = source
        self._parser = parser
        self._limit = limit
        self._buffer = memoryview(bytearray(limit))
        # A unix sender waits for room, so nothing is dropped there.
        self._drops = Drops(sock, counts.lost_total) if sock.family != socket.AF_UNIX else None
        self._path = sock.getsockname() if sock.family == socket.AF_UNIX else ""
        self._identity = file_identity(self._path) if self._path else None

    def attach(self, poller: Poller) -> None:
        """Ask to be called for datagrams."""
        poller.add(self._sock.fileno(), self.read)

    def read(self, rows: Rows) -> None:
        """Take up to a portion of what waits. Raises OSError when the socket is of no use any more."""
        counts, receive, buffer, limit = self.counts, self._sock.recv_into, self._buffer, self._limit
        messages: list[bytes] = []
        total = 0
        while total < _PORTION_BYTES and len(messages) < _PORTION:
            try:
                size = receive(buffer, 0, socket.MSG_TRUNC)  # gives the datagram's own size, also when it was cut
            except BlockingIOError:
                break
            except OSError:
                if not messages:
                    raise
                break  # it will come again, after these are safe
            total += size
            if size <= limit:
                messages.append(bytes(buffer[:size]))
            else:
                counts.truncated_total += 1
                messages.append(cut(bytes(buffer), limit) + MARK)
        rows.bytes += total
        counts.received_bytes_total += total
        counts.messages_total += self._parser.parse(messages, self._source, rows, counts)

    def tick(self, now: float, rows: Rows) -> None:
        """Nothing is due."""

    def finish(self, rows: Rows) -> None:
        """Nothing is ever incomplete."""

    def tell(self) -> dict[str, int]:
        """Give the counts; `lost` is what the kernel dropped, exactly."""
        counts = self.counts
        told = {name: getattr(counts, name) for name in (*ALWAYS, "truncated_total")}
        if self._drops is not None:
            lost = self._drops.total()
            if lost is not None:
                told["lost_total"] = counts.lost_total = lost
        return told

    def close(self) -> None:
        """Close, with the last word on drops, and remove the socket file."""
        self.tell()
        self._sock.close()
        remove_own(self._path, self._identity)
