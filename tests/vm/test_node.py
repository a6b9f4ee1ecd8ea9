"""Errors that are injected into a running node, and devices that come and go there, as the aggregator is told of them.

One boot for all: the emulator lets the port report PCIe errors, the processor a machine check, takes a drive out of its
slot and puts it into another, lets one warn, pulls a cable, plugs in a card. Requirements: R001-16, R004-9, R004-1,
R000-4, R000-6, R001-13.
"""

import json
import sys
from collections.abc import Callable
from typing import Any, Final

import pytest

from tests.acceptance.stage import FailedError, Muster, stage, until
from tests.vm.node import NAME, ROOT_PORT, SEED_BYTES, Node, node

pytestmark = [pytest.mark.vm, pytest.mark.slow(100)]

CARD_MAC: Final = "02:11:22:33:44:66"
SECONDS: Final = 120.0


class Told:
    """What the aggregator knows of the node, and what the kernel says there."""

    def __init__(self, muster: Muster) -> None:
        self.muster = muster
        self.events: list[dict[str, Any]] = []
        self.before: dict[str, Any] = {}
        self.pulled: dict[str, Any] = {}
        self.after: dict[str, Any] = {}
        """Devices by kind and serial number or MAC address."""
        self.seen: dict[str, tuple[str, str]] = {}
        self.counters: dict[str, str] = {}
        """What the kernel counted of the port's errors, by the name of its file."""
        self.row: dict[str, Any] = {}
        """What the aggregator has of them."""
        self.health: dict[str, Any] = {}
        """A row of the seed drive."""

    def of(self, kind: str, **detail: object) -> list[dict[str, Any]]:
        """Give the events of a type whose detail has this."""
        return [one for one in self.events if one["type"] == kind and detail.items() <= one["detail"].items()]

    def wait(self, kind: str, **detail: object) -> None:
        """Wait for an event."""

        def come() -> bool:
            rows = self.muster.rows("event", "--since", "1h")
            self.events = [{**row, "detail": json.loads(row["detail"] or "{}")} for row in rows]
            return bool(self.of(kind, **detail))

        until(f"{kind} {detail}", come, SECONDS)

    def counted(self) -> dict[str, Any] | None:
        """Give the last row of the root port, once it has an error."""
        (row,) = [one for one in self.muster.rows("pci", "--last") if ROOT_PORT in str(one["device"])]
        return row if row["corrected_errors_total"] else None

    def healthy(self) -> dict[str, Any] | None:
        """Give a row of the seed drive, once there is one with all of its health."""
        rows = self.muster.rows("nvme", "--where", "device=nvme:SEED")
        return next((row for row in reversed(rows) if row["critical_warning"] is not None), None)

    def devices(self, ready: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until devices are so, and give them."""

        def look() -> dict[str, Any] | None:
            found = {
                f"{one['kind']} {one['part'].get('serial') or one['capabilities'].get('mac', '')}": one
                for one in self.muster.ask("devices", "--all")
            }
            self.seen = {name: (one["reach"], one["slot"].get("path")) for name, one in found.items()}
            return found if ready(found) else None

        return until("devices", look, SECONDS)


def live(name: str) -> Callable[[dict[str, Any]], bool]:
    """Tell whether a device is there and described by all who should."""
    return lambda found: name in found and found[name]["reach"] == "live" and "driver" in found[name]["capabilities"]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("node")
    with stage(folder / "up") as muster:
        muster.start("aggregator")
        muster.ready()
        token = muster.ask("token", "enrol", "--subject", NAME)["secret"]
        with node(folder / "node", muster.port, token) as machine:
            found = Told(muster)
            found.before = found.devices(
                lambda now: live("nvme SMALL")(now) and live("nvme SEED")(now) and "nvme-namespace SEED/1" in now
            )
            try:
                break_it(machine, found)
            except FailedError:
                sys.stderr.write(f"{[one['message'] for one in found.events]}\n{found.seen}\n{machine.console}")
                raise
            assert machine.stop() == 0
    return found


def break_it(machine: Node, told: Told) -> None:
    """Do all that happens to the node."""
    machine.run("ip link set eth1 up")
    told.health = until("a row of the seed drive", told.healthy, SECONDS)
    machine.warn("SEED", 4)
    machine.pull("SMALL")
    machine.pcie_error("rp1", 1 << 6, corrected=True)
    machine.machine_check()
    machine.out_of_memory()
    told.wait("nvme.drive.gone", serial="SMALL")
    told.wait("device.removed", serial="SMALL")
    told.pulled = told.devices(lambda now: now["nvme SMALL"]["reach"] == "absent")
    machine.plug_drive("SMALL", "rp3")
    machine.plug_port("card", "rp4", CARD_MAC)
    machine.link("port", up=False)
    for kind, detail in (
        ("nvme.critical_warning", {}),
        ("kernel.pcie.error", {"address": ROOT_PORT}),
        ("kernel.machine_check", {}),
        ("kernel.oom_kill", {}),
        ("kernel.link.down", {}),
        ("nvme.drive.new", {"serial": "SMALL"}),
        ("sriov.port.new", {}),
    ):
        told.wait(kind, **detail)
    told.after = told.devices(lambda now: live("nvme SMALL")(now) and f"nic {CARD_MAC}" in now)
    told.wait("device.added", address=told.after[f"nic {CARD_MAC}"]["slot"]["address"])
    folder = f"/sys/bus/pci/devices/{ROOT_PORT}"
    told.counters = {name: machine.run(f"cat {folder}/aer_dev_{name}") for name in ("correctable", "nonfatal", "fatal")}
    told.row = until("the port's count", told.counted, SECONDS)


def test_corrected_error_of_the_bus_is_an_event_with_the_kernels_name(told: Told) -> None:
    assert [("corrected", "BadTLP")] == [
        (one["detail"]["kind"], one["detail"]["errors"]) for one in told.of("kernel.pcie.error", address=ROOT_PORT)
    ]


def test_counters_of_the_bus_are_what_the_kernel_counts(told: Told) -> None:
    row = told.row
    for name, field in (("correctable", "corrected"), ("nonfatal", "nonfatal"), ("fatal", "fatal")):
        (total,) = [line.split()[1] for line in told.counters[name].splitlines() if line.startswith("TOTAL")]
        assert int(total) == row[f"{field}_errors_total"]
    assert 1 == row["corrected_errors_total"]


def test_machine_check_is_an_event_with_bank_and_status(told: Told) -> None:
    (one,) = told.of("kernel.machine_check")
    assert ("9", "9c00000000000090") == (str(one["detail"]["bank"]), str(one["detail"]["status"]).removeprefix("0x"))


def test_program_that_the_kernel_ends_for_its_memory_is_named(told: Told) -> None:
    assert "python3.11" in [one["detail"].get("process") for one in told.of("kernel.oom_kill")]


def test_rows_of_a_drive_are_what_its_controller_answers(told: Told) -> None:
    assert ("nvme:SEED", 50.0, 0) == tuple(
        told.health[name] for name in ("device", "temperature_celsius", "critical_warning")
    )


def test_what_the_bus_and_the_drive_say_of_it_is_one_device(told: Told) -> None:
    words = told.before["nvme SEED"]["capabilities"]
    assert ("010802", "1.4") == (words["pci_class"], words["nvme_version"])
    space = told.before["nvme-namespace SEED/1"]["capabilities"]
    assert (937_684_566, 4096, "4096+0", SEED_BYTES) == tuple(
        space[name] for name in ("sectors", "sector_bytes", "lba_format", "capacity_bytes")
    )


def test_warning_of_a_drive_is_an_event_that_says_what_of(told: Told) -> None:
    (one,) = told.of("nvme.critical_warning")
    assert "unreliable" in one["message"]
    assert "SEED" in one["message"]


def test_drive_that_is_pulled_is_absent_and_keeps_what_it_is(told: Told) -> None:
    before, after = told.before["nvme SMALL"], told.pulled["nvme SMALL"]
    assert ("live", "absent") == (before["reach"], after["reach"])
    assert (before["id"], before["slot"]["path"]) == (after["id"], after["slot"]["path"])
    assert ["SMALL"] == [
        one["detail"]["serial"] for one in told.of("device.removed") if one["detail"]["kind"] == "nvme"
    ]


def test_drive_in_another_slot_is_the_same_part_there(told: Told) -> None:
    before, after = told.before["nvme SMALL"], told.after["nvme SMALL"]
    assert before["part"] == after["part"]
    assert before["slot"]["path"] != after["slot"]["path"]


def test_card_that_is_plugged_in_is_told_and_described(told: Told) -> None:
    card = told.after[f"nic {CARD_MAC}"]
    assert f"nic {CARD_MAC}" not in told.before
    assert ("live", "virtio-net") == (card["reach"], card["capabilities"]["usable_as"][-1])
    assert card["slot"]["address"] in [one["detail"]["address"] for one in told.of("device.added")]


def test_card_that_is_plugged_in_is_one_device(told: Told) -> None:
    assert "igb" == told.after[f"nic {CARD_MAC}"]["capabilities"]["driver"]


def test_cable_that_is_pulled_is_told_by_the_kernels_log(told: Told) -> None:
    assert [one["detail"].get("interface") for one in told.of("kernel.link.down")]
