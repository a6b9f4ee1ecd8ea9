"""How a stream of bytes becomes syslog messages, whatever pieces the network delivers it in.

RFC 6587 knows two framings, and senders mix them: *octet counting* (`LEN SP MSG`) and a *line* that ends in LF. Every
frame is looked at anew: one that starts with a digit 1 to 9 is counted, anything else is a line.

Source: RFC 6587 parts 3.4.1 and 3.4.2.
"""

import re
from enum import Enum
from typing import Final

MARK: Final = b" [truncated]"
"""What a message that was cut ends in, so that a reader of the record sees it."""

_COUNT = re.compile(rb"([1-9][0-9]{0,9}) ")
_COUNT_SO_FAR = re.compile(rb"[1-9][0-9]{0,9}\Z")
_LF = 10
_FILLER = b"\r\n\0"


class Framing(Enum):
    """How the messages of a stream are told apart."""

    AUTO = "auto"
    """By the first byte of each frame."""
    OCTET = "octet"
    """Always counted; for senders whose text may be anything."""
    LINE = "line"
    """Always lines; for senders that write no PRI and start lines with digits."""


class Framer:
    """Cuts one stream into messages. Holds at most `limit` bytes and one read.

    The messages are the same however the stream is split into reads. Empty lines are filler between frames, not
    messages. A message above `limit` bytes yields its first `limit` bytes and MARK, at once, and the rest of its frame
    is swallowed: exactly the counted bytes, or up to the end of the line; framing is never detected inside it.
    """

    def __init__(self, limit: int, framing: Framing = Framing.AUTO, terminators: bytes = b"\n") -> None:
        self.truncated = 0
        """How many messages were cut so far."""
        self.broken = False
        """A count that is none was met. Nothing after it can be told apart: the stream is to be closed."""
        self._limit = limit
        self._counted = framing is not Framing.LINE
        self._lines = framing is not Framing.OCTET
        # Lines end in LF; in local streams also in NUL, which is how the C library's syslog(3) ends a message there.
        self._ends = None if terminators == b"\n" else re.compile(b"[" + re.escape(terminators) + b"]")
        self._pending = bytearray()
        self._need = (
            0  # how many bytes the frame at hand needs before a look at it can tell anything new; 0: a line's end
        )
        self._skip = 0
        self._skip_line = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take what was read and give the messages that are complete now, without their framing."""
        frames: list[bytes] = []
        if self.broken:
            return frames
        if self._skip or self._skip_line:
            data = self._swallow(data)
        if self._pending:
            data = self._join(data)
        at, end = 0, len(data)
        counted, lines = self._counted, self._lines
        while at < end:
            byte = data[at]
            if counted and 49 <= byte <= 57:
                after = self._take_counted(data, at, frames)
            elif lines:
                after = self._take_line(data, at, frames)
            else:
                after = at + 1 if byte in _FILLER else self._take_counted(data, at, frames)
            if after < 0:
                self._pending += data[at:]
                break
            at = after
        return frames

    def close(self, *, orderly: bool) -> list[bytes]:
        """Give what is left when the stream ends: a last line needs no end if the sender closed in an `orderly` way.

        Anything else that is left is incomplete, and is given with MARK.
        """
        data = bytes(self._pending)
        self._pending.clear()
        if not data or self.broken:
            return []
        counted = self._counted and _COUNT.match(data) is not None
        if orderly and not counted:
            return [data]
        self.truncated += 1
        start = data.index(b" ") + 1 if counted else 0
        return [cut(data[start:], self._limit) + MARK]

    def _take_counted(self, data: bytes, at: int, frames: list[bytes]) -> int:
        """Take the counted frame at `at`; give where the next begins, or -1 when this one is not complete."""
        header = _COUNT.match(data, at)
        if header is None:
            if _COUNT_SO_FAR.match(data, at):
                self._need = len(data) - at + 1
                return -1
            self.broken = True
            frames.append(cut(data[at:], self._limit))
            return len(data)
        start, size = header.end(), int(header[1])
        stop, end = start + size, len(data)
        if size > self._limit:
            if end - start < self._limit:
                self._need = start - at + self._limit
                return -1
            frames.append(self._shortened(data, start))
            self._skip = max(stop - end, 0)
            return min(stop, end)
        if stop > end:
            self._need = stop - at
            return -1
        frames.append(data[start:stop])
        return stop

    def _take_line(self, data: bytes, at: int, frames: list[bytes]) -> int:
        """Take the line at `at`; give where the next frame begins, or -1 when there is no end of line yet."""
        stop = self._line_end(data, at)
        if stop < 0:
            if len(data) - at <= self._limit:
                self._need = 0
                return -1
            self._skip_line = True
            stop = len(data)
        if stop - at > self._limit:
            frames.append(self._shortened(data, at))
        elif stop > at:
            frames.append(data[at:stop])
        return stop + 1

    def _line_end(self, data: bytes, at: int) -> int:
        if self._ends is None:
            return data.find(b"\n", at)
        match = self._ends.search(data, at)
        return match.start() if match else -1

    def _shortened(self, data: bytes, start: int) -> bytes:
        self.truncated += 1
        return cut(data[start : start + self._limit], self._limit) + MARK

    def _swallow(self, data: bytes) -> bytes:
        """Give what follows the rest of a frame that was cut."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            return data[skipped:]
        stop = self._line_end(data, 0)
        if stop < 0:
            return b""
        self._skip_line = False
        return data[stop + 1 :]

    def _join(self, data: bytes) -> bytes:
        """Give the frame at hand with `data` behind it, or nothing while it cannot be complete.

        What is pending grows in place and is looked at again only when that can tell something new, so that a sender of
        single bytes costs no more than its bytes.
        """
        self._pending += data
        size = len(self._pending)
        if size < self._need or (not self._need and size <= self._limit and self._line_end(data, 0) < 0):
            return b""
        data = bytes(self._pending)
        self._pending.clear()
        return data


def cut(data: bytes, limit: int) -> bytes:
    """Give at most `limit` bytes of `data`, less the beginning of a UTF-8 character that the cut split."""
    kept = data[:limit]
    for back in range(1, min(4, len(kept)) + 1):
        byte = kept[-back]
        if byte & 0xC0 == 0x80:
            continue
        size = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
        return kept[:-back] if back < size else kept
    return kept
