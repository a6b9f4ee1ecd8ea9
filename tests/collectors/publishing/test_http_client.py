"""The agent's own HTTP/1.1 client, against bytes as servers and strangers send them. Source: RFC 9112."""

import socket
from collections.abc import Iterator, Mapping

import pytest

from collectors.http_client import MAX_LINE_BYTES, Connection, HttpError, Response

_open: list[socket.socket] = []


@pytest.fixture(autouse=True)
def closed_again() -> Iterator[None]:
    """Close what a test opened."""
    yield
    while _open:
        _open.pop().close()


def ask(
    answer: bytes, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[Response, bytes]:
    """Give the response to a request that is answered with these bytes, and what the request was."""
    ours, theirs = socket.socketpair()
    _open.extend((ours, theirs))
    theirs.sendall(answer)
    theirs.shutdown(socket.SHUT_WR)
    response = Connection(ours, "node").request(method, "/v1/x", body, headers or {})
    theirs.settimeout(5)
    return response, theirs.recv(1 << 16)


def test_body_of_stated_length_leaves_the_connection_open() -> None:
    response, request = ask(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhellotrailing", "POST", b"hi")
    assert (200, b"hello", True) == (response.status, response.read(), response.keeps_open)
    assert "b" == response.headers["x-a"]
    assert b"POST /v1/x HTTP/1.1\r\nHost: node\r\nContent-Length: 2\r\n\r\nhi" == request


def test_post_without_body_states_its_length() -> None:
    _, request = ask(b"HTTP/1.1 204 No Content\r\n\r\n", "POST")
    assert b"Content-Length: 0\r\n" in request


def test_chunked_body_with_extension_and_trailer_is_put_together() -> None:
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nT: x\r\n\r\n"
    response, _ = ask(raw)
    assert (b"abcde", True) == (response.read(), response.keeps_open)


def test_body_without_length_ends_with_the_connection() -> None:
    response, _ = ask(b"HTTP/1.1 200 OK\r\n\r\nall of it")
    assert (b"all of it", False) == (response.read(), response.keeps_open)


def test_no_content_has_no_body() -> None:
    response, _ = ask(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert (b"", True) == (response.read(), response.keeps_open)


def test_announcing_answers_are_passed_over() -> None:
    response, _ = ask(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
    assert 201 == response.status


def test_connection_that_is_to_be_closed_is_not_kept() -> None:
    response, _ = ask(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n")
    assert not response.keeps_open


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 2xx OK\r\n\r\n",
        b"HTTP/1.1 20\xb2 OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"x" * (3 * MAX_LINE_BYTES),
    ],
)
def test_what_is_not_http_is_an_error_that_says_so(answer: bytes) -> None:
    with pytest.raises(HttpError):
        ask(answer)[0].read()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nshort",
    ],
)
def test_connection_that_ends_too_early_is_a_connection_error(answer: bytes) -> None:
    with pytest.raises(ConnectionError):
        ask(answer)[0].read()


def test_answer_beyond_the_limit_is_refused() -> None:
    response, _ = ask(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 4096)
    with pytest.raises(HttpError, match="more than 1000 bytes"):
        response.read(1000)


def test_line_break_in_a_header_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(ValueError, match="line break"):
        ask(b"", headers={"Authorization": "Bearer a\r\nX-Evil: 1"})
