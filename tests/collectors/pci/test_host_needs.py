"""What the host would lose with a function is found through whatever lies between."""

from pathlib import Path

import pytest

from collectors.pci_use import VfioUse, host_needs, users
from tests.collectors.pci.made import link, write

ONE, TWO, NIC = "0000:01:00.0", "0000:02:00.0", "0000:05:00.0"


def _drive(root: Path, address: str, name: str, number: str) -> None:
    where = f"../../devices/pci0000:00/0000:00:02.1/{address}/nvme/{name[:5]}/{name}"
    link(root, f"sys/dev/block/{number}", where)
    link(root, f"sys/class/block/{name}", where)


def _mounted(root: Path, *lines: str) -> None:
    write(root, "proc/self/mountinfo", "".join(f"{line}\n" for line in lines))


def _mapped(root: Path, name: str, number: str, *slaves: str) -> None:
    """Make a device that stands on others: device mapper, RAID."""
    folder = root / "sys/devices/virtual/block" / name
    for slave in slaves:
        link(root, f"sys/devices/virtual/block/{name}/slaves/{slave}", f"../../../../../class/block/{slave}")
    folder.mkdir(parents=True, exist_ok=True)
    link(root, f"sys/class/block/{name}", f"../../devices/virtual/block/{name}")
    link(root, f"sys/dev/block/{number}", f"../../devices/virtual/block/{name}")


def test_mount_on_a_partition_and_swap_on_another(tmp_path: Path) -> None:
    _drive(tmp_path, ONE, "nvme0n1p1", "259:1")
    _drive(tmp_path, TWO, "nvme1n1p3", "259:7")
    _mounted(tmp_path, r"30 1 259:1 / /srv/two\040words rw shared:1 - xfs /dev/nvme0n1p1 rw")
    write(
        tmp_path,
        "proc/swaps",
        "Filename\tType\tSize\tUsed\tPriority\n/dev/nvme1n1p3 partition 1 0 -2\n/f file 1 0 -3\n",
    )
    assert {ONE: ["mount:/srv/two words"], TWO: ["swap"]} == host_needs(tmp_path)


def test_volume_on_raid_needs_every_drive_of_it(tmp_path: Path) -> None:
    _drive(tmp_path, ONE, "nvme0n1", "259:0")
    _drive(tmp_path, TWO, "nvme1n1", "259:4")
    _mapped(tmp_path, "md127", "9:127", "nvme0n1", "nvme1n1")
    _mapped(tmp_path, "dm-0", "253:0", "md127")
    _mounted(
        tmp_path, "22 1 253:0 / / rw - ext4 /dev/mapper/root rw", "23 22 253:0 / /home rw - ext4 /dev/mapper/root rw"
    )
    both = ["mount:/", "mount:/home"]
    assert {ONE: both, TWO: both} == host_needs(tmp_path)


def test_partition_of_raid_needs_its_drives(tmp_path: Path) -> None:
    _drive(tmp_path, ONE, "nvme0n1", "259:0")
    _mapped(tmp_path, "md0", "9:0", "nvme0n1")
    link(tmp_path, "sys/dev/block/259:9", "../../devices/virtual/block/md0/md0p1")
    _mounted(tmp_path, "22 1 259:9 / / rw - ext4 /dev/md0p1 rw")
    assert {ONE: ["mount:/"]} == host_needs(tmp_path)


def test_multipath_drive_needs_all_its_controllers(tmp_path: Path) -> None:
    """With native multipath, which is the default, a name space hangs below no PCI function."""
    link(tmp_path, "sys/dev/block/259:2", "../../devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1/nvme0n1p1")
    link(tmp_path, "sys/class/nvme-subsystem/nvme-subsys0", "../../devices/virtual/nvme-subsystem/nvme-subsys0")
    for number, address in enumerate((ONE, TWO)):
        where = f"devices/pci0000:00/{address}/nvme/nvme{number}"
        link(tmp_path, f"sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme{number}", f"../../../../{where}")
        link(tmp_path, f"sys/class/nvme/nvme{number}", f"../../{where}")
    _mounted(tmp_path, "22 1 259:2 / /boot/efi rw - vfat /dev/nvme0n1p1 rw")
    assert {ONE: ["mount:/boot/efi"], TWO: ["mount:/boot/efi"]} == host_needs(tmp_path)


def test_btrfs_is_found_by_the_device_that_it_names(tmp_path: Path) -> None:
    _drive(tmp_path, ONE, "nvme0n1", "259:0")
    _mapped(tmp_path, "dm-3", "253:3", "nvme0n1")
    link(tmp_path, "dev/mapper/vault", "../dm-3")
    _mounted(tmp_path, "22 1 0:31 /@ / rw - btrfs /dev/mapper/vault rw,subvol=/@", "23 1 0:5 / /proc rw - proc proc rw")
    assert {ONE: ["mount:/"]} == host_needs(tmp_path)


def test_default_route_over_vlan_on_bond_needs_both_ports(tmp_path: Path) -> None:
    head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
    write(tmp_path, "proc/net/route", f"{head}bond0.7\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n")
    for name, lowers in (("bond0.7", ("bond0",)), ("bond0", ("eth0", "eth1"))):
        for lower in lowers:
            link(tmp_path, f"sys/devices/virtual/net/{name}/lower_{lower}", f"../{lower}")
        link(tmp_path, f"sys/class/net/{name}", f"../../devices/virtual/net/{name}")
    for number, name in enumerate(("eth0", "eth1")):
        link(tmp_path, f"sys/class/net/{name}", f"../../devices/pci0000:00/0000:05:00.{number}/net/{name}")
    assert {"0000:05:00.0": ["default-route"], "0000:05:00.1": ["default-route"]} == host_needs(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0",
        "eth0\t00000000\t0101A8C0\t0002\t0\t0\t0\t00000000\t0\t0\t0",
        "eth0\t00000000",
        "",
    ],
)
def test_other_routes_and_garbage_need_nothing(tmp_path: Path, line: str) -> None:
    write(tmp_path, "proc/net/route", f"Iface\tDestination\n{line}\n")
    link(tmp_path, "sys/class/net/eth0", f"../../devices/pci0000:00/{NIC}/net/eth0")
    assert {} == host_needs(tmp_path)


def test_default_route_of_ipv6_counts_too(tmp_path: Path) -> None:
    zero = "0" * 32
    lines = [f"{zero} 00 {zero} 00 {'f' * 32} 00000400 00000001 00000000 00000003 eth0"]
    lines.append(f"{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo")
    write(tmp_path, "proc/net/ipv6_route", "\n".join(lines))
    link(tmp_path, "sys/class/net/eth0", f"../../devices/pci0000:00/{NIC}/net/eth0")
    assert {NIC: ["default-route"]} == host_needs(tmp_path)


def test_layers_that_are_a_ring_end(tmp_path: Path) -> None:
    _mapped(tmp_path, "dm-0", "253:0", "dm-1")
    _mapped(tmp_path, "dm-1", "253:1", "dm-0")
    _mounted(tmp_path, "22 1 253:0 / / rw - ext4 /dev/mapper/root rw")
    assert {} == host_needs(tmp_path)


def test_vfio_use_is_denied_only_by_who_saw_everything() -> None:
    partly = VfioUse({"19": ("a/1", "b/2"), "noiommu-3": ("c/3",), "devices/vfio0": ("a/1",)}, complete=False)
    assert [("a/1", "b/2"), None, ("c/3",)] == [users(partly, group, []) for group in (19, 20, 3)]
    assert [("a/1", "b/2"), ("a/1",)] == [users(partly, group, ["vfio0"]) for group in (19, 20)]
    assert () == users(VfioUse(partly.opened, complete=True), 20, [])
    assert () == users(VfioUse(complete=True), None, [])
