"""The collector `pci` in the guest: what it says of the bus, and of functions that come and go while it watches.

`python3.11 -m tests.vm.guest.pci_bus` prints lines of JSON: `documents` (by PCI address) at the start, after two
virtual functions were made, after a drive was pulled (by who reads the line `pull`), while a program holds the vfio
group of another drive, and after that; `event` as each comes.
"""

import json
import logging
import queue
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from collectors.contract import Context
from collectors.pci import PciCollector, PciConfig
from schemas.rows import Event

SECONDS = 40.0
HELD = "BEHIND"
"""The serial number of the drive whose group is opened."""


def main() -> None:
    """Tell it step by step."""
    config = PciConfig(rescan_every_seconds=3600)  # nothing but the kernel's word makes it look
    collector = PciCollector(config, Context(subject="guest", log=logging.getLogger("pci")))
    collector.start()
    heard: queue.SimpleQueue[Event] = queue.SimpleQueue()
    stopping = threading.Event()

    def emit(items: Iterable[Any]) -> None:
        for item in items:
            say("event", [item.type, item.device, dict(item.detail)])
            heard.put(item)

    thread = threading.Thread(target=collector.watch, args=(emit, stopping))
    thread.start()
    documents = describe(collector)
    (port,) = [address for address, one in documents.items() if one["capabilities"].get("sriov_total_vfs")]
    (Path("/sys/bus/pci/devices") / port / "sriov_numvfs").write_text("2\n")
    wait(heard, "device.added", 2)
    settle(collector)
    describe(collector)
    say("pull", True)
    wait(heard, "device.removed", 1)
    left = describe(collector)
    stopping.set()
    thread.join(5)
    (held,) = [address for address, one in left.items() if one["part"].get("serial") == HELD]
    group = give_to_vfio(held)
    with Path(f"/dev/vfio/{group}").open("rb+", buffering=0):
        describe(collector)
    describe(collector)
    collector.stop()


def give_to_vfio(address: str) -> int:
    """Take a function from its driver and bind it to vfio-pci; give its IOMMU group."""
    function = Path("/sys/bus/pci/devices") / address
    (function / "driver_override").write_text("vfio-pci\n")
    (function / "driver/unbind").write_text(f"{address}\n")
    Path("/sys/bus/pci/drivers_probe").write_text(f"{address}\n")
    return int((function / "iommu_group").readlink().name)


def describe(collector: PciCollector) -> dict[str, Any]:
    """Say all documents, and give them."""
    documents = {one.slot.address: msgspec.to_builtins(one) for one in collector.describe()}
    say("documents", documents)
    return documents


def settle(collector: PciCollector) -> None:
    """Wait until drivers have taken what is new, or will not: nothing changes for three seconds."""
    until = time.monotonic() + SECONDS
    same, before = 0, None
    while same < 3 and time.monotonic() < until:
        time.sleep(1.0)
        now = [msgspec.to_builtins(one) for one in collector.describe()]
        same, before = (same + 1 if now == before else 0), now


def wait(heard: "queue.SimpleQueue[Event]", kind: str, count: int) -> None:
    """Wait for so many events of a kind."""
    while count:
        count -= heard.get(timeout=SECONDS).type == kind


def say(word: str, what: object) -> None:
    """Print one line."""
    sys.stdout.write(json.dumps({word: what}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
