"""Run as a process: commit numbered rows to a store until killed, and say after each commit how far it is.

`python -m tests.aggregator.store.crashing_writer FILE [FAILPOINT COUNT]`: with a failpoint, SIGKILL oneself at its
COUNT-th passing. Every row's number is its offset in the log, so rows, position and seen rows can be compared.
"""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from aggregator.store_duckdb import DuckStore
from tests.contract.store_rows import CATALOGUE, T0, block, rows_of, seen, transaction

ROWS = 50


def say(at: int) -> None:
    sys.stdout.write(f"{at}\n")
    sys.stdout.flush()


def main() -> None:
    path = Path(sys.argv[1])
    failpoint, left = (sys.argv[2], int(sys.argv[3])) if len(sys.argv) > 2 else ("", 0)

    def pass_by(name: str) -> None:
        nonlocal left
        if name == failpoint:
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    store = DuckStore(path, CATALOGUE, failpoint=pass_by)
    progress = store.open()
    at = progress.positions[0].offset if progress.positions else 0
    say(at)
    for count in range(1, 100_000):
        # a new series each time, and now and then a new column: whatever may tear, is there to be torn
        fields: dict[str, Sequence[float]] = {
            "number": list(range(at, at + ROWS)),
            f"extra{at // ROWS % 40}": [1.5] * ROWS,
        }
        rows = rows_of(block("oracle", fields, device=f"d{at}", seconds=[at + row for row in range(ROWS)]))
        store.commit(transaction(rows, offset=at + ROWS, seen=[seen(at, at + ROWS)]))
        at += ROWS
        say(at)
        if count % 7 == 0:
            store.maintain(T0)


if __name__ == "__main__":
    main()
