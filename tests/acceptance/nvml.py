"""Issue 5, checkpoint 1: GPUs through the real binding: rows, documents and events, and every state of a GPU its own.

The library is ours, compiled from C and driven from here: eight H100. On a machine with a GPU the same collector is
compared with `nvidia-smi` (`tests/collectors/nvml/test_this_machine.py`).
Requirements: R000-4, R001-1 to 3, R001-13, R001-16.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.acceptance.stage import Muster, check, main, stage, until
from tests.fakes.nvml import FakeNvml, MigInstance, Process

CONFIG: Final = """
[agent]
only = ["nvml"]
level = "detailed"
describe_every_seconds = 2
[collectors.nvml]
library = "{library}"
interval_seconds = 0.5
timeout_seconds = 2
health_every_seconds = 1
links_every_seconds = 1
"""


def script(folder: Path) -> None:
    """Show eight GPUs, what becomes of each, and the ledger's view of them."""
    with FakeNvml.build(folder) as fake, stage(folder / "up", CONFIG.format(library=fake.library)) as muster:
        muster.start("up", "--quiet")
        muster.ready()
        readings(muster, fake)
        described(muster, fake)
        health(muster, fake)
        partitioned(muster, fake)
        used(muster, fake)
        lost_and_back(muster, fake)
        harms_only_itself(muster, fake)
        reloaded(muster, fake)
        check(muster.balance(wait=30)["closed"], "the balance closes")


def name_of(fake: FakeNvml, slot: int) -> str:
    """Give the device's name of the GPU in a slot."""
    return f"gpu:{fake.gpus[slot].uuid}"


def row_of(muster: Muster, device: str, field: str, wanted: Callable[[Any], bool]) -> dict[str, Any]:
    """Wait for a row of a GPU in which a field is as wanted."""

    def find() -> dict[str, Any] | None:
        rows = muster.rows("gpu", "--where", f'device="{device}"', "--limit", "50")
        return next((row for row in rows if row.get(field) is not None and wanted(row[field])), None)

    return until(f"{field} of {device}", find)


def event_of(muster: Muster, kind: str, device: str = "") -> dict[str, Any]:
    """Wait for an event."""

    def find() -> dict[str, Any] | None:
        events = muster.rows("event", "--limit", "1000")
        return next((one for one in events if one["type"] == kind and device in ("", one["device"])), None)

    return until(f"{kind} {device}", find)


def gpus(muster: Muster, kind: str = "gpu") -> list[dict[str, Any]]:
    """Give the devices of a kind that are in the ledger."""
    return [one for one in muster.ask("devices", "--all") if one["kind"] == kind]


def readings(muster: Muster, fake: FakeNvml) -> None:
    """What the library says is what is stored, in base units."""
    with fake.change():
        fake.gpus[2].set_power(412_345)
        fake.gpus[2].temperature = 71
        fake.gpus[2].utilization = 93
        fake.gpus[2].memory_used = 12_345_678_976
    row = row_of(muster, name_of(fake, 2), "power_watts", lambda watts: watts == 412.345)
    check(row["power_watts"] == 412.345, "milliwatts of the library are watts in the store: 412.345 W")
    row_of(muster, name_of(fake, 2), "temperature_celsius", lambda degrees: degrees == 71.0)
    row = row_of(muster, name_of(fake, 2), "utilization_ratio", lambda ratio: ratio == 0.93)
    check(row["memory_used_bytes"] == 12_345_678_976, "percent are ratios, and bytes are bytes: 0.93, 12,345,678,976")
    named = {row["device"] for row in muster.rows("gpu", "--limit", "200")}
    check(named == {name_of(fake, slot) for slot in range(8)}, "all eight GPUs are rows, each under its own name")
    fake.gpus[5].set("fan.0.speed", None)
    fake.gpus[5].set("temperature.memory", None)
    rows = muster.rows("gpu", "--where", f'device="{name_of(fake, 5)}"', "--limit", "500")
    check(all(row.get("fan_speed_ratio") != 0 for row in rows), "a GPU without a fan has no speed: absent is not zero")


def described(muster: Muster, fake: FakeNvml) -> None:
    """Each GPU is one device with capabilities, types and units."""
    found = until("eight GPUs in the ledger", lambda: all_ if len(all_ := gpus(muster)) == 8 else None)
    one = next(device for device in found if device["part"]["uuid"] == fake.gpus[1].uuid)
    told = one["capabilities"]
    check(
        (one["part"]["serial"], told["memory_bytes"]) == (str(fake.gpus[1].serial), fake.gpus[1].memory_total),
        f"a GPU is described: {one['part']['model']}, {told['memory_bytes']} bytes, serial {one['part']['serial']}",
    )
    check(told["mig_profiles"], f"with the MIG profiles that it could have: {', '.join(told['mig_profiles'])[:60]} ...")


def health(muster: Muster, fake: FakeNvml) -> None:
    """What goes wrong is an event, once, with the GPU that it is about."""
    fake.xid(4, 48)
    event = event_of(muster, "nvml.xid", name_of(fake, 4))
    check("Xid 48" in event["message"], f"an Xid is an event: {event['message']}")
    fake.gpus[4].set_ecc(location="dram", uncorrected=True, volatile=3, aggregate=3)
    event = event_of(muster, "nvml.ecc.uncorrected", name_of(fake, 4))
    check(event["message"] != "", f"so are memory errors beyond correction: {event['message']}")
    fake.gpus[6].set_link(3, state=0)
    event = event_of(muster, "nvml.nvlink.down", name_of(fake, 6))
    check("3" in event["message"], f"and a link that went down: {event['message']}")
    fake.gpus[6].remap_pending = True
    event_of(muster, "nvml.row_remap.pending", name_of(fake, 6))
    check(len([1 for one in muster.rows("event") if one["type"] == "nvml.nvlink.down"]) == 1, "each is told once")


def partitioned(muster: Muster, fake: FakeNvml) -> None:
    """MIG partitions are devices of their own, under their GPU."""
    fake.set_mig(0, [MigInstance("3g.40gb", 0), MigInstance("1g.10gb", 4)])
    found = until(
        "two partitions in the ledger", lambda: all_ if len(all_ := gpus(muster, "gpu-partition")) == 2 else None
    )
    profiles = sorted(one["capabilities"]["mig_profile"] for one in found)
    check(profiles == ["1g.10gb", "3g.40gb"], f"instances are devices: {', '.join(profiles)}")
    event_of(muster, "nvml.mig.changed", name_of(fake, 0))


def used(muster: Muster, fake: FakeNvml) -> None:
    """A program that uses a GPU is seen, and makes it foreign where nobody was given it."""
    fake.gpus[7].set_processes("compute", [Process(4321, 1 << 30)])
    event_of(muster, "nvml.gpu.taken", name_of(fake, 7))

    def find() -> dict[str, Any] | None:
        return next((one for one in gpus(muster) if one["lifecycle"] == "foreign"), None)

    device = until("the GPU as in use by others", find)
    check(device["part"]["uuid"] == fake.gpus[7].uuid, "a GPU that a program uses, though nobody was given it: foreign")


def lost_and_back(muster: Muster, fake: FakeNvml) -> None:
    """A lost GPU is absent, with its last identity, and the seven others go on."""
    fake.lose(3)
    event = event_of(muster, "nvml.gpu.lost", name_of(fake, 3))
    check(event["device"] == name_of(fake, 3), f"a GPU that fell off the bus: {event['message']}")

    def reach() -> str:
        return str(next(one for one in gpus(muster) if one["part"]["uuid"] == fake.gpus[3].uuid)["reach"])

    until("the lost GPU to be absent", lambda: reach() == "absent")
    check(True, "the ledger keeps it as absent, under its identity")
    fake.restore(3)
    event_of(muster, "nvml.gpu.back", name_of(fake, 3))
    until("it to be there again", lambda: reach() == "live")
    check(True, "and as live once it answers again")


def collector(muster: Muster) -> dict[str, Any]:
    """Give the state of the collector, as `muster collectors` shows it."""
    found: list[dict[str, Any]] = muster.ask("collectors")["nodes"]
    return next(one for one in found if one["name"] == "nvml")


def harms_only_itself(muster: Muster, fake: FakeNvml) -> None:
    """A call that sleeps for ever costs one helper; the GPU that did it is left alone."""
    fake.sleeps("nvmlDeviceGetUtilizationRates", gpu=1)
    event = event_of(muster, "nvml.gpu.hung", name_of(fake, 1))
    check(event["device"] == name_of(fake, 1), f"a call that never returns: {event['message']}")
    fake.gpus[2].set_power(99_000)
    row_of(muster, name_of(fake, 2), "power_watts", lambda watts: watts == 99.0)
    told = until(
        "the time-out to be counted", lambda: one if "hung" in (one := collector(muster))["last_error"] else None
    )
    check(told["state"] in ("running", "backing_off"), f"the others go on, and it is counted: {told['last_error']}")
    fake.heal()


def reloaded(muster: Muster, fake: FakeNvml) -> None:
    """A driver that is reloaded under the collector is gone on with."""
    fake.reload_driver("575.51.03")
    event_of(muster, "nvml.driver.gone")
    event_of(muster, "nvml.driver.loaded")

    def find() -> bool:
        told = [one["capabilities"].get("driver_version") for one in gpus(muster)]
        return told.count("575.51.03") >= 7  # the one that hung may still be left alone

    until("the new driver's version", find)
    check(True, "the driver was reloaded under it: new version in the ledger, and rows go on")


if __name__ == "__main__":
    sys.exit(main(script))
