"""`muster aggregator`."""

import argparse

from aggregator.cli import add_examples
from aggregator.server import arguments as _arguments
from aggregator.server import leave
from aggregator.server import run as serve


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    _arguments(parser)
    add_examples(
        parser,
        "example:",
        "  muster aggregator --config /etc/muster/muster.toml",
        "",
        "It ends on SIGTERM or Ctrl-C, and nothing that it acknowledged is lost.",
        "exit status: 0 when it was told to end, 78 when the configuration cannot be",
        "used, or another one runs on the data folder",
    )


def run(options: argparse.Namespace) -> int:
    """Run an aggregator until it is told to end."""
    leave(serve(options))


__all__ = ["arguments", "run"]
