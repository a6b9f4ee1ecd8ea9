"""`muster restore`: put a backup in the place of the control database and the ledger."""

import argparse
from pathlib import Path
from typing import Final

import msgspec

from aggregator.cli import add_examples, add_output_option
from aggregator.cli.query import clock_time
from aggregator.cli.render import Table, show
from collectors.config import default_data_dir

_EPILOG: Final = """examples:
  muster restore /backup/muster-2026-01-31.tar
  muster restore --force /backup/muster.tar   what is there is kept aside

The aggregator must not run. A restored ledger begins a new generation: every
device is unverified, and is not given to anybody, until its node has shown
what it holds."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    add_output_option(parser)
    parser.add_argument("file", type=Path, metavar="FILE", help="an archive that 'muster backup' made")
    parser.add_argument("--force", action="store_true", help="also where there are databases; they are kept aside")


def run(options: argparse.Namespace) -> int:
    """Restore it."""
    from aggregator.backup import restore_backup  # brings the databases' libraries, which --help needs not
    from aggregator.service import lock_folder

    folder = default_data_dir() / "aggregator"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = lock_folder(folder)
    try:
        manifest = restore_backup(options.file, folder, force=options.force)
    finally:
        lock.close()
    told = (
        f"restored the backup that was made {clock_time(manifest.made_ns)}, the ledger up to sequence"
        f" {manifest.sequence}.\nWhat was decided since is gone: hand variants, packages, quotas, marks, attestations"
        " and\nrecords in again. Start the aggregator: nodes bring back the claims that they keep."
    )
    show(msgspec.to_builtins(manifest), options.output, Table([], empty=told))
    return 0
