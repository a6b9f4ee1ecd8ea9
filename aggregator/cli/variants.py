"""`muster variants`: the operator's names for devices of one make."""

import argparse
from typing import Any
from urllib.parse import quote

from aggregator.cli import add_examples, add_output_option, add_server_options, add_word
from aggregator.cli.client import client_of
from aggregator.cli.render import Table, show
from schemas.device import DeviceKind

_EPILOG = """examples:
  muster variants
  muster variants set NVIDIA_V100 --kind gpu --vendor 10de --device 1db4
  muster variants remove NVIDIA_V100"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    add_server_options(parser)
    add_output_option(parser)
    deeds = parser.add_subparsers(dest="deed", metavar="{set,remove}")
    make = add_word(deeds, "set", "make or change a variant",
                    "muster variants set NVIDIA_V100 --kind gpu --vendor 10de --device 1db4")  # fmt: skip
    make.add_argument("name", help="what requests will call them")
    make.add_argument("--kind", required=True, choices=[kind.value for kind in DeviceKind], metavar="KIND",
                      help="gpu, nic, vf, nvme ...")  # fmt: skip
    make.add_argument("--vendor", required=True, help="PCI vendor id, such as 10de")
    make.add_argument("--device", required=True, help="PCI device id, such as 1db4")
    make.add_argument("--revision", default="", help="default: any")
    add_word(deeds, "remove", "remove a variant", "muster variants remove NVIDIA_V100").add_argument(
        "name", help="the variant"
    )


def run(options: argparse.Namespace) -> int:
    """List, set or remove."""
    client = client_of(options)
    if options.deed == "set":
        body = {name: getattr(options, name) for name in ("kind", "vendor", "device", "revision")}
        told = client.call("PUT", f"/v1/variants/{quote(options.name, safe='')}", body, {})
        show(told, options.output, variants_table([told]))
    elif options.deed == "remove":
        told = client.delete(f"/v1/variants/{quote(options.name, safe='')}")
        show(told, options.output, Table([], empty=f"variant {options.name} is removed"))
    else:
        told = client.get("/v1/variants")
        show(told, options.output, variants_table(told))
    return 0


def variants_table(variants: list[dict[str, Any]]) -> Table:
    """Make the table of variants."""
    table = Table(["variant", "kind", "vendor", "device", "revision", "devices"],
                  empty="no variants yet: name one with 'muster variants set'")  # fmt: skip
    for one in variants:
        table.add(one["name"], one["kind"], one["vendor"], one["device"], one["revision"] or "any", one["devices"])
    return table
