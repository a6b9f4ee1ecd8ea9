"""Asks before something that is not easily undone."""

import argparse
import sys

from aggregator.cli.words import WordError


def add_yes_option(parser: argparse.ArgumentParser) -> None:
    """Add `--yes`."""
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def confirm(question: str, *, yes: bool) -> bool:
    """Tell whether to go on: asked on a terminal, told by `--yes`. Raises WordError where nobody can answer."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise WordError(f"{question} Nobody can answer here: add --yes")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return True
    sys.stderr.write("nothing was changed\n")
    return False
