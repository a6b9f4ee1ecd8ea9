"""Drives made byte by byte: log pages by the offsets of the specification, and the folders that the kernel shows."""

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from collectors.nvme.admin import Admin, AdminError, DeniedError, DriveLostError, UnsupportedError
from tests.collectors.pci.made import function, link, write

SEED_SECTORS: Final = 937_684_566
"""The drive of R000-4: so many sectors of 4,096 bytes."""
WHERE: Final = "pci0000:00/0000:00:01.0/0000:01:00.0"
OCP_GUID: Final = bytes(
    (0xC5, 0xAF, 0x10, 0x28, 0xEA, 0xBF, 0xF2, 0xA4, 0x9C, 0x4F, 0x6F, 0x7C, 0xC9, 0x14, 0xD5, 0xAF)
)


def put(size: int, fields: Mapping[tuple[int, int], int | bytes]) -> bytes:
    """Give bytes with little-endian numbers, and texts, by (offset, length)."""
    data = bytearray(size)
    for (offset, length), value in fields.items():
        data[offset : offset + length] = value if isinstance(value, bytes) else value.to_bytes(length, "little")
    return bytes(data)


def controller(serial: str = "S64HNE0", firmware: str = "GDC5302Q", **changes: int) -> bytes:
    """Give an identify controller structure; `changes` by the names below."""
    places = {
        "vendor": (0, 2, 0x144D),
        "cmic": (76, 1, 0),
        "cntlid": (78, 2, 6),
        "version": (80, 4, 0x10400),
        "oaes": (92, 4, 0x300),
        "oacs": (256, 2, 0x1F),
        "frmw": (260, 1, 0x17),
        "elpe": (262, 1, 63),
        "wctemp": (266, 2, 350),
        "cctemp": (268, 2, 358),
        "tnvmcap": (280, 16, 3_840_755_982_336),
        "unvmcap": (296, 16, 0),
        "sanicap": (328, 4, 3),
        "nn": (516, 4, 32),
        "fna": (524, 1, 4),
    }
    fields: dict[tuple[int, int], int | bytes] = {
        (offset, length): changes.get(name, value) for name, (offset, length, value) in places.items()
    }
    fields[4, 20] = serial.encode().ljust(20)
    fields[24, 40] = b"SAMSUNG MZQL23T8HCLS-00A07".ljust(40)
    fields[64, 8] = firmware.encode().ljust(8)
    fields[768, 256] = b"nqn.1994-11.com.samsung:nvme:PM9A3".ljust(256, b"\0")
    return put(4096, fields)


def namespace(
    sectors: int = SEED_SECTORS,
    flbas: int = 1,
    formats: tuple[tuple[int, int, int], ...] = ((0, 9, 2), (0, 12, 0), (8, 12, 1)),
    used: int | None = None,
    **more: int,
) -> bytes:
    """Give an identify name space structure; a format is (metadata bytes, log2 of data bytes, performance)."""
    fields: dict[tuple[int, int], int | bytes] = {
        (0, 8): sectors,
        (8, 8): sectors,
        (16, 8): sectors if used is None else used,
        (24, 1): more.get("nsfeat", 0),
        (25, 1): len(formats) - 1,
        (26, 1): flbas,
        (29, 1): more.get("dps", 0),
        (30, 1): more.get("nmic", 0),
        (32, 1): more.get("fpi", 0),
        (104, 16): more.get("nguid", 0x25384_1A1B2C3).to_bytes(16, "big"),
        (120, 8): more.get("eui64", 0x2538_41A1).to_bytes(8, "big"),
    }
    for number, (metadata, power, performance) in enumerate(formats):
        fields[128 + 4 * number, 4] = struct.pack("<HBB", metadata, power, performance)
    return put(4096, fields)


def smart(**changes: int) -> bytes:
    """Give a SMART log of a healthy drive at 40 degrees; `changes` by the names below."""
    places = {
        "warning": (0, 1, 0),
        "kelvin": (1, 2, 313),
        "spare": (3, 1, 100),
        "threshold": (4, 1, 10),
        "used": (5, 1, 3),
        "groups": (6, 1, 0),
        "units_read": (32, 16, 170_056),
        "units_written": (48, 16, 1_248_078),
        "reads": (64, 16, 412_435),
        "writes": (80, 16, 92_595_817),
        "busy": (96, 16, 10),
        "cycles": (112, 16, 32),
        "hours": (128, 16, 2884),
        "unsafe": (144, 16, 30),
        "media": (160, 16, 0),
        "errors": (176, 16, 4),
        "warm": (192, 4, 5),
        "hot": (196, 4, 1),
        "sensor1": (200, 2, 311),
        "sensor2": (202, 2, 0),
        "sensor3": (204, 2, 306),
        "light": (216, 4, 7),
        "heavy": (220, 4, 2),
        "light_seconds": (224, 4, 70),
        "heavy_seconds": (228, 4, 20),
    }
    unknown = changes.keys() - places.keys()
    assert not unknown, unknown
    return put(512, {(at, size): changes.get(name, value) for name, (at, size, value) in places.items()})


def primary(*, kinds: int = 3) -> bytes:
    """Give the capabilities of a primary controller."""
    fields: dict[tuple[int, int], int | bytes] = {(4, 1): kinds}
    for at, (total, given_away, own, private, most) in ((32, (16, 5, 3, 9, 4)), (64, (8, 2, 0, 9, 2))):
        fields |= {(at, 4): total, (at + 4, 4): given_away, (at + 8, 2): own, (at + 10, 2): private, (at + 12, 2): most}
    return put(4096, fields)


def secondary(*entries: tuple[int, int, int, int, int]) -> bytes:
    """Give a list; each is controller, state, number of the function, queues and interrupts."""
    told = b"".join(struct.pack("<HHB3xHHH18x", one[0], 6, *one[1:]) for one in entries)
    return (bytes([len(entries)]).ljust(32, b"\0") + told).ljust(4096, b"\0")


def error_log(*entries: tuple[int, int], size: int = 64) -> bytes:
    """Give an error log of `size` entries; each is (number, status)."""
    made = [
        put(64, {(0, 8): number, (8, 2): 1, (10, 2): 7, (12, 2): status << 1 | 1, (16, 8): 4711, (24, 4): 1})
        for number, status in entries
    ]
    return b"".join(made).ljust(size * 64, b"\0")


def firmware_log(active: int = 1, later: int = 0, **slots: str) -> bytes:
    """Give a firmware slot log; slots by `s1` to `s7`."""
    fields: dict[tuple[int, int], int | bytes] = {(0, 1): active | later << 4}
    fields |= {(8 * int(name[1:]), 8): text.encode().ljust(8) for name, text in slots.items()}
    return put(512, fields)


def self_test_log(*tests: tuple[int, int, int], running: int = 0, percent: int = 0) -> bytes:
    """Give a self-test log; a test is (kind, result, hours). Tests that failed name a sector."""
    fields: dict[tuple[int, int], int | bytes] = {(0, 1): running, (1, 1): percent}
    for number in range(20):
        kind, result, hours = tests[number] if number < len(tests) else (0, 0xF, 0)
        at = 4 + 28 * number
        failed = result in (5, 6, 7)
        fields |= {(at, 1): kind << 4 | result, (at + 2, 1): 3 if failed else 0, (at + 4, 8): hours}
        fields |= {(at + 12, 4): 1 if failed else 0, (at + 16, 8): 99 if failed else 0}
    return put(564, fields)


def sanitize_log(status: int = 0, action: int = 0, progress: int = 0xFFFF, *, untouched: bool = False) -> bytes:
    """Give a sanitize status log."""
    word = status | (0x100 if untouched else 0)
    return put(512, {(0, 2): progress, (2, 2): word, (4, 4): action, (8, 4): 3600, (12, 4): 60, (16, 4): 0xFFFFFFFF})


def ocp_log(version: int = 3, guid: bytes = OCP_GUID, **changes: int) -> bytes:
    """Give an OCP log."""
    fields: dict[tuple[int, int], int | bytes] = {
        (0, 16): changes.get("written", 1 << 70),
        (16, 16): 5,
        (32, 6): (1 << 48) - 1,
        (38, 2): 100,
        (72, 4): 11,
        (76, 4): 12,
        (80, 1): 3,
        (81, 7): (1 << 56) - 2,
        (88, 4): 900,
        (92, 4): 800,
        (96, 1): 4,
        (104, 8): 6,
        (120, 1): 97,
        (128, 2): changes.get("capacitor", 114),
        (176, 16): 16_896_000_000_000_000,
        (192, 8): 9,
        (494, 2): version,
        (496, 16): guid,
    }
    return put(512, fields)


class FakeDrive:
    """What a drive answers. Change its attributes, and it is another drive."""

    def __init__(self, serial: str = "S64HNE0") -> None:
        self.identity = controller(serial)
        self.spaces: dict[int, bytes] = {1: namespace()}
        self.division: dict[int, bytes] = {}
        """What it says of its secondary controllers, by CNS."""
        self.pages: dict[int, bytes] = {
            0x01: error_log((4, 0x002)),
            0x02: smart(),
            0x03: firmware_log(1, s1="GDC5302Q"),
            0x06: self_test_log((1, 0, 2000)),
            0x81: sanitize_log(),
            0xC0: ocp_log(),
        }
        self.failing: AdminError | None = None
        """Raised by every command."""
        self.denied = False
        self.opened = self.closed = 0
        self.asked: list[int] = []
        """Log pages, in order."""

    def open(self, path: Path) -> "FakeDrive":
        """Stand for the opening of a controller's device."""
        if self.denied:
            raise DeniedError(f"{path}: Permission denied")
        self.opened += 1
        return self

    def identify(self, cns: int, nsid: int = 0) -> bytes:
        """Give an identify structure."""
        self._fail()
        if cns == 1:
            return self.identity
        if cns == 2:
            return b"".join(struct.pack("<I", number) for number in sorted(self.spaces)).ljust(4096, b"\0")
        if cns == 0:
            return self.spaces.get(nsid, bytes(4096))
        if cns in self.division:
            return self.division[cns]
        raise UnsupportedError("descriptors")

    def log_page(self, page: int, size: int, nsid: int = 0xFFFFFFFF) -> bytes:
        """Give a log page."""
        self._fail()
        self.asked.append(page)
        if page not in self.pages:
            raise UnsupportedError(f"page {page:#x}")
        return self.pages[page][:size]

    def close(self) -> None:
        """Count it."""
        self.closed += 1

    def _fail(self) -> None:
        if self.failing is not None:
            raise self.failing


def opener(**drives: FakeDrive) -> Callable[[Path], Admin]:
    """Give what opens these drives by the kernel's name."""

    def open_(path: Path) -> Admin:
        if path.name not in drives:
            raise DriveLostError(str(path))
        return drives[path.name].open(path)

    return open_


def drive(
    root: Path,
    name: str = "nvme0",
    where: str = WHERE,
    *,
    serial: str = "S64HNE0",
    state: str = "live",
    sectors: int = SEED_SECTORS,
    sector_bytes: int = 4096,
    uuid: str = "",
) -> Path:
    """Make a controller with one name space as sysfs shows it, and give its folder."""
    address = where.rpartition("/")[2]
    function(root, where, "144d:a80a", "010802", driver="nvme")
    folder = root / "sys/devices" / where / "nvme" / name
    number = name.removeprefix("nvme")
    texts = {
        "model": "SAMSUNG MZQL23T8HCLS-00A07              \n",
        "serial": f"{serial:20}\n",
        "firmware_rev": "GDC5302Q\n",
        "state": f"{state}\n",
        "transport": "pcie\n",
        "address": f"{address}\n",
        "cntlid": "6\n",
        "subsysnqn": "nqn.1994-11.com.samsung:nvme:PM9A3\n",
        "hwmon1/temp1_input": "39850\n",
        "hwmon1/temp1_label": "Composite\n",
        "hwmon1/temp1_max": "76850\n",
        "hwmon1/temp1_crit": "84850\n",
        "hwmon1/temp2_input": "37850\n",
        "hwmon1/temp2_label": "Sensor 1\n",
        f"nvme{number}n1/nsid": "1\n",
        f"nvme{number}n1/dev": f"259:{8 * int(number)}\n",
        f"nvme{number}n1/ro": "0\n",
        f"nvme{number}n1/size": f"{sectors * sector_bytes // 512}\n",
        f"nvme{number}n1/queue/logical_block_size": f"{sector_bytes}\n",
        f"nvme{number}n1/nguid": "00000000-0000-0000-0002-53841a1b2c30\n",
        **({f"nvme{number}n1/uuid": f"{uuid}\n"} if uuid else {}),
    }
    for path, content in texts.items():
        write(folder, path, content)
    link(root, f"sys/class/nvme/{name}", f"../../devices/{where}/nvme/{name}")
    return folder
