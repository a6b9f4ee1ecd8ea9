"""`muster simulate`: let something go wrong on a node of the simulated fleet of this machine."""

import argparse
import json
import socket
from pathlib import Path
from typing import Any, Final

from aggregator.cli import add_examples, add_output_option, add_word
from aggregator.cli.render import Table, show
from aggregator.cli.words import seconds_of
from collectors.config import default_data_dir
from schemas.errors import MusterError

ANSWER_SECONDS: Final = 10.0
_EPILOG = """examples:
  muster up --simulate 8
  muster simulate list
  muster simulate fault xid_79 --node sim-0003 --target 2
  muster simulate fault thermal_runaway --node sim-0001 --for 2m
  muster simulate clear xid_79 --node sim-0003"""


class SimulationError(MusterError):
    """No simulated fleet runs here, or it cannot do what is asked."""

    code = "cli.simulation"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    add_output_option(parser)
    deeds = parser.add_subparsers(dest="deed", metavar="{fault,clear,list}")
    fault = add_word(deeds, "fault", "let something go wrong",
                     "muster simulate fault xid_79 --node sim-0003 --target 2", server=False)  # fmt: skip
    fault.add_argument("fault", metavar="NAME", help="which: see 'muster simulate list'")
    fault.add_argument("--node", required=True, metavar="NODE", help="name or id of the simulated node")
    fault.add_argument("--target", type=int, default=0, metavar="N", help="which of its devices, from 0 (default: 0)")
    fault.add_argument("--link", type=int, default=0, metavar="N", help="which NVLink, from 0 (default: 0)")
    fault.add_argument("--after", default="", metavar="DURATION", help="when it begins: 30s, 10m (default: at once)")
    fault.add_argument("--for", dest="duration", default="", metavar="DURATION",
                       help="how long: 60s, 10m (default: as long as it usually lasts)")  # fmt: skip
    fault.add_argument("--value", type=float, metavar="AMOUNT", help="how much: watts, degrees, errors a second")
    clear = add_word(deeds, "clear", "end it before its time", "muster simulate clear xid_79 --node sim-0003",
                     server=False)  # fmt: skip
    clear.add_argument("fault", metavar="NAME", help="which: as it was given to 'muster simulate fault'")
    clear.add_argument("--node", required=True, metavar="NODE", help="name or id of the simulated node")
    add_word(deeds, "list", "list what can go wrong (default)", "muster simulate list", server=False)


def run(options: argparse.Namespace) -> int:
    """Ask the fleet, and show what it did."""
    answer = ask(default_data_dir() / "fleet" / "control.sock", _words(options))
    if "error" in answer:
        raise SimulationError(str(answer["error"]))
    show(answer, options.output, _table(options.deed, answer))
    return 0


def ask(path: Path, words: dict[str, Any]) -> dict[str, Any]:
    """Put one request to the fleet that listens at `path`. Raises SimulationError when none answers."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.connect(str(path))
            connection.sendall(json.dumps(words).encode() + b"\n")
            with connection.makefile("rb") as lines:
                answer: dict[str, Any] = json.loads(lines.readline() or b"{}")
                return answer
    except (OSError, ValueError) as error:
        raise SimulationError(
            f"no simulated fleet answers at {path}: {error}. Start one with 'muster up --simulate 8'; for one in"
            " another folder set MUSTER_DATA_DIR"
        ) from None


def _words(options: argparse.Namespace) -> dict[str, Any]:
    if options.deed == "clear":
        return {"do": "clear", "fault": options.fault, "node": options.node}
    if options.deed != "fault":
        return {"do": "list"}
    words = {"do": "fault", "fault": options.fault, "node": options.node}
    words |= {"target": options.target, "link": options.link}
    if options.after:
        words["after_seconds"] = seconds_of(options.after)
    if options.duration:
        words["duration_seconds"] = seconds_of(options.duration)
    if options.value is not None:
        words["value"] = options.value
    return words


def _table(deed: str | None, answer: dict[str, Any]) -> Table:
    if deed == "fault":
        table = Table(["node", "fault", "id"])
        table.add(answer["node"], answer["fault"], answer["id"])
    elif deed == "clear":
        table = Table(["node", "cleared", "id"])
        table.add(answer["node"], answer["cleared"], answer["id"])
    else:
        table = Table(["fault", "of", "what happens"])
        for name, kind in sorted(answer["faults"].items()):
            table.add(name, kind["target"], kind["meaning"])
    return table
