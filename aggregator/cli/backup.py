"""`muster backup`: the control database and the ledger, in one file, while everything works."""

import argparse
from pathlib import Path
from typing import Final

import msgspec

from aggregator.cli import add_examples, add_output_option
from aggregator.cli.render import Table, show
from collectors.config import default_data_dir

_EPILOG: Final = """examples:
  muster backup /backup/muster-$(date +%F).tar
  MUSTER_DATA_DIR=/var/lib/muster muster backup /backup/muster.tar

Runs on the aggregator's machine, beside it. What is saved: tokens, nodes,
positions, and the ledger with its history; not telemetry, and no secrets of
agents. Keep the file as you keep a password."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    add_output_option(parser)
    parser.add_argument("file", type=Path, metavar="FILE", help="the archive to make; it must not exist")


def run(options: argparse.Namespace) -> int:
    """Make it."""
    from aggregator.backup import make_backup  # brings the databases' libraries, which --help needs not

    made = make_backup(default_data_dir() / "aggregator", options.file)
    size = sum(file.bytes for file in made.files) / 1e6
    told = f"{options.file}: {size:.1f} MB, the ledger up to sequence {made.sequence}"
    show(msgspec.to_builtins(made), options.output, Table([], empty=told))
    return 0
