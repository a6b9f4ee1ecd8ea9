"""The words of capability documents: what a device can do, by one name, one type and one meaning for all sources.

Every word can be left out: then the source did not say. A number's name ends in its base unit. What is made of a word
(filters, variants, relations) takes its name and type from here.
"""

from typing import Final

import msgspec


class Word(msgspec.Struct, frozen=True):
    """One word of a capability document."""

    name: str
    type: type[bool] | type[int] | type[float] | type[str] | type[list[str]]
    meaning: str
    own: bool = False
    """Whether it tells where a device is and what is done with it; else what all devices of its making have alike."""


MAX_GROUP_MEMBERS: Final = 128
"""Larger groups are told by their number alone: with each member's list they would grow with the square."""

PCI_WORDS: Final = (
    Word("pci_vendor_id", str, "Vendor, 4 hexadecimal digits: `10de`."),
    Word("pci_device_id", str, "Device, 4 hexadecimal digits: `2330`."),
    Word("pci_subsystem_vendor_id", str, "Who made the board, 4 hexadecimal digits; absent when the board says 0000."),
    Word("pci_subsystem_id", str, "The board, 4 hexadecimal digits; absent when the board says 0000:0000."),
    Word("pci_class", str, "Base class, class and interface, 6 hexadecimal digits: `010802` is NVMe."),
    Word(
        "pci_serial",
        str,
        "The device serial number capability, `b8-3f-d2-ff-ff-9e-41-6c`; one for all functions.",
        own=True,
    ),
    Word("card_serial", str, "What is printed on the card; one for all its functions.", own=True),
    Word("pci_slot", str, "The physical slot's name as the kernel knows it: `3`, or `3-1`.", own=True),
    Word("bridge", bool, "True for a bridge to another bus, which is no endpoint of its IOMMU group."),
    Word("acs", bool, "Whether this port keeps what is below it apart (Access Control Services, all four that count)."),
    Word("driver", str, "The kernel's driver that has the function; empty when none has.", own=True),
    Word("driver_override", str, "The only driver that may have the function.", own=True),
    Word("numa_node", int, "The NUMA node; absent when the firmware does not say.", own=True),
    Word("iommu_group", int, "The IOMMU group; absent without an IOMMU.", own=True),
    Word(
        "iommu_group_members",
        list[str],
        "PCI addresses of all in that group, itself and bridges too, sorted; absent above 128.",
        own=True,
    ),
    Word("iommu_group_bridges", list[str], "Those of the members that are bridges; absent when none is.", own=True),
    Word("pcie_root", str, "PCI address of the root port above; absent for what sits on the root bus.", own=True),
    Word(
        "pcie_switch",
        str,
        "PCI address of the upstream port of the nearest switch above; absent without a switch.",
        own=True,
    ),
    Word("pcie_generation", int, "The highest generation of PCI Express that the device can do, 1 to 6."),
    Word("pcie_width", int, "The most lanes that the device can use, 1 to 32."),
    Word("bars", list[str], "Its address windows, `<number>:<bytes>:<io|memory32|memory64>[-prefetchable]`, or `rom`."),
    Word("bar_memory_bytes", int, "Bytes of memory windows together, which a virtual machine must find room for."),
    Word("reset_methods", list[str], "Ways in which the kernel can reset the function alone, best first."),
    Word("d3cold_allowed", bool, "Whether the kernel may take its power away while it is idle."),
    Word("boot_vga", bool, "Whether the firmware used it as the console.", own=True),
    Word("sriov_total_vfs", int, "The most virtual functions that it can have."),
    Word("sriov_vfs", int, "The virtual functions that it has.", own=True),
    Word("sriov_offset", int, "Routing id of the first virtual function, counted from its own; absent without any."),
    Word("sriov_stride", int, "Routing ids from one virtual function to the next; absent without any."),
    Word("sriov_vf_device_id", str, "Device id of the virtual functions, 4 hexadecimal digits."),
    Word("vf_index", int, "Which virtual function of its parent it is, from 0.", own=True),
    Word("host_needs", list[str], "What the host loses with it: `mount:/boot`, `swap`, `default-route`.", own=True),
    Word(
        "in_use_by",
        list[str],
        "Programs that hold it through vfio, `<name>/<process id>`; absent: none is known.",
        own=True,
    ),
    Word(
        "vfio_in_use",
        bool,
        "Whether a program holds its vfio group or device open; absent when nobody can tell.",
        own=True,
    ),
)
"""What the PCI bus, and the kernel's handling of it, tells of a function.

Sources: Documentation/ABI/testing/sysfs-bus-pci of Linux; PCI Express Base Specification 6.0, 6.12 (ACS), 7.9.3 (DSN).
"""

OWN_PCI_WORDS: Final = frozenset(word.name for word in PCI_WORDS if word.own)
"""Names of the words that tell of one device and not of its making."""

DPU_WORDS: Final = (
    Word(
        "offloads",
        list[str],
        "What it takes off its host, each `<what>=<hardware|software>`: `encryption=hardware`, `compression=software`.",
    ),
    Word("encryption_algorithms", list[str], "Ciphers: `aes-gcm-256`, `aes-xts-512`; absent without encryption."),
    Word("compression_algorithms", list[str], "What it compresses to: `deflate`; absent when it does not."),
    Word("decompression_algorithms", list[str], "What it decompresses: `deflate`, `lz4`; absent when it does not."),
    Word("protocols", list[str], "What it handles in place of its host: `ipsec`, `tls`, `nvme-of`, `roce-v2`."),
    Word("encryption_rate_bytes_per_second", int, "The most that it encrypts, by all ciphers together."),
    Word("compression_rate_bytes_per_second", int, "The most that it compresses."),
    Word("link_rate_bytes_per_second", int, "The rate of its port, in one direction."),
    Word("ports", int, "Network ports."),
    Word("cores", int, "Cores of its own, for services that run on it."),
    Word("memory_bytes", int, "Memory of its own."),
    Word("storage_bytes", int, "Storage of its own."),
    Word("subfunctions", int, "The most subfunctions (devlink ports of the flavour pcisf) that it can have."),
    Word("flows", int, "The most flows that it can keep in hardware."),
    Word("security_associations", int, "The most IPsec security associations; absent without encryption."),
    Word("firmware_versions", list[str], "Of its parts, each `<part>=<version>`, sorted: `bmc=24.07-14`."),
    Word("boot_progress", str, "How far its own processors have booted: BootProgress.LastState of Redfish.", own=True),
    Word("boot_error", str, "Why it does not boot, in its firmware's words; absent when it does.", own=True),
    Word(
        "reset_cause",
        str,
        "Why it was reset last: `crash`, `firmware`, `power-loss`, `pcie-uncorrectable`, `host-reset`,"
        " `host-power-cycle`; absent when it was not, or nobody knows.",
        own=True,
    ),
    Word("management_endpoint", str, "Where its management answers: an URL.", own=True),
    Word("dpu_node", str, "Id of the node that it is: system UUID of its own machine.", own=True),
)
"""What a DPU can do, beside what its PCI function tells, and how it fares.

Sources: the OPI charter, "Provisioning and life cycle" (resources, offloads, algorithms, performance); Redfish
ComputerSystem 1.22, BootProgress; devlink-resource(8), devlink-port(8).
"""

OWN_DPU_WORDS: Final = frozenset(word.name for word in DPU_WORDS if word.own)
"""Names of the words that tell of one device and not of its making."""

NODE_OF_DPU_WORDS: Final = (
    Word("host_node", str, "Id of the node in which the DPU sits that this node is.", own=True),
    Word("host_device", str, "The DPU's name in the documents of that node.", own=True),
)
"""What a node says that is a DPU: where its host finds it."""

DRIFT_WORDS: Final = (
    Word("vnic", str, "Id of the cloud's VNIC that it is; absent: none, or no metadata service told any.", own=True),
    Word(
        "drift",
        list[str],
        "How it differs from what the cloud's metadata or its operator say, for people; absent: it does not, or nobody"
        " said how it should be.",
        own=True,
    ),
)
"""How a device differs from what it should be."""

OWN_DRIFT_WORDS: Final = frozenset(word.name for word in DRIFT_WORDS if word.own)
"""Names of the words that tell of one device and not of its making."""
