"""OpenStack Placement, the peer that claims and placement are measured against.

Source: docs.openstack.org/placement (configuration, API reference); docs.openstack.org/api-ref/placement.
"""

import http.client
import json
import subprocess
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

from tests.ports import free_port
from tests.services.postgresql import Postgres
from tests.services.process import DidNotStartError, answers, running

WIDE_TREES = """
[placement]
max_allocation_candidates = 1000
allocation_candidates_generation_strategy = breadth-first
[workarounds]
optimize_for_wide_provider_trees = true
"""
"""What its documentation advises where a host has eight devices or more; 12 knows none of it and ignores it."""
PROCESSES, THREADS = 2, 4


class Placement(msgspec.Struct, frozen=True):
    """A Placement that answers."""

    address: str
    pid: int
    server: Postgres
    database: str
    """Its own, within the server."""

    def execute(self, statements: str) -> str:
        """Run SQL on its database; give what it prints. Raises AssertionError when a statement fails."""
        return self.server.execute(statements, self.database)


@contextmanager
def placement(python: Path, server: Postgres, folder: Path, options: str = "") -> Iterator[Placement]:
    """Run a Placement on a new, empty database of its own. Raises DidNotStartError.

    `python` is the Python of an environment that has it. Nobody is asked who they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    database = f"placement_{uuid.uuid4().hex}"
    server.execute(f"CREATE DATABASE {database}")
    config = folder / "placement.conf"
    config.write_text(
        "[DEFAULT]\nlog_options = false\n"
        "[api]\nauth_strategy = noauth2\n"
        f"[placement_database]\nconnection = {server.address(database)}\n{options}"
    )
    _synchronise(python, config)
    port = free_port()
    command = (
        python, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", PROCESSES, "--threads", THREADS,
        "--keep-alive", 60, "--timeout", 600, "--graceful-timeout", 2, "--no-control-socket",
        "placement.wsgi:init_application()",
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    with running(
        [str(word) for word in command],
        folder,
        address=address,
        healthy=lambda: answers(address),
        env={"OS_PLACEMENT_CONFIG_DIR": str(folder)},
    ) as process:
        yield Placement(address, process.pid, server, database)


def _synchronise(python: Path, config: Path) -> None:
    done = subprocess.run(
        [python.with_name("placement-manage"), "--config-file", config, "db", "sync"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if done.returncode:
        raise DidNotStartError(f"placement-manage db sync ended with {done.returncode}:\n{done.stderr[-2000:]}")


class RefusedError(AssertionError):
    """Placement did not do what a test needs of it."""


class Client:
    """One connection to a Placement; for one thread."""

    def __init__(self, address: str, seconds: float = 60.0) -> None:
        """`seconds` is how long an answer may take; TimeoutError after that."""
        self._connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Give status and answer; None when the answer is empty."""
        headers = {"X-Auth-Token": "admin", "OpenStack-API-Version": "placement 1.39", "Accept": "application/json"}
        sent = None
        if body is not None:
            headers["Content-Type"], sent = "application/json", json.dumps(body)
        try:
            self._connection.request(method, path, sent, headers)
            answer = self._connection.getresponse()
            data = answer.read()
        except BaseException:
            self._connection.close()  # what is still to come is not the answer to the next
            raise
        return answer.status, json.loads(data) if data else None

    def must(self, method: str, path: str, body: object = None) -> Any:
        """Give the answer. Raises RefusedError when it is no success."""
        status, answer = self.ask(method, path, body)
        if not 200 <= status < 300:
            raise RefusedError(f"{method} {path}: {status} {answer}")
        return answer

    def name_traits(self, names: Iterable[str]) -> None:
        """Make traits of one's own, `CUSTOM_...`."""
        for name in names:
            self.must("PUT", f"/traits/{name}")

    def add_provider(
        self,
        name: str,
        totals: Mapping[str, int],
        *,
        traits: Iterable[str] = (),
        reserved: Mapping[str, int] | None = None,
        ratios: Mapping[str, float] | None = None,
    ) -> str:
        """Add a provider with what it has by resource class; give its id. What is 0 it does not have."""
        made = self.must("POST", "/resource_providers", {"name": name, "uuid": str(uuid.uuid4())})
        generation, path = made["generation"], f"/resource_providers/{made['uuid']}"
        inventories = {
            key: {
                "total": total,
                "reserved": (reserved or {}).get(key, 0),
                "allocation_ratio": (ratios or {}).get(key, 1.0),
            }
            for key, total in totals.items()
            if total
        }
        if inventories:
            body = {"resource_provider_generation": generation, "inventories": inventories}
            generation = self.must("PUT", f"{path}/inventories", body)["resource_provider_generation"]
        if wanted := sorted(traits):
            self.must("PUT", f"{path}/traits", {"resource_provider_generation": generation, "traits": wanted})
        return str(made["uuid"])

    def allocate(self, provider: str, resources: Mapping[str, int], consumer: str = "") -> int:
        """Give resources of a provider to a consumer, a new one unless named; give the status: 204, or 409 refused."""
        path = f"/allocations/{consumer or uuid.uuid4()}"
        return self.ask("PUT", path, allocation({provider: resources}))[0]

    def used(self, provider: str, resource: str) -> int:
        """Say how much of a resource of a provider is given away, by its own count."""
        return int(self.must("GET", f"/resource_providers/{provider}/usages")["usages"][resource])


def allocation(resources: Mapping[str, Mapping[str, int]]) -> dict[str, object]:
    """Give the body that makes a new consumer own resources, by provider."""
    return {
        "allocations": {provider: {"resources": dict(amounts)} for provider, amounts in resources.items()},
        "consumer_generation": None,
        "project_id": "muster",
        "user_id": "muster",
        "consumer_type": "INSTANCE",
    }
