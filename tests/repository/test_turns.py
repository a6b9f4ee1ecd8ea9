"""Tests that measure the machine get it for themselves, however busy the other workers of the run are."""

import os
import subprocess
import sys
from pathlib import Path

from tests.needs import REPOSITORY
from tests.turns import Turns

WORKER = """
import os, sys, time
from pathlib import Path
from tests.turns import Turns

name, folder = sys.argv[1], Path(sys.argv[2])
told = os.open(folder / "told", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
turns = Turns(folder)
for number in range(3 if name == "alone" else 10**9):
    with turns.turn(alone=name == "alone"):
        os.write(told, f"+{name}\\n".encode())
        time.sleep(0.02)
        os.write(told, f"-{name}\\n".encode())
"""


def start(name: str, folder: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", WORKER, name, folder], cwd=REPOSITORY)


def test_one_that_is_alone_gets_its_turn_among_others_and_shares_it_with_nobody(tmp_path: Path) -> None:
    others = [start(name, tmp_path) for name in ("a", "b", "c")]
    try:
        assert 0 == start("alone", tmp_path).wait(60)
    finally:
        for other in others:
            other.kill()
            other.wait()
    inside: set[str] = set()
    most = 0
    for line in (tmp_path / "told").read_text().splitlines():
        if line.startswith("+"):
            inside.add(line[1:])
            assert inside == {"alone"} or "alone" not in inside
        else:
            inside.discard(line[1:])
        most = max(most, len(inside))
    assert most > 1  # the others do run beside one another


def test_a_process_that_was_forked_in_a_turn_holds_nobody_up(tmp_path: Path) -> None:
    mine, theirs = os.pipe()
    turns = Turns(tmp_path)
    with turns.turn(alone=False):
        child = os.fork()
        if not child:
            os.close(theirs)
            os.read(mine, 1)  # until the parent is done
            os._exit(0)
    assert 0 == start("alone", tmp_path).wait(60)
    os.close(mine)
    os.close(theirs)
    os.waitpid(child, 0)
    turns.close()
