"""TCP and unix streams on real sockets: none lost, and no sender hurts another."""

import contextlib
import resource
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collectors.status import SchedulerOptions
from collectors.syslog_config import SyslogConfig
from collectors.syslog_framing import MARK, Framing
from schemas.rows import Parcel
from tests.collectors.syslog.harness import PATIENCE, Running
from tests.ports import free_port


def tcp(**options: Any) -> tuple[SyslogConfig, int, str]:
    port = free_port()
    return SyslogConfig(kmsg=False, tcp=f"127.0.0.1:{port}", **options), port, f"tcp:127.0.0.1:{port}"


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def closed(sock: socket.socket) -> bool:
    """Tell whether the other side closed; waits for it."""
    sock.settimeout(PATIENCE)
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def test_none_is_lost_at_speed_over_many_connections_and_both_framings() -> None:
    """R001-14: 40,000 messages over eight connections, as fast as loopback carries them."""
    config, port, name = tcp()
    each = 5000

    def send(number: int) -> None:
        lines = [b"<%d>1 2024-01-02T03:04:05.6Z h%d a - - - %d" % (at % 192, number, at) for at in range(each)]
        frames = [b"%d %s" % (len(line), line) if number % 2 else line + b"\n" for line in lines]
        with connect(port) as sock:
            sock.sendall(b"".join(frames))

    with Running(config) as running:
        senders = [threading.Thread(target=send, args=(number,)) for number in range(8)]
        for thread in senders:
            thread.start()
        for thread in senders:
            thread.join(PATIENCE)
        running.wait_for_rows(8 * each)
        running.wait_for(lambda: running.counts(name)["connections"] == 0, "all connections to be closed")
        counts = running.counts(name)
    by_host: dict[str, list[str]] = {}
    for row in running.rows():
        by_host.setdefault(row["host"], []).append(row["message"])
    assert {f"h{number}": [str(at) for at in range(each)] for number in range(8)} == by_host
    assert (8 * each, 8, 0, 0) == tuple(
        counts[key] for key in ("messages_total", "accepted_total", "malformed_total", "truncated_total")
    )


def test_shortest_lines_never_make_a_unit_that_the_host_would_cut() -> None:
    most = next(field.default for field in msgspec.structs.fields(SchedulerOptions) if field.name == "max_rows")
    config, port, _ = tcp()
    with Running(config) as running, connect(port) as sock:
        sock.sendall(b"a\n" * 60_000)
        running.wait_for_rows(60_000)
    units = [sum(len(item.block.rows) for item in unit if isinstance(item, Parcel)) for unit in running.units]
    assert 60_000 == sum(units)
    assert max(units) <= most


def test_stuck_and_slow_senders_keep_nobody_waiting() -> None:
    config, port, _ = tcp()
    with Running(config) as running, contextlib.ExitStack() as stack:
        for start in (b"", b"1", b"500 <13>", b"<13>never ends"):
            stack.enter_context(connect(port)).sendall(start)
        with connect(port) as sock:
            started = time.monotonic()
            sock.sendall(b"<13>quick\n")
            running.wait_for_rows(1)
            assert time.monotonic() - started < 1.0
    assert "quick" == running.messages()[0]


def test_messages_that_come_byte_by_byte_are_whole() -> None:
    config, port, _ = tcp()
    with Running(config) as running, connect(port) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"7 <13>a\nb<14>c\n":
            sock.send(bytes((byte,)))
        running.wait_for_rows(2)
    assert ["a\nb", "c"] == running.messages()


def test_bad_count_closes_the_connection_and_is_counted_and_kept() -> None:
    config, port, name = tcp()
    with Running(config) as running, connect(port) as sock:
        sock.sendall(b"<13>good\n99bottles")
        assert closed(sock)
        running.wait_for_rows(2)
        counts = running.counts(name)
    assert ["good", "99bottles"] == running.messages()
    assert (1, 0) == (counts["framing_errors_total"], counts["connections"])


def test_line_framing_takes_lines_that_begin_with_digits() -> None:
    config, port, name = tcp(framing=Framing.LINE)
    with Running(config) as running, connect(port) as sock:
        sock.sendall(b"99bottles\n2024-01-02T03:04:05Z web1 app: x\n")
        running.wait_for_rows(2)
        assert 0 == running.counts(name)["framing_errors_total"]
    assert ["99bottles", "x"] == running.messages()


def test_oversized_message_is_cut_and_the_next_is_whole() -> None:
    config, port, name = tcp(max_message_bytes=1000)
    with Running(config) as running, connect(port) as sock:
        frame = b"<13>" + b"\n7 <13>y" * 700
        sock.sendall(b"<13>" + b"x" * 5000 + b"\n" + b"%d %s" % (len(frame), frame) + b"<13>next\n")
        running.wait_for_rows(3)
        assert 2 == running.counts(name)["truncated_total"]
    expected = ["x" * 996 + MARK.decode(), (frame[4:1000] + MARK).decode(), "next"]
    assert expected == running.messages()


def test_connections_above_the_limit_are_closed_and_counted() -> None:
    config, port, name = tcp(max_connections=2)
    with Running(config) as running, connect(port) as one, connect(port) as two:
        running.wait_for(lambda: running.counts(name)["connections"] == 2, "two connections")
        with connect(port) as three:
            assert closed(three)
        one.sendall(b"<13>1\n")
        two.sendall(b"<13>2\n")
        running.wait_for_rows(2)
        reason = "there are 2 connections already, as many as max_connections allows"
        assert [(name, "127.0.0.1", reason)] == [
            tuple(event.detail[fact] for fact in ("listener", "peer", "reason")) for event in running.events()
        ]
        assert (2, 1) == (running.counts(name)["accepted_total"], running.counts(name)["refused_total"])
        one.close()
        running.wait_for(lambda: running.counts(name)["connections"] == 1, "room")
        with connect(port) as four:
            four.sendall(b"<13>4\n")
            running.wait_for_rows(3)


def test_idle_connection_is_closed_with_what_it_left() -> None:
    config, port, name = tcp(idle_timeout_seconds=0.3)
    with Running(config) as running, connect(port) as sock:
        sock.sendall(b"<13>half")
        assert closed(sock)
        running.wait_for_rows(1)
        counts = running.counts(name)
    assert ["half" + MARK.decode()] == running.messages()
    assert (1, 1, 0) == (counts["idle_closed_total"], counts["truncated_total"], counts["connections"])


def test_reset_connection_gives_what_it_left() -> None:
    config, port, name = tcp()
    with Running(config) as running:
        with connect(port) as sock:
            sock.sendall(b"<13>one\n<13>half")
            running.wait_for_rows(1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        running.wait_for_rows(2)
        assert 0 == running.counts(name)["connections"]
    assert ["one", "half" + MARK.decode()] == running.messages()


def test_host_that_is_behind_makes_tcp_senders_wait_and_nothing_is_lost() -> None:
    """Promise 2: back-pressure reaches the sender; what was sent comes out once the host goes on."""
    config, port, _ = tcp()
    line = b"<13>1 2024-01-02T03:04:05Z web1 app - - - " + b"x" * 900 + b"\n"
    with Running(config) as running, connect(port) as sock:
        running.gate.clear()
        sock.settimeout(0.3)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 1 << 28:
                sent += sock.send(line[sent % len(line) :])
        assert sent < 1 << 28, "nobody made the sender wait"
        running.gate.set()
        sock.settimeout(PATIENCE)
        if sent % len(line):
            sent += sock.send(line[sent % len(line) :])
        running.wait_for_rows(sent // len(line))
    assert sent == running.count() * len(line)


def test_stopping_takes_what_was_already_sent_and_ends_within_a_second() -> None:
    config, port, name = tcp()
    with Running(config) as running, connect(port) as sock:
        running.wait_for(lambda: running.counts(name)["connections"] == 1, "the connection")
        running.gate.clear()
        sock.sendall(b"".join(b"<13>%d\n" % at for at in range(3000)) + b"<13>half")
        threading.Timer(0.05, running.gate.set).start()
        assert running.end_watch() < 1.0
    assert [*(str(at) for at in range(3000)), "half" + MARK.decode()] == running.messages()


def test_stop_before_the_watch_was_told_loses_nothing_either() -> None:
    config, port, _ = tcp()
    with Running(config) as running, connect(port) as sock:
        sock.sendall(b"<13>one\n")
        running.wait_for_rows(1)
        sock.sendall(b"<13>two\n")
        running.collector.stop()
    assert ["one", "two"] == running.messages()


def test_failing_emit_ends_the_watch_with_its_error() -> None:
    class HostGoneError(Exception):
        pass

    def emit(items: object) -> None:
        raise HostGoneError

    config, port, _ = tcp()
    running = Running(config)
    running.emit = emit  # type: ignore[method-assign]
    with pytest.raises(HostGoneError), running:
        with connect(port) as sock:
            sock.sendall(b"<13>x\n")
        running.wait_for(lambda: False, "the error")
    running.collector.stop()


@pytest.mark.parametrize("end", [b"\n", b"\0", b"\n\0"])
def test_unix_stream_takes_what_the_c_library_writes(tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "log"
    with Running(SyslogConfig(kmsg=False, unix_stream=str(path))) as running:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(str(path))
            sock.sendall(b"".join(b"<13>Jan  2 03:04:05 app[7]: %d" % at + end for at in range(20000)))
        running.wait_for_rows(20000)
    assert [str(at) for at in range(20000)] == running.messages()
    assert {"unix"} == {row["source"] for row in running.rows()}
    assert not path.exists()


def test_process_out_of_descriptors_accepts_again_when_there_are_some() -> None:
    """EMFILE neither ends the listener nor makes it spin."""
    config, port, name = tcp()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Running(config) as running, socket.socket() as sock, connect(port) as first:
        first.sendall(b"<13>x\n")
        running.wait_for_rows(1)
        taken = []
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
            with contextlib.suppress(OSError):
                while True:
                    taken.append(socket.socket())
            sock.settimeout(PATIENCE)
            sock.connect(("127.0.0.1", port))
            sock.sendall(b"<13>x\n")
            time.sleep(0.3)
            used = time.process_time()
            time.sleep(0.3)
            assert time.process_time() - used < 0.15
            assert 1 == running.counts(name)["accepted_total"]
        finally:
            for one in taken:
                one.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        running.wait_for_rows(2)
