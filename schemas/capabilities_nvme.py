"""The words in which NVMe drives and their name spaces are described: one name, type and meaning for all sources."""

from typing import Final

from schemas.capabilities import Word

NVME_WORDS: Final = (
    Word("capacity_bytes", int, "All its storage, whatever is made of it."),
    Word(
        "unallocated_bytes", int, "Storage of which no name space is made; absent when it cannot be divided.", own=True
    ),
    Word("namespaces", int, "Name spaces that it has now.", own=True),
    Word("most_namespaces", int, "The most name spaces that it can have."),
    Word(
        "sanitize",
        list[str],
        "Ways in which it can erase all: `block-erase`, `crypto-erase`, `overwrite`; absent: none.",
    ),
    Word("format", bool, "Whether it can format its name spaces."),
    Word("format_crypto_erase", bool, "Whether a format can erase by throwing the key away."),
    Word("self_test", bool, "Whether it can test itself."),
    Word("namespace_management", bool, "Whether name spaces can be made and deleted."),
    Word("nvme_version", str, "Version of the specification that it follows: `1.4`."),
    Word("warning_celsius", float, "From here on it warns; absent when it does not say."),
    Word("critical_celsius", float, "From here on it may stop; absent when it does not say."),
    Word("firmware_slots", int, "Slots for firmware."),
    Word("firmware_revisions", list[str], "What is in them, each `<slot>=<revision>`.", own=True),
    Word("firmware_slot", int, "The slot that runs.", own=True),
    Word("firmware_next_slot", int, "The slot that runs after a reset; absent when it is the same.", own=True),
    Word("controller", str, "The kernel's name in this boot: `nvme0`.", own=True),
    Word("controller_id", int, "Its number among the controllers of its subsystem.", own=True),
    Word("subsystem_nqn", str, "Qualified name of its subsystem, one for all controllers of a drive.", own=True),
    Word("not_permitted", list[str], "What could not be read for lack of rights.", own=True),
    Word(
        "secondary_controllers",
        int,
        "Controllers of virtual functions that it can have; absent: it has no such.",
        own=True,
    ),
    Word("secondary_controllers_online", int, "Those of them that take commands.", own=True),
    Word("flexible_queues", int, "Pairs of queues that can be given to whichever of its controllers."),
    Word("flexible_queues_unassigned", int, "Those of them that no controller has.", own=True),
    Word("most_queues_per_vf", int, "The most of them that one virtual function can have."),
    Word("flexible_interrupts", int, "Interrupts that can be given to whichever of its controllers."),
    Word("flexible_interrupts_unassigned", int, "Those of them that no controller has.", own=True),
    Word("most_interrupts_per_vf", int, "The most of them that one virtual function can have."),
)
"""What a drive says of itself, beside what its PCI function tells. Source: NVM Express Base Specification 2.0, 5.17."""

NVME_VF_WORDS: Final = (
    Word("vf_online", bool, "Whether the controller of the virtual function takes commands.", own=True),
    Word("vf_queues", int, "Pairs of queues that its drive has given it; without any it cannot go online.", own=True),
    Word("vf_interrupts", int, "Interrupts that its drive has given it.", own=True),
)
"""What a drive says of its virtual functions, beside what these say themselves as drives do. Their capacity is that of
the name spaces that they have."""

NVME_NAMESPACE_WORDS: Final = (
    Word("capacity_bytes", int, "Its size: sectors by bytes of a sector."),
    Word("sectors", int, "Sectors of the size that is in use; not the 512 bytes in which Linux counts."),
    Word("sector_bytes", int, "Bytes of data of a sector."),
    Word("lba_format", str, "The format in use, bytes of data and of metadata of a sector: `4096+0`."),
    Word("lba_formats", list[str], "The formats that it can have."),
    Word("protection_type", int, "End-to-end protection in use, 1 to 3; absent without."),
    Word("used_bytes", int, "What is allocated; absent on drives that do not count it.", own=True),
    Word("nsid", int, "Its number in its subsystem.", own=True),
    Word("read_only", bool, "Whether the kernel writes nothing to it.", own=True),
    Word("block_device", str, "The kernel's name in this boot: `nvme0n1`; absent when it has no driver.", own=True),
    Word(
        "partition_table",
        str,
        "`gpt`, `dos`, `none`; absent when nobody looked: udev does.",
        own=True,
    ),
    Word("partitions", list[str], "Each `<number>:<first byte>:<bytes>`.", own=True),
    Word("file_systems", list[str], "What is on it and its partitions, each `<block device>=<type>`.", own=True),
    Word("mounts", list[str], "Where the host has mounted it, each `<block device>=<mount point>`.", own=True),
    Word("holders", list[str], "What is built on it, each `<block device>=<holder>`: `nvme0n1p2=dm-0`.", own=True),
)
"""What a name space is, and what is on it."""

OWN_NVME_WORDS: Final = frozenset(
    word.name for word in (*NVME_WORDS, *NVME_VF_WORDS, *NVME_NAMESPACE_WORDS) if word.own
)
"""Names of the words that tell of one device and not of its making."""
