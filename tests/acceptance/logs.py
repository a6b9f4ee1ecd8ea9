"""Issue 5, checkpoint 2: logs by every way in, exact over crashes; who may send; storms; the kernel's words, as events.

Each part has a Muster of its own. Requirements: R001-11, R001-14, R001-15, R001-16, R001-18.
"""

import contextlib
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from collectors.syslog_config import SyslogConfig
from tests.acceptance.stage import PATIENCE, Muster, check, main, say, stage, until
from tests.certificates import Authority
from tests.collectors.syslog.harness import Running
from tests.collectors.syslog.journald import Journald
from tests.ports import free_port

Part = Callable[[Path], None]

TLS: Final = """
[agent]
only = ["syslog"]
[collectors.syslog]
interval_seconds = 1
kmsg = false
storm_copies = 0
tls = "127.0.0.1:{port}"
tls_certificate = "{certificate}"
tls_key = "{key}"
tls_client_ca = "{authority}"
tls_client_names = "*.example.com"
tls_handshake_seconds = 2
"""
UDP: Final = """
[agent]
only = ["syslog"]
[collectors.syslog]
interval_seconds = 1
kmsg = false
storm_copies = 0
udp = "127.0.0.1:{port}"
udp_receive_buffer_bytes = 65536
"""
STORM: Final = """
[agent]
only = ["syslog"]
[collectors.syslog]
interval_seconds = 1
kmsg = false
tcp = "127.0.0.1:{port}"
"""
JOURNAL: Final = """
[agent]
only = ["syslog"]
[collectors.syslog]
interval_seconds = 1
kmsg = false
storm_copies = 0
journald = true
journald_directory = "{directory}"
"""


def script(folder: Path) -> None:
    """Show every part."""
    for part in PARTS:
        part(folder / part.__name__)


def _events(muster: Muster, type_: str) -> list[dict[str, Any]]:
    return [row for row in muster.rows("event") if row["type"] == type_]


# -- TLS --


def tls(folder: Path) -> None:
    """RFC 5425: senders are known by their certificates; who is not let in is told, and harms nobody."""
    authority, stranger = Authority(folder / "authority"), Authority(folder / "stranger", "somebody else")
    certificate, key = authority.certificate()
    port = free_port()
    config = TLS.format(port=port, certificate=certificate, key=key, authority=authority.ca_file)
    with stage(folder, config) as muster:
        muster.start("up", "--quiet")
        muster.ready()
        until("the listener", lambda: muster.rows("syslog", "listening"))
        _known_senders(muster, port, authority)
        _turned_away(muster, port, authority, stranger)
        _new_certificate(muster, port, authority, (certificate, key), folder)
        check(muster.balance(wait=PATIENCE)["closed"], "the balance closes")


def _known_senders(muster: Muster, port: int, authority: Authority) -> None:
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        word = f"sent-by-{version.name}"
        text = f'<163>1 2026-01-02T03:04:05.5Z db2 postgres 77 ID47 [ex@32473 k="v"] {word}'.encode()
        _send(port, _client(authority, "db2.example.com", version), b"%d %s" % (len(text), text))
        [row] = until(word, lambda word=word: muster.rows("log", "--contains", word))  # type: ignore[misc]
        found = tuple(row[name] for name in ("peer", "host", "app", "severity", "structured_data"))
        check(
            found == ("db2.example.com", "db2", "postgres", 3, '[ex@32473 k="v"]'),
            f"{version.name}: an octet-counted RFC 5424 record, with the name in the sender's certificate",
        )


def _turned_away(muster: Muster, port: int, authority: Authority, stranger: Authority) -> None:
    stalled = socket.create_connection(("127.0.0.1", port))
    with stalled:
        stalled.sendall(b"\x16\x03\x01")
        clients = {
            "it showed no certificate": _client(authority, None),
            "unable to get local issuer certificate": _client(authority, "db2.example.com", signer=stranger),
            "certificate has expired": _client(authority, "db2.example.com", expired=True),
            "which tls_client_names does not list": _client(authority, "db2.elsewhere.org"),
        }
        for context in clients.values():
            with contextlib.suppress(OSError):
                _send(port, context, b"<13>must-not-get-in\n")
        with socket.create_connection(("127.0.0.1", port)) as plain:
            plain.sendall(b"<13>must-not-get-in\n")
            with contextlib.suppress(OSError):
                plain.recv(100)
        _send(port, _client(authority, "db3.example.com"), b"<13>while others stall\n")
        until("its record", lambda: muster.rows("log", "--contains", "while others stall"))
        say("a sender with a good certificate gets in while another one stalls in the handshake")
        reasons = [*clients, "it does not speak TLS", "its handshake took more than 2 s"]
        for reason in reasons:
            until(reason, lambda reason=reason: _refused(muster, reason))  # type: ignore[misc]
            say(f"told as an event: {reason}")

    def counted() -> int:
        rows = muster.rows("syslog", "tls_failures_total", "--last")
        return int(max(row["tls_failures_total"] or 0 for row in rows))

    until("the count", lambda: counted() == len(reasons))
    say(f"and counted: tls_failures_total is {len(reasons)}")
    check(not muster.rows("log", "--contains", "must-not-get-in"), "nothing of theirs is stored")


def _refused(muster: Muster, reason: str) -> list[dict[str, Any]]:
    return [row for row in _events(muster, "syslog.client.refused") if reason in row["message"]]


def _new_certificate(muster: Muster, port: int, authority: Authority, files: tuple[Path, Path], folder: Path) -> None:
    client = _client(authority, "db2.example.com")
    with _connected(port, client) as old:
        later = Authority(folder / "later", "the next authority")
        for new, now in zip(later.certificate(), files, strict=True):
            new.replace(now)
        until("the new certificate", lambda: _events(muster, "syslog.certificates.reloaded"))
        client.load_verify_locations(str(later.ca_file))
        _send(port, client, b"<13>by-the-new-certificate\n")
        old.sendall(b"<13>by-the-old-connection\n")
        for word in ("by-the-new-certificate", "by-the-old-connection"):
            until(word, lambda word=word: muster.rows("log", "--contains", word))  # type: ignore[misc]
    say("a certificate that is replaced is in force without a restart, and connections stay")


def _client(
    authority: Authority,
    host: str | None,
    version: ssl.TLSVersion | None = None,
    *,
    signer: Authority | None = None,
    expired: bool = False,
) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.ca_file))
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if host is not None:
        context.load_cert_chain(*(signer or authority).certificate(host, expired=expired))
    return context


def _connected(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    try:
        return context.wrap_socket(plain, server_hostname="127.0.0.1")
    except OSError:
        plain.close()
        raise


def _send(port: int, context: ssl.SSLContext, data: bytes) -> None:
    with _connected(port, context) as sock:
        sock.sendall(data)
        sock.unwrap().close()


# -- UDP --


def datagrams(folder: Path) -> None:
    """A flood that the kernel cannot hold: what is stored and what the kernel dropped add up to what was sent."""
    port, sent = free_port(socket.SOCK_DGRAM), 60_000
    with stage(folder, UDP.format(port=port)) as muster:
        muster.start("up", "--quiet")
        muster.ready()
        until("the listener", lambda: muster.rows("syslog", "listening"))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(("127.0.0.1", port))
            for number in range(sent):
                sock.send(b"<13>Jan  2 03:04:05 flood app: datagram %d" % number)

        def settled() -> tuple[int, int] | None:
            last = muster.rows("syslog", "messages_total,lost_total", "--last")[0]
            told = int(last["messages_total"]), int(last["lost_total"])
            return told if sum(told) == sent else None

        received, dropped = until("all to be accounted for", settled)
        check(dropped > 0, f"{sent:,} datagrams: {received:,} received + {dropped:,} dropped by the kernel, exactly")
        balance = muster.balance(wait=PATIENCE)
        check(balance["closed"], "the balance closes")
        stored = until("the rows", lambda: _of_log(muster, received))
        check(len(set(stored)) == received, "what was received is stored, each once")


def _of_log(muster: Muster, count: int) -> list[str] | None:
    found = [row["message"] for row in muster.rows("log", "message", "--limit", "100000")]
    return found if len(found) == count else None


# -- the journal --


def journal(folder: Path) -> None:
    """A real journald: programs write all the while, the agent is killed again and again, journald begins new files."""
    with (
        Journald(folder / "journald") as journald,
        stage(folder, JOURNAL.format(directory=journald.directory)) as muster,
    ):
        journald.syslog(b"<13>Jan  2 03:04:05 app[7]: number 0")
        muster.start("up", "--quiet")
        muster.ready()
        until("the newest record, with which a first start begins", lambda: muster.rows("log", "message"))
        written = 1
        for kill in range(3):
            for _ in range(400):
                journald.syslog(f"<13>Jan  2 03:04:05 app[7]: number {written}".encode())
                written += 1
                time.sleep(0.002)
            agent = muster.child("collectors.main")
            os.kill(agent.pid, signal.SIGKILL)
            say(f"the agent is killed after {written} records ({kill + 1} of 3)")
            journald.rotate()
            until("another agent", lambda agent=agent: not agent.is_running() and muster.child("collectors.main"))  # type: ignore[misc]
        last = f"number {written}"
        journald.syslog(f"<13>Jan  2 03:04:05 app[7]: {last}".encode())
        until("the last record", lambda: muster.rows("log", "--contains", last))
        balance = muster.balance(wait=PATIENCE)
        check(balance["closed"], "the balance closes")
        rows = muster.rows("log", "--contains", "number ", "--limit", "100000")
        found = sorted(int(row["message"].split()[1]) for row in rows)
        check(found == list(range(written + 1)), f"{written + 1} records of the journal are stored, each once")
        check(not _events(muster, "log.gap"), "and no gap was told")


# -- storms --


def storm(folder: Path) -> None:
    """800,000 copies of 29 lines, with everything else still readable: records with counts, exact, within seconds."""
    port, copies = free_port(), 800_000
    with stage(folder, STORM.format(port=port)) as muster:
        muster.start("up", "--quiet")
        muster.ready()
        until("the listener", lambda: muster.rows("syslog", "listening"))
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", port)) as sock:
            for at in range(0, copies, 2900):
                many = min(2900, copies - at)
                sock.sendall(b"".join(_copy(number) for number in range(at, at + many)))
                if at == 290_000:
                    sock.sendall(b"<13>Jan  2 03:04:05 node7 app: heard in the middle of the storm\n")
        until("the word in the middle", lambda: muster.rows("log", "--contains", "heard in the middle"))

        def stands_for() -> list[dict[str, Any]] | None:
            rows = muster.rows("log", "message,copies", "--contains", "Uncontained", "--limit", "100000")
            return rows if sum(int(row["copies"] or 1) for row in rows) == copies else None

        rows = until("all copies to be told", stands_for)
        seconds = time.monotonic() - began
        counted = [row for row in rows if row["copies"]]
        texts = {row["message"].partition("0x")[0] for row in counted}
        check(
            len(rows) < 29 * 64 and len(counted) == len(texts) == 29,
            f"{copies:,} copies of 29 lines: {len(rows):,} records, of which {len(counted)} have a count",
        )
        folded_rows = muster.rows("log", "message,copies", "--contains", "Uncontained", "--copies", "folded")
        check(
            len(folded_rows) == 29 and sum(row["copies"] for row in folded_rows) == copies,
            f"a reader sees {len(folded_rows)} rows, and their counts add up to {copies:,}",
        )
        say(f"their counts and the single ones add up to {copies:,}, {seconds:.1f} s after the first was sent")
        balance = muster.balance(wait=PATIENCE)
        folded = sum(line["folded"] for line in balance["lines"] if line["row_class"] == "log")
        check(balance["closed"] and folded == copies - len(rows), f"the balance closes: {folded:,} are folded")


def _copy(number: int) -> bytes:
    word = "ghijklmnopqrstuvwxyzGHIJKLMNO"[number % 29]
    return b"<11>Jan  2 03:04:05 node7 app: Xid 95, unit %s: Uncontained at 0x%x\n" % (word.encode(), number)


# -- the kernel's own words --


def kernel(folder: Path) -> None:
    """What a kernel log says becomes typed events of devices; what a program writes there does not."""
    lines = [
        (3, "NVRM: Xid (PCI:0000:3b:00): 79, pid=4711, name=python3, GPU has fallen off the bus."),
        (4, "igb 0000:09:00.0: PCIe Bus Error: severity=Uncorrected (Fatal), type=Transaction Layer, (Requester ID)"),
        (3, "igb 0000:09:00.0:   device [8086:1537] error status/mask=00004000/00000000"),
        (0, "mce: [Hardware Error]: CPU 2: Machine Check: 0 Bank 5: be00000000800400"),
        (4, "nvme nvme0: I/O tag 12 (400c) opcode 0x9 (Admin Cmd) QID 0 timeout, reset controller"),
        *[(6, f"mlx5_core 0000:3b:00.0 eth2: Link {word}") for word in ("down", "up") * 20],
        (3, "Out of memory: Killed process 4711 (python3) total-vm:99kB, anon-rss:88kB, file-rss:4kB, UID:0"),
        (11, "NVRM: Xid (PCI:0000:3b:00): 48, forged by a program"),
    ]
    records = "".join(f"{prefix},{at},{at * 1000},-;{text}\n" for at, (prefix, text) in enumerate(lines))
    (folder / "dev").mkdir(parents=True)
    (folder / "dev/kmsg").write_text(records)
    with Running(SyslogConfig(), folder) as running:
        running.wait_for_rows(len(lines))
        running.end_watch()
        events = running.events()
    found = [(event.type, event.device) for event in events]
    for expected in (
        ("nvml.xid", "pci:0000:3b:00.0"),
        ("kernel.pcie.error", "pci:0000:09:00.0"),
        ("kernel.machine_check", ""),
        ("kernel.nvme.timeout", "nvme:nvme0"),
        ("kernel.oom_kill", ""),
    ):
        check(found.count(expected) == 1, f"{expected[0]} of {expected[1] or 'the machine'}, once")
    times = [int(event.detail.get("times") or 1) for event in events if event.type.startswith("kernel.link.")]
    check(sorted(times) == [1, 1, 19, 19], "a link that flaps 20 times: down, up, and one of each that counts the rest")
    check(not [event for event in events if event.detail.get("xid") == 48], "what a program writes is no event")


PARTS: Final[tuple[Part, ...]] = (tls, datagrams, journal, storm, kernel)


if __name__ == "__main__":
    sys.exit(main(script))
