"""Many BMCs in one process, each at an address of its own."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from tests.fakes.redfish.bmc import Bmc, Options
from tests.fakes.redfish.deliver import Deliverer
from tests.fakes.redfish.http import Connection, Desk
from tests.fakes.redfish.tree import Tree

T = TypeVar("T")

PATIENCE: Final = 30.0


class Simulator:
    """BMCs that answer from a thread of their own, for as long as the block lasts."""

    def __init__(self) -> None:
        self.bmcs: list[Bmc] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="BMCs", daemon=True)
        self._servers: dict[Bmc, asyncio.Server] = {}
        self._connections: dict[Bmc, set[Connection]] = {}
        self._gone: set[Bmc] = set()
        self._silent: list[socket.socket] = []
        self._deliverer = Deliverer(self._loop)
        self._errors: list[object] = []
        self._loop.set_exception_handler(lambda _, told: self._errors.append(told.get("exception") or told["message"]))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()
        assert not self._errors, f"the simulator itself failed: {self._errors}"

    # ------------------------------------------------------------------------------------------ what users call

    def add(
        self,
        tree: Tree,
        options: Options | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        certificate: tuple[Path, Path] | None = None,
        clock: Callable[[], float] | None = None,
    ) -> Bmc:
        """Start a BMC; over TLS if there are a certificate and its key."""
        bmc = Bmc(tree, options, clock) if clock is not None else Bmc(tree, options)
        bmc.events.post = lambda url, headers, body: self._deliverer.deliver(bmc.events, url, headers, body)
        self._connections[bmc] = set()
        self.bmcs.append(bmc)
        context = None
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
        port = self._call(lambda: self._listen(bmc, host, port, context))
        bmc.url = f"{'https' if context else 'http'}://{host}:{port}"
        return bmc

    def silent(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Give the address of a BMC that takes connections and says nothing."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(64)
        self._silent.append(sock)
        return f"http://{host}:{sock.getsockname()[1]}"

    def disappear(self, bmc: Bmc) -> None:
        """Let a BMC be gone: its connections are reset, its port refuses. `reappear` starts it anew."""
        self._call(lambda: self._end(bmc))

    def reappear(self, bmc: Bmc) -> None:
        """Start a BMC that had disappeared, at its address, without any session."""
        bmc.sessions.expire()
        host, _, port = bmc.url.partition("//")[2].rpartition(":")
        self._call(lambda: self._listen(bmc, host, int(port), None))

    def hang_up(self, bmc: Bmc) -> None:
        """End all its connections."""
        self._call(lambda: self._hang_up(bmc))

    def connections(self, bmc: Bmc) -> int:
        """Give how many connections are open to a BMC."""
        return len(self._connections[bmc])

    # ------------------------------------------------------------------------------------------ the loop's own

    def _call(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run_coroutine_threadsafe(function(), self._loop).result(PATIENCE)

    async def _listen(self, bmc: Bmc, host: str, port: int, context: ssl.SSLContext | None) -> int:
        desk, open_now = Desk(bmc), self._connections[bmc]
        self._gone.discard(bmc)
        server = await self._loop.create_server(
            lambda: Connection(bmc, desk, open_now, lambda: bmc in self._gone), host, port, ssl=context, backlog=256
        )
        self._servers[bmc] = server
        number: int = server.sockets[0].getsockname()[1]
        return number

    async def _hang_up(self, bmc: Bmc) -> None:
        for connection in list(self._connections[bmc]):
            connection.close()
        await asyncio.sleep(0)

    async def _end(self, bmc: Bmc) -> None:
        self._gone.add(bmc)  # what was accepted just now is not served
        server = self._servers.pop(bmc, None)
        if server is not None:
            server.close()
        await self._hang_up(bmc)

    async def _close(self) -> None:
        for bmc in self.bmcs:
            await self._end(bmc)
        for sock in self._silent:
            sock.close()
        tasks = [task for task in asyncio.all_tasks(self._loop) if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.05)  # transports of TLS say their last word


@contextlib.contextmanager
def simulated() -> Iterator[Simulator]:
    """Give a simulator, for fixtures."""
    with Simulator() as simulator:
        yield simulator
