"""`muster doctor`: what this machine has, what it lacks, and how to get it; and the support bundle."""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from aggregator.cli import add_examples, add_output_option, add_server_options
from aggregator.cli.checks import (
    Check,
    Level,
    check_authority,
    check_clock,
    check_collectors,
    check_damaged,
    check_data_folder,
    check_gpu,
    check_identity,
    check_kernel_log,
    check_open_files,
    check_packages,
    check_port,
    check_python,
)
from aggregator.cli.client import Client, client_of
from aggregator.cli.probing import Found, probe_installed
from aggregator.cli.render import TABLES, Table, number, show
from aggregator.cli.validate import config_file
from aggregator.cli.version import packages
from collectors.config import DEFAULT_COLLECTORS, default_data_dir
from collectors.process import EXIT_FAILED
from collectors.registry import OWN_DISTRIBUTION

_EPILOG = """examples:
  muster doctor
  muster doctor --bundle support.tar.gz     # for a report of a defect

exit status: 0 when no check fails, else 1; warnings change nothing"""
_COLOURS = {Level.OK: "32", Level.WARN: "33", Level.FAIL: "1;31"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    add_server_options(parser)
    add_output_option(parser)
    parser.add_argument("--config", type=Path, metavar="FILE", help="a TOML file (default: MUSTER_CONFIG)")
    parser.add_argument("--bundle", type=Path, metavar="FILE", help="also pack a support bundle, without secrets")


def run(options: argparse.Namespace) -> int:
    """Check everything; 1 when something fails."""
    client, found, made = client_of(options), probe_installed(), []
    for check in every_check(options, client, found):
        made.append(check)
        if options.output in TABLES:
            _print(check)
    if options.output not in TABLES:
        show(made, options.output, Table([]))
    failed, warned = (sum(check.level is level for check in made) for level in (Level.FAIL, Level.WARN))
    if options.output in TABLES:
        sys.stdout.write(f"\n{len(made)} checks: {failed} failed, {warned} to look at\n")
    if options.bundle is not None:
        _bundle(options, client, made, found)
    return EXIT_FAILED if failed else 0


def every_check(options: argparse.Namespace, client: Client, found: list[Found]) -> Iterator[Check]:
    """Check the machine, then the configuration, then the aggregator."""
    yield check_python()
    yield from check_packages(packages())
    yield from check_data_folder(default_data_dir())
    yield from check_damaged(default_data_dir())
    yield from check_authority(default_data_dir())
    yield check_identity()
    yield check_kernel_log()
    yield check_gpu()
    yield check_open_files()
    yield check_clock()
    try:
        from aggregator.config import load_aggregator_config
    except ImportError as error:  # an agent's install: what can be said without the rest was said
        yield Check("configuration", Level.WARN, f"not checked: {error}", "pip install 'rackmuster[aggregator]'")
        return
    from aggregator.cli.checks_server import answers, check_configuration, check_server, holder_of
    from schemas.errors import ConfigError

    check, verdict = check_configuration(config_file(options.config))
    yield check
    yield from check_collectors(found, verdict.collectors or DEFAULT_COLLECTORS, OWN_DISTRIBUTION)
    holder = holder_of(default_data_dir())
    try:
        section = load_aggregator_config(config_file(options.config)).aggregator
    except ConfigError:
        pass  # said already
    else:
        yield check_port(section.host, section.port, ours=holder is not None or answers(client))
    named = bool(options.server or os.environ.get("MUSTER_SERVER"))
    yield from check_server(client, asked_for=named, holder=holder)


def _print(check: Check) -> None:
    word = f"{check.level.value:<4}"
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        word = f"\x1b[{_COLOURS[check.level]}m{word}\x1b[0m"
    sys.stdout.write(f"{word}  {check.name:<20} {check.found}\n")
    if check.remedy and check.level is not Level.OK:
        sys.stdout.write(f"{'':26} -> {check.remedy}\n")
    sys.stdout.flush()


def _bundle(options: argparse.Namespace, client: Client, made: list[Check], found: list[Found]) -> None:
    from aggregator.cli.bundle import Materials, pack, parts
    from aggregator.cli.checks_server import answers
    from aggregator.cli.progress import progress

    materials = Materials(config_file(options.config), default_data_dir(), made, found)
    wanted = list(parts(materials, client if answers(client) else None))
    with progress("packing", len(wanted)) as told:
        packed = pack(options.bundle, wanted, told)
    table = Table(["file", "size", "what"], f"\n{options.bundle} has\n")
    for one in packed:
        table.add(one.name, number(one.bytes, "bytes"), one.what)
    if options.output in TABLES:
        table.print()
        sys.stdout.write("look at it before you hand it on: log lines and host names are yours to judge\n")
