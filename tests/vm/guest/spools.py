"""The agent's spool in the guest: written until the power goes, and read out.

`python3.11 -m tests.vm.guest.spools write PATH SYNCHRONOUS` prints `spool EPOCH FIRST END` after each commit of rows.
`python3.11 -m tests.vm.guest.spools read PATH` prints the same for each batch that is there and whole, `position VALUE`
for the source's committed position, and `dropped COUNT` for rows that were given up.
"""

import sys
from pathlib import Path

from collectors.spool import NewBatch, Spool
from schemas.intervals import Intervals
from schemas.verbosity import Level, RowClass

ROWS = 5


def _body(epoch: str, first: int) -> bytes:
    return f"{epoch} {first} ".encode() * 20


def _write(path: Path, synchronous: str) -> None:
    spool = Spool.open(path, "node-1", "boot", synchronous=synchronous)
    while True:
        first = spool.numbered(RowClass.LOG, Level.STANDARD)
        batch = NewBatch(RowClass.LOG, Level.STANDARD, ROWS, _body(spool.epoch, first))
        spool.commit([batch], positions={("syslog", "kmsg"): f"{spool.epoch}:{first + ROWS}"})
        sys.stdout.write(f"spool {spool.epoch} {first} {first + ROWS}\n")
        sys.stdout.flush()


def _read(path: Path) -> None:
    spool = Spool.open(path, "node-1", "boot")
    for held in spool.pending():
        if spool.body(held) == _body(held.epoch, held.first):
            sys.stdout.write(f"spool {held.epoch} {held.first} {held.first + held.rows}\n")
    for value in spool.positions("syslog").values():
        sys.stdout.write(f"position {value}\n")
    streams = [stream for epoch in spool.account().epochs for stream in epoch.streams]
    dropped = sum(Intervals(why.intervals).count for stream in streams for why in stream.dropped)
    sys.stdout.write(f"dropped {dropped}\n")
    spool.close()


if __name__ == "__main__":
    if sys.argv[1] == "write":
        _write(Path(sys.argv[2]), sys.argv[3])
    else:
        _read(Path(sys.argv[2]))
