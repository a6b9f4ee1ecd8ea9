"""`muster whatif`: what becomes of a request once something changes; nothing is changed."""

import argparse
from collections.abc import Mapping
from typing import Any

from aggregator.cli import add_examples, add_output_option, add_server_options
from aggregator.cli.client import client_of
from aggregator.cli.names import node_names
from aggregator.cli.place import add_request_options, request_of
from aggregator.cli.render import Table, folded, show
from aggregator.cli.words import WordError

_EPILOG = """examples:
  muster whatif --tenant blue --for plan --need H100:8 --add-node gpu-17=4
  muster whatif --tenant blue --for plan --need V100:2 --drain gpu-17
  muster whatif --tenant blue --for plan --need V100 --clean
  muster whatif --tenant blue --for plan --need H100:8 --as-of 7d"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    add_server_options(parser)
    add_output_option(parser)
    add_request_options(parser)
    for name, metavar, told in (
        ("add-node", "LIKE[=COUNT]", "nodes built like one that there is, all free"),
        ("drain", "NODE", "nothing new goes there"),
        ("open", "NODE", "it is back in service"),
        ("release", "CLAIM", "the claim is over, its devices clean"),
        ("free", "DEVICE", "the device is nobody's, and clean"),
        ("quota", "TENANT:NAME=LIMIT", "the limit is another"),
    ):
        parser.add_argument(f"--{name}", action="append", default=[], metavar=metavar, help=f"{told}; may be repeated")
    parser.add_argument(
        "--clean", nargs="?", const="", metavar="NODE", help="what is dirty is clean: there, or everywhere"
    )
    parser.add_argument("--as-of", default="", metavar="WHEN", help="a time, how long ago (7d), or a ledger sequence")


def run(options: argparse.Namespace) -> int:
    """Ask, and show both outcomes beside each other."""
    body = {"request": request_of(options), "edits": edits_of(options), "as_of": options.as_of}
    client = client_of(options)
    told = client.post("/v1/whatif", body)
    names = node_names(client) if options.output == "table" else {}
    show(told, options.output, whatif_tables(told, names))
    return 0


def edits_of(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Make the changes of the options. Raises WordError."""
    made: list[dict[str, Any]] = []
    for text in options.add_node:
        like, _, count = text.partition("=")
        if count and not count.isdigit():
            raise WordError(f"--add-node {text}: write LIKE[=COUNT]")
        made.append({"edit": "add-node", "like": like, "count": int(count or 1)})
    made += [{"edit": "drain-node", "node": node} for node in options.drain]
    made += [{"edit": "open-node", "node": node} for node in options.open]
    made += [{"edit": "release-claim", "claim": claim} for claim in options.release]
    made += [{"edit": "free-device", "device": device} for device in options.free]
    if options.clean is not None:
        made.append({"edit": "clean", "node": options.clean})
    for text in options.quota:
        tenant, _, rest = text.partition(":")
        name, equals, limit = rest.rpartition("=")
        if not equals or not limit.isdigit():
            raise WordError(f"--quota {text}: write TENANT:NAME=LIMIT, such as blue:devices:V100=8")
        made.append({"edit": "set-quota", "tenant": tenant, "name": name, "limit": int(limit)})
    return made


def whatif_tables(told: dict[str, Any], names: Mapping[str, str]) -> list[Table]:
    """Make the table of both outcomes, and below it why not; `names`: what to call nodes, by id."""
    table = Table(["", "place", "fits", "where"])
    reasons = []
    for word in ("before", "after"):
        one = told[word]
        nodes = sorted({names.get(instance["node"], instance["node"]) for instance in one.get("instances", ())})
        table.add(word, one["placed"], one["fits"], ", ".join(nodes) or "-")
        if not one["placed"]:
            reasons.append(Table([], empty=folded(f"{word}: {one['message']}")))
    for claim in told["displaced"]:
        table.add("displaced", None, None, claim)
    return [table, *reasons]
