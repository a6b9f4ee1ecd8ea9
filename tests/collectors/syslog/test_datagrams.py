"""UDP and unix datagrams on real sockets: nothing lost without being counted (R001-15)."""

import logging
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from collectors.contract import Context
from collectors.syslog import SyslogCollector
from collectors.syslog_config import SyslogConfig
from collectors.syslog_framing import MARK
from schemas.errors import StartupError
from tests.collectors.syslog.harness import Running
from tests.ports import free_port


def sender(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(("127.0.0.1", port))
    return sock


def udp(**options: Any) -> tuple[SyslogConfig, int, str]:
    port = free_port(socket.SOCK_DGRAM)
    config = SyslogConfig(kmsg=False, udp=f"127.0.0.1:{port}", **options)
    return config, port, f"udp:127.0.0.1:{port}"


def test_kernel_drops_are_counted_exactly() -> None:
    """A small buffer and a burst while the host is behind: received + dropped = sent."""
    config, port, name = udp(udp_receive_buffer_bytes=4096)
    sent = 5000
    with Running(config) as running, sender(port) as sock:
        running.gate.clear()
        for at in range(sent):
            sock.send(b"<13>1 2024-01-02T03:04:05Z web1 app - - - %d" % at)
        running.gate.set()
        running.wait_for(
            lambda: sent == running.count() + running.counts(name)["lost_total"], "all to be accounted for"
        )
        counts = running.counts(name)
    assert counts["lost_total"] > 0
    assert running.count() == counts["messages_total"]
    assert sent == counts["messages_total"] + counts["lost_total"]


def test_drops_stay_counted_when_the_socket_is_opened_anew() -> None:
    config, port, name = udp(udp_receive_buffer_bytes=4096)
    with Running(config) as running, sender(port) as sock:
        running.gate.clear()
        for _ in range(1000):
            sock.send(b"<13>x")
        running.gate.set()
        running.wait_for(lambda: running.count() + running.counts(name)["lost_total"] == 1000, "all")
        before = running.counts(name)
        running.end_watch()
        running.collector.stop()
        running.collector.start()
        assert before == running.counts(name)


def test_burst_that_fits_the_buffer_is_taken_whole_and_in_order() -> None:
    config, port, name = udp(udp_receive_buffer_bytes=16 << 20)
    with Running(config) as running, sender(port) as sock:
        for at in range(5000):
            sock.send(b"<%d>%d" % (at % 192, at))
        running.wait_for_rows(5000)
        assert 0 == running.counts(name)["lost_total"]
    assert [str(at) for at in range(5000)] == running.messages()
    assert {"udp"} == {row["source"] for row in running.rows()}


def test_longer_datagram_is_cut_marked_and_counted() -> None:
    config, port, name = udp(max_message_bytes=480)
    with Running(config) as running, sender(port) as sock:
        sock.send(b"<13>" + b"x" * 476)
        sock.send(b"<13>" + b"y" * 477)
        running.wait_for_rows(2)
        counts = running.counts(name)
    assert ["x" * 476, "y" * 476 + MARK.decode()] == running.messages()
    assert (1, 961) == (counts["truncated_total"], counts["received_bytes_total"])


def test_empty_datagram_is_counted_and_no_row() -> None:
    config, port, name = udp()
    with Running(config) as running, sender(port) as sock:
        sock.send(b"")
        sock.send(b"<13>x")
        running.wait_for_rows(1)
        counts = running.counts(name)
    assert ["x"] == running.messages()
    assert (1, 1) == (counts["messages_total"], counts["malformed_total"])


def test_ipv6_is_served_beside_ipv4_on_one_port() -> None:
    port = free_port(socket.SOCK_DGRAM)
    try:
        config = SyslogConfig(kmsg=False, udp=(f"127.0.0.1:{port}", f"[::1]:{port}"))
        with Running(config) as running:
            for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
                with socket.socket(family, socket.SOCK_DGRAM) as sock:
                    sock.sendto(b"<13>x", (host, port))
            assert {True} == {reading.fields["listening"] for reading in running.collector.collect()}
            running.wait_for_rows(2)
    except Exception:
        if not Path("/proc/net/if_inet6").exists():
            pytest.skip("this kernel has no IPv6")
        raise


def collector_at(path: Path, **options: Any) -> SyslogCollector:
    config = SyslogConfig(kmsg=False, unix_datagram=str(path), **options)
    return SyslogCollector(config, Context(subject="node-1", log=logging.getLogger("test")))


def test_unix_datagrams_are_all_taken_at_speed(tmp_path: Path) -> None:
    """The sender waits for room, so none is lost."""
    path = tmp_path / "log"
    with Running(SyslogConfig(kmsg=False, unix_datagram=str(path))) as running:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect(str(path))
            for at in range(20000):
                sock.send(b"<13>Jan  2 03:04:05 app[7]: %d" % at)
        running.wait_for_rows(20000)
        assert "lost_total" not in running.counts(f"unix_datagram:{path}")
    assert [str(at) for at in range(20000)] == running.messages()
    assert {"unix"} == {row["source"] for row in running.rows()}


def test_unix_datagram_above_the_buffer_is_cut_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with Running(SyslogConfig(kmsg=False, unix_datagram=str(path), max_message_bytes=1000)) as running:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"<13>" + b"x" * 100_000, str(path))
        running.wait_for_rows(1)
        assert 1 == running.counts(f"unix_datagram:{path}")["truncated_total"]
    assert ["x" * 996 + MARK.decode()] == running.messages()


def test_socket_file_has_the_mode_asked_for_and_goes_with_the_collector(tmp_path: Path) -> None:
    path = tmp_path / "log"
    collector = collector_at(path, unix_mode=0o620)
    collector.start()
    assert 0o620 == stat.S_IMODE(path.stat().st_mode)
    collector.stop()
    assert not path.exists()


def test_socket_file_that_nobody_listens_on_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as old:
        old.bind(str(path))
    collector = collector_at(path)
    collector.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(str(path))
    collector.stop()


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_socket_file_in_use_is_left_alone(tmp_path: Path, kind: socket.SocketKind) -> None:
    path = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, kind) as other:
        other.bind(str(path))
        if kind is socket.SOCK_STREAM:
            other.listen()
        with pytest.raises(StartupError, match="another program"):
            collector_at(path).start()
        with socket.socket(socket.AF_UNIX, kind) as sock:
            sock.connect(str(path))


def test_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("precious")
    with pytest.raises(StartupError, match="no socket"):
        collector_at(path).start()
    assert "precious" == path.read_text()


def test_socket_file_that_another_took_over_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    collector = collector_at(path)
    collector.start()
    path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        collector.stop()
        assert path.exists()


@pytest.mark.parametrize(
    ("host", "told"),
    [("192.0.2.1", "does not have that address"), ("no.such.name", "cannot listen"), ("127.0.0.1", "another program")],
)
def test_address_that_cannot_be_had_is_told_with_the_reason(host: str, told: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        config = SyslogConfig(kmsg=False, udp=f"{host}:{port}")
        collector = SyslogCollector(config, Context(subject="node-1", log=logging.getLogger("test")))
        with pytest.raises(StartupError, match=told):
            collector.start()
        collector.stop()


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = open_descriptors()
    with pytest.raises(StartupError):
        collector_at(Path("/nonexistent/log")).start()
    collector = collector_at(tmp_path / "log")
    for _ in range(3):
        collector.start()
    collector.stop()
    assert before == open_descriptors()
