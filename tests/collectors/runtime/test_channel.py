"""The channel believes nothing that it reads, and never waits."""

import socket

import pytest

from collectors.channel import AgentEnd, ChannelClosedError, Done, HelperEnd, Load, Request, SetLevel, Taken, frame
from schemas.errors import MalformedError
from schemas.verbosity import Level


@pytest.fixture
def ends() -> "tuple[AgentEnd, socket.socket]":
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    return AgentEnd(ours), theirs


def test_message_in_pieces_comes_whole(ends: "tuple[AgentEnd, socket.socket]") -> None:
    agent, helper = ends
    data = frame(Done(7, "fan", 1.5, 0.25, delivery=b"rows")) * 2
    got = []
    for byte in data:
        helper.send(bytes([byte]))
        got += agent.receive()
    assert [(reply.call, reply.delivery) for reply in got if isinstance(reply, Done)] == [(7, b"rows")] * 2
    agent.close()
    helper.close()


@pytest.mark.parametrize(
    "data",
    [b"\xff\xff\xff\xff", b"\x00\x00\x00\x03abc", b"\x00\x00\x00\x00", b"\x00\x00\x00\x02\x91\x63"],
    ids=["too long", "not msgpack", "empty", "unknown tag"],
)
def test_what_is_no_message_is_refused(ends: "tuple[AgentEnd, socket.socket]", data: bytes) -> None:
    agent, helper = ends
    helper.send(data)
    with pytest.raises(MalformedError):
        agent.receive()
    agent.close()
    helper.close()


def test_message_before_garbage_is_not_lost_with_it(ends: "tuple[AgentEnd, socket.socket]") -> None:
    agent, helper = ends
    helper.send(frame(Done(1, "fan", 0.0, 0.0)))
    assert len(agent.receive()) == 1
    helper.close()
    with pytest.raises(ChannelClosedError):
        agent.receive()
    agent.close()


def test_helper_that_does_not_read_does_not_block_the_agent(ends: "tuple[AgentEnd, socket.socket]") -> None:
    agent, helper = ends
    for _ in range(5000):
        agent.send(Load(1, "fan", "a:B", {"word": "x" * 1000}, "node-1", "/", None, Level.DEBUG, 10, 20))
    assert agent.unsent
    reader = HelperEnd(helper)
    helper.setblocking(True)
    helper.settimeout(5)
    seen = 0
    for request in reader.requests():
        seen += isinstance(request, Load)
        agent.flush()
        if not agent.unsent:
            break
    assert seen > 100
    agent.close()
    reader.close()


def test_requests_arrive_in_order() -> None:
    ours, theirs = socket.socketpair()
    agent, helper = AgentEnd(ours), HelperEnd(theirs)
    sent: list[Request] = [Taken(1, "fan"), SetLevel("fan", Level.DEBUG), Taken(2, "fan")]
    for request in sent:
        agent.send(request)
    agent.close()
    assert list(helper.requests()) == sent
    helper.close()
