"""HTTP answers out of a buffer, connections that end, and the CPU time of phases."""

import socket
import threading
from pathlib import Path

import pytest

from collectors.control_client import ControlSession
from collectors.fleet_channel import FleetChannel, parse_answer
from collectors.fleet_costs import Costs
from collectors.transport import Backoff, Transport
from collectors.verbosity import LevelPolicy
from schemas.control import Watch, decode_request, encode_answer
from schemas.verbosity import Level
from tests.collectors.fleet.aggregator import FakeAggregator

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-One: a: b\r\n\r\nhello"


def test_an_answer_is_taken_only_when_it_is_whole() -> None:
    for end in range(len(WHOLE)):
        assert parse_answer(bytearray(WHOLE[:end])) is None

    buffer = bytearray(WHOLE + b"HTTP/1.1")
    answer = parse_answer(buffer)
    assert answer is not None
    assert (answer.status, answer.body, answer.headers["x-one"]) == (200, b"hello", "a: b")
    assert buffer == b"HTTP/1.1"


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n",
        b"HTTP/1.1 abc OK\r\nContent-Length: 1\r\n\r\n",
        b"x" * 20_000,
    ],
)
def test_what_is_no_answer_is_an_error(data: bytes) -> None:
    with pytest.raises(OSError):
        parse_answer(bytearray(data))


def session(name: str, policy: LevelPolicy) -> ControlSession:
    return ControlSession(
        token=lambda: "",
        keep_token=lambda _: None,
        publisher=name,
        epoch="e",
        boot="b",
        host_name=name,
        predecessors=list,
        policy=policy,
        status=list,
        resend_documents=lambda: None,
        levels_changed=lambda: None,
        watched=lambda: None,
        backoff=Backoff(0.05, 0.1),
        facts={},
    )


def test_a_connection_that_ends_is_opened_again(tmp_path: Path) -> None:
    """An aggregator that closes in the middle of a long poll is asked again, and what it then tells is acted on."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "a.sock"))
    listener.listen()
    asked: list[str] = []

    def serve() -> None:
        for turn in range(3):
            connection, _ = listener.accept()
            with connection:
                data = b""
                while b"\r\n\r\n" not in data:
                    data += connection.recv(65536)
                asked.append(decode_request(data.partition(b"\r\n\r\n")[2]).publisher)
                if turn == 2:
                    body = encode_answer([Watch("w", 60.0)])
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    policy = LevelPolicy(Level.STANDARD)
    channel = FleetChannel(Transport([f"unix://{tmp_path / 'a.sock'}"]), [session("n", policy)], Costs())
    channel.start([0.0])
    try:
        FakeAggregator().until(lambda: policy.watched)
    finally:
        channel.stop()
        listener.close()
        thread.join(60.0)
    assert asked == ["n", "n", "n"]


def test_nobody_there_costs_little_and_is_tried_again(tmp_path: Path) -> None:
    """A thousand nodes do not all try to connect in turn while nobody answers."""
    policy = LevelPolicy(Level.STANDARD)
    tries: list[int] = []

    class Counting(Transport):
        def open_socket(self) -> socket.socket:
            tries.append(1)
            return super().open_socket()

    channel = FleetChannel(
        Counting([f"unix://{tmp_path / 'a.sock'}"]), [session(str(n), policy) for n in range(1000)], Costs()
    )
    channel.start([0.0] * 1000)
    try:
        FakeAggregator().until(lambda: len(tries) >= 2)
    finally:
        channel.stop()
    assert len(tries) < 100


def test_a_phase_within_another_is_not_counted_twice() -> None:
    now = [0.0]
    costs = Costs(lambda: now[0])
    with costs.phase("sending"):
        now[0] += 1.0
        with costs.phase("spool"):
            now[0] += 10.0
        now[0] += 2.0
    with costs.phase("sending"):
        now[0] += 100.0

    assert costs.spent() == {"physics": 0, "encoding": 0, "spool": 10.0, "sending": 103.0, "control": 0}


def test_time_of_all_threads_is_added_up() -> None:
    costs = Costs(lambda: float(threading.get_ident() and next(ticks)))
    ticks = iter(range(1000))

    def work() -> None:
        with costs.phase("sending"):
            pass

    for _ in range(3):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert costs.spent()["sending"] == 3.0
