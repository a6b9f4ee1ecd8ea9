"""Machines made file by file, as sysfs would show them: for what no recorded one has."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT_PORT, UPSTREAM, DOWNSTREAM, ENDPOINT = 4, 5, 6, 0
GIGABYTE: Final = 1 << 30


def config_space(
    *, port_type: int | None = None, serial: int | None = None, acs: int | None = None, size: int = 4096
) -> bytes:
    """Give a configuration space with these capabilities, each list in an order of its own."""
    data = bytearray(4096)
    struct.pack_into("<HH", data, 0, 0x10DE, 0x2330)
    if port_type is not None:
        data[0x06] |= 0x10
        data[0x34] = 0x60
        data[0x60:0x62] = bytes((0x01, 0x40))  # power management first
        data[0x40:0x44] = bytes((0x10, 0x00, 0x02 | port_type << 4, 0x00))
    at, last = 0x100, 0
    for identity, body in (
        (0x0003, struct.pack("<Q", serial) if serial is not None else b""),
        (0x000D, struct.pack("<HH", 0x1F, acs) if acs is not None else b""),
    ):
        if body:
            if last:
                (header,) = struct.unpack_from("<I", data, last)
                struct.pack_into("<I", data, last, header | at << 20)
            struct.pack_into("<I", data, at, identity | 1 << 16)
            data[at + 4 : at + 4 + len(body)] = body
            at, last = at + 0x20, at
    return bytes(data[:size])


def vital_data(name: str = "ConnectX-6 Dx EN", **fields: str) -> bytes:
    """Give vital product data with a name and these fields of the read-only part."""
    body = b"".join(key.encode() + bytes((len(text),)) + text.encode() for key, text in fields.items())
    parts = ((0x82, name.encode()), (0x90, body))
    return b"".join(bytes((tag,)) + struct.pack("<H", len(data)) + data for tag, data in parts) + b"\x78"


def slot_structure(name: str, address: str, length: int = 0x11) -> bytes:
    """Give an SMBIOS structure of type 9 for the slot at an address."""
    segment, bus, rest = address.split(":")
    device, function = rest.split(".")
    body = bytearray(0x11)
    struct.pack_into("<BBHB", body, 0, 9, length, 0x0900, 1)
    struct.pack_into("<HBB", body, 0x0D, int(segment, 16), int(bus, 16), int(device, 16) << 3 | int(function))
    return bytes(body[:length]) + name.encode() + b"\0\0"


def function(
    root: Path,
    where: str,
    ids: str,
    pci_class: str,
    *,
    driver: str = "",
    group: int | None = None,
    files: Mapping[str, str | bytes] | None = None,
) -> Path:
    """Make a function at the end of `where` (`pci0000:00/0000:00:01.0`) and give its folder."""
    address = where.rpartition("/")[2]
    folder = root / "sys/devices" / where
    folder.mkdir(parents=True, exist_ok=True)
    vendor, _, device = ids.partition(":")
    plain: dict[str, str | bytes] = {
        "vendor": f"0x{vendor}\n",
        "device": f"0x{device}\n",
        "class": f"0x{pci_class}\n",
        "revision": "0xa1\n",
        "subsystem_vendor": "0x0000\n",
        "subsystem_device": "0x0000\n",
        "numa_node": "-1\n",
        "driver_override": "(null)\n",
    }
    for name, content in (plain | dict(files or {})).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    link(root, f"sys/bus/pci/devices/{address}", f"../../../devices/{where}")
    bind(root, address, driver)
    if group is not None:
        link(root, f"sys/bus/pci/devices/{address}/iommu_group", f"../../../kernel/iommu_groups/{group}")
        link(root, f"sys/kernel/iommu_groups/{group}/devices/{address}", f"../../../../devices/{where}")
    return folder


def bind(root: Path, address: str, driver: str) -> None:
    """Give a function to a driver, or with "" to none."""
    path = root / "sys/bus/pci/devices" / address / "driver"
    path.unlink(missing_ok=True)
    if driver:
        link(root, f"sys/bus/pci/devices/{address}/driver", f"../../../../bus/pci/drivers/{driver}")
        link(root, f"sys/bus/pci/drivers/{driver}/{address}", f"../../../../devices/{address}")


def unplug(root: Path, address: str) -> None:
    """Take a function away. Its folder is kept elsewhere: no other is to get its number, as none does in sysfs."""
    entry = root / "sys/bus/pci/devices" / address
    folder = entry.resolve()
    entry.unlink()
    pulled = root / "pulled"
    pulled.mkdir(exist_ok=True)
    folder.rename(pulled / f"{len(list(pulled.iterdir()))}")


def link(root: Path, path: str, target: str) -> None:
    """Make a symbolic link; its target need not be there."""
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(target)


def write(root: Path, path: str, content: str | bytes) -> None:
    """Write a file and the folders above it."""
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content if isinstance(content, bytes) else content.encode())


def process(root: Path, number: int, *opened: str) -> None:
    """Make a process with these files open."""
    (root / f"proc/{number}/fd").mkdir(parents=True, exist_ok=True)
    (root / f"proc/{number}/comm").write_text("qemu-system-x86\n")
    for at, target in enumerate(opened):
        link(root, f"proc/{number}/fd/{at}", target)


LINK_X16: Final = {
    "current_link_speed": "16.0 GT/s PCIe\n",
    "current_link_width": "16\n",
    "max_link_speed": "32.0 GT/s PCIe\n",
    "max_link_width": "16\n",
}
BARS: Final = (
    "0x00000000f0000000 0x00000000f0ffffff 0x0000000000040200\n"
    "0x0000200000000000 0x000020ffffffffff 0x000000000014220c\n"
    "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
    "0x0000210000000000 0x00002100ffffffff 0x000000000014220c\n"
    "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
    "0x000000000000e000 0x000000000000e07f 0x0000000000040101\n"
    "0x00000000f1000000 0x00000000f107ffff 0x0000000000046200\n"
    "0x0000300000000000 0x0000303fffffffff 0x000000000014220c\n"
)
SWITCH: Final = "pci0000:00/0000:00:01.0/0000:01:00.0"
GPUS: Final = ("0000:03:00.0", "0000:04:00.0")
PORT, SECOND_PORT, DRIVE, CONSOLE = "0000:05:00.0", "0000:05:00.1", "0000:81:00.0", "0000:07:00.0"
VFS: Final = tuple(f"0000:05:00.{number}" for number in range(2, 6))


def server(root: Path) -> Path:
    """Make a server: two GPUs behind one switch without ACS, a port with four VFs, a drive to boot from, a console."""
    function(root, "pci0000:00/0000:00:00.0", "8086:09a2", "060000", group=0)
    _gpus(root)
    _network(root)
    _console(root)
    top = "pci0000:80/0000:80:01.0"
    drive = {"numa_node": "1\n", "nvme/nvme0/serial": "S64HNE0T\n", "nvme/nvme0/model": "SAMSUNG MZQL23T8\n"}
    drive |= {"nvme/nvme0/firmware_rev": "GDC5602Q\n", "reset_method": "flr bus\n", "d3cold_allowed": "1\n"}
    function(root, top, "8086:352a", "060400", driver="pcieport", group=70)
    function(root, f"{top}/{DRIVE}", "144d:a80a", "010802", driver="nvme", group=71, files=drive)
    write(root, "sys/bus/pci/slots/3-1/address", "0000:05:00\n")
    write(root, "sys/bus/pci/slots/9/address", "0000:90:00\n")
    write(root, "sys/firmware/dmi/entries/9-0/raw", slot_structure("CPU1 SLOT4", "0000:01:00.0"))
    write(root, "sys/firmware/dmi/entries/9-1/raw", slot_structure("NVMe BAY 0", "0000:80:01.0"))
    write(root, "proc/self/mountinfo", "22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw\n")
    link(root, "sys/dev/block/259:2", f"../../devices/{top}/{DRIVE}/nvme/nvme0/nvme0n1/nvme0n1p2")
    route = "Iface\tDestination\tGateway\nens5f1np1\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
    write(root, "proc/net/route", route)
    link(root, "sys/class/net/ens5f1np1", f"../../devices/pci0000:00/0000:00:02.0/{SECOND_PORT}/net/ens5f1np1")
    link(root, "proc/self/ns/pid", "pid:[4026531836]")
    return root


def _gpus(root: Path) -> None:
    port = {"config": config_space(port_type=ROOT_PORT, acs=0x1D)}
    function(root, "pci0000:00/0000:00:01.0", "8086:352a", "060400", driver="pcieport", group=1, files=port)
    up = {"config": config_space(port_type=UPSTREAM, serial=0xCA87_00FF_FF01_0E00)}
    function(root, SWITCH, "10b5:8747", "060400", driver="pcieport", group=19, files=up)
    for number, (lower, address) in enumerate(zip(("0000:02:08.0", "0000:02:10.0"), GPUS, strict=True)):
        down = {"config": config_space(port_type=DOWNSTREAM, acs=0)}
        function(root, f"{SWITCH}/{lower}", "10b5:8747", "060400", driver="pcieport", group=19, files=down)
        own: dict[str, str | bytes] = {**LINK_X16, "resource": BARS, "numa_node": "0\n", "boot_vga": "0\n"}
        own |= {"config": config_space(port_type=ENDPOINT, serial=0x48B0_2DFF_FF00_1100 + number)}
        where = f"{SWITCH}/{lower}/{address}"
        function(root, where, "10de:2330", "030200", driver="vfio-pci", group=19, files=own)
        sound = f"{where[:-1]}1"
        function(root, sound, "10de:22ba", "040300", group=19)


def _network(root: Path) -> None:
    top = "pci0000:00/0000:00:02.0"
    function(root, top, "8086:352a", "060400", driver="pcieport", group=30)
    family = {"sriov_totalvfs": "8\n", "sriov_offset": "2\n", "sriov_stride": "1\n", "sriov_vf_device": "101e\n"}
    card: dict[str, str | bytes] = {"config": config_space(port_type=ENDPOINT, serial=0xB83F_D2FF_FF9E_416C), **family}
    card |= {"vpd": vital_data(PN="MCX623106AN-CDAT", EC="A6", SN="MT2048X12345"), "subsystem_vendor": "0x15b3\n"}
    card |= {"subsystem_device": "0x0016\n"}
    for number, address in enumerate((PORT, SECOND_PORT)):
        vfs = {"sriov_numvfs": f"{0 if number else len(VFS)}\n"}
        function(
            root, f"{top}/{address}", "15b3:101d", "020000", driver="mlx5_core", group=31 + number, files=card | vfs
        )
    for index, address in enumerate(VFS):
        function(root, f"{top}/{address}", "15b3:101e", "020000", driver="vfio-pci", group=40 + index)
        link(root, f"sys/bus/pci/devices/{address}/physfn", f"../{PORT}")
        link(root, f"sys/bus/pci/devices/{PORT}/virtfn{index}", f"../{address}")


def _console(root: Path) -> None:
    top = "pci0000:00/0000:00:1c.0"
    function(root, top, "8086:1bbe", "060400", driver="pcieport", group=50)
    function(root, f"{top}/0000:06:00.0", "1a03:1150", "060400", group=51)
    console = {"boot_vga": "1\n", "label": "Onboard Video\n"}
    function(root, f"{top}/0000:06:00.0/{CONSOLE}", "1a03:2000", "030000", driver="ast", group=51, files=console)
