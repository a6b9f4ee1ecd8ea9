"""`muster version`: versions of Muster and of what it stands on."""

import argparse
import platform
import sqlite3
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Final

import msgspec

from aggregator.cli import add_examples, add_output_option
from aggregator.cli.render import Table, show
from collectors.registry import OWN_DISTRIBUTION
from schemas import __version__
from schemas.batch import WIRE_VERSION

BASE: Final = ""
"""The extra that everything has: what an agent needs."""


class Package(msgspec.Struct, frozen=True):
    """One package that some part of Muster wants."""

    name: str
    extra: str
    """The extra that wants it; "" for what an agent needs."""
    version: str | None
    """None when it is not installed."""
    wanted: str
    """The requirement's versions, as declared; "" for any."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, "example:", "  muster version -o json")
    add_output_option(parser)


def run(options: argparse.Namespace) -> int:
    """Print them."""
    found = versions()
    table = Table(["what", "version"])
    for name, value in found.items():
        table.add(name, value)
    show(found, options.output, table)
    return 0


def versions() -> dict[str, str]:
    """Give the version of everything that matters to a report of a defect."""
    installed = {one.name: one.version for one in packages() if one.version is not None}
    return {
        "muster": __version__,
        "wire": str(WIRE_VERSION),
        "python": platform.python_version() + f" ({sys.executable})",
        "sqlite": sqlite3.sqlite_version,
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        **installed,
    }


def packages() -> list[Package]:
    """Give every package that the distribution declares, by extra; those of `all` are in the others."""
    found = []
    try:
        declared = requires(OWN_DISTRIBUTION) or []
    except PackageNotFoundError:  # run from a bare checkout
        declared = []
    for requirement in declared:
        what, _, marker = requirement.partition(";")
        extra = marker.partition("==")[2].strip().strip("'\"") if "extra" in marker else BASE
        name = what.strip()
        for at, char in enumerate(name):
            if not (char.isalnum() or char in "-_."):
                name = name[:at]
                break
        if extra != "all":
            found.append(Package(name, extra, _version(name), what.strip()[len(name) :].strip()))
    return found


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
