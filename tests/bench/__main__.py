"""`python -m tests.bench`: every bench, short, one after the other, and one table at the end.

Short means: to see that a bench runs and where a figure stands. The bar for the fleet is a burst of 5 minutes; without
`--long` it runs for 30 s, and what it then says of lag is no answer to the bar.

Benches that measure against a bar of DESIGN part 9 give lines of that table; the others print their own. Exit status 1
when a bench fails to run; a bar that is missed is told, and is no failure: a busy machine misses bars.
"""

import argparse
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable

from tests.bench import (
    bench_agent,
    bench_claims,
    bench_durability,
    bench_event_to_placement,
    bench_expression,
    bench_inventory,
    bench_ledger,
    bench_nvml,
    bench_placement,
    bench_placement_peers,
    bench_start,
    bench_syslog,
    bench_whole_agent,
)
from tests.bench.measuring import ROOT, Line, show

LINES: dict[str, Callable[[], list[Line]]] = {
    "start": lambda: bench_start.lines(5),
    "agent": lambda: bench_agent.lines(60.0),
    "whole_agent": lambda: bench_whole_agent.lines(60.0),
    "durability": lambda: bench_durability.lines(6.0, 3),
    "syslog": lambda: bench_syslog.lines(10.0),
    "inventory": bench_inventory.lines,
    "expression": lambda: bench_expression.lines(100_000, 3),
    "ledger": lambda: bench_ledger.lines(500, 12),
    "ledger_restart": lambda: bench_ledger.restart_lines(10_000, 100_000),
    "nvml": lambda: bench_nvml.lines(200),
    "placement": bench_placement.lines,
    "placement_peers": bench_placement_peers.lines,
    "claims": bench_claims.lines,
    "event_to_placement": lambda: bench_event_to_placement.lines(100, 300, 0.4),
}
PRINTED: dict[str, tuple[str, ...]] = {
    "log": ("tests.bench.bench_log", "--seconds", "2"),
    "store": ("tests.bench.bench_store", "--quick"),
    "syslog_parser": ("tests.bench.bench_syslog_parser", "--messages", "20000", "--rounds", "3"),
    "fleet": ("tests.bench.bench_fleet", "--nodes", "1000", "--seconds", "30"),
    "redfish": ("tests.bench.bench_redfish", "--bmcs", "100", "--seconds", "5"),
}
LONG: dict[str, tuple[str, ...]] = {
    "fleet": ("tests.bench.bench_fleet", "--nodes", "1000", "--seconds", "300"),
    "redfish": ("tests.bench.bench_redfish", "--bmcs", "1000", "--seconds", "30"),
}
"""What `--long` runs instead: for as long as the bar says."""
SECONDS = 1200.0
"""No bench that is a program of its own may take longer."""


def run_printed(arguments: tuple[str, ...]) -> bool:
    """Run a bench that prints its own figures; tell whether it did."""
    try:
        done = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, timeout=SECONDS, check=False)
        return done.returncode == 0
    except subprocess.TimeoutExpired:
        print(f"{arguments[0]}: stopped after {SECONDS:.0f} s", file=sys.stderr)
        return False


def run_lines(name: str) -> list[Line] | None:
    """Give the lines of a bench; None when it could not run."""
    try:
        return LINES[name]()
    except Exception:  # noqa: BLE001  # the others are worth having
        traceback.print_exc()
        return None


def main() -> int:
    """Run what is named, or everything."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="BENCH", help=f"of {', '.join([*LINES, *PRINTED])}; all by default")
    parser.add_argument("--long", action="store_true", help="the fleet for 5 minutes, 1,000 slow BMCs: as the bars say")
    options = parser.parse_args()
    names = options.names or [*LINES, *PRINTED]
    printed = PRINTED | (LONG if options.long else {})
    if unknown := set(names) - {*LINES, *PRINTED}:
        parser.error(f"no such bench: {', '.join(sorted(unknown))}")
    table: list[Line] = []
    failed = []
    for name in names:
        print(f"--- {name} (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)", flush=True)
        began = time.monotonic()
        if name in LINES:
            lines = run_lines(name)
            table += lines or []
            good = lines is not None
        else:
            good = run_printed(printed[name])
        failed += [] if good else [name]
        print(f"    {time.monotonic() - began:.0f} s", flush=True)
    print()
    show(table)
    if failed:
        print(f"did not run: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
