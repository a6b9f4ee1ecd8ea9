"""A node that is made, as files: 4 NVMe drives, 2 ports with 32 virtual functions each; and what reads it.

Its GPUs are those of `tests.fakes.nvml`: the collector `nvml` needs no more than the path of a library.
"""

import shutil
from pathlib import Path

import msgspec

from collectors.sriov.ethtool import (
    FEATURES,
    STATISTICS,
    count_question,
    driver_question,
    features_question,
    names_question,
    values_question,
)
from collectors.sriov.netlink import WITH_VFS, WITHOUT_COUNTERS
from tests.bench import made_collectors
from tests.collectors.nvme import made as drives
from tests.collectors.sriov import made as ports

PORTS, VFS, DRIVES = 2, 32, 4
_DISTRIBUTION = "muster_made-1.dist-info"
_ENTRY_POINTS = """[muster.collectors]
made_nvme = made_collectors:MadeNvme
made_sriov = made_collectors:MadeSriov
"""


def make_machine(root: Path) -> None:
    """Make it below a root, with a file of what its kernel answers."""
    root.mkdir()
    answers = dict[str, bytes]()
    for number in range(DRIVES):
        name, serial = f"nvme{number}", f"S64HNE{number}"
        drives.drive(root, name, f"pci0000:00/0000:00:0{number + 1}.0/0000:0{number + 1}:00.0", serial=serial)
        _answers_of_drive(name, drives.FakeDrive(serial), answers)
    kernel = ports.Answers()
    for number in range(PORTS):
        _make_port(root, number, kernel, answers)
    (root / made_collectors.ANSWERS).write_bytes(msgspec.msgpack.encode(answers))


def make_distribution(folder: Path) -> None:
    """Put the collectors that read such a machine into a folder for PYTHONPATH."""
    (folder / _DISTRIBUTION).mkdir(parents=True)
    (folder / _DISTRIBUTION / "entry_points.txt").write_text(_ENTRY_POINTS)
    shutil.copy(made_collectors.__file__, folder)


def _answers_of_drive(name: str, drive: drives.FakeDrive, answers: dict[str, bytes]) -> None:
    for cns, nsid in ((1, 0), (2, 0), (0, 1)):
        answers[f"identify {name} {cns} {nsid}"] = drive.identify(cns, nsid)
    answers |= {f"log_page {name} {page}": data for page, data in drive.pages.items()}


def _make_port(root: Path, number: int, kernel: ports.Answers, answers: dict[str, bytes]) -> None:
    bus, name, index = f"{0x3B + number:02x}", f"ens{number}f0", 10 + number
    address = f"0000:{bus}:00.0"
    ports.port(root, address, total=VFS)
    ports.interface(root, address, name, index, port_name="p0", speed="100000")
    entries = []
    for vf in range(VFS):
        ports.vf(root, address, vf, f"0000:{bus}:{(vf + 8) >> 3:02x}.{vf & 7}", group=100 * (number + 1) + vf)
        counts = (10_000 + vf, 20_000 + vf, 1_000_000 + vf, 2_000_000 + vf, 3, 4, 0, 0)
        entries.append(ports.vf_entry(vf, mac=f"02:00:00:00:{number:02x}:{vf:02x}", vlan=100 + vf, counts=counts))
    kernel.links[index] = ports.answer(index, name, vfs=entries)
    kernel.without_counters[index] = kernel.links[index]
    kernel.counters[name] = {"rx_bytes_phy": 1, "tx_bytes_phy": 2} | {f"rx{queue}_packets": 3 for queue in range(400)}
    kernel.features[name] = {"rx-checksum": (True, True), "hw-tc-offload": (False, True)}
    kernel.firmware[name] = "22.36.1010"
    for mask in (0, WITH_VFS, WITHOUT_COUNTERS, WITH_VFS | WITHOUT_COUNTERS):
        answers[f"link {index} {mask}"] = kernel.link(index, mask)
    _answers_of_driver(name, kernel, answers)


def _answers_of_driver(name: str, kernel: ports.Answers, answers: dict[str, bytes]) -> None:
    def ask(question: bytes, room: int) -> None:
        answers[f"driver {name} {question.hex()}"] = kernel.driver(name, question, room)

    counters, features = len(kernel.counters[name]), len(kernel.features[name])
    ask(*driver_question())
    for names, count in ((STATISTICS, counters), (FEATURES, features)):
        ask(*count_question(names))
        ask(*names_question(names, count))
    ask(*values_question(counters))
    ask(*features_question(features))
