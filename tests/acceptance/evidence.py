"""Issue 5, checkpoint 7: drives and virtual functions are claimed, used, given back, cleaned, and prove it themselves.

The machine is a virtual one, with the kernel's own drivers for NVMe and Intel's igb, an IOMMU, and vfio. Its hook is
the one that operators are given (`docs/hooks/device-hook`). What GPUs prove: `tests/collectors/nvml`.
Requirements: R003-2, R004-2, R000-5.
"""

import shutil
import sys
from pathlib import Path
from typing import Any, Final

from tests.acceptance.stage import Muster, check, main, say, stage, until
from tests.vm.node import HOOK, NAME, Node, node

SECRET: Final = "THE-TENANTS-OWN-WORDS"
PLACE: Final = "/run/device-hook"
LIE: Final = f"""#!/bin/sh
case $MUSTER_STEP/$MUSTER_KIND in
clean/nvme) exit 0 ;;
clean/nvme-namespace) exec nvme format /dev/$(ls /sys/bus/pci/devices/$MUSTER_PARENT/nvme) -n 1 --ses=0 --force ;;
clean/vf) exec ip link set eth1 vf 0 vlan 77 ;;
esac
exec {HOOK}
"""
SECONDS: Final = 240.0
"""To wait for what takes the emulated machine a while."""


class Scene:
    """The node, and the three devices that all is about."""

    def __init__(self, muster: Muster, machine: Node, folder: Path) -> None:
        self.muster = muster
        self.node = machine
        self.folder = folder
        self.vf = self.drive = self.space = ""

    @property
    def all(self) -> list[str]:
        """A virtual function, a drive, a name space of another drive."""
        return [self.vf, self.drive, self.space]

    def devices(self) -> dict[str, dict[str, Any]]:
        """Give all devices by id."""
        return {one["id"]: one for one in self.muster.ask("devices", "--all")}

    def lifecycles(self, devices: dict[str, dict[str, Any]] | None = None) -> tuple[str, ...]:
        """Give what the three are."""
        devices = devices or self.devices()
        return tuple(devices[one]["lifecycle"] for one in self.all)

    def become(self, *wanted: str) -> None:
        """Wait until the three are this."""
        until(f"{wanted}", lambda: self.lifecycles() == wanted, SECONDS)

    def readbacks(self) -> tuple[dict[str, Any], ...]:
        """Give what was read of each after its last clean that proved something."""
        devices = self.devices()
        return tuple(devices[one]["evidence"]["readback"] for one in self.all)

    def disk_holds(self, serial: str, words: str) -> bool:
        """Tell whether a drive's medium has these words at its beginning, past the drive, its driver and the node."""
        with (self.folder / f"{serial}.img").open("rb") as file:
            return words.encode() in file.read(4096)

    def claimed(self, consumer: str) -> list[str]:
        """Claim all three, have them made ready, and give the claims."""
        passed = self.muster.ask("claims", "create", self.vf, self.drive, "--tenant", "blue", "--for", consumer)
        kept = self.muster.ask("claims", "create", self.space, "--tenant", "blue", "--for", consumer,
                               "--mode", "driver")  # fmt: skip
        for one in (passed, kept):
            self.muster.ask("claims", "provision", one["id"])
        self.become("assigned", "assigned", "assigned")
        return [passed["id"], kept["id"]]

    def released(self, claims: list[str]) -> None:
        """Give claims back."""
        for one in claims:
            self.muster.ask("claims", "release", one, "--yes")


def script(folder: Path) -> None:
    """A life of each kind of device, then lies, then others who take what is nobody's."""
    if not shutil.which("qemu-system-x86_64"):
        for _ in range(5):
            say("no QEMU here: nothing is shown")
        return
    with stage(folder / "up") as muster:
        muster.start("aggregator")
        muster.ready()
        token = muster.ask("token", "enrol", "--subject", NAME)["secret"]
        with node(folder / "node", muster.port, token, hook=PLACE, every=12) as machine:
            scene = Scene(muster, machine, folder / "node")
            try:
                sight(scene)
                life(scene)
                lies(scene)
                others(scene)
            except BaseException:
                sys.stderr.write(machine.run("tail -n 60 /tmp/agent.log", check=False))
                raise
            check(machine.stop() == 0, "the node's agent ends in order")


def sight(scene: Scene) -> None:
    """What is there, and that none of it is free unless it is cleaned."""
    scene.node.run(f"cp {HOOK} {PLACE} && chmod +x {PLACE}")
    scene.node.run("echo 1 > /sys/class/net/eth1/device/sriov_numvfs")
    for serial in ("SMALL", "KEPT"):
        write(scene.node, serial)
    check(all(scene.disk_holds(one, SECRET) for one in ("SMALL", "KEPT")), "two drives hold somebody's words")

    def found() -> bool:
        known = {(one["kind"], one["part"].get("serial", "")): one for one in scene.devices().values()}
        three = [known.get(key) for key in (("vf", ""), ("nvme", "SMALL"), ("nvme-namespace", "KEPT/1"))]
        if None in three or "vlan" not in three[0]["capabilities"] or "driver" not in three[1]["capabilities"]:  # type: ignore[index]
            return False
        scene.vf, scene.drive, scene.space = (str(one["id"]) for one in three if one)
        return all(one["reach"] == "live" for one in three if one)  # nobody cleans what is not known to be there

    until("the node's devices", found, SECONDS)
    check(scene.lifecycles() == ("dirty",) * 3, "a function, a drive and a name space: seen, and free to nobody")
    scene.muster.ask("clean", *scene.all)
    scene.become("free", "free", "free")
    function, drive, space = scene.readbacks()
    check(function["reset_seen"] and function["vlan"] == 0, "the function is free: the kernel saw its reset, no VLAN")
    check(
        (drive["formatted"], drive["namespaces"]) == ([1], [1]) and drive["part"].endswith(":SMALL"),
        "the drive is free: the kernel saw the format with erase of each of its name spaces, during the clean",
    )
    check(space["formatted"] == [1] and space["part"].endswith(":KEPT/1"), "the name space likewise")
    check(not any(scene.disk_holds(one, SECRET) for one in ("SMALL", "KEPT")), "and the words are gone from the media")


def write(machine: Node, serial: str) -> None:
    """Write words to a drive."""
    disk = f"/dev/$(basename $(dirname $(grep -l '^{serial} *$' /sys/class/nvme/nvme*/serial)))n1"
    machine.run(f"echo {SECRET} | busybox dd of={disk.replace('grep', 'busybox grep')} conv=fsync")


def life(scene: Scene) -> None:
    """From claim to free: what the node confirms, what the tenant does, what is left of it."""
    claims = scene.claimed("vm-1")
    drivers = scene.node.run("cd /sys/bus/pci/devices; basename -a $(readlink */driver)").split()
    check(drivers.count("vfio-pci") == 2, "claimed: the kernel has the function and the drive at vfio-pci")
    write(scene.node, "KEPT")
    scene.node.run("ip link set eth1 vf 0 mac 02:00:00:00:0b:0b vlan 77")
    group = "/dev/vfio/$(basename $(readlink /sys/class/net/eth1/device/virtfn0/iommu_group))"
    scene.node.run(f"sleep 600 3<>{group} >/dev/null 2>&1 & echo $! > /run/tenant")
    scene.released(claims)
    until("the drive", lambda: scene.devices()[scene.drive]["lifecycle"] == "dirty", SECONDS)
    log = until("the refusal", lambda: scene.node.run("busybox grep 'in use by' /tmp/agent.log", check=False))
    check(
        "sleep/" in log and scene.lifecycles()[0] != "free", "released, but the tenant has the function open: it waits"
    )
    scene.node.run("kill $(cat /run/tenant)")
    scene.become("free", "free", "free")
    function, drive, space = scene.readbacks()
    check(
        (function["vlan"], function["mac"], function["reset_seen"]) == (0, "", True),
        "the tenant's end frees it: reset, and with the VLAN that it should have, not the tenant's",
    )
    told = scene.node.run("ip link show eth1")
    check("vlan" not in told and "0b:0b" not in told, "as `ip` says too")
    check(drive["formatted"] == space["formatted"] == [1], "drive and name space: formatted once more")
    check(not scene.disk_holds("KEPT", SECRET), "nothing of the tenant's words is on the medium")


def lies(scene: Scene) -> None:
    """Hooks that say that they have cleaned."""
    claims = scene.claimed("vm-2")
    scene.node.run(f"cat > {PLACE} <<'END'\n{LIE}END")
    scene.released(claims)
    scene.become("quarantined", "quarantined", "quarantined")
    why = [str(scene.muster.ask("devices", one, "--history")) for one in scene.all]
    check("its vlan is 77, and should be 0" in why[0], "a function that is left in the tenant's VLAN is quarantined")
    check("nothing was formatted" in why[1], "a hook that says `done` and does nothing frees no drive")
    check("name spaces [1] were not formatted" in why[2], "nor does a format that erases nothing")
    refused = scene.muster.run("claims", "create", scene.drive, "--tenant", "red", "--for", "next")
    check(refused.returncode != 0 and "quarantined" in refused.stderr, "nobody gets any of them")
    scene.node.run(f"cp {HOOK} {PLACE}")
    scene.muster.ask("clean", *scene.all)
    scene.become("free", "free", "free")
    say("cleaned in earnest, they are free")


def others(scene: Scene) -> None:
    """Somebody on the node takes what is free, past Muster."""
    group = "/dev/vfio/$(basename $(readlink /sys/class/net/eth1/device/virtfn0/iommu_group))"
    scene.node.run(f"sleep 600 3<>{group} >/dev/null 2>&1 & echo $! > /run/other")
    disk = "/dev/$(basename $(dirname $(busybox grep -l '^SMALL *$' /sys/class/nvme/nvme*/serial)))n1"
    scene.node.run(f"busybox mke2fs {disk} && mkdir -p /tmp/mnt && busybox mount -t ext4 {disk} /tmp/mnt")
    until("foreign and host", lambda: scene.lifecycles()[:2] == ("foreign", "host"), SECONDS)
    devices = scene.devices()
    check(
        "sleep/" in str(devices[scene.vf]["capabilities"]["in_use_by"]),
        "who opens a free function's vfio group makes it foreign, and is named",
    )
    check(
        "mount:/tmp/mnt" in devices[scene.drive]["capabilities"]["host_needs"],
        "a file system that is mounted makes the drive the host's",
    )
    for one, what in ((scene.vf, "foreign"), (scene.drive, "host")):
        refused = scene.muster.run("claims", "create", one, "--tenant", "red", "--for", "next")
        check(refused.returncode != 0, f"what is {what} is given to nobody")
    scene.node.run("kill $(cat /run/other); busybox umount /tmp/mnt")
    until("dirty", lambda: scene.lifecycles()[:2] == ("dirty", "dirty"), SECONDS)
    say("left again, they are dirty, not free: who knows what was done with them")


if __name__ == "__main__":
    sys.exit(main(script))
