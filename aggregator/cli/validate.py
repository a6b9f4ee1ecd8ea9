"""`muster validate`: checks the whole configuration, agent and aggregator together, and changes nothing."""

import argparse
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from aggregator.cli import add_output_option
from aggregator.cli.probing import apart
from aggregator.cli.render import Table, show
from collectors.process import EXIT_CONFIG
from schemas.errors import ConfigError

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
    add_output_option(parser)
    parser.add_argument("--config", type=Path, metavar="FILE",
                        help="a TOML file (default: MUSTER_CONFIG); conf.d/*.toml beside it are read too")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Check; 0 when everything is good, else 78."""
    config = config_file(options.config)
    verdict = check(config, os.environ)
    if options.output != "table":
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


def check(config: Path | None, env: Mapping[str, str]) -> Verdict:
    """Check both parts. What collectors do at import can harm nothing: they are loaded in a process of its own."""
    verdict = Verdict(str(config or ""))
    outcome = apart(lambda: msgspec.json.encode(_agent_part(config, env)).decode(), CHECK_SECONDS)
    if outcome.error:
        verdict.problems.append(f"the agent's configuration could not be checked: {outcome.error}")
    else:
        agent = msgspec.json.decode(outcome.value, type=Verdict)
        verdict = msgspec.structs.replace(agent, config=str(config or ""))
    verdict.problems = sorted({*verdict.problems, *_aggregator_part(config, env)}, key=_place)
    return verdict


def _agent_part(config: Path | None, env: Mapping[str, str]) -> Verdict:
    from collectors.config import load_agent_config
    from collectors.registry import discover, load

    verdict = Verdict("")
    known: dict[str, type | None] = {}
    for name, entry in discover().items():
        try:
            known[name] = load(name).Config
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises at import
            known[name] = None
            verdict.warnings.append(f"{name} ({entry.distribution}) cannot be loaded: {type(error).__name__}: {error}")
    try:
        verdict.collectors = [one.name for one in load_agent_config(config, known, env).collectors]
    except ConfigError as error:
        verdict.problems.extend(error.places)
    return verdict


def _aggregator_part(config: Path | None, env: Mapping[str, str]) -> list[str]:
    from aggregator.config import load_aggregator_config

    try:
        load_aggregator_config(config, env)
    except ConfigError as error:
        return list(error.places)
    return []


def _place(problem: str) -> tuple[str, int, str]:
    """Sort by file, then by number of line."""
    match = re.match(r"(.*?):(\d+): ", problem)
    return (match[1], int(match[2]), problem) if match else (problem.partition(":")[0], 0, problem)
