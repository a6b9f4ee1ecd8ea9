"""How long from `muster up` on a fresh folder to the first row from `muster query` (DESIGN part 9).

Run: `python -m tests.bench.bench_start`. The first row is waited for over HTTP, so that waiting costs the machine
nothing; then `muster query` is run once, as a person would, and its time counts. The median of several starts.
`--imports` shows what the start spends its time on.
"""

import argparse
import contextlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from collectors.transport import Transport, TransportError
from tests.acceptance.stage import FailedError, Muster, stage, until
from tests.bench.measuring import ROOT, Line, cpu_seconds, show

ASKED = ("cpu", "usage_ratio", "--last")
PARTS = ("aggregator.cli.up", "aggregator.cli.query", "aggregator.server", "aggregator.app", "collectors.agent")


def start_once(folder: Path) -> tuple[float, float, float]:
    """Start once: seconds to the first row from `muster query`, of that the query, and CPU seconds of all processes."""
    with stage(folder) as muster:
        began = time.monotonic()
        muster.start("up")
        until("a first row", lambda: _has_row(muster), 30)
        asked = time.monotonic()
        if not muster.rows(*ASKED):
            raise FailedError("the row that was there a moment ago is gone")
        ended = time.monotonic()
        return ended - began, ended - asked, cpu_seconds(muster.processes["up"].pid)


def _has_row(muster: Muster) -> bool:
    """Tell whether there is a row, without a process of its own."""
    address = muster.data_dir / "muster.sock"
    if not address.exists():
        return False
    transport = Transport([f"unix://{address}"], timeout=5)
    with contextlib.suppress(TransportError):
        answer = transport.request("GET", "/v1/query?measurement=cpu&fields=usage_ratio&last=true")
        transport.close()
        return answer.status == 200 and b'"data":[[]' not in answer.body.replace(b" ", b"")
    return False


def imports(module: str, most: int = 12) -> list[tuple[float, str]]:
    """Give what importing a module spends, in milliseconds with what it imports in turn: the dearest first."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import {module}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = re.findall(r"^import time:\s+\d+ \|\s+(\d+) \|\s+(\S+)$", done.stderr, re.MULTILINE)
    return sorted(((int(spent) / 1e3, name) for spent, name in found), reverse=True)[:most]


def lines(times: int = 5) -> list[Line]:
    """Measure."""
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as name:
        runs = [start_once(Path(name) / str(number)) for number in range(times)]
    first, query, cpu = (statistics.median(column) for column in zip(*runs, strict=True))
    return [
        Line("start: `muster up` to a row from `muster query`", first, "s", 3.0, note=f"median of {times}"),
        Line("start: CPU of all processes until then", cpu, "s"),
        Line("start: `muster query` alone", query, "s"),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--imports", action="store_true")
    options = parser.parse_args()
    if options.imports:
        for module in PARTS:
            print(f"{module}:")
            for spent, name in imports(module):
                print(f"  {spent:7.1f} ms  {name}")
    show(lines(options.times))


if __name__ == "__main__":
    main()
