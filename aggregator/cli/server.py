"""`muster aggregator`."""

import argparse

from aggregator.server import arguments, leave
from aggregator.server import run as serve


def run(options: argparse.Namespace) -> int:
    """Run an aggregator until it is told to end."""
    leave(serve(options))


__all__ = ["arguments", "run"]
