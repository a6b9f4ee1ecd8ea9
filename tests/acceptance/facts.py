"""Facts of the inventory: every PCI function of a recorded, a made and the real machine, from the bus to the ledger.

Requirements: R004-1, R004-9, R004-10, R002-1, R002-5, R000-1.
"""

import json
import sys
import threading
from pathlib import Path
from typing import Any

from collectors.pci import PciConfig
from schemas.device import Document
from schemas.rows import Event, Item
from tests.acceptance.stage import Muster, check, main, say, stage, until
from tests.collectors.pci.help import collector_of, described
from tests.collectors.pci.made import DRIVE, GPUS, PORT, VFS, process, server, unplug
from tests.collectors.pci.ttar import unpack

CASE = Path(__file__).parents[1] / "cases/pci/workstation"
DEVICES = Path("/sys/bus/pci/devices")
CONFIG = """
[agent]
describe_every_seconds = 1
[collectors.pci]
interval_seconds = 1
links_every_seconds = 1
"""


def script(folder: Path) -> None:
    """Show what is told of each machine, from the smallest to the one that runs this."""
    recorded(folder / "recorded")
    made(folder / "made")
    unplugged(folder / "unplugged")
    real(folder)


def recorded(root: Path) -> None:
    """A machine out of another project's recordings."""
    unpack(CASE / "root.ttar", root)
    found = described(root)
    listed = sorted(path.name for path in (root / "sys/bus/pci/devices").iterdir())
    check(listed == sorted(found), f"a recorded workstation: one document for each of {len(listed)} functions")
    drive = found["0000:01:00.0"]
    told = f"{drive.part.model} {drive.part.serial} at {drive.slot.path}"
    check(told == "CT2000P3SSD8 2328E6EDD8A7 at pci0000:00/02.1/00.0", f"its drive is told by part and slot: {told}")


def made(root: Path) -> None:
    """Groups, switches, virtual functions, places: what no recording that may be shipped has."""
    found = described(server(root))
    gpu = found[GPUS[0]]
    check(gpu.capabilities["driver"] == "vfio-pci", "a GPU that no driver of its own has is in the inventory")
    members = _texts(gpu, "iommu_group_members")
    bridges = set(_texts(gpu, "iommu_group_bridges"))
    check(
        set(GPUS) <= set(members) - bridges and len(bridges) == 3,
        f"two GPUs behind a switch share group {gpu.capabilities['iommu_group']}, with {len(bridges)} bridges in it",
    )
    check(gpu.slot.location == "CPU1 SLOT4", f"what is printed on the machine is told: {gpu.slot.location}")
    parents = {(found[address].parent, found[address].capabilities["vf_index"]) for address in VFS}
    check(parents == {(f"pci:{PORT}", index) for index in range(4)}, "four virtual functions name parent and index")
    needs = {
        address: one.capabilities["host_needs"] for address, one in found.items() if "host_needs" in one.capabilities
    }
    check(needs[DRIVE] == ["mount:/"], f"what the host needs is told: {needs}")
    process(root, 900, f"/dev/vfio/{gpu.capabilities['iommu_group']}")
    users = described(root)[GPUS[0]].capabilities["in_use_by"]
    check(users == ["qemu-system-x86/900"], f"who holds a group open is told: {users}")


def unplugged(root: Path) -> None:
    """A drive is pulled: one event with who it was, and its document is gone; nothing else changed."""
    collector = collector_of(
        server(root), config=PciConfig(rescan_every_seconds=1), clock=iter(range(1 << 30)).__next__
    )
    before = {one.device: one for one in collector.describe()}
    told: list[Item] = []
    stopping, heard = threading.Event(), threading.Event()

    def emit(items: Any) -> None:
        told.extend(items)
        heard.set()

    thread = threading.Thread(target=collector.watch, args=(emit, stopping))
    thread.start()
    unplug(root, DRIVE)
    heard.wait(10)
    stopping.set()
    thread.join(10)
    events = [(one.type, one.detail.get("serial")) for one in told if isinstance(one, Event)]
    check(
        events == [("device.removed", "S64HNE0T")], f"a pulled drive gives one event with its serial number: {events}"
    )
    after = {one.device: one for one in collector.describe()}
    changed = {name for name in before if after.get(name) != before[name]}
    check(changed == {f"pci:{DRIVE}"}, "its document is gone, and no other changed")


def real(folder: Path) -> None:
    """The machine that runs this, through agent, ingest, log and store."""
    if not DEVICES.is_dir():
        say("this machine has no PCI bus: nothing to show on it")
        return
    addresses = sorted(path.name for path in DEVICES.iterdir())
    with stage(folder / "up", CONFIG) as muster:
        muster.start("up", "--quiet")
        muster.ready()
        found = until("a document of each function", lambda: _complete(muster, addresses), 60)
        check(True, f"this machine: each of {len(addresses)} functions has a document in the store")
        for address, rows in found.items():
            vendor = (DEVICES / address / "vendor").read_text().strip()
            if f"0x{json.loads(rows[0])['capabilities']['pci_vendor_id']}" != vendor:
                check(False, f"{address} is what sysfs says")
        runs = _runs(muster)
        until("five more descriptions", lambda: _runs(muster) >= runs + 5, 60)
        counts = {len(rows) for rows in _documents(muster).values()}
        check(counts == {1}, "described again and again, and sent once: nothing had changed")
        ledger(muster, addresses)
        check(muster.balance(wait=20)["closed"], "the balance closes")


def ledger(muster: Muster, addresses: list[str]) -> None:
    """The same machine in the ledger: each function once, as sysfs has it, with a history; and nothing is free."""
    listed = until("each function in the ledger", lambda: _devices(muster, addresses), 60)
    check(True, f"muster devices --all lists each of {len(addresses)} functions once")
    for address, one in listed.items():
        told, group = one["capabilities"], DEVICES / address / "iommu_group"
        expected = int(group.resolve().name) if group.exists() else None
        if f"0x{told['pci_device_id']}" != (DEVICES / address / "device").read_text().strip():
            check(False, f"{address} in the ledger is what sysfs says")
        if told.get("iommu_group") != expected:
            check(False, f"{address} is in IOMMU group {expected}, not {told.get('iommu_group')}")
    check(True, "making and IOMMU group of each are those of sysfs")
    states = sorted({one["lifecycle"] for one in listed.values()})
    check("free" not in states, f"nobody vouched for any: they are {', '.join(states)}")
    bridges = {one["id"] for one in listed.values() if one["capabilities"].get("bridge")}
    given = {one["id"] for one in muster.ask("devices")}
    check(not bridges & given, "bridges are nobody's to be given: 'muster devices' leaves them out")
    chosen = next(iter(listed.values()))
    shown = muster.ask("devices", chosen["id"])
    stays = shown["history"]["sights"]  # another one begins where a second collector tells who it is
    here = [one["until"] for one in stays] == [*(one["since"] for one in stays[1:]), None]
    check(
        here and {(one["device"], one["path"]) for one in stays} == {(chosen["id"], stays[0]["path"])},
        f"{chosen['id']} has been in its slot since ledger {stays[0]['since']}, and is there",
    )
    kinds = {one["kind"] for one in muster.ask("devices", "--all", "--kind", chosen["kind"])}
    check(kinds == {chosen["kind"]}, f"--kind {chosen['kind']} lists no other")


def _devices(muster: Muster, addresses: list[str]) -> dict[str, Any] | None:
    """Give the ledger's PCI functions by address, once all are there; each address but once."""
    found = [one for one in muster.ask("devices", "--all") if one["slot"].get("address")]
    by_address = {one["slot"]["address"]: one for one in found}
    return by_address if sorted(one["slot"]["address"] for one in found) == addresses else None


def _documents(muster: Muster) -> dict[str, list[str]]:
    """Give the documents that the store has of this machine's functions, by address."""
    found: dict[str, list[str]] = {}
    for row in muster.rows("capability", "document", "--limit", "5000"):
        if row["document"] and row["device"].startswith("pci:"):
            found.setdefault(row["device"].removeprefix("pci:"), []).append(row["document"])
    return found


def _complete(muster: Muster, addresses: list[str]) -> dict[str, list[str]] | None:
    found = _documents(muster)
    return found if sorted(found) == addresses else None


def _runs(muster: Muster) -> int:
    """Give how often the collector has been run: it is described as often."""
    told = muster.ask("collectors")["nodes"]
    return next(int(one["runs"]) for one in told if one["name"] == "pci")


def _texts(document: Document, word: str) -> list[str]:
    value = document.capabilities.get(word, [])
    return value if isinstance(value, list) else []


if __name__ == "__main__":
    sys.exit(main(script))
