"""The agent's own socket for claims: where the node's orchestrator confirms, or says why not. Root alone may open it.

One JSON object a line, one answer a line. `{"do": "show"}` lists the steps of this node; `{"do": "confirm", "claim":
C, "devices": [...]}` says that somebody has done what a step waits for (all of the claim's when none is named), and
`{"do": "fail", ..., "problem": "..."}` that it cannot be done. A confirmation is answered once the device was read and
what it showed is on disk: `done`, or the `problem`.
"""

import contextlib
import json
import os
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any, Final

from collectors import private_socket
from collectors.claims.worker import Job, JobState, Worker

MAX_BYTES: Final = 65536
ANSWER_SECONDS: Final = 60.0
_IDLE_SECONDS: Final = 30.0


def desk_path(data_dir: Path) -> Path:
    """Give the socket of the agent on a data folder."""
    return data_dir / "agent" / "claims.sock"


class Desk:
    """Listens on a thread; each visitor has one of its own."""

    def __init__(self, path: Path, worker: Worker) -> None:
        self._path = path
        self._worker = worker
        self._listener: socket.socket | None = None

    def start(self) -> None:
        """Listen. The folder is the agent's alone: a socket that is there was left behind. Raises OSError."""
        listener = self._listener = private_socket.listen(self._path)
        threading.Thread(target=self._accept, args=(listener,), name="claims-desk", daemon=True).start()

    def stop(self) -> None:
        """Listen no more. Safe twice."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
            self._path.unlink(missing_ok=True)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # stopped
            threading.Thread(target=self._serve, args=(connection,), name="claims-visitor", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(_IDLE_SECONDS)
            if _user(connection) not in (0, os.geteuid()):
                return
            with connection.makefile("rb") as lines:
                while line := lines.readline(MAX_BYTES):
                    connection.sendall(json.dumps(self._answer(line)).encode() + b"\n")

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            words = json.loads(line)
        except ValueError:
            words = None
        if not isinstance(words, dict):
            return {"error": "not a JSON object"}
        claim, devices, problem = words.get("claim", ""), words.get("devices", []), words.get("problem", "")
        if not isinstance(claim, str) or not isinstance(problem, str) or not isinstance(devices, list):
            return {"error": "claim and problem are texts, devices is a list"}
        match words.get("do"):
            case "show":
                return {"steps": [_shown(job) for job in self._worker.jobs()]}
            case "confirm":
                return self._word(claim, [str(one) for one in devices], "")
            case "fail":
                return self._word(claim, [str(one) for one in devices], problem or "the node's orchestrator gave up")
            case other:
                return {"error": f"{other!r} is none of show, confirm, fail"}

    def _word(self, claim: str, devices: list[str], problem: str) -> dict[str, Any]:
        taken = self._worker.word(claim, devices, problem)
        if not taken:
            return {"error": f"no step of claim {claim!r} waits for this: muster-agent claim show"}
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            mine = [job for job in self._worker.jobs() if job.work.claim == claim and job.device.device in taken]
            if problem or all(job.report is not None for job in mine) or time.monotonic() > deadline:
                return {"steps": [_shown(job) for job in mine]}
            time.sleep(0.02)


def _shown(job: Job) -> dict[str, Any]:
    report = job.report
    return {
        "claim": job.work.claim,
        "step": job.work.step.value,
        "epoch": f"{job.work.generation}.{job.work.sequence}",
        "tenant": job.work.tenant,
        "consumer": job.work.consumer,
        "device": job.device.device,
        "kind": job.device.kind,
        "address": job.device.address,
        "mode": job.device.mode,
        "state": job.state.value,
        "waits_for_you": job.state is JobState.WAITING,
        "problem": report.problem if report is not None else "",
    }


def _user(connection: socket.socket) -> int:
    """Give who is at the other end. Source: unix(7), SO_PEERCRED."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", data)[1])
