"""`muster packages`: named bundles of amounts and devices."""

import argparse
from typing import Any

from aggregator.cli.named import add_named, run_named
from aggregator.cli.render import Table
from aggregator.cli.words import WordError

_WHAT = "package"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    make = add_named(
        parser,
        _WHAT,
        "muster packages",
        "muster packages set gpu_large --amount vcpus=4 --devices NVIDIA_V100=1",
        "muster packages remove gpu_large",
    )
    make.add_argument("--amount", action="append", default=[], metavar="NAME=NUMBER",
                      help="vcpus, memory_bytes or disk_bytes; may be repeated")  # fmt: skip
    make.add_argument(
        "--devices", action="append", default=[], metavar="VARIANT=COUNT", help="devices; may be repeated"
    )


def run(options: argparse.Namespace) -> int:
    """List, set or remove."""
    return run_named(options, _WHAT, _body, packages_table)


def _body(options: argparse.Namespace) -> dict[str, Any]:
    devices = [dict(zip(("variant", "count"), pair(text), strict=True)) for text in options.devices]
    return {"amounts": dict(pair(text) for text in options.amount), "devices": devices}


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
