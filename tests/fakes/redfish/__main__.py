"""A thousand BMCs in one process, for benches and for people: `python -m tests.fakes.redfish --count 1000`.

Prints one line of JSON, a list of BMCs with name, url, and `dead` ("", "refuses" or "silent"); then takes commands from
its standard input, and ends with it:

    pace SECONDS    what each answer takes from now on
    mark            begin to measure
    tell            print, by name, the rounds since then: asked first, answered last, requests

Times are of the monotonic clock. A round ends when nothing is asked for `--gap` seconds.
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Final

from tests.fakes.redfish.bmc import Bmc, Options
from tests.fakes.redfish.simulator import Simulator
from tests.fakes.redfish.tree import ROOT, Tree, archive, made

NETWORK: Final = 77
"""The addresses are 127.77.0.1 on: whatever listens on 127.0.0.1 is not in the way."""


class Rounds:
    """When one BMC was asked, in rounds."""

    def __init__(self, gap: float) -> None:
        self._gap = gap
        self.found: list[tuple[float, float, int]] = []

    def add(self, asked: float, answered: float) -> None:
        """Take one request."""
        first, last, count = self.found[-1] if self.found else (asked, float("-inf"), 0)
        if asked - last > self._gap and count:
            self.found.append((asked, answered, 1))
        else:
            self.found[-1:] = [(first, answered, count + 1)]


class Fleet:
    """The BMCs, and how they are asked."""

    def __init__(self, simulator: Simulator, tree: Tree, options: argparse.Namespace) -> None:
        self.told: list[dict[str, str]] = []
        self._rounds: dict[str, Rounds] = {}
        self._bmcs: list[Bmc] = []
        self._gap: float = options.gap
        every = round(1 / options.dead) if options.dead else 0
        port = options.port
        for index in range(options.count):
            host, name = address(index), f"bmc-{index:04}"
            dead = "" if not every or (index + 1) % every else ("refuses", "silent")[index // every % 2]
            url = f"http://{host}:{port}"
            if dead == "silent":
                url = simulator.silent(host, port)
            elif not dead:
                made_of = Options(at_once=options.at_once, pace_seconds=options.pace, etags=not options.no_etags)
                bmc = simulator.add(tree, made_of, host=host, port=port)
                bmc.keeps_requests = False
                different(bmc, index)
                self._bmcs.append(bmc)
                self._watch(bmc, name)
                url = bmc.url
            port = port or int(url.rpartition(":")[2])
            self.told.append({"name": name, "url": url, "dead": dead})

    def _watch(self, bmc: Bmc, name: str) -> None:
        self._rounds[name] = rounds = Rounds(self._gap)
        bmc.watch = rounds.add

    def obey(self, line: str) -> None:
        """Do what a line of the input says."""
        word, _, value = line.strip().partition(" ")
        if word == "pace":
            for bmc in self._bmcs:
                bmc.pace_seconds = float(value)
        elif word == "mark":
            for rounds in self._rounds.values():
                rounds.found.clear()
            say(time.monotonic())
        elif word == "tell":
            say({name: one.found for name, one in self._rounds.items()})


def say(told: object) -> None:
    """Print one line."""
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def address(index: int) -> str:
    """Give the address of a BMC by its number."""
    return f"127.{NETWORK}.{(index + 1) // 250}.{1 + (index + 1) % 250}"


def different(bmc: Bmc, index: int) -> None:
    """Make a machine another one: UUIDs and serial numbers of its systems and its service."""
    for number, path in enumerate(bmc.machine.systems()):
        bmc.change(path, UUID=f"6d757374-6572-4000-8{number:03x}-{index:012x}", SerialNumber=f"MADE{index:04}-{number}")
    bmc.change(ROOT, UUID=f"6d757374-6572-4000-b4c0-{index:012x}")


def main() -> int:
    """Run until the input ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.redfish", description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument(
        "--machine", default="made", help="a folder of tests/cases/redfish, or an archive of a recording"
    )
    parser.add_argument("--port", type=int, default=0, help="of all of them; one that is free by default")
    parser.add_argument("--pace", type=float, default=0.0, help="seconds that each answer takes")
    parser.add_argument("--at-once", type=int, default=1, help="requests that one BMC works on at a time")
    parser.add_argument("--dead", type=float, default=0.0, help="share of them that refuse or say nothing, by turns")
    parser.add_argument("--gap", type=float, default=5.0, help="seconds without a request that end a round")
    parser.add_argument("--no-etags", action="store_true")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    machine = Path(options.machine)
    with Simulator() as simulator:
        fleet = Fleet(simulator, archive(machine) if machine.suffix == ".gz" else made(options.machine), options)
        say(fleet.told)
        for line in sys.stdin:
            fleet.obey(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
