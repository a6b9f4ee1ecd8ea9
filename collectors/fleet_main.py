"""`python -m collectors.fleet_main`: a process of simulated nodes, each a publisher of its own over HTTP.

Everything that comes of it says that it is simulated: documents, events, and the machine's facts.
"""

import argparse
import logging
import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

import msgspec

from collectors.config import AgentConfig, load_agent_config
from collectors.fleet import FleetRun
from collectors.lifeline import watch_lifeline
from collectors.process import EXIT_CONFIG, EXIT_FAILED, start_logging
from collectors.registry import discover
from collectors.simulated.fleet import Fleet, default_fleet
from schemas.errors import ConfigError, MusterError

_log = logging.getLogger("muster.fleet")
INTERVALS: Final = {"load": 1.0, "full": 5.0}
"""By profile, how often nodes are stepped unless told otherwise."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a fleet until SIGTERM or SIGINT, or for a time. Returns the exit status."""
    options = parse(argv)
    start_logging()
    try:
        return _run(options)
    except ConfigError as error:
        sys.stderr.write("".join(f"muster fleet: {place}\n" for place in error.places))
        return EXIT_CONFIG
    except MusterError as error:
        sys.stderr.write(f"muster fleet: {error}\n")
        return EXIT_FAILED


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="muster fleet",
        description="Run simulated nodes, each a publisher of its own. What they say is fake, and says so.",
    )
    default = os.environ.get("MUSTER_CONFIG")
    parser.add_argument("--config", type=Path, default=Path(default) if default else None, metavar="FILE",
                        help="a TOML file (default: MUSTER_CONFIG); [publish] and [spool] are the agent's")  # fmt: skip
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--nodes", type=int, default=1, metavar="N", help="so many nodes, sim-0001 and up (default: 1)")
    which.add_argument("--fleet", type=Path, metavar="FILE", help="the nodes of a fleet file")
    parser.add_argument("--profile", choices=("load", "full"), default="full",
                        help="with --nodes: everything (full), or 20 rows of 10 fields a step (load)")  # fmt: skip
    parser.add_argument("--interval", type=_seconds, metavar="SECONDS",
                        help="how often a node is stepped (default: 5, for load 1)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, metavar="N",
                        help="with --nodes: other seeds make other identities and workloads")  # fmt: skip
    parser.add_argument("--no-documents", action="store_true", help="send no capability documents: rows alone")
    parser.add_argument("--claim-speed", type=_seconds, default=1.0, metavar="FACTOR",
                        help="do the steps of claims so many times faster than real machines (default: 1)")  # fmt: skip
    parser.add_argument("--aggregator", action="append", default=[], metavar="ADDRESS",
                        help="https://host:8420, http://host:8420 or unix:///path; may be repeated (default: [publish]"
                        " of the configuration, else the aggregator of this machine)")  # fmt: skip
    parser.add_argument("--duration", type=_seconds, metavar="SECONDS", help="end after so long (default: never)")
    parser.add_argument("--linger", type=float, default=3.0, metavar="SECONDS",
                        help="at the end, send for at most so long (default: 3)")  # fmt: skip
    return parser.parse_args(argv)


def make_fleet(options: argparse.Namespace) -> tuple[Fleet, float]:
    """Give the nodes that are asked for, and how often they are stepped. Raises ConfigError."""
    if options.fleet:
        fleet = Fleet.from_file(options.fleet)
    elif not 1 <= options.nodes <= 100_000:
        raise ConfigError(f"--nodes: from 1 to 100000, not {options.nodes}")
    else:
        fleet = default_fleet(options.nodes, options.seed, profile=options.profile)
    usual = min(INTERVALS[node.profile] for node in fleet.nodes)
    return fleet, options.interval or usual


def _run(options: argparse.Namespace) -> int:
    config = _load(options)
    folder = config.data_dir / "fleet"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _lock(folder):
        return _work(options, config, folder)


def _work(options: argparse.Namespace, config: AgentConfig, folder: Path) -> int:
    fleet, interval = make_fleet(options)
    _allow_files(len(fleet.nodes) + 256)
    run = FleetRun(fleet, config, folder, interval=interval, token=os.environ.get("MUSTER_TOKEN", ""),
                   documents=not options.no_documents, claim_speed=options.claim_speed)  # fmt: skip
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: run.stop())
    signal.signal(signal.SIGUSR1, lambda *_: run.want_report())
    watch_lifeline(run.stop, ask=run.ask)
    _log.info(
        "fleet_started simulated=true nodes=%d first=%s interval_seconds=%g to=%s",
        len(fleet.nodes),
        fleet.nodes[0].name,
        interval,
        config.addresses,
    )
    run.run(options.duration, options.linger)
    return 0


def _load(options: argparse.Namespace) -> AgentConfig:
    config = load_agent_config(options.config, dict.fromkeys(discover()))
    if not options.aggregator:
        return config
    try:
        publish = msgspec.structs.replace(config.publish, aggregators=list(options.aggregator))
    except ValueError as error:
        raise ConfigError(f"--aggregator: {error}") from None
    return msgspec.structs.replace(config, publish=publish)


def _lock(folder: Path) -> IO[str]:
    """One fleet a folder: two would number rows under one spool."""
    import fcntl

    file = (folder / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise ConfigError(
            f"{folder}: another fleet has this folder open: stop it, or give this one its own with MUSTER_DATA_DIR"
        ) from None
    return file


def _allow_files(count: int) -> None:
    """Every node keeps a connection of its own open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        most = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        if most < count:
            _log.warning("too_few_files allowed=%d wanted=%d: some nodes will have no control channel", most, count)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError("more than 0 seconds")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
