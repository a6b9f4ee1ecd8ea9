"""Where a running fleet is told what is to go wrong: a unix socket that only its owner can open.

One JSON object a line, one answer a line. `{"do": "fault", "fault": NAME, "node": NAME, "target": 0, ...}` takes the
words of a `[[faults]]` table of a fleet file; `{"do": "clear", "fault": NAME, "node": NAME}` ends faults;
`{"do": "list"}` tells what there is. `{"do": "metadata", "node": NAME}` has the node's metadata service answer on
loopback, and gives its port. An answer has `error`, or what was done.
"""

import contextlib
import json
import queue
import socket
import threading
from pathlib import Path
from typing import Any, Final

import msgspec

from collectors import private_socket
from collectors.simulated.faults import FAULTS
from collectors.simulated.fleet import Fleet
from collectors.simulated.metadata import MetadataService
from collectors.simulated.spec import Fault
from schemas.errors import ConfigError

MAX_BYTES: Final = 65536
ANSWER_SECONDS: Final = 5.0


class _Asked:
    """A request, and its answer once there is one."""

    def __init__(self, words: dict[str, Any]) -> None:
        self.words = words
        self.answer: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()


class FaultSocket:
    """Takes requests on a thread; `serve` does them on the fleet's own, between two steps."""

    def __init__(self, path: Path, fleet: Fleet) -> None:
        self._path = path
        self._fleet = fleet
        self._asked: queue.SimpleQueue[_Asked] = queue.SimpleQueue()
        self._listener: socket.socket | None = None
        self._metadata: dict[str, MetadataService] = {}

    def start(self) -> None:
        """Listen. The folder is the fleet's alone: a socket that is there was left behind."""
        listener = self._listener = private_socket.listen(self._path)
        threading.Thread(target=self._accept, args=(listener,), name="faults", daemon=True).start()

    def stop(self) -> None:
        """Listen no more. Safe twice."""
        for service in self._metadata.values():
            service.stop()
        self._metadata.clear()
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
            self._path.unlink(missing_ok=True)

    def serve(self) -> None:
        """Do what was asked for. Called often, by the thread that steps the nodes."""
        while True:
            try:
                asked = self._asked.get_nowait()
            except queue.Empty:
                return
            asked.answer.put(self.answer(asked.words))

    def answer(self, words: dict[str, Any]) -> dict[str, Any]:
        """Do one request; give the answer."""
        what = words.pop("do", "")
        try:
            match what:
                case "fault":
                    return self._inject(words)
                case "clear":
                    node = self._fleet.node(str(words.get("node", "")))
                    return {"node": node.name, "id": node.id, "cleared": node.clear(str(words.get("fault", "")))}
                case "metadata":
                    return self._serve_metadata(str(words.get("node", "")))
                case "list":
                    faults = {name: {"target": kind.target, "meaning": kind.meaning} for name, kind in FAULTS.items()}
                    return {"faults": faults, "nodes": [node.name for node in self._fleet.nodes]}
                case _:
                    return {"error": f"{what!r} is none of fault, clear, list, metadata"}
        except (ConfigError, msgspec.ValidationError, OSError) as error:
            return {"error": str(error)}

    def _inject(self, words: dict[str, Any]) -> dict[str, Any]:
        fault = msgspec.convert(words, Fault)
        node = self._fleet.node(fault.node)
        node.inject(fault)
        return {"node": node.name, "id": node.id, "fault": fault.fault}

    def _serve_metadata(self, name: str) -> dict[str, Any]:
        """Have a node's metadata service answer, if it does not yet."""
        node = self._fleet.node(name)
        if not node.hardware.type.nic.metadata:
            raise ConfigError(f"{node.name} has no metadata service: its type says no nic.metadata")
        if node.name not in self._metadata:
            self._metadata[node.name] = MetadataService(node.hardware)
        return {"node": node.name, "id": node.id, "port": self._metadata[node.name].port}

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # stopped
            with connection, contextlib.suppress(OSError):
                connection.settimeout(ANSWER_SECONDS)
                self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as lines:
            while line := lines.readline(MAX_BYTES):
                connection.sendall(json.dumps(self._ask(line)).encode() + b"\n")

    def _ask(self, line: bytes) -> dict[str, Any]:
        try:
            words = json.loads(line)
        except ValueError:
            return {"error": "not a line of JSON"}
        if not isinstance(words, dict):
            return {"error": "not a JSON object"}
        asked = _Asked(words)
        self._asked.put(asked)
        try:
            return asked.answer.get(timeout=ANSWER_SECONDS)
        except queue.Empty:
            return {"error": "the fleet is too busy to answer"}
