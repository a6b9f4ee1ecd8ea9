"""A D-Bus client that is just large enough to watch systemd: calls with strings, replies and signals of any type.

Plain standard library, one socket, no thread. Source: D-Bus specification 0.43, message protocol and
authentication; freedesktop.org/wiki/Software/systemd/dbus.
"""

import os
import select
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

CALL, RETURN, ERROR, SIGNAL = 1, 2, 3, 4
"""Types of message."""

_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SIGNATURE = 1, 2, 3, 4, 5, 6, 8
_BROKER: Final = "org.freedesktop.DBus"
_BROKER_PATH: Final = "/org/freedesktop/DBus"
_LARGEST: Final = 16 << 20
_DEEPEST: Final = 32
_NUMBERS: Final = {"y": "B", "n": "h", "q": "H", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "d", "h": "I"}
_ALIGN: Final = {"y": 1, "n": 2, "q": 2, "b": 4, "i": 4, "u": 4, "h": 4, "s": 4, "o": 4, "a": 4, "g": 1, "v": 1} | {
    "x": 8,
    "t": 8,
    "d": 8,
    "(": 8,
    "{": 8,
}


class DBusError(Exception):
    """The bus is not there, refused, was silent, or spoke nonsense."""


class CallError(DBusError):
    """A method that was called answered with an error; the connection is as good as before."""


class Message(msgspec.Struct):
    """One message, as received."""

    type: int
    path: str = ""
    interface: str = ""
    member: str = ""
    error: str = ""
    reply_to: int = 0
    body: list[Any] = []


def encode_call(
    serial: int, path: str, interface: str, member: str, arguments: tuple[str, ...] = (), destination: str = ""
) -> bytes:
    """Give the bytes of a method call whose arguments are all strings."""
    body = bytearray()
    for argument in arguments:
        _put_string(body, argument)
    fields = bytearray()
    signature = "s" * len(arguments)
    pairs = [(_PATH, "o", path), (_INTERFACE, "s", interface), (_MEMBER, "s", member), (_DESTINATION, "s", destination)]
    for code, kind, text in [*pairs, (_SIGNATURE, "g", signature)]:
        if not text:
            continue
        _pad(fields, 8)
        fields += bytes((code, 1, ord(kind), 0))
        if kind == "g":
            fields += bytes((len(text),)) + text.encode() + b"\0"
        else:
            _put_string(fields, text)
    head = bytearray(struct.pack("<cBBBIII", b"l", CALL, 0, 1, len(body), serial, len(fields))) + fields
    _pad(head, 8)
    return bytes(head + body)


def message_size(head: bytes) -> int:
    """Give the size of the message whose first 16 bytes these are. Raises DBusError on nonsense."""
    order = {b"l": "<", b"B": ">"}.get(head[:1])
    if order is None or head[3] != 1:
        raise DBusError("what came is not a D-Bus message")
    body, _, fields = struct.unpack(order + "III", head[4:16])
    size = 16 + (fields + 7) // 8 * 8 + body
    if size > _LARGEST:
        raise DBusError(f"a message of {size} bytes exceeds {_LARGEST}")
    return int(size)


def decode(data: bytes) -> Message:
    """Read one whole message. Raises DBusError on nonsense."""
    try:
        order = "<" if data[:1] == b"l" else ">"
        reader = _Reader(data, order, 12)
        fields = dict(reader.value("a(yv)", 0))
        reader.align(8)
        signature = fields.get(_SIGNATURE, "")
        return Message(
            type=data[1],
            path=fields.get(_PATH, ""),
            interface=fields.get(_INTERFACE, ""),
            member=fields.get(_MEMBER, ""),
            error=fields.get(_ERROR_NAME, ""),
            reply_to=fields.get(_REPLY_SERIAL, 0),
            body=[reader.value(kind, 0) for kind in split_signature(signature)],
        )
    except (struct.error, IndexError, ValueError, TypeError, KeyError) as error:
        raise DBusError(f"a D-Bus message cannot be read: {error}") from None


def split_signature(signature: str) -> list[str]:
    """Give the complete types that a signature is made of. Raises ValueError when it is none."""
    kinds = []
    at = 0
    while at < len(signature):
        end = _type_end(signature, at, 0)
        kinds.append(signature[at:end])
        at = end
    return kinds


def _type_end(signature: str, at: int, depth: int) -> int:
    if at >= len(signature) or depth > _DEEPEST:
        raise ValueError(f"{signature!r} is not a signature")
    kind = signature[at]
    if kind == "a":
        return _type_end(signature, at + 1, depth + 1)
    close = {"(": ")", "{": "}"}.get(kind)
    if close is None:
        if kind not in _ALIGN:
            raise ValueError(f"{kind!r} is not a type")
        return at + 1
    at += 1
    while at < len(signature) and signature[at] != close:
        at = _type_end(signature, at, depth + 1)
    if at >= len(signature):
        raise ValueError(f"{signature!r} is not a signature")
    return at + 1


class _Reader:
    """Reads values from a message; the alignment counts from the message's start."""

    def __init__(self, data: bytes, order: str, at: int) -> None:
        self._data = data
        self._order = order
        self._at = at

    def align(self, size: int) -> None:
        self._at = (self._at + size - 1) // size * size

    def value(self, kind: str, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError("nested too deep")
        first = kind[0]
        self.align(_ALIGN[first])
        if first in _NUMBERS:
            return self._number(_NUMBERS[first])
        if first == "b":
            return bool(self._number("I"))
        if first in "so":
            return self._text(self._number("I"))
        if first == "g":
            return self._text(self._number("B"))
        if first == "v":
            (inner,) = split_signature(self._text(self._number("B")))
            return self.value(inner, depth + 1)
        if first == "a":
            return self._array(kind[1:], depth)
        return tuple(self.value(inner, depth + 1) for inner in split_signature(kind[1:-1]))

    def _number(self, code: str) -> Any:
        (number,) = struct.unpack_from(self._order + code, self._data, self._at)
        self._at += struct.calcsize(self._order + code)
        return number

    def _text(self, size: int) -> str:
        end = self._at + size
        if end >= len(self._data):
            raise IndexError("a string runs over the end")
        text = self._data[self._at : end].decode("utf-8", "replace")
        self._at = end + 1
        return text

    def _array(self, kind: str, depth: int) -> Any:
        size = self._number("I")
        self.align(_ALIGN[kind[0]])
        end = self._at + size
        if end > len(self._data):
            raise IndexError("an array runs over the end")
        values = []
        while self._at < end:
            values.append(self.value(kind, depth + 1))
        return dict(values) if kind[0] == "{" else values


def _pad(data: bytearray, size: int) -> None:
    data += bytes(-len(data) % size)


def _put_string(data: bytearray, text: str) -> None:
    _pad(data, 4)
    raw = text.encode()
    data += struct.pack("<I", len(raw)) + raw + b"\0"


class Connection:
    """A connection to systemd, its private socket or the system bus. Raises DBusError from every call.

    `bus` says that a broker listens, who wants to be greeted first.
    """

    def __init__(
        self, path: Path, *, bus: bool, timeout_s: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bus = bus
        self._timeout_s = timeout_s
        self._clock = clock
        self._serial = 0
        self._buffer = bytearray()
        self._signals: list[Message] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(timeout_s)
            self._socket.connect(str(path))
            self._authenticate()
            if bus:
                self.call(_BROKER_PATH, _BROKER, "Hello", destination=_BROKER)
        except OSError as error:
            self.close()
            raise DBusError(f"{path}: {error}") from None
        except DBusError:
            self.close()
            raise

    def fileno(self) -> int:
        """The socket, for poll."""
        return self._socket.fileno()

    def match(self, rule: str) -> None:
        """Ask the broker for the signals that the rule describes; without a broker all come by themselves."""
        if self._bus:
            self.call(_BROKER_PATH, _BROKER, "AddMatch", rule, destination=_BROKER)

    def call(self, path: str, interface: str, member: str, *arguments: str, destination: str = "") -> list[Any]:
        """Call a method and give what it returns; signals that come meanwhile are kept for `signals`."""
        self._serial += 1
        serial = self._serial
        destination = (destination or "org.freedesktop.systemd1") if self._bus else ""
        try:
            self._socket.settimeout(self._timeout_s)
            self._socket.sendall(encode_call(serial, path, interface, member, arguments, destination))
        except OSError as error:
            raise DBusError(f"{member}: {error}") from None
        deadline = self._clock() + self._timeout_s
        while True:
            message = self._receive(deadline)
            if message is None:
                raise DBusError(f"{member}: no answer within {self._timeout_s:g} s")
            if message.type == SIGNAL:
                self._signals.append(message)
            elif message.reply_to == serial:
                if message.type == ERROR:
                    raise CallError(f"{member}: {message.error}: {message.body[0] if message.body else ''}")
                return message.body

    def signals(self) -> list[Message]:
        """Give the signals that have come, without waiting."""
        now = self._clock()
        while (message := self._receive(now)) is not None:
            if message.type == SIGNAL:
                self._signals.append(message)
        found, self._signals = self._signals, []
        return found

    def close(self) -> None:
        """Close the socket; safe twice."""
        self._socket.close()

    def _authenticate(self) -> None:
        # All in one, as sd-bus does: a message that systemd reads together with BEGIN waits there until more comes.
        self._socket.sendall(b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\nBEGIN\r\n")
        line = b""
        while not line.endswith(b"\r\n"):
            more = self._socket.recv(1)  # what follows the line is already of the message protocol
            if not more or len(line) > 1024:
                raise DBusError("the bus closed the connection during authentication")
            line += more
        if not line.startswith(b"OK"):
            raise DBusError(f"the bus refused: {line.decode('ascii', 'replace').strip()}")

    def _receive(self, deadline: float) -> Message | None:
        """Give the next message, or None when none is whole by the deadline."""
        while True:
            if len(self._buffer) >= 16:
                size = message_size(bytes(self._buffer[:16]))
                if len(self._buffer) >= size:
                    data = bytes(self._buffer[:size])
                    del self._buffer[:size]
                    return decode(data)
            if not self._fill(deadline):
                return None

    def _fill(self, deadline: float) -> bool:
        poller = select.poll()
        poller.register(self._socket.fileno(), select.POLLIN)
        try:
            if not poller.poll(max(0.0, deadline - self._clock()) * 1000):
                return False
            more = self._socket.recv(65536)
        except OSError as error:
            raise DBusError(f"the connection failed: {error}") from None
        if not more:
            raise DBusError("the bus closed the connection")
        self._buffer += more
        return True
