"""`muster untaint`: take a mark off a device or a node."""

import argparse
from typing import Final
from urllib.parse import quote, urlencode

from aggregator.cli import add_examples, add_output_option, add_server_options
from aggregator.cli.client import client_of
from aggregator.cli.render import Table, show
from aggregator.cli.taint import add_target, taints_path

_EPILOG: Final = """examples:
  muster untaint gpu-7f3k2ma flaky --why "reseated, ran a day"
  muster untaint --node gpu-17 fan-swap"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    add_server_options(parser)
    add_output_option(parser)
    add_target(parser)
    parser.add_argument("--why", default="", metavar="TEXT", help="why, for the history")


def run(options: argparse.Namespace) -> int:
    """Take it off."""
    client = client_of(options)
    why = "?" + urlencode({"why": options.why}) if options.why else ""
    client.delete(f"{taints_path(options)}/{quote(options.rule, safe='')}{why}")
    show({"removed": options.rule}, options.output, Table([], empty=f"{options.device}: {options.rule} is off"))
    return 0
