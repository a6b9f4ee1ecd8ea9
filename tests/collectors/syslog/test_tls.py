"""Syslog over TLS (RFC 5425) with real clients: who may send is known, and who may not harms nobody."""

import contextlib
import hashlib
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collectors import syslog_tls
from collectors.syslog_check import objections_to
from collectors.syslog_config import SyslogConfig
from collectors.syslog_framing import MARK
from collectors.syslog_listener import Counts
from collectors.syslog_loop import Loop
from collectors.syslog_parser import Parser
from collectors.syslog_rows import Rows
from collectors.syslog_sockets import open_tcp
from schemas.rows import Item
from tests.certificates import Authority
from tests.collectors.syslog.harness import PATIENCE, Running, flat
from tests.collectors.syslog.test_streams import closed, connect
from tests.needs import unmet
from tests.ports import free_port

ALARM = "syslog.client.refused"


class Site:
    """An authority, the listener's certificate, and what senders need."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        self.certificate, self.key = self.authority.certificate()
        self.port = free_port()
        self.name = f"tls:127.0.0.1:{self.port}"

    def config(self, **options: Any) -> SyslogConfig:
        defaults = {
            "tls": f"127.0.0.1:{self.port}",
            "tls_certificate": str(self.certificate),
            "tls_key": str(self.key),
            "tls_client_ca": str(self.authority.ca_file),
        }
        return SyslogConfig(kmsg=False, **(defaults | options))

    def context(
        self, host: str | None = "db2.example.com", signer: Authority | None = None, **how: Any
    ) -> ssl.SSLContext:
        """Give a sender's context: with a certificate for `host`, or with none."""
        context = ssl.create_default_context(cafile=str(self.authority.ca_file))
        if host is not None:
            context.load_cert_chain(*(signer or self.authority).certificate(host, **how))
        return context

    @contextlib.contextmanager
    def sender(self, context: ssl.SSLContext | None = None) -> Iterator[ssl.SSLSocket]:
        with connect(self.port) as plain:
            with (context or self.context()).wrap_socket(plain, server_hostname="127.0.0.1") as sock:
                yield sock

    def send(self, data: bytes, context: ssl.SSLContext | None = None) -> None:
        """Send, and close as TLS wants it: with a word, so that what was sent is known to be all."""
        with self.sender(context) as sock:
            sock.sendall(data)
            with contextlib.suppress(OSError):
                sock.unwrap()

    def turned_away(self, running: Running, data: bytes = b"<13>x\n", context: ssl.SSLContext | None = None) -> str:
        """Send what must not get in, and give the reason that is told."""
        before = len(running.events())
        with contextlib.suppress(OSError):
            self.send(data, context)
        running.wait_for(lambda: len(running.events()) > before, "the event")
        event = running.events()[before]
        assert (ALARM, self.name, "127.0.0.1", 1) == (
            event.type, event.detail["listener"], event.detail["peer"], event.detail["times"]
        )  # fmt: skip
        return str(event.detail["reason"])


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_record_says_who_sent_it_by_its_certificate(site: Site, version: ssl.TLSVersion) -> None:
    context = site.context()
    context.minimum_version = context.maximum_version = version
    with Running(site.config()) as running:
        site.send(b"25 <13>1 - web1 app - - - hi<14>plain line\n", context)
        running.wait_for_rows(2)
        counts = running.counts(site.name)
    rows = running.rows()
    assert ["hi", "plain line"] == [row["message"] for row in rows]
    assert [("tls", "db2.example.com")] * 2 == [(row["source"], row["peer"]) for row in rows]
    assert "web1" == rows[0]["host"]
    assert (2, 1, 0) == (counts["messages_total"], counts["accepted_total"], counts["tls_failures_total"])


def test_none_is_lost_at_speed_however_the_records_are_cut(site: Site) -> None:
    config, context, each = site.config(), site.context(), 5000

    def send(number: int) -> None:
        lines = [b"<13>1 2024-01-02T03:04:05.6Z h%d a - - - %d" % (number, at) for at in range(each)]
        data = b"".join(b"%d %s" % (len(line), line) for line in lines)
        size = (37, 700, 16384, 100_000)[number]
        with site.sender(context) as sock:
            for at in range(0, len(data), size):
                sock.sendall(data[at : at + size])
            sock.unwrap()

    with Running(config) as running:
        senders = [threading.Thread(target=send, args=(number,)) for number in range(4)]
        for thread in senders:
            thread.start()
        for thread in senders:
            thread.join(PATIENCE)
        running.wait_for_rows(4 * each)
        running.wait_for(lambda: running.counts(site.name)["connections"] == 0, "all connections to be closed")
        counts = running.counts(site.name)
    by_host: dict[str, list[str]] = {}
    for row in running.rows():
        by_host.setdefault(row["host"], []).append(row["message"])
    assert {f"h{number}": [str(at) for at in range(each)] for number in range(4)} == by_host
    assert (0, 0, 0) == tuple(counts[key] for key in ("malformed_total", "truncated_total", "tls_failures_total"))


def test_sender_that_shows_no_certificate_is_turned_away_and_told(site: Site) -> None:
    with Running(site.config()) as running:
        assert "it showed no certificate" == site.turned_away(running, context=site.context(None))
        assert (1, 0) == tuple(running.counts(site.name)[key] for key in ("tls_failures_total", "messages_total"))
        site.send(b"<13>good\n")
        running.wait_for_rows(1)
    assert ["good"] == running.messages()


def test_who_insists_is_told_once_and_counted_each_time(site: Site) -> None:
    with Running(site.config()) as running:
        context = site.context(None)
        for _ in range(5):
            with contextlib.suppress(OSError):
                site.send(b"<13>x\n", context)
        running.wait_for(lambda: running.counts(site.name)["tls_failures_total"] == 5, "all to be counted")
    assert 1 == len(running.events())


@pytest.mark.parametrize(("host", "peer"), [(None, None), ("db2.example.com", "db2.example.com")])
def test_certificate_may_be_optional(site: Site, host: str | None, peer: str | None) -> None:
    with Running(site.config(tls_clients="optional")) as running:
        site.send(b"<13>x\n", site.context(host))
        running.wait_for_rows(1)
    assert [peer] == [row.get("peer") for row in running.rows()]


def test_optional_certificate_that_is_shown_must_be_good(site: Site) -> None:
    stranger = site.context(signer=Authority(site.folder / "other", "another"))
    with Running(site.config(tls_clients="optional")) as running:
        assert "not accepted: unable to get local issuer certificate" in site.turned_away(running, context=stranger)


def test_nobody_is_asked_where_that_is_configured(site: Site) -> None:
    with Running(site.config(tls_clients="none", tls_client_ca="")) as running:
        site.send(b"<13>x\n", site.context(None))
        running.wait_for_rows(1)
    assert "peer" not in running.rows()[0]


def test_expired_certificate_is_named_as_the_reason(site: Site) -> None:
    with Running(site.config()) as running:
        reason = site.turned_away(running, context=site.context(expired=True))
    assert "its certificate was not accepted: certificate has expired" == reason


def test_old_protocol_is_named_as_the_reason(site: Site) -> None:
    context = site.context()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with Running(site.config()) as running:
        assert "it does not offer TLS 1.2 or later" == site.turned_away(running, context=context)


@pytest.mark.parametrize(
    "data", [b"<13>plain text\n", b"GET / HTTP/1.1\r\n\r\n", bytes(range(1, 200)), b"\x16\x03\x01"]
)
def test_what_is_no_tls_is_turned_away_and_never_a_record(site: Site, data: bytes) -> None:
    with Running(site.config()) as running:
        with connect(site.port) as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            assert closed(sock) or sock.recv(100) is not None
        running.wait_for(lambda: len(running.events()) == 1, "the event")
        assert 1 == running.counts(site.name)["tls_failures_total"]
    assert running.events()[0].detail["reason"] in (
        "it does not speak TLS",
        "it closed the connection during the handshake",
    )
    assert [] == running.rows()


def test_port_that_is_only_tried_is_no_alarm(site: Site) -> None:
    """A load balancer connects and closes, every few seconds."""
    with Running(site.config()) as running:
        connect(site.port).close()
        running.wait_for(lambda: running.counts(site.name)["tls_failures_total"] == 1, "the count")
    assert [] == running.events()


@pytest.mark.parametrize(
    ("listed", "good"),
    [
        ("DB2.example.com", True),
        ("*.example.com", True),
        ("*.com", False),
        ("db3.example.com", False),
        (("db3.example.com", "db2.example.com"), True),
        ("example.com", False),
    ],
)
def test_only_listed_names_may_send(site: Site, listed: Any, good: bool) -> None:
    with Running(site.config(tls_client_names=listed)) as running:
        if good:
            site.send(b"<13>x\n")
            running.wait_for_rows(1)
        else:
            reason = site.turned_away(running)
            assert "its certificate is for db2.example.com, which tls_client_names does not list" == reason
    assert int(good) == len(running.rows())


def test_fingerprint_may_be_listed(site: Site) -> None:
    certificate, key = site.authority.certificate("db2.example.com")
    context = ssl.create_default_context(cafile=str(site.authority.ca_file))
    context.load_cert_chain(certificate, key)
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text())).digest().hex(":")
    with Running(site.config(tls_client_names=f"sha-256:{digest}")) as running:
        site.send(b"<13>x\n", context)
        running.wait_for_rows(1)
        assert "does not list" in site.turned_away(running, context=site.context())  # a new one of the same name
    assert ["x"] == running.messages()


def test_stalled_handshake_keeps_nobody_waiting_and_ends(site: Site) -> None:
    with Running(site.config(tls_handshake_seconds=0.5)) as running, connect(site.port) as stalled:
        stalled.sendall(b"\x16\x03\x01\x02\x00\x01")
        started = time.monotonic()
        site.send(b"<13>quick\n")
        running.wait_for_rows(1)
        assert time.monotonic() - started < 1.0
        assert closed(stalled)
        running.wait_for(lambda: bool(running.events()), "the event")
    assert "its handshake took more than 0.5 s" == running.events()[0].detail["reason"]


def test_flood_of_stalled_handshakes_keeps_nobody_out(site: Site) -> None:
    config = site.config(max_connections=3, tls_handshake_seconds=300)
    with Running(config) as running, contextlib.ExitStack() as stack:
        good = stack.enter_context(site.sender())
        stalled = [stack.enter_context(connect(site.port)) for _ in range(20)]
        for sock in stalled:
            sock.sendall(b"\x16")
        good.sendall(b"<13>one\n")
        site.send(b"<13>two\n")
        running.wait_for_rows(2)
        assert all(closed(sock) for sock in stalled[:17])
        assert {"it was slow in the handshake, and others wait"} == {
            str(event.detail["reason"]) for event in running.events()
        }
    assert {"one", "two"} == set(running.messages())


def test_senders_above_the_limit_are_closed_counted_and_told(site: Site) -> None:
    with Running(site.config(max_connections=1)) as running, site.sender() as first:
        first.sendall(b"<13>1\n")
        running.wait_for_rows(1)
        reason = site.turned_away(running, b"<13>2\n")
        assert "there are 1 connections already, as many as max_connections allows" == reason
        counts = running.counts(site.name)
    assert (1, 1, 0) == tuple(counts[key] for key in ("connections", "refused_total", "tls_failures_total"))


def test_end_without_a_word_leaves_what_may_have_been_cut_off_marked(site: Site) -> None:
    """RFC 5425 part 4.4: close_notify ends a stream; a bare FIN may be an attacker's."""
    with Running(site.config()) as running:
        with connect(site.port) as plain:
            sock = site.context().wrap_socket(plain, server_hostname="127.0.0.1")
            sock.sendall(b"<13>whole\n<13>half")
            sock.close()
        running.wait_for_rows(2)
        site.send(b"<13>last line")
        running.wait_for_rows(3)
    assert ["whole", "half" + MARK.decode(), "last line"] == running.messages()
    assert {"db2.example.com"} == {row["peer"] for row in running.rows()}


def test_listener_answers_the_end_with_its_own_word(site: Site) -> None:
    with Running(site.config()), site.sender() as sock:
        sock.sendall(b"<13>x\n")
        sock.settimeout(PATIENCE)
        assert isinstance(sock.unwrap(), socket.socket)  # raises where the peer just closes


def test_bytes_that_are_not_sound_end_their_own_connection_alone(site: Site) -> None:
    with Running(site.config()) as running, site.sender() as other:
        with connect(site.port) as plain:
            sock = site.context().wrap_socket(plain, server_hostname="127.0.0.1")
            sock.sendall(b"<13>sound\n")
            running.wait_for_rows(1)
            descriptor = os.dup(sock.fileno())
            with sock, socket.socket(fileno=descriptor) as below:
                below.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)  # a record that no key made
                running.wait_for(lambda: bool(running.events()), "the event")
        other.sendall(b"<13>still here\n")
        running.wait_for_rows(2)
        assert 1 == running.counts(site.name)["tls_failures_total"]
    assert "TLS failed: decryption failed or bad record mac" == running.events()[0].detail["reason"]
    assert ["sound", "still here"] == running.messages()


def test_new_certificate_is_used_without_a_restart_and_connections_stay(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syslog_tls, "_LOOK", 0.0)
    with Running(site.config()) as running, site.sender() as old:
        before = old.getpeercert(binary_form=True)
        certificate, key = Authority(site.folder / "next", "the next authority").certificate()
        certificate.replace(site.certificate)
        running.wait_for(lambda: len(running.events()) == 1, "the word that the key does not fit")
        assert "syslog.certificates.bad" == running.events()[0].type
        with site.sender() as between:
            assert before == between.getpeercert(binary_form=True)
        key.replace(site.key)
        running.wait_for(lambda: len(running.events()) == 2, "the new certificate")
        assert "syslog.certificates.reloaded" == running.events()[1].type
        context = ssl.create_default_context(cafile=str(site.folder / "next" / "ca.pem"))
        context.load_cert_chain(*site.authority.certificate("db2.example.com"))
        with site.sender(context) as new:
            assert before != new.getpeercert(binary_form=True)
            new.sendall(b"<13>new\n")
            running.wait_for_rows(1)
        old.sendall(b"<13>old\n")
        running.wait_for_rows(2)


def test_sender_with_no_room_for_the_answer_is_answered_when_there_is(site: Site) -> None:
    """The handshake's answer finds the way blocked: it is sent when the way is free, and nothing spins or stalls."""
    rows, emitted = Rows("node-1", time.time_ns), list[Item]()
    listener = syslog_tls.TlsListener(
        open_tcp(f"127.0.0.1:{site.port}"), site.name, Parser(time.time_ns), site.config(), Counts()
    )

    def emit(items: Iterable[Item]) -> None:
        emitted.extend(items)

    loop = Loop(rows, emit, 0.0, lambda *_: None)
    ours, theirs = socket.socketpair()
    with ours, theirs, contextlib.closing(loop), contextlib.closing(listener):
        loop.attach(site.name, listener)
        ours.setblocking(False)
        filled = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                filled += ours.send(b"x" * 1024)
        listener._welcome(ours, "10.0.0.1", rows)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = site.context().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        theirs.sendall(outgoing.read())
        for _ in range(5):
            loop.turn(0.0)
        theirs.settimeout(PATIENCE)
        while filled:
            filled -= len(theirs.recv(min(filled, 1 << 16)))
        loop.turn(1.0)
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                if data := outgoing.read():
                    theirs.sendall(data)
                loop.turn(1.0)
                incoming.write(theirs.recv(1 << 16))
        client.write(b"<13>through\n")
        theirs.sendall(outgoing.read())
        loop.turn(1.0)
        loop.finish()
    assert [("through", "db2.example.com")] == [(row["message"], row["peer"]) for row in flat(emitted)]


def test_openssl_itself_may_send(site: Site) -> None:
    """A client that is not Python's."""
    certificate, key = site.authority.certificate("db2.example.com")
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{site.port}", "-quiet", "-no_ign_eof",
               "-verify_return_error", "-CAfile", str(site.authority.ca_file), "-cert", str(certificate),
               "-key", str(key)]  # fmt: skip
    with Running(site.config()) as running:
        try:
            done = subprocess.run(
                command, input=b"<13>from openssl\n", capture_output=True, timeout=PATIENCE, check=False
            )
        except FileNotFoundError:
            unmet("there is no openssl; install it")
        assert 0 == done.returncode, done.stderr
        running.wait_for_rows(1)
    assert [("from openssl", "db2.example.com")] == [(row["message"], row["peer"]) for row in running.rows()]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tls": "127.0.0.1:1"}, "tls needs tls_certificate"),
        ({"tls": "127.0.0.1:1", "tls_certificate": "/c"}, "needs tls_client_ca"),
        ({"tls": "x", "tls_certificate": "/c", "tls_clients": "none"}, "is not an address"),
        (
            {"tls": ":1", "tls_certificate": "/c", "tls_clients": "none", "tls_client_names": "a"},
            "tls_client_names means nothing",
        ),
    ],
)
def test_configuration_that_cannot_be_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=words):
        msgspec.convert(options, SyslogConfig)


def test_files_that_cannot_be_used_are_told_before_anything_listens(site: Site) -> None:
    import logging

    def told(**options: str) -> list[str]:
        found = list(objections_to(site.config(**options), logging.getLogger("test"), attempt=False))
        assert all(one.option == "tls_certificate" for one in found)
        return [one.text for one in found]

    other = Authority(site.folder / "other").certificate()[1]
    assert [] == told()
    assert ["/none cannot be read: No such file or directory"] == told(tls_certificate="/none")
    assert [f"{site.certificate} and {other} are no certificate and its key in PEM: key values mismatch"] == told(
        tls_key=str(other)
    )
    assert [f"{site.key} holds no certificates in PEM: no certificate or crl found"] == told(
        tls_client_ca=str(site.key)
    )


def test_encrypted_key_is_refused_and_nobody_is_asked_for_a_password(site: Site) -> None:
    command = ["openssl", "pkcs8", "-topk8", "-in", str(site.key), "-out", str(site.folder / "e.key"), "-passout",
               "pass:secret"]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
    except FileNotFoundError:
        unmet("there is no openssl; install it")
    import logging

    config = site.config(tls_key=str(site.folder / "e.key"))
    (found,) = objections_to(config, logging.getLogger("test"), attempt=False)
    assert "the key is encrypted" in found.text


def test_listener_whose_files_are_bad_leaves_its_port_free(site: Site) -> None:
    from schemas.errors import StartupError

    site.key.write_text("no key")
    running = Running(site.config())
    with pytest.raises(StartupError, match="no certificate and its key"):
        running.collector.start()
    open_tcp(f"127.0.0.1:{site.port}").close()
