"""`muster demo`: a scenario from end to end on simulated nodes, told in sentences; nothing is left behind."""

import argparse
import os
import signal
import sys
from typing import Final

from aggregator.cli import add_examples
from aggregator.cli.render import Table
from aggregator.demo import SCENARIOS
from collectors.process import EXIT_FAILED

_EPILOG: Final = """examples:
  muster demo            which there are
  muster demo 002

It takes up to a minute, has a folder and processes of its own, and touches
nothing else. Ctrl-C ends it at any time; then, too, nothing is left.
exit status: 0 when all that was expected held, else 1; 78 when this machine
lacks something that it needs: the message says what"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    parser.add_argument("scenario", nargs="?", choices=list(SCENARIOS), metavar="SCENARIO",
                        help=f"one of {', '.join(SCENARIOS)} (default: list them)")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """List the scenarios, or play one."""
    if options.scenario is None:
        table = Table(["scenario", "what it shows"])
        for name, scenario in SCENARIOS.items():
            table.add(name, scenario.title)
        table.print()
        return 0
    from aggregator.demo.runner import run as play

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it, too, ends in order
    os.environ.pop("MUSTER_TOKEN", None)  # it is for another aggregator
    return 0 if play(options.scenario, sys.stdout) else EXIT_FAILED
