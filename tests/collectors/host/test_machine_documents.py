"""What a machine is: the node and its processors, on a big server and on one that says nothing."""

from pathlib import Path

import msgspec
import pytest

from collectors._dmi import usable, usable_uuid
from collectors.host_machine import describe_machine
from schemas.device import DeviceKind, Document, decode_document, encode_document

_DMI = {
    "sys_vendor": "Supermicro",
    "product_name": "SYS-821GE-TNHR",
    "product_version": "0123456789",
    "product_serial": "S512345X4108888",
    "product_sku": "To be filled by O.E.M.",
    "product_uuid": "00000000-0000-0000-0000-AC1F6BDEADBE",
    "board_vendor": "Supermicro",
    "board_name": "X13DEG-OAD",
    "chassis_serial": "C8010LK12345",
    "chassis_type": "23",
    "bios_vendor": "American Megatrends International, LLC.",
    "bios_version": "2.1",
    "bios_date": "12/12/2023",
}


def numa_server(root: Path) -> Path:
    """Write a server of 2 packages of 32 cores with 2 threads each, and 4 NUMA nodes, as Linux 6 shows it."""
    records = []
    for cpu in range(128):
        package, core = cpu // 32 % 2, cpu % 32
        records.append(
            f"processor\t: {cpu}\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\n"
            f"model name\t: Intel(R) Xeon(R) Platinum 8462Y+\nstepping\t: 8\n"
            "microcode\t: 0x2b0004d0\ncpu MHz\t\t: 2800.000\n"
            f"physical id\t: {package}\ncore id\t\t: {core}\nflags\t\t: fpu vmx avx2 avx512f amx_tile sgx\n"
            "address sizes\t: 46 bits physical, 57 bits virtual\n"
        )
        folder = f"sys/devices/system/cpu/cpu{cpu}"
        first = cpu % 64
        _write(root, f"{folder}/topology/physical_package_id", str(package))
        _write(root, f"{folder}/topology/core_id", str(core))
        _write(root, f"{folder}/topology/die_id", "0")
        _write(root, f"{folder}/node{cpu // 16 % 4}/cpulist", "")
        _write(root, f"{folder}/cpufreq/cpuinfo_max_freq", "4100000")
        _write(root, f"{folder}/cpufreq/scaling_cur_freq", str(2_800_000 + cpu))
        shared = f"{package * 32}-{package * 32 + 31},{package * 32 + 64}-{package * 32 + 95}"
        for index, (level, kind, size, who) in enumerate(
            (
                ("1", "Data", "48K", f"{first},{first + 64}"),
                ("1", "Instruction", "32K", f"{first},{first + 64}"),
                ("2", "Unified", "2048K", f"{first},{first + 64}"),
                ("3", "Unified", "61440K", shared),
            )
        ):
            for name, text in (("level", level), ("type", kind), ("size", size), ("shared_cpu_list", who)):
                _write(root, f"{folder}/cache/index{index}/{name}", text)
    _write(root, "proc/cpuinfo", "\n".join(records))
    _write(root, "proc/meminfo", "MemTotal:       2113929216 kB\n")
    for name, text in _DMI.items():
        _write(root, f"sys/class/dmi/id/{name}", text)
    for node in range(4):
        _write(root, f"sys/devices/system/node/node{node}/cpulist", "")
    _write(root, "proc/sys/kernel/hostname", "gpu-7")
    _write(root, "etc/os-release", 'NAME="Ubuntu"\nVERSION_ID="22.04"\nID=ubuntu\nPRETTY_NAME="Ubuntu 22.04.4 LTS"\n')
    lines = [f"cpu{cpu} 100 0 50 800 5 0 0 0 0 0" for cpu in range(128)]
    _write(root, "proc/stat", "cpu  12800 0 6400 102400 640 0 0 0 0 0\n" + "\n".join(lines) + "\nintr 1\nctxt 5\n")
    return root


def _write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text + "\n")


def _documents(root: Path) -> list[Document]:
    return list(describe_machine(root))


def test_node_document_names_the_machine(tmp_path: Path) -> None:
    """R001-1: vendor, serial number, firmware versions."""
    node = _documents(numa_server(tmp_path))[0]
    assert ("node", DeviceKind.NODE) == (node.device, node.kind)
    assert ["uuid:00000000-0000-0000-0000-ac1f6bdeadbe", "serial:S512345X4108888"] == node.merge_keys
    assert ("Supermicro", "SYS-821GE-TNHR", "2.1") == (node.part.vendor, node.part.model, node.part.firmware)
    assert ("", "") == (node.part.part_number, node.part.revision)  # both were placeholders
    facts = node.capabilities
    assert ("rack mount chassis", "C8010LK12345") == (facts["chassis_type"], facts["chassis_serial"])
    assert (2, 64, 128, 4) == (facts["processors"], facts["cores"], facts["threads"], facts["numa_nodes"])
    assert 2113929216 * 1024 == facts["memory_bytes"]
    assert "Ubuntu 22.04.4 LTS" == facts["os_name"]


def test_each_package_has_a_document_with_its_own_share(tmp_path: Path) -> None:
    """R001-2: cores and what they can do."""
    first, second = _documents(numa_server(tmp_path))[1:]
    assert ("cpu:0", "cpu:1", "node") == (first.device, second.device, second.parent)
    assert {
        "cores": 32,
        "threads": 64,
        "cpus": "32-63,96-127",
        "numa_nodes": ["2", "3"],
        "flags": ["avx2", "avx512f", "amx_tile", "vmx", "sgx"],
        "frequency_max_hertz": 4_100_000_000,
        "address_bits_physical": 46,
        "virtualization": "vmx",
        "cache_l1d_bytes": 32 * 48 << 10,
        "cache_l1i_bytes": 32 * 32 << 10,
        "cache_l2_bytes": 32 * 2048 << 10,
        "cache_l3_bytes": 61440 << 10,
    } == second.capabilities
    assert ("GenuineIntel", "6-143-8", "0x2b0004d0") == (second.part.vendor, second.part.revision, second.part.firmware)


def test_documents_survive_the_wire(tmp_path: Path) -> None:
    for document in _documents(numa_server(tmp_path)):
        assert document == decode_document(encode_document(document))


def test_machine_that_says_nothing_still_has_a_node(tmp_path: Path) -> None:
    (node,) = _documents(tmp_path)
    assert ([], "") == (node.merge_keys, node.part.serial)
    assert not {"memory_bytes", "processors", "memory_slots", "chassis_type"} & node.capabilities.keys()
    assert msgspec.json.encode(node)


@pytest.mark.parametrize(
    "text", ["Default string", " to be filled by o.e.m. ", "N/A", "0", "....", "Unknown", "", "\0"]
)
def test_placeholder_is_nothing(text: str) -> None:
    assert "" == usable(text)


@pytest.mark.parametrize("text", ["S512345X4108888", "Dell Inc.", "R750", "0A1"])
def test_word_that_means_something_is_kept(text: str) -> None:
    assert text == usable(text)


def test_uuid_of_zeros_and_a_mac_address_is_one_machines() -> None:
    assert "00000000-0000-0000-0000-ac1f6bdeadbe" == usable_uuid("00000000-0000-0000-0000-AC1F6BDEADBE")
