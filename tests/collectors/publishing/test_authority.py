"""The authority pinned at enrolment (DESIGN part 1, "control channel"), against real TLS servers.

Whoever stands between a new node and its aggregator gets no token; another authority later is refused, typed, with what
to do.
"""

import json
import ssl
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from collectors.authority import AUTHORITY_PATH, Authority, AuthorityError, context_of, split_pin, with_pin
from collectors.config import PublishSection
from collectors.enrolment import NodeToken, authority_of
from collectors.transport import Transport, TransportError
from schemas.errors import ConfigError
from tests.certificates import Authority as Signer


class Desk:
    """An aggregator's TLS address: says what its authority is, hands out tokens, and notes all that it is told."""

    def __init__(self, signer: Signer, bundle: str) -> None:
        self.bundle = bundle
        self.told: list[str] = []
        """Method, path, headers and body of every request."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.told.append(f"{self.command} {self.path} {self.headers.items()} {body!r}")
                content = outer.bundle if self.path == AUTHORITY_PATH else json.dumps({"token": "mst_own"})
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content.encode())

            do_GET = do_POST = answer  # noqa: N815 - http.server's own words

            def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the base class's name
                return

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                return

        self._server = Server(("127.0.0.1", 0), Handler)
        self.use(signer)
        self.address = f"https://127.0.0.1:{self._server.server_address[1]}"
        self._plain = self._server.socket
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def use(self, signer: Signer) -> None:
        """Show a certificate of this authority from the next connection on."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*signer.certificate())
        accept = type(self._server).get_request

        def get_request() -> tuple[ssl.SSLSocket, object]:
            sock, peer = accept(self._server)
            try:
                return context.wrap_socket(sock, server_side=True), peer
            except OSError:
                sock.close()
                raise

        self._server.get_request = get_request  # type: ignore[method-assign]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def desk(signer: Signer, bundle: str | None = None) -> Iterator[Desk]:
    made = Desk(signer, signer.pem if bundle is None else bundle)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def ours(tmp_path: Path) -> Signer:
    return Signer(tmp_path / "ours", "the authority")


@pytest.fixture
def theirs(tmp_path: Path) -> Signer:
    return Signer(tmp_path / "theirs", "the authority")  # the name proves nothing


def enrol(folder: Path, address: str, enrolment_token: str, ca_file: str = "") -> Transport:
    """Enrol as an agent does that keeps its state in a folder; give its transport."""
    publish = PublishSection([address], enrolment_token=enrolment_token, ca_file=ca_file)
    transport = Transport([address], authority=authority_of(publish, folder), timeout=5.0)
    try:
        NodeToken(folder / "token").enrol(transport, enrolment_token, "n1")
    finally:
        transport.close()
    return transport


def kept(folder: Path, address: str) -> Transport:
    """Give the transport of an agent that started again, its one-time token taken out of the configuration."""
    return Transport([address], authority=authority_of(PublishSection([address]), folder), timeout=5.0)


class TestFirstContact:
    def test_the_named_authority_is_pinned_and_only_then_the_token_is_sent(self, tmp_path: Path, ours: Signer) -> None:
        with desk(ours) as aggregator:
            enrol(tmp_path, aggregator.address, with_pin("mse_once", ours.fingerprint))
        first, second = aggregator.told
        assert (True, False) == (first.startswith(f"GET {AUTHORITY_PATH}"), "mse_once" in first)
        assert second.startswith("POST /v1/enrol")
        assert '"token":"mse_once"' in second  # the fingerprint is the node's own matter
        assert "mst_own" == NodeToken(tmp_path / "token")()
        file = tmp_path / "authority.pem"
        assert ours.pem in file.read_text()
        assert 0o644 == stat.S_IMODE(file.stat().st_mode)

    def test_one_between_with_an_authority_of_its_own_gets_no_token(
        self, tmp_path: Path, ours: Signer, theirs: Signer
    ) -> None:
        with desk(theirs) as between:
            with pytest.raises(TransportError, match="is not the one that the enrolment token names") as refused:
                enrol(tmp_path, between.address, with_pin("mse_once", ours.fingerprint))
        assert "tls.authority" == refused.value.code
        assert not any("mse_once" in told for told in between.told)
        assert not (tmp_path / "authority.pem").exists()

    def test_one_between_that_shows_the_true_authority_gets_no_token_either(
        self, tmp_path: Path, ours: Signer, theirs: Signer
    ) -> None:
        """An authority's certificate is public: what proves who speaks is a certificate from it."""
        with desk(theirs, bundle=theirs.pem + ours.pem) as between:
            with pytest.raises(TransportError, match="somebody stands between") as refused:
                enrol(tmp_path, between.address, with_pin("mse_once", ours.fingerprint))
        assert "tls.authority" == refused.value.code
        assert not any("mse_once" in told for told in between.told)

    @pytest.mark.parametrize("bundle", ["", "<html>", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"])
    def test_what_is_no_certificate_pins_nothing(self, tmp_path: Path, ours: Signer, bundle: str) -> None:
        with desk(ours, bundle) as aggregator:
            with pytest.raises(TransportError, match="is not the one"):
                enrol(tmp_path, aggregator.address, with_pin("mse_once", ours.fingerprint))

    def test_a_token_without_fingerprint_goes_to_whom_the_system_believes_alone(
        self, tmp_path: Path, ours: Signer
    ) -> None:
        with desk(ours) as aggregator:
            with pytest.raises(
                TransportError, match=r"CERTIFICATE_VERIFY_FAILED.*publish\.ca_file.*muster token enrol"
            ):
                enrol(tmp_path, aggregator.address, "mse_once")
        assert [] == aggregator.told

    def test_a_certificate_that_the_ca_file_does_not_vouch_for_names_the_file(
        self, tmp_path: Path, ours: Signer, theirs: Signer
    ) -> None:
        with desk(ours) as aggregator:
            with pytest.raises(TransportError, match=r"does not come from publish\.ca_file .*VERIFY_FAILED"):
                enrol(tmp_path, aggregator.address, "mse_once", str(theirs.ca_file))
        assert [] == aggregator.told

    def test_a_ca_file_written_by_hand_wins(self, tmp_path: Path, ours: Signer, theirs: Signer) -> None:
        with desk(ours) as aggregator:
            enrol(tmp_path, aggregator.address, with_pin("mse_once", theirs.fingerprint), str(ours.ca_file))
        assert ["POST"] == [told.split()[0] for told in aggregator.told]
        assert not (tmp_path / "authority.pem").exists()


class TestAfterwards:
    @pytest.fixture
    def aggregator(self, tmp_path: Path, ours: Signer) -> Iterator[Desk]:
        with desk(ours) as aggregator:
            enrol(tmp_path, aggregator.address, with_pin("mse_once", ours.fingerprint))
            aggregator.told.clear()
            yield aggregator

    def test_what_was_pinned_counts_after_a_restart(self, tmp_path: Path, aggregator: Desk) -> None:
        transport = kept(tmp_path, aggregator.address)
        assert 200 == transport.request("POST", "/v1/publish", b"rows").status
        transport.close()
        assert ["POST"] == [told.split()[0] for told in aggregator.told]

    def test_another_authority_is_refused_typed_and_with_what_to_do(
        self, tmp_path: Path, aggregator: Desk, theirs: Signer
    ) -> None:
        aggregator.use(theirs)
        with pytest.raises(TransportError, match=r"was pinned at enrolment .*set publish\.enrolment_token") as refused:
            kept(tmp_path, aggregator.address).request("POST", "/v1/publish", b"rows")
        assert "tls.authority" == refused.value.code
        assert [] == aggregator.told

    def test_a_new_enrolment_token_pins_the_new_authority_and_the_nodes_token_stays(
        self, tmp_path: Path, aggregator: Desk, theirs: Signer
    ) -> None:
        aggregator.use(theirs)
        aggregator.bundle = theirs.pem
        transport = enrol(tmp_path, aggregator.address, with_pin("mse_twice", theirs.fingerprint))
        assert 200 == transport.request("POST", "/v1/publish", b"rows").status
        transport.close()
        transport = kept(tmp_path, aggregator.address)
        assert 200 == transport.request("POST", "/v1/publish", b"rows").status
        transport.close()
        assert not any("/v1/enrol" in told for told in aggregator.told)

    def test_the_next_authority_is_learnt_while_the_one_before_vouches(
        self, tmp_path: Path, aggregator: Desk, ours: Signer, theirs: Signer
    ) -> None:
        """A change of authority in three steps, none of them at the nodes: both told, the next in use, one told."""
        aggregator.bundle = ours.pem + theirs.pem
        transport = kept(tmp_path, aggregator.address)
        assert (True, False) == (transport.renew_authority(), transport.renew_authority())
        transport.close()

        aggregator.use(theirs)
        aggregator.bundle = theirs.pem
        transport = kept(tmp_path, aggregator.address)
        assert transport.renew_authority()
        transport.close()
        assert ours.pem not in (tmp_path / "authority.pem").read_text()

        transport = kept(tmp_path, aggregator.address)
        assert 200 == transport.request("POST", "/v1/publish", b"rows").status
        transport.close()

    @pytest.mark.parametrize("bundle", ["", "theirs"])
    def test_what_would_lock_the_node_out_is_not_kept(
        self, tmp_path: Path, aggregator: Desk, ours: Signer, theirs: Signer, bundle: str
    ) -> None:
        aggregator.bundle = theirs.pem if bundle else ""
        transport = kept(tmp_path, aggregator.address)
        with pytest.raises(TransportError):
            transport.renew_authority()
        transport.close()
        assert ours.pem in (tmp_path / "authority.pem").read_text()

    def test_the_same_token_in_the_configuration_does_not_bring_the_old_authority_back(
        self, tmp_path: Path, aggregator: Desk, ours: Signer, theirs: Signer
    ) -> None:
        aggregator.bundle = ours.pem + theirs.pem
        transport = kept(tmp_path, aggregator.address)
        assert transport.renew_authority()
        transport.close()
        aggregator.use(theirs)
        transport = enrol(tmp_path, aggregator.address, with_pin("mse_once", ours.fingerprint))
        assert 200 == transport.request("POST", "/v1/publish", b"rows").status
        transport.close()


@pytest.mark.parametrize("text", ["", "# pinned at enrolment: sha256:00\n", "\xff"])
def test_a_kept_authority_that_is_none_is_told_before_anything_is_sent(tmp_path: Path, text: str) -> None:
    (tmp_path / "authority.pem").write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match="Remove it, and set"):
        Authority(kept=tmp_path / "authority.pem")


def test_a_token_and_its_fingerprint_are_told_apart() -> None:
    pin = "0f" * 32
    token = f"mse_{'a' * 12}_{'b' * 52}"
    assert (token, pin) == split_pin(with_pin(token, pin))
    assert (token, "") == split_pin(with_pin(token, ""))


@pytest.mark.parametrize("text", ["", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_certificates_that_cannot_be_used_are_refused_by_name(text: str) -> None:
    """Of nothing Python's `ssl` would make a context that believes every authority of the system."""
    with pytest.raises(AuthorityError, match="not the certificates of an authority"):
        context_of(text)
