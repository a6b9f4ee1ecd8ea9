"""A systemd that speaks D-Bus on a socket of its own, as far as the collector asks it."""

import socket
import struct
import threading
from pathlib import Path
from typing import Any, Self

from collectors import _dbus

_FIELDS = {1: "o", 2: "s", 3: "s", 4: "s", 5: "u", 8: "g"}


class _Writer:
    def __init__(self) -> None:
        self.data = bytearray()

    def pad(self, size: int) -> None:
        self.data += bytes(-len(self.data) % size)

    def put(self, kind: str, value: Any) -> None:
        first = kind[0]
        if first == "y":
            self.data.append(value)
        elif first in "uib":
            self.pad(4)
            self.data += struct.pack("<i" if first == "i" else "<I", value)
        elif first in "so":
            self.pad(4)
            raw = value.encode()
            self.data += struct.pack("<I", len(raw)) + raw + b"\0"
        elif first == "g":
            self.data += bytes((len(value),)) + value.encode() + b"\0"
        elif first == "v":
            inner, content = value
            self.put("g", inner)
            self.put(inner, content)
        elif first == "a":
            self._put_array(kind[1:], value)
        else:
            self.pad(8)
            for inner, content in zip(_dbus.split_signature(kind[1:-1]), value, strict=True):
                self.put(inner, content)

    def _put_array(self, inner: str, values: Any) -> None:
        self.pad(4)
        at = len(self.data)
        self.data += bytes(4)
        if inner[0] in "({":
            self.pad(8)
        start = len(self.data)
        for value in values.items() if isinstance(values, dict) else values:
            self.put(inner, value)
        struct.pack_into("<I", self.data, at, len(self.data) - start)


def encode(kind: int, serial: int, fields: dict[int, Any], signature: str = "", *body: Any) -> bytes:
    """Give one message of any type and body."""
    content = _Writer()
    for inner, value in zip(_dbus.split_signature(signature), body, strict=True):
        content.put(inner, value)
    if signature:
        fields = fields | {8: signature}
    head = _Writer()
    head.data += struct.pack("<cBBBII", b"l", kind, 0, 1, len(content.data), serial)
    head.put("a(yv)", [])  # the size is known once the fields are written
    start = len(head.data)
    for code, value in fields.items():
        head.pad(8)
        head.data += bytes((code,))
        head.put("v", (_FIELDS[code], value))
    struct.pack_into("<I", head.data, 12, len(head.data) - start)
    head.pad(8)
    return bytes(head.data + content.data)


def _escaped(unit: str) -> str:
    return unit.replace(".", "_2e").replace("-", "_2d").replace("@", "_40")


class FakeSystemd:
    """Listens at `run/systemd/private` below a root; `units` is what ListUnits gives, by name the active state."""

    def __init__(self, root: Path, units: dict[str, str]) -> None:
        (root / "run/systemd/system").mkdir(parents=True, exist_ok=True)
        self.units = dict(units)
        self.restarts: dict[str, int] = {}
        """By unit, how often it has started it by itself; others it does not count, as old ones do not."""
        self.calls: list[str] = []
        self.ended = threading.Event()
        self._path = root / "run/systemd/private"
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(self._path))
        self._server.listen()
        self._server.settimeout(0.05)
        self._client: socket.socket | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._thread.join(60)
        self._server.close()
        self._path.unlink()

    def change(self, unit: str, state: str, sub: str = "x", run: bytes = b"") -> None:
        """Send that the unit's state changed, as systemd does; `run` tells one run of it from another."""
        self.units[unit] = state
        now: dict[str, Any] = {"ActiveState": ("s", state), "SubState": ("s", sub), "InvocationID": ("ay", list(run))}
        self._changed(unit, "org.freedesktop.systemd1.Unit", now)

    def count(self, unit: str, restarts: int) -> None:
        """Send how often it has started the unit by itself."""
        self.restarts[unit] = restarts
        self._changed(unit, "org.freedesktop.systemd1.Service", {"NRestarts": ("u", restarts)})

    def _changed(self, unit: str, interface: str, now: dict[str, Any]) -> None:
        path = "/org/freedesktop/systemd1/unit/" + _escaped(unit)
        fields = {1: path, 2: "org.freedesktop.DBus.Properties", 3: "PropertiesChanged"}
        self._send(encode(_dbus.SIGNAL, 9, fields, "sa{sv}as", interface, now, []))

    def signal(self, member: str, signature: str, *body: Any) -> None:
        """Send a signal of the manager."""
        fields = {1: "/org/freedesktop/systemd1", 2: "org.freedesktop.systemd1.Manager", 3: member}
        self._send(encode(_dbus.SIGNAL, 9, fields, signature, *body))

    def hang_up(self) -> None:
        """Close the connection, as a systemd does that executes itself anew."""
        if self._client is not None:
            self._client.shutdown(socket.SHUT_RDWR)

    def _send(self, data: bytes) -> None:
        assert self._client is not None
        self._client.sendall(data)

    def _run(self) -> None:
        while not self.ended.is_set():
            try:
                client, _ = self._server.accept()
            except TimeoutError:
                continue
            with client:
                client.settimeout(0.05)
                self._client = client
                self._serve(client)

    def _serve(self, client: socket.socket) -> None:
        buffer, greeted = b"", False
        while not self.ended.is_set():
            try:
                more = client.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                return
            if not more:
                return
            buffer += more
            if not greeted:
                if b"AUTH" in more and b"\r\n" in more:
                    client.sendall(b"OK 0123456789abcdef0123456789abcdef\r\n")
                if b"BEGIN\r\n" not in buffer:
                    continue
                buffer, greeted = buffer.split(b"BEGIN\r\n", 1)[1], True
                continue  # systemd looks at what came with it only when more comes
            while len(buffer) >= 16 and len(buffer) >= _dbus.message_size(buffer[:16]):
                size = _dbus.message_size(buffer[:16])
                self._answer(client, buffer[:size])
                buffer = buffer[size:]

    def _counted(self, path: str) -> str:
        return next((name for name in self.restarts if path.endswith("/" + _escaped(name))), "")

    def _answer(self, client: socket.socket, data: bytes) -> None:
        serial = struct.unpack_from("<I", data, 8)[0]
        call = _dbus.decode(data)
        self.calls.append(call.member)
        reply = {5: serial}
        if call.member == "ListUnits":
            rows = [(name, "", "loaded", state, "x", "", "/u", 0, "", "/") for name, state in self.units.items()]
            client.sendall(encode(_dbus.RETURN, 1, reply, "a(ssssssouso)", rows))
        elif call.member == "GetAll":
            found = {"Result": ("s", "oom-kill"), "ExecMainStatus": ("i", 137), "NRestarts": ("u", 3)}
            client.sendall(encode(_dbus.RETURN, 1, reply, "a{sv}", found))
        elif call.member == "Get" and call.body[1] == "InvocationID":
            client.sendall(encode(_dbus.RETURN, 1, reply, "v", ("ay", [1])))
        elif call.member == "Get" and (found_name := self._counted(call.path)):
            client.sendall(encode(_dbus.RETURN, 1, reply, "v", ("u", self.restarts[found_name])))
        elif call.member == "Subscribe":
            client.sendall(encode(_dbus.RETURN, 1, reply))
        else:
            client.sendall(encode(_dbus.ERROR, 1, reply | {4: "org.example.Unknown"}, "s", "no such method"))
