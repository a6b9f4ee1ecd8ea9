"""Who asks over the local socket, over a real one."""

import asyncio
import contextlib
import os
import pwd
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from aggregator.access import LOCAL, Caller, Who
from aggregator.local_peer import PEER, LocalProtocol, Peer, local_caller, peer_of
from tests.needs import unmet

ASK = """
import http.client, os, socket, sys
if int(sys.argv[2]):
    os.setgid(int(sys.argv[2])), os.setuid(int(sys.argv[2]))
connection = http.client.HTTPConnection("local")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect("\\0" + sys.argv[1])
for _ in range(2):  # twice over one connection
    connection.request("GET", "/")
    print(connection.getresponse().read().decode())
connection.close()
"""


async def _who(scope: Scope, _: Receive, send: Send) -> None:
    name = (await local_caller(scope.get("state"))).name.encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(name))]})
    await send({"type": "http.response.body", "body": name})


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"muster-test-{os.getpid()}"  # in the kernel, not in a folder: another user is to reach it
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"\0{name}")
    listening.listen()
    server = _Server(uvicorn.Config(_who, http=LocalProtocol, log_config=None, lifespan="off"))

    def serve() -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(server.serve([listening]))

    thread = threading.Thread(target=serve)
    thread.start()
    yield name
    server.should_exit = True
    thread.join(30)
    listening.close()


def asked(address: str, user: int = 0) -> list[str]:
    """Ask as another process, of another user if need be."""
    words = [sys.executable, "-I", "-c", ASK, address, str(user)]
    return subprocess.run(words, capture_output=True, text=True, timeout=30, check=True).stdout.split()


def login() -> str:
    """How somebody who logged in as another one is told; "" on a machine that keeps no logins."""
    with contextlib.suppress(OSError):
        number = int(Path("/proc/self/loginuid").read_text())
        if number not in (0xFFFFFFFF, os.getuid()):
            return f"({pwd.getpwuid(number).pw_name})"
    return ""


def test_who_asks_over_the_socket_has_the_name_of_its_user(address: str) -> None:
    name = pwd.getpwuid(os.getuid()).pw_name
    assert [f"local:{name}{login()}"] * 2 == asked(address)


def test_another_user_has_another_name_and_one_that_nobody_names_its_number(address: str) -> None:
    if os.getuid() != 0:
        unmet("only root can become another user")
    nobody = pwd.getpwnam("nobody").pw_uid
    assert "local:nobody" in asked(address, nobody)[0]
    assert "local:3999999" in asked(address, 3_999_999)[0]


@pytest.mark.parametrize(
    ("written", "login"), [("1000", 1000), ("4294967295", None), ("", None), ("x", None), (None, None)]
)
def test_who_logged_in_is_known_where_the_kernel_keeps_it(
    tmp_path: Path, written: str | None, login: int | None
) -> None:
    if written is not None:
        (tmp_path / str(os.getpid())).mkdir()
        (tmp_path / str(os.getpid()) / "loginuid").write_text(written)
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        peer = peer_of(one, tmp_path)
    assert (os.getuid(), login) == (peer.uid, peer.login)


@pytest.mark.parametrize(
    ("uid", "login", "name"), [(0, None, "local:root"), (0, 0, "local:root"), (0, 3_999_999, "local:root(3999999)")]
)
async def test_one_who_became_root_is_told_with_the_name_of_the_login(uid: int, login: int | None, name: str) -> None:
    caller = await Peer(uid, login).caller()
    assert (Who.LOCAL, name) == (caller.who, caller.name)


async def test_a_request_of_which_nobody_could_tell_is_local_all_the_same() -> None:
    assert LOCAL == await local_caller(None) == await local_caller({})
    assert Caller(Who.LOCAL, user="root") == await local_caller({PEER: Peer(0, None)})
