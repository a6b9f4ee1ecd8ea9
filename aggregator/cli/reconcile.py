"""`muster reconcile`: where two views of the fleet do not agree."""

import argparse
import time
from typing import Any
from urllib.parse import urlencode

from aggregator.cli import add_examples, add_output_option, add_server_options
from aggregator.cli.client import client_of
from aggregator.cli.render import Table, show
from aggregator.cli.words import ago_ns
from aggregator.reconcile import KINDS
from collectors.process import EXIT_FAILED

_EPILOG = """examples:
  muster reconcile                  every divergence, with both views
  muster reconcile --node gpu-17
  muster reconcile --kind claim.driver --kind claim.network

It compares what the ledger says with what nodes see, keep of claims, and what
records of other schedulers say. It only tells: nothing is changed by it. Each
divergence is told as an event too, when it begins and when it ends.

exit status: 0 when everything agrees, 1 when something does not"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    add_server_options(parser)
    add_output_option(parser)
    parser.add_argument("--node", default="", help="only of this node, by id or host name")
    parser.add_argument("--kind", action="append", default=[], choices=list(KINDS), metavar="KIND",
                        help="only of this kind; may be repeated")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """List; 1 when there is something to list."""
    asked = urlencode([("node", options.node), *(("kind", kind) for kind in options.kind)])
    found = client_of(options).get(f"/v1/divergences?{asked}")["divergences"]
    show(found, options.output, divergences_table(found, time.time_ns()))
    return EXIT_FAILED if found else 0


def divergences_table(found: list[dict[str, Any]], now_ns: int) -> list[Table]:
    """Make a table of two lines for each divergence: both views, one under the other."""
    if not found:
        return [Table([], empty="everything agrees")]
    tables = []
    for one in found:
        where = one["node_name"] or one["node"] or "-"
        title = f"{one['kind']} on {where}, since {ago_ns(one['since_ns'], now_ns)}"
        table = Table(["", one["device"] or one["claim"] or one["about"] or "-"], title=title)
        table.add("ledger", one["ledger"])
        table.add("seen", one["seen"])
        tables.append(table)
    return tables
