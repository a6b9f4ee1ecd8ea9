"""The agent's way to an aggregator: one kept connection, the next address when one fails, an authority that is pinned.

Against real servers on real sockets. Requirements: R001-9, R003-1 (TLS, fail-over).
"""

import os
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from collectors.transport import Answer, Backoff, Transport, TransportError, check_address
from schemas.errors import ConfigError
from tests.certificates import Authority


class Server:
    """A small HTTP server that notes what it was asked, and closes connections when it is told to."""

    def __init__(
        self, kind: type[socketserver.BaseServer], address: Any, context: ssl.SSLContext | None = None
    ) -> None:
        self.asked: list[tuple[str, str, bytes]] = []
        self.connections = 0
        self.close_after = False
        """Close each connection after its answer, without a word about it."""
        self.answer = (200, b"fine", {"X-Word": "Yes"})
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                outer.connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.asked.append((self.path, self.headers.get("Authorization", ""), body))
                status, content, headers = outer.answer
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
                self.close_connection = outer.close_after

            def address_string(self) -> str:
                return "client"

            def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the base class's name
                return

        class Threaded(socketserver.ThreadingMixIn, kind):  # type: ignore[misc, valid-type]
            daemon_threads = True
            allow_reuse_address = True

            def get_request(self) -> tuple[socket.socket, Any]:
                sock, peer = super().get_request()
                return (context.wrap_socket(sock, server_side=True) if context else sock), peer

            def handle_error(self, *_: object) -> None:
                return

        self._server = Threaded(address, Handler)
        self.port = self._server.server_address[1] if context or kind is socketserver.TCPServer else 0
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def tcp(context: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(socketserver.TCPServer, ("127.0.0.1", 0), context)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def transport(*addresses: str, **more: Any) -> Iterator[Transport]:
    made = Transport(list(addresses), timeout=5.0, **more)
    try:
        yield made
    finally:
        made.close()


def local(server: Server, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{server.port}"


def nobody() -> str:
    """An address at which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{sock.getsockname()[1]}"


class TestOneAddress:
    def test_a_request_arrives_whole_and_its_answer_comes_back(self) -> None:
        with tcp() as server, transport(local(server)) as made:
            body = os.urandom(300_000)
            answer = made.request("POST", "/v1/publish", body, {"Authorization": "Bearer x"})
            assert (200, b"fine", "Yes") == (answer.status, answer.body, answer.headers["x-word"])
            assert [("/v1/publish", "Bearer x", body)] == server.asked

    def test_a_connection_is_kept(self) -> None:
        with tcp() as server, transport(local(server)) as made:
            for _ in range(5):
                made.request("POST", "/", b"x")
            assert 1 == server.connections

    def test_a_kept_connection_that_the_server_closed_is_opened_again_without_a_failure(self) -> None:
        with tcp() as server, transport(local(server)) as made:
            server.close_after = True
            for at in range(5):
                assert 200 == made.request("POST", f"/{at}", b"x").status
                time.sleep(0.05)
            assert [f"/{at}" for at in range(5)] == [path for path, _, _ in server.asked]
            assert 5 == server.connections

    def test_a_server_that_started_again_is_found_without_a_failure(self) -> None:
        with tcp() as server, transport(local(server)) as made:
            made.request("POST", "/", b"x")
            port = server.port
            server.close()
            made._connection.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]
            again = Server(socketserver.TCPServer, ("127.0.0.1", port))
            assert 200 == made.request("POST", "/again", b"x").status
            again.close()

    def test_a_unix_socket(self, tmp_path: Path) -> None:
        server = Server(socketserver.UnixStreamServer, str(tmp_path / "s"))
        with transport(f"unix://{tmp_path / 's'}") as made:
            for _ in range(3):
                assert b"fine" == made.request("POST", "/x", b"y").body
        server.close()
        assert 1 == server.connections

    def test_nobody_there_is_told_with_the_address(self, tmp_path: Path) -> None:
        address = nobody()
        with transport(address) as made, pytest.raises(TransportError, match=f"^{address}: .*refused"):
            made.request("POST", "/", b"")
        with transport(f"unix://{tmp_path}/s") as made, pytest.raises(TransportError, match="No such file"):
            made.request("POST", "/", b"")

    def test_a_server_that_does_not_answer_is_given_up_in_time(self) -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            sock.listen()
            made = Transport([f"http://127.0.0.1:{sock.getsockname()[1]}"], timeout=0.3)
            began = time.monotonic()
            with pytest.raises(TransportError, match="timed out"):
                made.request("POST", "/", b"")
            assert time.monotonic() - began < 20  # without `timeout` it would be 30 s

    def test_an_answer_beyond_all_measure_is_refused(self) -> None:
        with tcp() as server, transport(local(server)) as made:
            server.answer = (200, b"x" * (9 << 20), {})
            with pytest.raises(TransportError):
                made.request("POST", "/", b"")

    @pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b""])
    def test_what_is_no_http_answer_is_a_failure(self, said: bytes) -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            sock.listen()

            def serve() -> None:
                peer, _ = sock.accept()
                with peer:
                    peer.recv(65536)
                    peer.sendall(said)

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            with transport(f"http://127.0.0.1:{sock.getsockname()[1]}") as made, pytest.raises(TransportError):
                made.request("POST", "/", b"")
            thread.join()


class TestSeveralAddresses:
    def test_after_a_failure_the_next_is_asked_and_kept(self) -> None:
        with tcp() as server, transport(nobody(), local(server)) as made:
            with pytest.raises(TransportError):
                made.request("POST", "/", b"")
            for _ in range(3):
                assert 200 == made.request("POST", "/", b"").status
            assert local(server) == made.address

    def test_after_the_last_comes_the_first(self) -> None:
        with ExitStack() as stack:
            first, second = stack.enter_context(tcp()), tcp()
            with second as other, transport(local(first), local(other)) as made:
                assert local(first) == made.address
                made.request("POST", "/", b"")
            for _ in range(2):
                with transport(nobody(), nobody(), local(first)) as made:
                    for _ in range(2):
                        with pytest.raises(TransportError):
                            made.request("POST", "/", b"")
                    assert 200 == made.request("POST", "/", b"").status

    def test_a_refusal_is_an_answer_and_no_reason_to_go_elsewhere(self) -> None:
        with tcp() as server, tcp() as other, transport(local(server), local(other)) as made:
            server.answer = (503, b'{"code": "busy"}', {"Retry-After": "7"})
            answer = made.request("POST", "/", b"")
            assert (503, 7.0, {"code": "busy"}) == (answer.status, answer.retry_after, answer.problem())
            assert 0 == other.connections


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


class TestTls:
    @staticmethod
    def context(authority: Authority, host: str = "127.0.0.1") -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.certificate(host))
        return context

    def test_a_certificate_of_the_pinned_authority_is_taken(self, authority: Authority) -> None:
        with tcp(self.context(authority)) as server:
            with transport(local(server, "https"), ca_file=authority.ca_file) as made:
                for _ in range(3):
                    assert b"fine" == made.request("POST", "/", b"x" * 100_000).body
            assert 1 == server.connections

    def test_a_kept_tls_connection_that_was_closed_is_opened_again(self, authority: Authority) -> None:
        with tcp(self.context(authority)) as server:
            with transport(local(server, "https"), ca_file=authority.ca_file) as made:
                server.close_after = True
                for _ in range(3):
                    assert 200 == made.request("POST", "/", b"x" * 100_000).status
                    time.sleep(0.05)

    def test_a_certificate_of_another_authority_is_refused(self, authority: Authority, tmp_path: Path) -> None:
        other = Authority(tmp_path, "somebody else")
        with tcp(self.context(authority)) as server:
            with transport(local(server, "https"), ca_file=other.ca_file) as made:
                with pytest.raises(TransportError, match="CERTIFICATE_VERIFY_FAILED"):
                    made.request("POST", "/", b"a secret")
            assert [] == server.asked

    def test_without_a_pinned_authority_only_the_systems_count(self, authority: Authority) -> None:
        with tcp(self.context(authority)) as server, transport(local(server, "https")) as made:
            with pytest.raises(TransportError, match="CERTIFICATE_VERIFY_FAILED"):
                made.request("POST", "/", b"a secret")

    def test_a_certificate_for_another_host_is_refused(self, authority: Authority) -> None:
        with tcp(self.context(authority, "elsewhere.example")) as server:
            with transport(local(server, "https"), ca_file=authority.ca_file) as made:
                with pytest.raises(TransportError, match="CERTIFICATE_VERIFY_FAILED"):
                    made.request("POST", "/", b"a secret")

    def test_a_server_without_tls_is_a_failure(self, authority: Authority) -> None:
        with tcp() as server, transport(local(server, "https"), ca_file=authority.ca_file) as made:
            with pytest.raises(TransportError, match="is its address http://"):
                made.request("POST", "/", b"a secret")

    def test_a_server_with_tls_that_is_asked_without_closes_and_the_hint_is_given(self, authority: Authority) -> None:
        with tcp(self.context(authority)) as server, transport(local(server)) as made:
            with pytest.raises(TransportError, match="its address is https://"):
                made.request("GET", "/")

    def test_tls_is_not_imported_before_an_address_asks_for_it(self) -> None:
        """It costs the agent 10 MB."""
        code = (
            "import sys; from collectors.transport import Transport\n"
            "Transport(['http://a:1']); print('ssl' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "False\n" == done.stdout


class TestWords:
    @pytest.mark.parametrize("address", ["http://a", "https://a:1", "http://[::1]:8420", "unix:///run/m.sock"])
    def test_addresses(self, address: str) -> None:
        check_address(address)

    @pytest.mark.parametrize(
        "address", ["", "a", "a:8420", "ftp://a", "http://", "unix://", "http://a:99999", "http://a:0", "http://a:b"]
    )
    def test_what_is_no_address(self, address: str) -> None:
        with pytest.raises(ConfigError, match="is no address: write https://host:8420"):
            check_address(address)

    @pytest.mark.parametrize(
        ("text", "seconds"), [("5", 5.0), ("0.5", 0.5), ("-3", 0.0), ("nan", 0.0), ("soon", None), (None, None)]
    )
    def test_retry_after(self, text: str | None, seconds: float | None) -> None:
        assert seconds == Answer(503, {} if text is None else {"retry-after": text}, b"").retry_after

    def test_a_fleet_does_not_come_back_as_one(self) -> None:
        waits = {Backoff(8, 30, seed=seed).next() for seed in range(50)}
        assert len(waits) == 50
        assert all(4 <= wait <= 8 for wait in waits)


@pytest.mark.parametrize("body", [b'"\xff"', b"[" * 100_000, b"<html>", b"[1]", b""])
def test_a_refusal_in_any_words_is_a_problem(body: bytes) -> None:
    """Whatever stands between may answer; the thread that asks must outlive it."""
    assert Answer(502, {}, body).problem()["code"] == "http.502"
