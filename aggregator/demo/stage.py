"""What a demonstration is played on: an aggregator and simulated nodes, supervised as `muster up` does it."""

import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

import msgspec

from aggregator.cli.client import Client, ServerError
from aggregator.cli.simulate import ask
from aggregator.demo.narration import DemoError
from aggregator.demo.needs import LOOPBACK, free_port
from aggregator.up import ChildSpec, Supervisor
from collectors.config import socket_path
from collectors.transport import Answer
from collectors.vnics import fetch

T = TypeVar("T")
_supervisor_log = logging.getLogger("muster.up")

PATIENCE_SECONDS: Final = 60.0
"""For whatever is to come: a limit costs nothing when it comes at once, and machines may be busy."""
POLL_SECONDS: Final = 0.05
INTERVAL_SECONDS: Final = 0.5
"""How often simulated nodes are stepped."""
CLAIM_SPEED: Final = 20.0
"""So many times faster than real machines: the clean of a GPU takes 0.6 s instead of 12."""
PAGE: Final = 10_000


class Stage:
    """One aggregator and one fleet on a folder of their own. For one thread, save `at_once`."""

    def __init__(self, folder: Path, fleet: Path, env: Mapping[str, str] = os.environ) -> None:
        """Start nothing yet. Nothing of the user's own configuration is used: `MUSTER_*` of `env` is left out."""
        self._socket = socket_path(folder)
        self._control = folder / "fleet" / "control.sock"
        self.logs = folder / "logs"
        clean = {name: value for name, value in env.items() if not name.startswith("MUSTER_")}
        mine = {"MUSTER_DATA_DIR": str(folder), "MUSTER_LISTEN": f"{LOOPBACK}:{free_port()}"}
        self._fleet = folder / "fleet.toml"
        self._fleet.write_bytes(fleet.read_bytes())
        fleet_words = (
            "--fleet",
            str(self._fleet),
            "--interval",
            f"{INTERVAL_SECONDS}",
            "--claim-speed",
            f"{CLAIM_SPEED}",
        )
        self._supervisor = Supervisor(
            [
                ChildSpec("aggregator", "aggregator.server", beats=True, reloads=True),
                ChildSpec("fleet", "collectors.fleet_main", fleet_words, beats=True),
            ],
            clean | mine,
            log_dir=self.logs,
        )
        self._supervision: logging.Handler | None = None
        self._client = self.client()
        self.given: set[str] = set()
        """Devices that were vouched for, and could be given since."""

    def client(self) -> Client:
        """Make a client: the operator of this machine, by the socket."""
        return Client(f"unix://{self._socket}")

    def start(self) -> None:
        """Start both, and wait until the aggregator is ready. Raises DemoError."""
        self.logs.mkdir(parents=True, exist_ok=True)
        self._supervision = logging.FileHandler(self.logs / "supervisor.log", delay=True)
        _supervisor_log.addHandler(self._supervision)
        _supervisor_log.propagate = False  # what ends and starts is no part of the story
        self.until("the aggregator to be ready", self._is_ready)

    def stop(self) -> None:
        """End both. Safe twice."""
        self._supervisor.stop()
        if self._supervision is not None:
            _supervisor_log.removeHandler(self._supervision)
            self._supervision.close()
            self._supervision, _supervisor_log.propagate = None, True

    def _is_ready(self) -> bool:
        try:
            return self._client.raw("GET", "/readyz").status == 200
        except ServerError:
            return False

    def until(self, what: str, condition: Callable[[], T | None], seconds: float = PATIENCE_SECONDS) -> T:
        """Wait for something true and give it. Raises DemoError, naming it, when it does not come."""
        deadline = time.monotonic() + seconds
        while True:
            self._supervisor.poll()
            if self._supervisor.failed:
                raise DemoError(self._supervisor.failed)
            try:
                found = condition()
            except ServerError as error:  # what is busy for a moment may answer the next time
                if not error.passing:
                    raise
                found = None
            if found:
                return found
            if time.monotonic() >= deadline:
                raise DemoError(f"waited {seconds:g} s in vain for {what}")
            time.sleep(POLL_SECONDS)

    # --- asking ------------------------------------------------------------------------------------------------------

    def get(self, path: str, **parameters: object) -> Any:
        """Ask; give the decoded answer. Raises ServerError."""
        return self._client.get(path, **parameters)

    def text(self, path: str) -> str:
        """Ask for text. Raises ServerError."""
        return self._client.text(path)

    def put(self, path: str, body: object) -> Any:
        """Set something. Raises ServerError."""
        return self._client.call("PUT", path, body, {})

    def post(self, path: str, body: object = None) -> Any:
        """Do something. Raises ServerError."""
        return self._client.call("POST", path, body, {})

    def place(self, **wanted: object) -> tuple[int, Any]:
        """Ask for a place; give the status with the claim, or with the refusal. Raises ServerError without answer."""
        return decoded(self._client.raw("POST", "/v1/place", wanted))

    def try_post(self, path: str, body: object) -> tuple[int, Any]:
        """Do something that may be refused; give the status with the answer. Raises ServerError without answer."""
        return decoded(self._client.raw("POST", path, body))

    def at_once(self, method: str, requests: Sequence[tuple[str, object]]) -> list[tuple[int, Any]]:
        """Send all requests at once, each by a client of its own; give status and answer of each."""

        def send(request: tuple[str, object]) -> tuple[int, Any]:
            return decoded(self.client().raw(method, *request))

        with ThreadPoolExecutor(len(requests), "demo") as pool:
            return list(pool.map(send, requests))

    def simulate(self, **words: object) -> dict[str, Any]:
        """Have the simulated nodes do something; give their answer. Raises DemoError."""
        answer = ask(self._control, words)
        if "error" in answer:
            raise DemoError(f"the fleet cannot do {words}: {answer['error']}")
        return answer

    def fault(self, fault: str, node: str, **more: object) -> None:
        """Let something go wrong on a simulated node, and wait until its next step, when it does. Raises DemoError."""
        self.simulate(do="fault", fault=fault, node=node, **more)
        time.sleep(2.5 * INTERVAL_SECONDS)

    def clear_fault(self, fault: str, node: str) -> None:
        """End it, and wait until the node's next step. Raises DemoError."""
        self.simulate(do="clear", fault=fault, node=node)
        time.sleep(2.5 * INTERVAL_SECONDS)

    def reboot(self, *more: str) -> None:
        """Boot all nodes anew, with `more` lines of a fleet file: what goes wrong with them from the start, say."""
        text = self._fleet.read_text(encoding="utf-8").replace("[[nodes]]", "[[nodes]]\nboot = 1")
        self._fleet.write_text("\n".join((text, *more, "")), encoding="utf-8")
        (child,) = (one for one in self._supervisor.statuses() if one.name == "fleet")
        starts = child.starts
        if child.pid is not None:
            os.kill(child.pid, signal.SIGTERM)
        self.until("the nodes to boot", lambda: child.starts > starts)

    def vnics(self, node: str) -> bytes:
        """Ask a node's metadata service as the node would, and give its answer. Raises DemoError, or VnicsError."""
        return fetch(LOOPBACK, self.metadata_port(node))

    def metadata_port(self, node: str) -> int:
        """Have a node's metadata service answer, and give its port. Raises DemoError."""
        port: int = self.simulate(do="metadata", node=node)["port"]
        return port

    # --- the inventory -----------------------------------------------------------------------------------------------

    def devices(self, **chosen: object) -> list[dict[str, Any]]:
        """Give devices, all pages."""
        found: list[dict[str, Any]] = []
        after = ""
        while True:
            page = self.get("/v1/devices", after=after, limit=PAGE, **chosen)
            found += page["devices"]
            after = page["next"]
            if not after:
                return found

    def device(self, name: str) -> dict[str, Any]:
        """Give one device."""
        found: dict[str, Any] = self.get(f"/v1/devices/{name}")["device"]
        return found

    def lifecycles(self, name: str) -> list[str]:
        """Give what a device has been so far, oldest first: asked of the ledger as of each of its entries."""
        told: list[str] = []
        for entry in self.get(f"/v1/devices/{name}/history")["entries"]:
            then = self.get(f"/v1/devices/{name}", as_of=entry["sequence"])["device"]["lifecycle"]
            if told[-1:] != [then]:
                told.append(then)
        return told

    def known(self, what: str, count: int, **chosen: object) -> list[dict[str, Any]]:
        """Wait until so many devices are there, and give them. Raises DemoError."""

        def there() -> list[dict[str, Any]]:
            found = [one for one in self.devices(**chosen) if one["reach"] == "live"]
            return found if len(found) == count else []

        return self.until(f"{what} in the inventory", there)

    def vouch(self, statement: str, *kinds: str) -> list[str]:
        """Give the operator's word that all devices of some kinds that wait for one are clean; give their ids."""
        told = self.post("/v1/adoption/attest", {"statement": statement, "kinds": list(kinds)})
        names: list[str] = told["attested"]
        self.given.update(names)
        return names

    # --- claims ------------------------------------------------------------------------------------------------------

    def claims(self) -> list[dict[str, Any]]:
        """Give the claims that hold something."""
        found: list[dict[str, Any]] = self.get("/v1/claims", limit=10_000)
        return found

    def claim(self, name: str) -> dict[str, Any]:
        """Give one claim."""
        found: dict[str, Any] = self.get(f"/v1/claims/{name}")
        return found

    def provision(self, claims: Iterable[str]) -> None:
        """Have the nodes prepare claims, all at once, and wait for their word. Raises DemoError."""
        names = list(claims)
        told = self.at_once("POST", [(f"/v1/claims/{name}/provision", None) for name in names])
        refused = [answer for status, answer in told if status >= 400]
        if refused:
            raise DemoError(f"a provision was refused: {refused[0]}")
        self.until("all claims to be active", lambda: all(self.claim(name)["state"] == "active" for name in names))

    def release(self, name: str) -> None:
        """Give a claim back. Raises ServerError."""
        self._client.delete(f"/v1/claims/{quote(name)}?why=the+demonstration+ends")


def decoded(answer: Answer) -> tuple[int, Any]:
    """Give the status of an answer with what it says, None when it is empty."""
    return answer.status, msgspec.json.decode(answer.body) if answer.body else None
