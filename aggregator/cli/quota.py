"""`muster quota`: the most that tenants may hold, and how far amounts are over-committed."""

import argparse
from typing import Any
from urllib.parse import quote

from aggregator.cli import add_examples, add_output_option, add_server_options, add_word
from aggregator.cli.client import client_of
from aggregator.cli.packages import pair
from aggregator.cli.render import Table, show

_EPILOG = """examples:
  muster quota                           limits, and what tenants hold
  muster quota show blue
  muster quota set blue claims=15 devices:NVIDIA_V100=2
  muster quota set '*' claims=15         everybody without limits of their own
  muster quota remove blue
  muster quota overcommit vcpus 4        four may be given for each"""

_WHO = "a tenant; '*': everybody without limits of their own"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    add_server_options(parser)
    add_output_option(parser)
    deeds = parser.add_subparsers(dest="deed", metavar="{show,set,remove,overcommit}")
    add_word(deeds, "show", "show one tenant's limits", "muster quota show blue").add_argument("tenant", help=_WHO)
    make = add_word(deeds, "set", "set a tenant's limits, all of them", "muster quota set blue claims=15")
    make.add_argument("tenant", help=_WHO)
    make.add_argument("limits", nargs="+", metavar="NAME=LIMIT",
                      help="claims, devices, devices:VARIANT, vcpus, memory_bytes, disk_bytes")  # fmt: skip
    add_word(deeds, "remove", "take a tenant's own limits away", "muster quota remove blue").add_argument(
        "tenant", help=_WHO
    )
    over = add_word(deeds, "overcommit", "set how much may be given for each that is there",
                    "muster quota overcommit vcpus 4")  # fmt: skip
    over.add_argument("amount", help="vcpus, memory_bytes or disk_bytes")
    over.add_argument("ratio", type=float, help="1: as many as there are")


def run(options: argparse.Namespace) -> int:
    """List, set or remove."""
    client = client_of(options)
    path = f"/v1/quotas/{quote(options.tenant, safe='*')}" if "tenant" in options else "/v1/quotas"
    if options.deed == "overcommit":
        told = client.call("PUT", f"/v1/ratios/{quote(options.amount, safe='')}", {"ratio": options.ratio}, {})
        table = Table(["amount", "ratio"])
        for amount, ratio in told.items():
            table.add(amount, float(ratio))
        show(told, options.output, table)
    elif options.deed == "remove":
        told = client.delete(path)
        show(told, options.output, Table([], empty=f"{options.tenant} has no limits of its own any more"))
    elif options.deed == "set":
        told = client.call("PUT", path, {"limits": dict(pair(text) for text in options.limits)}, {})
        show(told, options.output, quota_table([told]))
    else:
        told = client.get(path)
        show(told, options.output, quota_table(told if isinstance(told, list) else [told]))
    return 0


def quota_table(quotas: list[dict[str, Any]]) -> Table:
    """Make the table of limits: a line each."""
    table = Table(["tenant", "what", "limit", "holds", "whose"], empty="no limits, and nobody holds anything")
    for one in quotas:
        for name in {**one["limits"], **one["used"]}:
            whose = None if name not in one["limits"] else "own" if one["own"] else "everybody's"
            table.add(one["tenant"], name, one["limits"].get(name), one["used"].get(name, 0), whose)
    return table
