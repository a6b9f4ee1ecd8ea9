"""`muster drain`, which is `muster nodes drain`: what should leave a node is told to, waited for, and shown."""

import argparse
import sys
import time
from typing import Any, Final
from urllib.parse import quote

from aggregator.cli import add_examples, add_output_option, add_server_options
from aggregator.cli.client import Client
from aggregator.cli.render import Table, show
from aggregator.cli.words import seconds_of, shorten
from collectors.process import EXIT_FAILED

_ASK_SECONDS: Final = 0.5
_EPILOG: Final = """examples:
  muster drain gpu-17 --why 'new kernel'
  muster drain gpu-17 --why 'new kernel' --wait 2h
  muster nodes uncordon gpu-17           it is open again

Nothing new goes to the node; those who have claims there are told to leave."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    add_server_options(parser)
    add_output_option(parser)
    parser.add_argument("node", metavar="NODE", help="its id or host name")
    parser.add_argument("--why", default="", help="the reason; those concerned are told")
    add_wait_option(parser)


def run(options: argparse.Namespace) -> int:
    """Drain it."""
    from aggregator.cli import nodes  # which has this word below it, and so imports us

    options.deed = "drain"
    return nodes.run(options)


def add_wait_option(parser: argparse.ArgumentParser) -> None:
    """Add `--wait`."""
    parser.add_argument("--wait", nargs="?", const="1d", default=None, metavar="TIME",
                        help="wait until they have left, at most so long (1d)")  # fmt: skip


def claims_table(claims: list[dict[str, Any]]) -> Table:
    """Make the table of claims that hold something of a node."""
    table = Table(["claim", "tenant", "for", "state", "devices"], empty="no claim holds anything of it")
    for one in claims:
        table.add(one["claim"], one["tenant"], shorten(one["consumer"], 32), one["state"], len(one["devices"]))
    return table


def wait_for_leaving(client: Client, options: argparse.Namespace, node: str, name: str) -> int:
    """Wait until no claim holds anything of a node; 1 when the time is up first, with those that are left."""
    deadline = time.monotonic() + seconds_of(options.wait)
    shown = -1
    while True:
        found = client.get(f"/v1/nodes/{quote(node, safe='')}/claims")
        left = found["claims"]
        if not left:
            show(found, options.output, Table([], empty=f"{name} is drained: no claim holds anything of it"))
            return 0
        if time.monotonic() >= deadline:
            show(found, options.output, [Table([], empty=f"{name} is not drained yet:"), claims_table(left)])
            return EXIT_FAILED
        if len(left) != shown and sys.stderr.isatty():
            sys.stderr.write(f"{name}: {len(left)} left: {', '.join(one['claim'] for one in left[:5])}\n")
            shown = len(left)
        time.sleep(_ASK_SECONDS)
