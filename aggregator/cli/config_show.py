"""`muster config`: the configuration as it is in force."""

import argparse
import os
import sys
from pathlib import Path
from typing import Final

from aggregator.cli import add_examples, add_output_option
from aggregator.cli.render import TABLES, Table, show

_EXAMPLES: Final = (
    "examples:",
    "  muster config show --changed --origin",
    "  muster config show > muster.toml      # it is a configuration itself",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, *_EXAMPLES)
    deeds = parser.add_subparsers(dest="deed", metavar="{show}", required=True)
    shown = deeds.add_parser("show", help="print every option in force; secrets are hidden",
                             description="Print every option in force; secrets are hidden.")  # fmt: skip
    add_examples(shown, *_EXAMPLES)
    add_output_option(shown)
    shown.add_argument("--config", type=Path, metavar="FILE", help="a TOML file (default: MUSTER_CONFIG)")
    shown.add_argument("--origin", action="store_true", help="say where each option comes from")
    shown.add_argument("--changed", action="store_true", help="leave out what has its default")


def run(options: argparse.Namespace) -> int:
    """Print it as TOML, or for programs."""
    from aggregator.cli.effective import DEFAULT, as_toml, effective_options
    from aggregator.cli.validate import config_file

    found = effective_options(config_file(options.config), os.environ)
    if options.changed:
        found = [one for one in found if one.origin != DEFAULT]
    if options.output in TABLES:
        text = as_toml(found, origin=options.origin)
        sys.stdout.write(text if found else "# every option has its default\n")
    else:
        show(found, options.output, Table([]))
    return 0
