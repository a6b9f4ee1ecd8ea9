"""Acknowledged means durable: against the loss of power, not only of a process (promise 1, R001-15).

A writer in a guest says on the serial line what was acknowledged. The emulator is killed in the middle, the same disk
is booted again, and every acknowledged record must be there. The same with `synchronous=OFF` must lose some, or the
test would prove nothing.
"""

from pathlib import Path

import pytest

from tests.vm.machine import Machine, make_disk

pytestmark = [pytest.mark.vm, pytest.mark.slow]

Acknowledged = dict[tuple[str, int], int]
"""By topic and partition, the end of what was acknowledged."""


def append_until_power_loss(disk: Path, opener: str, lines: int) -> Acknowledged:
    """Append in a guest until it has acknowledged so many calls, then cut the power."""
    command = f"python3.11 -m tests.contract.log_appender tests.vm.guest.logs:{opener} /disk/log.sqlite"
    ends: Acknowledged = {}
    with Machine(command, [disk]) as machine:
        for number, line in enumerate(machine.lines(), start=1):
            topic, partition, _, end = line.split()
            ends[topic, int(partition)] = int(end)
            if number == lines:
                machine.kill()  # what it says until it is gone is acknowledged as well
        assert machine.exit_status is None
    assert sum(ends.values()) >= lines
    return ends


def read_out(disk: Path) -> tuple[Acknowledged, int]:
    """Give the end of each partition after a fresh boot, and how many records are not what was written."""
    ends: Acknowledged = {}
    wrong = 0
    with Machine("python3.11 -m tests.vm.guest.logs /disk/log.sqlite", [disk]) as machine:
        for line in machine.lines():
            topic, partition, begin, end, bad = line.split()
            assert int(begin) == 0
            ends[topic, int(partition)] = int(end)
            wrong += int(bad)
        assert machine.exit_status == 0, machine.console
    return ends, wrong


def lost(acknowledged: Acknowledged, found: Acknowledged) -> dict[tuple[str, int], int]:
    """Give by partition how many acknowledged records are gone."""
    missing = {place: end - found.get(place, 0) for place, end in acknowledged.items()}
    return {place: count for place, count in missing.items() if count > 0}


def test_every_acknowledged_record_survives_power_loss_again_and_again(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk.img")
    acknowledged: Acknowledged = {}
    for lines in (60, 300):
        acknowledged |= append_until_power_loss(disk, "durable", lines)
    found, wrong = read_out(disk)
    assert {} == lost(acknowledged, found)
    assert 0 == wrong


def test_without_synchronous_writes_acknowledged_records_are_lost(tmp_path: Path) -> None:
    """The negative: if this kept everything, the test above would prove nothing."""
    disk = make_disk(tmp_path / "disk.img")
    acknowledged = append_until_power_loss(disk, "careless", 100)
    found, _ = read_out(disk)
    assert lost(acknowledged, found)
