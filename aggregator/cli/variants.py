"""`muster variants`: the operator's names for devices of one make."""

import argparse
from typing import Any

from aggregator.cli.named import add_named, run_named
from aggregator.cli.render import Table
from schemas.device import DeviceKind

_WHAT = "variant"
_FIELDS = ("kind", "vendor", "device", "revision")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    make = add_named(
        parser,
        _WHAT,
        "muster variants",
        "muster variants set NVIDIA_V100 --kind gpu --vendor 10de --device 1db4",
        "muster variants remove NVIDIA_V100",
    )
    make.add_argument("--kind", required=True, choices=[kind.value for kind in DeviceKind], metavar="KIND",
                      help="gpu, nic, vf, nvme ...")  # fmt: skip
    make.add_argument("--vendor", required=True, help="PCI vendor id, such as 10de")
    make.add_argument("--device", required=True, help="PCI device id, such as 1db4")
    make.add_argument("--revision", default="", help="default: any")


def run(options: argparse.Namespace) -> int:
    """List, set or remove."""
    return run_named(options, _WHAT, lambda of: {name: getattr(of, name) for name in _FIELDS}, variants_table)


def variants_table(variants: list[dict[str, Any]]) -> Table:
    """Make the table of variants."""
    table = Table(["variant", "kind", "vendor", "device", "revision", "devices"],
                  empty="no variants yet: name one with 'muster variants set'")  # fmt: skip
    for one in variants:
        table.add(one["name"], one["kind"], one["vendor"], one["device"], one["revision"] or "any", one["devices"])
    return table
