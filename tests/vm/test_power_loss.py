"""Acknowledged means durable: against the loss of power, not only of a process (promise 1, R001-15).

In a guest, the embedded log and the agent's spool are written, and every acknowledgement goes out on the serial line.
The emulator is killed in the middle, the same disk is booted again, and whatever was acknowledged must be there. The
same with `synchronous=OFF`, beside it on another disk, must lose some of both, or all this would prove nothing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import pytest

from schemas.intervals import Intervals
from tests.vm.machine import Machine, make_disk

pytestmark = [pytest.mark.vm, pytest.mark.slow(80)]


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


class Way(NamedTuple):
    """How log and spool are written, on a disk of their own."""

    name: str
    synchronous: str
    folder: str
    """Where the guest has the disk."""

    @property
    def writing(self) -> str:
        """The command that writes both."""
        log = f"python3.11 -m tests.contract.log_appender tests.vm.guest.logs:{self.name} {self.folder}/log.sqlite"
        spool = f"python3.11 -m tests.vm.guest.spools write {self.folder}/spool.sqlite {self.synchronous}"
        return f"{{ {log} & {spool} & }} | {_NAMED.format(self.name)}"

    @property
    def reading(self) -> str:
        """The command that reads both out."""
        log = f"python3.11 -m tests.vm.guest.logs {self.folder}/log.sqlite"
        spool = f"python3.11 -m tests.vm.guest.spools read {self.folder}/spool.sqlite"
        return f"{{ opened=; {log} && opened=1; {spool} && [ $opened ] && echo whole; }} | {_NAMED.format(self.name)}"


_NAMED: Final = "busybox awk '{{ print \"{} \" $0; fflush() }}'"
DURABLE: Final = Way("durable", "FULL", "/disk")
CARELESS: Final = Way("careless", "OFF", "/careless")
_SECOND: Final = "busybox mkdir /careless; busybox mount -t ext4 /dev/vdb /careless; "


def write_until_power_loss(disks: Sequence[Path], lines: Mapping[Way, int], kept: Mapping[str, Kept]) -> None:
    """Write logs and spools in a guest until each was acknowledged so many times, then cut the power."""
    heard: dict[str, Counter[str]] = {way.name: Counter() for way in lines}
    command = _SECOND * (len(disks) - 1) + " & ".join(way.writing for way in lines) + " & wait"
    with Machine(command, disks) as machine:
        for line in machine.lines(240):
            name, _, what = line.partition(" ")
            heard[name][kept[name].take(what)] += 1
            if all(min(heard[way.name]["log"], heard[way.name]["spool"]) >= least for way, least in lines.items()):
                machine.kill()  # what it says until it is gone is acknowledged as well
        assert machine.exit_status is None, machine.console


def read_out(disks: Sequence[Path]) -> dict[str, Kept]:
    """Boot afresh and give what is on the disks."""
    found = {way.name: Kept() for way in (DURABLE, CARELESS)}
    whole = []
    with Machine(f"{_SECOND}{DURABLE.reading}; {CARELESS.reading}", disks) as machine:
        for line in machine.lines():
            name, _, what = line.partition(" ")
            if what == "whole":
                whole.append(name)
            else:
                found[name].take(what)
        assert DURABLE.name in whole, machine.console  # a careless one may not even be opened any more
    return found


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Kept, Kept]]:
    """What was acknowledged before the power was cut, twice for the durable ones, and what was found afterwards."""
    disks = [make_disk(tmp_path_factory.mktemp(name) / "disk.img") for name in ("durable", "careless")]
    acknowledged = {way.name: Kept() for way in (DURABLE, CARELESS)}
    write_until_power_loss(disks[:1], {DURABLE: 40}, acknowledged)
    write_until_power_loss(disks, {DURABLE: 150, CARELESS: 60}, acknowledged)
    found = read_out(disks)
    return {name: (acknowledged[name], found[name]) for name in found}


@pytest.fixture
def durable(told: dict[str, tuple[Kept, Kept]]) -> tuple[Kept, Kept]:
    return told["durable"]


@pytest.fixture
def careless(told: dict[str, tuple[Kept, Kept]]) -> tuple[Kept, Kept]:
    return told["careless"]


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
