"""What operators name and keep (variants, packages): a command that lists them, and the words `set` and `remove`."""

import argparse
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from aggregator.cli import add_examples, add_output_option, add_server_options, add_word
from aggregator.cli.client import client_of
from aggregator.cli.render import Table, show

MakeTable = Callable[[list[dict[str, Any]]], Table]


def add_named(parser: argparse.ArgumentParser, what: str, *examples: str) -> argparse.ArgumentParser:
    """Declare what the command takes; give the parser of `set`, to which its own options are added.

    `what`: the thing in one word, `variant`; the command is its plural. Of `examples` the second is of `set`, the last
    of `remove`.
    """
    add_examples(parser, "examples:", *(f"  {line}" for line in examples))
    add_server_options(parser)
    add_output_option(parser)
    deeds = parser.add_subparsers(dest="deed", metavar="{set,remove}")
    make = add_word(deeds, "set", f"make or change a {what}", examples[1])
    make.add_argument("name", help="what requests will call it")
    add_word(deeds, "remove", f"remove a {what}", examples[-1]).add_argument("name", help=f"the {what}")
    return make


def run_named(
    options: argparse.Namespace, what: str, body: Callable[[argparse.Namespace], dict[str, Any]], table: MakeTable
) -> int:
    """List, set or remove; `body` makes of the options what is set. Raises ServerError, and what `body` raises."""
    client, path = client_of(options), f"/v1/{what}s"
    if options.deed == "set":
        told = client.call("PUT", f"{path}/{quote(options.name, safe='')}", body(options), {})
        show(told, options.output, table([told]))
    elif options.deed == "remove":
        told = client.delete(f"{path}/{quote(options.name, safe='')}")
        show(told, options.output, Table([], empty=f"{what} {options.name} is removed"))
    else:
        told = client.get(path)
        show(told, options.output, table(told))
    return 0
