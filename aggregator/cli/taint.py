"""`muster taint`: mark a device or a node, so that nothing new goes there."""

import argparse
from typing import Final
from urllib.parse import quote

from aggregator.cli import add_examples, add_output_option, add_server_options
from aggregator.cli.client import Client, client_of
from aggregator.cli.render import Table, show
from aggregator.cli.words import seconds_of
from aggregator.ledger.words import Effect

_EPILOG: Final = """examples:
  muster taint gpu-7f3k2ma flaky --evidence "falls off the bus under load"
  muster taint gpu-7f3k2ma flaky --effect Drain --for 7d
  muster taint --node gpu-17 fan-swap --for 2h

A taint is known by the name of its rule; the same name again replaces it.
NoSchedule keeps new claims away; Drain also asks the holder to leave."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    add_server_options(parser)
    add_output_option(parser)
    add_target(parser)
    parser.add_argument("--effect", default=Effect.NO_SCHEDULE.value, choices=[one.value for one in Effect],
                        help="what it does (default: NoSchedule)")  # fmt: skip
    parser.add_argument("--evidence", default="", metavar="TEXT", help="why, for people")
    parser.add_argument("--for", dest="duration", default="", metavar="TIME",
                        help="how long it lasts: 2h, 7d (default: until it is taken off)")  # fmt: skip


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add what names the thing that is marked, and the mark's rule."""
    parser.add_argument("device", help="id of the device; with --node, id or name of a node")
    parser.add_argument("rule", help="name of the mark")
    parser.add_argument("--node", action="store_true", help="it is a node, and everything on it")


def taints_path(options: argparse.Namespace) -> str:
    """Give the path of the taints of what was named."""
    return f"/v1/{'nodes' if options.node else 'devices'}/{quote(options.device, safe='')}/taints"


def run(options: argparse.Namespace) -> int:
    """Mark it."""
    client: Client = client_of(options)
    body = {"rule": options.rule, "effect": options.effect, "evidence": options.evidence}
    if options.duration:
        body["seconds"] = seconds_of(options.duration)
    taint = client.post(taints_path(options), body)
    until = f" for {options.duration}" if options.duration else ""
    show(
        taint, options.output, Table([], empty=f"{options.device} is marked {taint['effect']} by {options.rule}{until}")
    )
    return 0
