"""Log lines never hold up the work: what whoever reads them does not take is left out, counted and told."""

import fcntl
import logging
import os
from collections.abc import Iterator

import pytest

from collectors.log_output import ROOM_BYTES, PatientHandler, has_room

_SMALL = 2 * ROOM_BYTES


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, _SMALL)
    yield ours, theirs
    for descriptor in (ours, theirs):
        os.close(descriptor)


@pytest.fixture
def log(pipe: tuple[int, int]) -> Iterator[logging.Logger]:
    handler = PatientHandler(pipe[1], patience=0.01)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    logger = logging.Logger("muster.test")  # noqa: LOG001 - one of its own, which nobody else hears
    logger.addHandler(handler)
    yield logger
    handler.close()


def test_lines_arrive_as_they_are_written(pipe: tuple[int, int], log: logging.Logger) -> None:
    log.info("one pid=%d", 7)
    log.error("two \udcff")
    assert os.read(pipe[0], _SMALL) == b"INFO muster.test one pid=7\nERROR muster.test two \\udcff\n"


def test_a_reader_that_stops_holds_nobody_up_and_is_told_what_it_missed(
    pipe: tuple[int, int], log: logging.Logger
) -> None:
    ours, theirs = pipe
    written = 0
    while has_room(theirs):
        log.info("%s", "x" * 1000)
        written += 1
    for _ in range(50):
        log.info("nobody reads this")
    taken = os.read(ours, _SMALL)
    assert taken.count(b"\n") == written

    log.info("again")
    assert os.read(ours, _SMALL).splitlines() == [
        b"WARNING muster.log lines_left_out count=50: whoever reads this log did not keep up",
        b"INFO muster.test again",
    ]
    log.info("and again")
    assert os.read(ours, _SMALL) == b"INFO muster.test and again\n"


def test_a_line_longer_than_the_room_ends_where_the_room_does(pipe: tuple[int, int], log: logging.Logger) -> None:
    log.info("%s", "x" * 3 * _SMALL)
    assert len(os.read(pipe[0], 10 * _SMALL)) == _SMALL
    log.info("behind it")
    lines = os.read(pipe[0], _SMALL).splitlines()
    assert [b"", b"lines_left_out count=1", b"behind it"] == [lines[0], lines[1][19:41], lines[2][-9:]]


def test_a_reader_that_has_gone_is_no_error(pipe: tuple[int, int], log: logging.Logger) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, pipe[0])  # the last reader of the pipe
    os.close(null)
    log.error("into nowhere")


def test_a_full_disk_is_no_error(capfd: pytest.CaptureFixture[str]) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        PatientHandler(full).emit(logging.LogRecord("muster.test", logging.INFO, "", 0, "word", (), None))
    finally:
        os.close(full)
    assert capfd.readouterr() == ("", "")
