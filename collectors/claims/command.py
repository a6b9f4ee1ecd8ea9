"""`muster-agent claim show|confirm|fail`: what the node's orchestrator, or a person on the node, says to the agent."""

import argparse
import json
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from collectors.claims.desk import ANSWER_SECONDS, desk_path
from collectors.config import default_data_dir
from collectors.process import EXIT_FAILED

_COLUMNS: Final = ("claim", "step", "device", "address", "mode", "state", "problem")


def main(argv: Sequence[str]) -> int:
    """Say it to the agent of this machine, and print its answer. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="muster-agent claim", description="See and confirm the steps of claims on this node."
    )
    words = parser.add_subparsers(dest="do", required=True, metavar="{show,confirm,fail}")
    show = words.add_parser("show", help="list the steps of this node")
    confirm = words.add_parser("confirm", help="say that what a step waits for is done; the device is read then")
    fail = words.add_parser("fail", help="say that it cannot be done")
    for one in (confirm, fail):
        one.add_argument("claim")
        one.add_argument("devices", nargs="*", metavar="device", help="its devices; all when none is named")
    fail.add_argument("--problem", default="", help="why, for people")
    for one in (show, confirm, fail):
        one.add_argument("--data-dir", type=Path, default=None, help="the agent's data folder")
        one.add_argument("-o", "--output", choices=("table", "json"), default="table")
    options = parser.parse_args(argv)
    asked = {
        "do": options.do,
        "claim": getattr(options, "claim", ""),
        "devices": getattr(options, "devices", []),
        "problem": getattr(options, "problem", ""),
    }
    try:
        answer = ask(desk_path(options.data_dir or default_data_dir()), asked)
    except OSError as error:
        sys.stderr.write(f"muster-agent: no agent answers: {error}\n")
        return EXIT_FAILED
    return _print(answer, options.output)


def ask(path: Path, words: dict[str, Any]) -> dict[str, Any]:
    """Ask the agent one thing. Raises OSError when it does not answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(ANSWER_SECONDS + 10)
        sock.connect(str(path))
        sock.sendall(json.dumps(words).encode() + b"\n")
        with sock.makefile("rb") as lines:
            line = lines.readline()
    if not line:
        raise ConnectionResetError("it closed the connection: only root and the agent's own user may ask")
    answer: dict[str, Any] = json.loads(line)
    return answer


def _print(answer: dict[str, Any], output: str) -> int:
    failed = "error" in answer or any(step["state"] == "failed" for step in answer.get("steps", []))
    if output == "json":
        sys.stdout.write(json.dumps(answer) + "\n")
    elif "error" in answer:
        sys.stderr.write(f"muster-agent: {answer['error']}\n")
    else:
        rows = [[str(step[name]) or "-" for name in _COLUMNS] for step in answer["steps"]]
        widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
        for row in (list(_COLUMNS), *rows) if rows else ():
            line = "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True))
            sys.stdout.write(line.rstrip() + "\n")
        if not rows:
            sys.stdout.write("no steps: no claim asks anything of this node\n")
    return EXIT_FAILED if failed else 0
