"""Acknowledged means durable: against the loss of power, not only of a process (promise 1, R001-15).

In a guest, the embedded log and the agent's spool are written, and every acknowledgement goes out on the serial line.
The emulator is killed in the middle, the same disk is booted again, and whatever was acknowledged must be there. The
same with `synchronous=OFF` must lose some of both, or all this would prove nothing.
"""

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from schemas.intervals import Intervals
from tests.vm.machine import Machine, make_disk

pytestmark = [pytest.mark.vm, pytest.mark.slow]


class Kept(msgspec.Struct):
    """What a guest said that is on its disk."""

    log: dict[tuple[str, int], int] = {}
    """By topic and partition, the end of what is there."""
    spool: dict[str, Intervals] = {}
    """By epoch, the numbers of the rows."""
    position: str = ""
    damaged: int = 0
    """Records of the log that are not what was written, and rows that the spool gave up."""

    def take(self, line: str) -> str:
        """Take one line of a guest program; give what it was about."""
        word, *rest = line.split()
        if word == "spool":
            self.spool.setdefault(rest[0], Intervals()).add(int(rest[1]), int(rest[2]))
        elif word == "position":
            self.position = rest[0]
        elif word == "dropped":
            self.damaged += int(rest[0])
        else:
            self.log[word, int(rest[0])] = int(rest[2])
            self.damaged += int(rest[3]) if len(rest) > 3 else 0
            word = "log"
        return word

    def lost_of_log(self, found: "Kept") -> dict[tuple[str, int], int]:
        """Give by partition how many records of these are not in `found`."""
        missing = {place: end - found.log.get(place, 0) for place, end in self.log.items()}
        return {place: count for place, count in missing.items() if count > 0}

    def lost_of_spool(self, found: "Kept") -> dict[str, int]:
        """Give by epoch how many rows of these are not in `found`."""
        missing = {name: rows.minus(found.spool.get(name, Intervals())).count for name, rows in self.spool.items()}
        return {name: count for name, count in missing.items() if count > 0}


def write_until_power_loss(disk: Path, opener: str, synchronous: str, lines: int, kept: Kept) -> None:
    """Write log and spool in a guest until each was acknowledged so many times, then cut the power."""
    log = f"python3.11 -m tests.contract.log_appender tests.vm.guest.logs:{opener} /disk/log.sqlite"
    spool = f"python3.11 -m tests.vm.guest.spools write /disk/spool.sqlite {synchronous}"
    heard: Counter[str] = Counter()
    with Machine(f"{log} & {spool}", [disk]) as machine:
        for line in machine.lines():
            heard[kept.take(line)] += 1
            if min(heard["log"], heard["spool"]) >= lines:
                machine.kill()  # what it says until it is gone is acknowledged as well
        assert machine.exit_status is None, machine.console


def read_out(disk: Path) -> Kept:
    """Boot afresh and give what is on the disk."""
    log = "python3.11 -m tests.vm.guest.logs /disk/log.sqlite"
    spool = "python3.11 -m tests.vm.guest.spools read /disk/spool.sqlite"
    found = Kept()
    with Machine(f"{log} && {spool}", [disk]) as machine:
        for line in machine.lines():
            found.take(line)
        assert machine.exit_status == 0, machine.console
    return found


@pytest.fixture(scope="module")
def durable(tmp_path_factory: pytest.TempPathFactory) -> tuple[Kept, Kept]:
    """What was acknowledged before two power cuts, and what was found afterwards."""
    disk = make_disk(tmp_path_factory.mktemp("durable") / "disk.img")
    acknowledged = Kept()
    for lines in (40, 150):
        write_until_power_loss(disk, "durable", "FULL", lines, acknowledged)
    return acknowledged, read_out(disk)


@pytest.fixture(scope="module")
def careless(tmp_path_factory: pytest.TempPathFactory) -> tuple[Kept, Kept]:
    """The same with `synchronous=OFF`, and one power cut."""
    disk = make_disk(tmp_path_factory.mktemp("careless") / "disk.img")
    acknowledged = Kept()
    write_until_power_loss(disk, "careless", "OFF", 60, acknowledged)
    return acknowledged, read_out(disk)


def test_every_record_that_the_log_acknowledged_survives(durable: tuple[Kept, Kept]) -> None:
    acknowledged, found = durable
    assert sum(acknowledged.log.values()) >= 190
    assert {} == acknowledged.lost_of_log(found)


def test_every_row_that_the_spool_committed_survives(durable: tuple[Kept, Kept]) -> None:
    acknowledged, found = durable
    assert len(acknowledged.spool) == 2  # one epoch a boot
    assert {} == acknowledged.lost_of_spool(found)


def test_what_survives_is_what_was_written(durable: tuple[Kept, Kept]) -> None:
    assert 0 == durable[1].damaged


def test_a_source_resumes_exactly_behind_the_last_row_that_exists(durable: tuple[Kept, Kept]) -> None:
    """Rows and position are one transaction."""
    _, found = durable
    epoch, _, value = found.position.partition(":")
    assert int(value) == found.spool[epoch].end
    assert [(0, int(value))] == list(found.spool[epoch])


def test_without_synchronous_writes_the_log_loses_what_it_acknowledged(careless: tuple[Kept, Kept]) -> None:
    """The negative: if this kept everything, the claims above would prove nothing."""
    acknowledged, found = careless
    assert acknowledged.lost_of_log(found)


def test_without_synchronous_writes_the_spool_loses_what_it_committed(careless: tuple[Kept, Kept]) -> None:
    acknowledged, found = careless
    assert acknowledged.lost_of_spool(found)
