"""An HTTP client of as little as will do: one connection that is kept, one request at a time."""

import socket
from typing import Any

import msgspec


class Client:
    """One connection to an aggregator's unix socket. Raises OSError when it breaks."""

    def __init__(self, path: str) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.settimeout(60.0)
        self._sock.connect(path)
        self._buffer = b""

    def ask(self, method: str, path: str, body: object = None, headers: str = "") -> tuple[int, Any]:
        """Make one request; give status and decoded body."""
        data = b"" if body is None else msgspec.json.encode(body)
        status, answer = self.send(method, path, data, headers)
        return status, msgspec.json.decode(answer) if answer else None

    def send(self, method: str, path: str, data: bytes, headers: str = "") -> tuple[int, bytes]:
        """Make one request of bytes; give status and body as they are."""
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n{headers}\r\n"
        self._sock.sendall(head.encode() + data)
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            self._more()
        lines = self._buffer[:end].decode("latin-1").lower().split("\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith("content-length:")), 0)
        while len(self._buffer) < end + 4 + length:
            self._more()
        answer, self._buffer = self._buffer[end + 4 : end + 4 + length], self._buffer[end + 4 + length :]
        return int(lines[0].split(" ")[1]), answer

    def _more(self) -> None:
        data = self._sock.recv(65536)
        if not data:
            raise ConnectionResetError("the aggregator closed the connection")
        self._buffer += data

    def close(self) -> None:
        """Close it."""
        self._sock.close()
