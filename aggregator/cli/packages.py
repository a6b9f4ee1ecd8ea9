"""`muster packages`: named bundles of amounts and devices."""

import argparse
from typing import Any
from urllib.parse import quote

from aggregator.cli import add_examples, add_output_option, add_server_options, add_word
from aggregator.cli.client import client_of
from aggregator.cli.render import Table, show
from aggregator.cli.words import WordError

_EPILOG = """examples:
  muster packages
  muster packages set gpu_large --amount vcpus=4 --devices NVIDIA_V100=1
  muster packages remove gpu_large"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    add_server_options(parser)
    add_output_option(parser)
    deeds = parser.add_subparsers(dest="deed", metavar="{set,remove}")
    make = add_word(deeds, "set", "make or change a package",
                    "muster packages set gpu_large --amount vcpus=4 --devices NVIDIA_V100=1")  # fmt: skip
    make.add_argument("name", help="what requests will call it")
    make.add_argument("--amount", action="append", default=[], metavar="NAME=NUMBER",
                      help="vcpus, memory_bytes or disk_bytes; may be repeated")  # fmt: skip
    make.add_argument(
        "--devices", action="append", default=[], metavar="VARIANT=COUNT", help="devices; may be repeated"
    )
    add_word(deeds, "remove", "remove a package", "muster packages remove gpu_large").add_argument(
        "name", help="the package"
    )


def run(options: argparse.Namespace) -> int:
    """List, set or remove."""
    client = client_of(options)
    if options.deed == "set":
        devices = [dict(zip(("variant", "count"), pair(text), strict=True)) for text in options.devices]
        body = {"amounts": dict(pair(text) for text in options.amount), "devices": devices}
        told = client.call("PUT", f"/v1/packages/{quote(options.name, safe='')}", body, {})
        show(told, options.output, packages_table([told]))
    elif options.deed == "remove":
        told = client.delete(f"/v1/packages/{quote(options.name, safe='')}")
        show(told, options.output, Table([], empty=f"package {options.name} is removed"))
    else:
        told = client.get("/v1/packages")
        show(told, options.output, packages_table(told))
    return 0


def pair(text: str) -> tuple[str, int]:
    """Read NAME=NUMBER. Raises WordError."""
    name, _, number = text.rpartition("=")
    if not name or not number.isdigit():
        raise WordError(f"{text!r}: write NAME=NUMBER, such as vcpus=4")
    return name, int(number)


def packages_table(packages: list[dict[str, Any]]) -> Table:
    """Make the table of packages."""
    table = Table(["package", "devices", "vcpus", "memory_bytes", "disk_bytes"],
                  empty="no packages yet: make one with 'muster packages set'")  # fmt: skip
    for one in packages:
        devices = ", ".join(f"{need['count']} {need['variant']}" for need in one["devices"])
        amounts = one["amounts"]
        table.add(one["name"], devices or "-", *(amounts.get(name) for name in ("vcpus", "memory_bytes", "disk_bytes")))
    return table
