"""NVMe controllers and their name spaces as the kernel knows them, which anybody may read.

Source: linux/drivers/nvme/host/sysfs.c; Documentation/ABI/stable/sysfs-block of Linux.
"""

import re
from pathlib import Path
from typing import Final

import msgspec

from collectors._procfs import integer, link, names, read_integer, read_text
from collectors.nvme.identify import celsius, text
from collectors.pci_sysfs import addresses_in, virtual_functions

CLASS: Final = "sys/class/nvme"
_SUBSYSTEMS: Final = "sys/class/nvme-subsystem"
LIVE: Final = "live"
SECTOR_BYTES: Final = 512
"""What the kernel counts sizes of block devices in, whatever their sectors are."""
_CONTROLLER: Final = re.compile(r"nvme\d+\Z")
_BLOCK: Final = re.compile(r"nvme\d+n\d+\Z")
_PATH: Final = re.compile(r"nvme\d+c\d+n\d+\Z")
"""One way to a name space of several, hidden behind the block device of their subsystem."""
_MILLI: Final = 1000.0
_ICE: Final = 273.15
_COLDEST, _HOTTEST = -100.0, 400.0
"""Beyond, a sensor says nothing: Linux before 5.8 showed an absent one as -273."""


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A name space's block device."""

    name: str
    """`nvme0n1`."""
    folder: str
    """Its folder."""
    nsid: int
    capacity_bytes: int | None
    sector_bytes: int | None
    read_only: bool
    uuid: str
    nguid: str
    eui64: str
    number: str
    """`259:0`, major and minor."""


class Temperature(msgspec.Struct, frozen=True):
    """What the kernel's own reader shows of a sensor."""

    label: str
    """`Composite`, `Sensor 1`."""
    celsius: float | None


class Drive(msgspec.Struct, frozen=True, kw_only=True):
    """One controller on the PCI bus."""

    name: str
    """`nvme0`: another one after the next boot."""
    folder: str
    inode: int
    """Of its folder: another number, another controller."""
    address: str
    function: str
    """Folder of its PCI function."""
    physical: str
    """Address of the physical function, for a virtual one; "" for all others."""
    index: int | None
    """Which virtual function it is, from 0; None for a physical one."""
    virtual: dict[str, int]
    """Virtual functions of a physical one, by address."""
    state: str
    model: str
    serial: str
    firmware: str
    controller_id: int | None
    subsystem: str
    blocks: tuple[Block, ...]

    @property
    def live(self) -> bool:
        """Whether it takes commands: in any other state they wait, for minutes if need be."""
        return self.state in (LIVE, "")

    @property
    def words(self) -> str:
        """Give its name for people."""
        return f"drive {self.serial or '(no serial number)'} at {self.address}"


def read_drives(root: Path) -> list[Drive]:
    """Give the controllers on the PCI bus, by address. Those over a network are another machine's drives."""
    subsystems = _subsystems(root)
    found = []
    for name in names(root / CLASS):
        if _CONTROLLER.match(name):
            drive = _drive(root, name, subsystems)
            if drive is not None:
                found.append(drive)
    return sorted(found, key=lambda drive: drive.address)


def state_of(drive: Drive) -> str:
    """Give the state now; "" when it cannot be read, as when the controller is gone."""
    return read_text(f"{drive.folder}/state")


def temperatures(drive: Drive) -> list[Temperature]:
    """Give what the kernel's hwmon shows. Reading has the kernel ask the drive."""
    found = []
    for folder in _monitors(drive.folder):
        for name in names(folder):
            if name.startswith("temp") and name.endswith("_input"):
                value = _signed(read_text(f"{folder}/{name}"))
                label = read_text(f"{folder}/{name.removesuffix('input')}label")
                if value is not None and _COLDEST < value < _HOTTEST:
                    found.append(Temperature(label, _whole(value)))
    return found


def limits(drive: Drive) -> tuple[float | None, float | None]:
    """Give the warning and the critical temperature as hwmon shows them; None for what it does not."""
    for folder in _monitors(drive.folder):
        found = [_signed(read_text(f"{folder}/temp1_{name}")) for name in ("max", "crit")]
        warning, critical = (_whole(one) if one is not None and 0 < one < _HOTTEST else None for one in found)
        return warning, critical
    return None, None


def _monitors(folder: str) -> list[str]:
    """Give the hwmon folders: below the controller, on some kernels in a folder of their own."""
    below = [f"{folder}/{name}" for name in names(folder) if name.startswith("hwmon") and name != "hwmon"]
    return [*below, *(f"{folder}/hwmon/{name}" for name in names(f"{folder}/hwmon"))]


def _drive(root: Path, name: str, subsystems: dict[str, str]) -> Drive | None:
    folder = f"{root}/{CLASS}/{name}"
    transport = read_text(f"{folder}/transport")
    addresses = addresses_in(link(folder))
    if transport not in ("", "pcie") or not addresses:
        return None
    try:
        inode = Path(folder).stat().st_ino
    except OSError:  # it went while we looked
        return None
    address = addresses[-1]
    function = f"{root}/sys/bus/pci/devices/{address}"
    physical = "".join(addresses_in(link(f"{function}/physfn"))[-1:])
    return Drive(
        name=name,
        folder=folder,
        inode=inode,
        address=address,
        function=function,
        physical=physical,
        index=virtual_functions(root, physical).get(address) if physical else None,
        virtual={} if physical else virtual_functions(root, address),
        state=read_text(f"{folder}/state"),
        model=_plain(f"{folder}/model"),
        serial=_plain(f"{folder}/serial"),
        firmware=_plain(f"{folder}/firmware_rev"),
        controller_id=read_integer(f"{folder}/cntlid"),
        subsystem=read_text(f"{folder}/subsysnqn"),
        blocks=tuple(_blocks(folder, subsystems.get(name, ""))),
    )


def _subsystems(root: Path) -> dict[str, str]:
    """Give by controller the folder of its subsystem, where name spaces of several controllers are."""
    found = {}
    for subsystem in names(root / _SUBSYSTEMS):
        for name in names(root / _SUBSYSTEMS / subsystem):
            if _CONTROLLER.match(name):
                found[name] = f"{root}/{_SUBSYSTEMS}/{subsystem}"
    return found


def _blocks(controller: str, subsystem: str) -> list[Block]:
    inside = names(controller)
    found = [_block(f"{controller}/{name}") for name in inside if _BLOCK.match(name)]
    paths = {read_text(f"{controller}/{name}/nsid") for name in inside if _PATH.match(name)}
    if subsystem and paths:
        found += [
            _block(f"{subsystem}/{name}")
            for name in names(subsystem)
            if _BLOCK.match(name) and (not any(paths) or read_text(f"{subsystem}/{name}/nsid") in paths)
        ]
    return sorted((one for one in found if one is not None), key=lambda block: block.nsid)


def _block(folder: str) -> Block | None:
    """Give a block device; its number is the name space's where the kernel does not say another (before 4.20)."""
    name = folder.rpartition("/")[2]
    nsid = read_integer(f"{folder}/nsid") or integer(name.rpartition("n")[2].encode())
    if not nsid:
        return None
    size = read_integer(f"{folder}/size")
    return Block(
        name=name,
        folder=folder,
        nsid=nsid,
        capacity_bytes=None if size is None else size * SECTOR_BYTES,
        sector_bytes=read_integer(f"{folder}/queue/logical_block_size") or None,
        read_only=read_text(f"{folder}/ro") == "1",
        uuid=_identifier(f"{folder}/uuid"),
        nguid=_identifier(f"{folder}/nguid").replace("-", ""),
        eui64=_identifier(f"{folder}/eui").replace(" ", ""),
        number=read_text(f"{folder}/dev"),
    )


def _plain(path: str) -> str:
    return text(read_text(path).encode("utf-8", "replace"))


def _identifier(path: str) -> str:
    value = read_text(path).lower()
    return value if value.strip("0- ") else ""


def _whole(degrees: float) -> float | None:
    """Give what the drive said in kelvins as everybody reads it: Linux takes 273.15 from it, all others 273."""
    return celsius(round(degrees + _ICE))


def _signed(words: str) -> float | None:
    """Give millidegrees as degrees; None for what is no number."""
    value = integer(words.removeprefix("-").encode())
    return None if value is None else (-value if words.startswith("-") else value) / _MILLI
