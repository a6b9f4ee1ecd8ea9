"""HTTP/1.1, as much of it as talking to an aggregator takes, over any connected stream socket.

`http.client` would bring the packages `email` and `ssl` into the agent: 3 MB for as long as it runs.

Source: RFC 9112 (messages: status line, field lines, Content-Length, chunked, close-delimited bodies).
"""

import socket
from collections.abc import Mapping
from typing import Final

MAX_LINE_BYTES: Final = 65536
MAX_FIELDS: Final = 128
MAX_LENGTH_DIGITS: Final = 19
"""Of Content-Length; Python itself refuses to read numbers of thousands of digits, by another error."""
_CHUNK: Final = 65536


class HttpError(OSError):
    """What came is not an HTTP/1.1 answer, or is larger than it may be."""


class Response:
    """An answer whose body has not been read yet."""

    def __init__(self, connection: "Connection", method: str) -> None:
        self._connection = connection
        self.status = connection.read_status()
        while 100 <= self.status < 200:  # 100 Continue and the like announce the answer itself
            connection.read_fields()
            self.status = connection.read_status()
        self.headers: dict[str, str] = connection.read_fields()
        """Names in lower case; of one that is repeated the last."""
        self._chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
        self._left = self._length(method)
        self._done = self._left == 0 and not self._chunked
        self.keeps_open = self.headers.get("connection", "").lower() != "close" and (
            self._chunked or self._left is not None
        )
        """Whether another request may follow on the connection once the body has been read."""

    def _length(self, method: str) -> int | None:
        """Give the bytes of the body, or of the chunk at hand; None when it ends with the connection."""
        if method == "HEAD" or self.status in (204, 304):
            self._chunked = False
            return 0
        if self._chunked:
            return 0
        text = self.headers.get("content-length")
        if text is None:
            return None
        if not text.isascii() or not text.isdigit() or len(text) > MAX_LENGTH_DIGITS:
            raise HttpError(f"Content-Length {text!r:.40} is no number")
        return int(text)

    def read1(self, size: int = _CHUNK) -> bytes:
        """Give some of the body as soon as there is some; b"" at its end."""
        if self._done:
            return b""
        if self._chunked and self._left == 0:
            self._left = self._connection.read_chunk_size()
            if self._left == 0:
                self._connection.read_fields()
                self._done = True
                return b""
        data = self._connection.read_some(size if self._left is None else min(size, self._left))
        if self._left is None:
            self._done = not data
            return data
        if not data:
            raise ConnectionResetError("the connection ended within a body")
        self._left -= len(data)
        if self._chunked:
            if self._left == 0 and self._connection.read_line():
                raise HttpError("a chunk does not end where it says")
        else:
            self._done = self._left == 0
        return data

    @property
    def buffered(self) -> bool:
        """Whether more of it has come already than was given."""
        return not self._done and self._connection.buffered

    def read(self, limit: int | None = None) -> bytes:
        """Give the rest of the body. Raises HttpError when that is more than `limit` bytes."""
        parts, size = [], 0
        while data := self.read1():
            parts.append(data)
            size += len(data)
            if limit is not None and size > limit:
                raise HttpError(f"an answer of more than {limit} bytes")
        return b"".join(parts)

    def close(self) -> None:
        """Close the connection, for an answer that nobody reads on. Safe twice."""
        self._connection.close()


class Connection:
    """One connection: requests in turn, each answer read to its end before the next."""

    def __init__(self, sock: socket.socket, host: str) -> None:
        self._sock = sock
        self._host = host
        self._buffer = bytearray()

    def request(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Response:
        """Ask, and give the answer's beginning. Raises OSError."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body is not None or method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {len(body or b'')}")
        if any("\r" in line or "\n" in line for line in lines) or " " in path:
            raise ValueError("a line break or a space where HTTP has none: in the path or a header, perhaps the token")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        if body and len(body) <= _CHUNK:
            self._sock.sendall(head + body)
        else:
            self._sock.sendall(head)
            if body:
                self._sock.sendall(body)
        return Response(self, method)

    @property
    def sock(self) -> socket.socket:
        """The socket, for one who speaks over it in another way from here on."""
        return self._sock

    def close(self) -> None:
        """Close. Safe twice."""
        self._sock.close()

    @property
    def buffered(self) -> bool:
        """Whether something was received that nobody has asked for yet."""
        return bool(self._buffer)

    # --- for Response ------------------------------------------------------------------------------------------------

    def read_some(self, size: int) -> bytes:
        """Give 1 to `size` bytes, waiting for the first; b"" at the end of the stream."""
        if self._buffer:
            data = bytes(self._buffer[:size])
            del self._buffer[:size]
            return data
        return self._sock.recv(size)

    def read_line(self) -> str:
        """Give a line without its end."""
        start = 0
        while (end := self._buffer.find(b"\n", start)) < 0:
            start = len(self._buffer)
            if start > MAX_LINE_BYTES:
                raise HttpError(f"a line of more than {MAX_LINE_BYTES} bytes")
            data = self._sock.recv(_CHUNK)
            if not data:
                raise ConnectionResetError("the other side closed the connection")
            self._buffer += data
        line = self._buffer[:end].rstrip(b"\r").decode("latin-1")
        del self._buffer[: end + 1]
        return line

    def read_status(self) -> int:
        """Give the status of a status line."""
        line = self.read_line()
        version, _, rest = line.partition(" ")
        code = rest[:3]
        if not version.startswith("HTTP/1.") or not (code.isascii() and code.isdigit()) or len(code) != 3:
            raise HttpError(f"not an HTTP answer: {line!r:.60}")
        return int(code)

    def read_fields(self) -> dict[str, str]:
        """Give header or trailer fields up to the empty line."""
        fields: dict[str, str] = {}
        for _ in range(MAX_FIELDS):
            line = self.read_line()
            if not line:
                return fields
            name, colon, value = line.partition(":")
            if not colon:
                raise HttpError(f"not a header: {line!r:.60}")
            fields[name.lower()] = value.strip()
        raise HttpError(f"more than {MAX_FIELDS} headers")

    def read_chunk_size(self) -> int:
        """Give the size that a chunk says it has."""
        text = self.read_line().partition(";")[0].strip()
        try:
            size = int(text, 16)
        except ValueError:
            size = -1
        if size < 0:
            raise HttpError(f"not a chunk's size: {text!r:.40}")
        return size
