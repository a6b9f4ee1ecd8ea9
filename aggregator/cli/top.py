"""`muster top`: watch the fleet, or one node."""

import argparse
import sys
import time
from typing import TYPE_CHECKING

from aggregator.cli import add_examples, add_server_options
from aggregator.cli.client import client_of
from aggregator.cli.names import node_id
from aggregator.cli.words import WordError

if TYPE_CHECKING:
    from rich.text import Text

    from aggregator.cli.watching import FleetLook, NodeLook

_EPILOG = """keys: q leaves; with the fleet, s sorts by another column, arrows and space
scroll

examples:
  muster top                    the fleet, one line a node
  muster top gpu-17 --cores     one node, core by core
  muster top --once             one frame, plain: for a file or a pipe"""
_SORT_WORDS = "name, state, cpu, memory, load, gpu, hottest, power, rows, receive, transmit, read, write"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    add_server_options(parser)
    parser.add_argument("node", nargs="?", default="", help="one node, by id or host name; left out: the fleet")
    parser.add_argument("--once", action="store_true", help="print one frame and leave")
    parser.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="how often to look (default: 1)")
    parser.add_argument("--sort", default="name", metavar="COLUMN", help=f"the fleet's order: {_SORT_WORDS}")
    parser.add_argument("--cores", action="store_true", help="raise the node's verbosity meanwhile, to see each core")


def run(options: argparse.Namespace) -> int:
    """Look once, or until somebody leaves."""
    from aggregator.cli.frame_fleet import SORTS
    from aggregator.cli.watching import FleetWatch, NodeWatch
    from schemas.errors import near_names

    if options.sort not in SORTS:
        near = near_names(options.sort, SORTS)
        raise WordError(f"there is no column {options.sort!r}.{near} There is: {_SORT_WORDS}")
    client = client_of(options)
    id_ = node_id(client.get("/v1/nodes"), options.node) if options.node else ""
    watch = NodeWatch(client, id_) if id_ else FleetWatch(client)
    if options.once or not sys.stdout.isatty():
        _once(watch.look(), options)
        return 0
    return _watch(watch, id_, options)


def _once(look: "NodeLook | FleetLook", options: argparse.Namespace) -> None:
    import shutil

    from aggregator.cli.drawing import glyphs_for
    from aggregator.cli.screen import paint

    width = shutil.get_terminal_size((100, 24)).columns
    lines = frame(look, width, 0, glyphs_for(sys.stdout.encoding), options.sort, 0)
    plain = paint(lines, width, colour=False)
    sys.stdout.write("\n".join(line.rstrip() for line in plain) + "\n")


def frame(look: "NodeLook | FleetLook", width: int, height: int, glyphs: object, sort: str, top: int) -> "list[Text]":
    """Draw what was seen; `height` 0 for as much as there is."""
    from aggregator.cli.drawing import UNICODE, Glyphs
    from aggregator.cli.frame_fleet import fleet_frame
    from aggregator.cli.frame_node import balance_line, node_body, node_head
    from aggregator.cli.watching import FleetLook

    clock = time.strftime("%H:%M:%S")
    if isinstance(look, FleetLook):
        return fleet_frame(look, width, height, clock, sort, top)
    drawn_with = glyphs if isinstance(glyphs, Glyphs) else UNICODE
    head = [node_head(look, width, clock), balance_line(look.sums, width)]
    return [*head, *node_body(look, width, (height or 48) - len(head), drawn_with)]


def _watch(watch: object, id_: str, options: argparse.Namespace) -> int:
    from rich.text import Text

    from aggregator.cli.cores import Cores
    from aggregator.cli.drawing import LABEL, fit, glyphs_for
    from aggregator.cli.frame_fleet import SORTS
    from aggregator.cli.screen import Screen
    from aggregator.cli.watching import FleetWatch, Follower, NodeWatch, hold_fresh

    assert isinstance(watch, (NodeWatch, FleetWatch))
    follower = Follower(watch, options.every)
    cores = None
    if id_:
        hold_fresh(client_of(options), id_)
        cores = Cores(client_of(options), id_) if options.cores else None
    follower.start()
    sort, top, glyphs = options.sort, 0, glyphs_for(sys.stdout.encoding)
    with Screen() as screen:
        try:
            while True:
                width, height = screen.size()
                look, trouble = follower.look, follower.trouble
                lines = [Text("looking ...", LABEL)] if look is None else frame(look, width, height, glyphs, sort, top)
                if trouble:
                    lines = [fit(Text(f"not now: {trouble}", "bold red"), width), *lines][:height]
                screen.draw(lines)
                if cores is not None:
                    cores.keep()
                key = screen.key(min(1.0, options.every) if look else 0.1)
                if key in ("q", "Q", "\x04"):
                    return 0
                if key == "s":
                    sort = SORTS[(SORTS.index(sort) + 1) % len(SORTS)]
                top = _scrolled(top, key, height, len(getattr(look, "nodes", ())))
        finally:
            follower.stop()
            if cores is not None:
                cores.end()


def _scrolled(top: int, key: str, height: int, nodes: int) -> int:
    step = {"\x1b[B": 1, "j": 1, "\x1b[A": -1, "k": -1, " ": height - 6, "\x1b[6~": height - 6, "\x1b[5~": 6 - height}
    return max(0, min(top + step.get(key, 0), nodes - (height - 5)))
