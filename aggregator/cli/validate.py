"""`muster validate`: checks the whole configuration, agent and aggregator together, and changes nothing."""

import argparse
import errno
import os
import re
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from aggregator.cli import add_examples, add_output_option
from aggregator.cli.probing import apart
from aggregator.cli.render import TABLES, Table, show
from aggregator.cli.words import WordError
from collectors.process import EXIT_CONFIG
from collectors.settings import load_settings
from schemas.errors import ConfigError

_HELP = """\
Without --try nothing is opened, sent or changed. What is wrong is told with
file, line and remedy: unknown options and sections, types and ranges,
certificates, paths whose folder is not there, addresses that are none.

examples:
  muster validate --config /etc/muster/muster.toml
  muster validate --try                  # before the first start

exit status: 0 when everything is good, 78 when not"""
CHECK_SECONDS = 30.0
"""Loading every installed collector takes about a second."""


class Verdict(msgspec.Struct):
    """What was found."""

    config: str
    """The file; "" when there is none and defaults and environment are all."""
    problems: list[str] = []
    """One line each: place, what is wrong, remedy."""
    warnings: list[str] = []
    """What stops nobody: installed collectors that cannot be loaded, and are not asked for."""
    collectors: list[str] = []
    """What would run."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, *_HELP.splitlines())
    add_output_option(parser)
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="the same as --config FILE")
    parser.add_argument("--try", dest="attempt", action="store_true",
                        help="also bind the ports to listen on, and resolve names: with Muster stopped")  # fmt: skip
    parser.add_argument("--config", type=Path, metavar="FILE",
                        help="a TOML file (default: MUSTER_CONFIG); conf.d/*.toml beside it are read too")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Check; 0 when everything is good, else 78."""
    if options.file is not None and options.config is not None:
        raise WordError("a FILE and --config FILE are the same: name one")
    config = config_file(options.config or options.file)
    verdict = check(config, os.environ, attempt=options.attempt)
    if options.output not in TABLES:
        show(verdict, options.output, Table([]))
        return EXIT_CONFIG if verdict.problems else 0
    sys.stderr.write("".join(f"warning: {line}\n" for line in verdict.warnings))
    sys.stderr.write("".join(f"{line}\n" for line in verdict.problems))
    if verdict.problems:
        many = "1 problem" if len(verdict.problems) == 1 else f"{len(verdict.problems)} problems"
        sys.stderr.write(f"muster: {many}; docs/muster.sample.toml has every option\n")
        return EXIT_CONFIG
    what = str(config) if config else "defaults and environment"
    sys.stdout.write(f"{what}: good; collectors: {', '.join(verdict.collectors) or 'none'}\n")
    return 0


def config_file(given: Path | None) -> Path | None:
    """Give the file that was named, or that MUSTER_CONFIG names; None when there is neither."""
    named = os.environ.get("MUSTER_CONFIG", "")
    return given or (Path(named) if named else None)


def check(config: Path | None, env: Mapping[str, str], *, attempt: bool = False) -> Verdict:
    """Check both parts; with `attempt` bind ports and resolve names too.

    What collectors do at import can harm nothing: they are loaded in a process of its own.
    """
    verdict = Verdict(str(config or ""))
    outcome = apart(lambda: msgspec.json.encode(_agent_part(config, env, attempt=attempt)).decode(), CHECK_SECONDS)
    if outcome.error:
        verdict.problems.append(f"the agent's configuration could not be checked: {outcome.error}")
    else:
        agent = msgspec.json.decode(outcome.value, type=Verdict)
        verdict = msgspec.structs.replace(agent, config=str(config or ""))
    verdict.problems = sorted({*verdict.problems, *_aggregator_part(config, env, attempt=attempt)}, key=_place)
    return verdict


def _agent_part(config: Path | None, env: Mapping[str, str], *, attempt: bool) -> Verdict:
    from collectors.checking import check_agent
    from collectors.config import load_agent_config
    from collectors.registry import discover, load

    verdict = Verdict("")
    known: dict[str, type[Any] | None] = {}
    classes: dict[str, type[Any]] = {}
    for name, entry in discover().items():
        try:
            classes[name] = load(name)
            known[name] = classes[name].Config
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises at import
            known[name] = None
            verdict.warnings.append(f"{name} ({entry.distribution}) cannot be loaded: {type(error).__name__}: {error}")
    try:
        read = load_agent_config(config, known, env)
        verdict.collectors = [one.name for one in read.collectors]
        verdict.problems = check_agent(read, load_settings(config, env), classes, attempt=attempt)
    except ConfigError as error:
        verdict.problems.extend(error.places)
    return verdict


def _aggregator_part(config: Path | None, env: Mapping[str, str], *, attempt: bool) -> list[str]:
    from aggregator.config import load_aggregator_config

    try:
        section = load_aggregator_config(config, env).aggregator
    except ConfigError as error:
        return list(error.places)
    trouble = _taken(section.host, section.port) if attempt else ""
    if not trouble:
        return []
    place = "MUSTER_LISTEN" if env.get("MUSTER_LISTEN") else load_settings(config, env).place(("aggregator", "listen"))
    return [f"{place}: aggregator.listen: cannot listen on {section.listen}: {trouble}"]


def _taken(host: str, port: int) -> str:
    """Bind an address for a moment; give "" when that goes well, else what is wrong, and what to do."""
    remedies = {
        errno.EADDRINUSE: "another program listens there, or Muster itself: stop it, or choose another port",
        errno.EADDRNOTAVAIL: "this machine does not have that address: choose one of 'ip address'",
        errno.EACCES: "not permitted: use a port above 1023, or grant CAP_NET_BIND_SERVICE",
    }
    try:
        for family, kind, protocol, _, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind(where)
                tried.listen(1)
    except OSError as error:
        return remedies.get(error.errno or 0, f"{error.strerror or error}: check the name and the port")
    return ""


def _place(problem: str) -> tuple[str, int, str]:
    """Sort by file, then by number of line."""
    match = re.match(r"(.*?):(\d+): ", problem)
    return (match[1], int(match[2]), problem) if match else (problem.partition(":")[0], 0, problem)
