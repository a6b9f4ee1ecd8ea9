"""Rules for drives, arrays and file systems.

Source: Linux `drivers/nvme/host/pci.c`, `block/blk-core.c`, `fs/buffer.c`, `drivers/md/raid1.c`, `raid5.c`,
`fs/ext4/super.c`, `fs/xfs/xfs_fsops.c`.
"""

from typing import Final

from collectors.log_rules.rule import Rule
from schemas.events import EventSpec
from schemas.rows import Severity

_NVME: Final = r"nvme (?P<controller>nvme\d+): "

RULES: Final = (
    Rule(
        type="kernel.nvme.timeout",
        begins=("nvme ",),
        pattern=(
            _NVME + r"I/O (?:tag )?(?P<tag>\d+).*?\bQID (?P<queue>\d+) timeout, "
            r"(?P<then>aborting|reset controller|disable controller|completion polled)"
        ),
        numbers=frozenset(("tag", "queue")),
        text="A command of {controller} took too long: {then}",
        same=("controller", "then"),
    ),
    Rule(
        type="kernel.nvme.reset",
        begins=("nvme ",),
        pattern=(
            _NVME + r"(?P<reason>controller is down|resetting controller|frozen state error detected)"
            r"(?:; will reset: CSTS=(?P<csts>0x[0-9a-f]+))?"
        ),
        numbers=frozenset(("csts",)),
        text="The controller {controller} is being reset",
        same=("controller",),
    ),
    Rule(
        type="kernel.nvme.failed",
        severity=Severity.CRITICAL,
        begins=("nvme ",),
        pattern=(
            _NVME + r"(?P<reason>Disabling device after reset failure|Removing after probe failure|"
            r"Device not ready; aborting (?:reset|initiali[sz]ation)|Identify Controller failed)"
            r"(?:.*?(?P<status>-\d+))?"
        ),
        numbers=frozenset(("status",)),
        text="The controller {controller} is of no use any more: {reason}",
        same=("controller", "reason"),
    ),
    Rule(
        type="kernel.block.error",
        begins=(
            "blk_update_request: ",
            "I/O error, dev ",
            "critical ",
            "timeout error, dev ",
            "recoverable transport",
            "device offline error",
            "nexus error, dev",
            "protection error",
        ),
        pattern=(
            r"(?:blk_update_request: )?(?P<kind>[\w/ ]+?) error, dev (?P<block>[\w!-]+), sector (?P<sector>\d+)"
            r"(?: op 0x[0-9a-f]+:\((?P<operation>\w+)\))?"
        ),
        numbers=frozenset(("sector",)),
        text="Error of {block} at sector {sector}: {kind}",
        same=("block", "kind", "operation"),
    ),
    Rule(
        type="kernel.block.error",
        begins=("Buffer I/O error on dev",),
        pattern=(
            r"Buffer (?P<kind>I/O) error on dev(?:ice)? (?P<block>[\w!-]+), logical block (?P<logical_block>\d+)"
            r"(?:, (?P<operation>.*))?"
        ),
        numbers=frozenset(("logical_block",)),
        text="Error of {block} at its block {logical_block}: {kind}",
        same=("block", "kind", "operation"),
    ),
    Rule(
        type="kernel.array.disk_failed",
        severity=Severity.CRITICAL,
        begins=("md/raid",),
        pattern=(r"md/(?P<raid>raid\d*):(?P<array>\w+): Disk failure on (?P<block>\w+), disabling device"),
        text="The array {array} does without {block}, which failed",
        same=("array", "block"),
    ),
    Rule(
        type="kernel.file_system.error",
        begins=("EXT4-fs error", "BTRFS error", "BTRFS critical", "F2FS-fs (", "FAT-fs ("),
        pattern=(
            r"(?P<file_system>EXT4|BTRFS|F2FS|FAT)(?:-fs)? (?:error|critical)?:? ?"
            r"\((?:device )?(?P<block>[\w!-]+)[^)]*\):? "
            r"(?P<reason>.{1,200})"
        ),
        text="{file_system} on {block} is damaged: {reason}",
        same=("block",),
    ),
    Rule(
        type="kernel.file_system.read_only",
        severity=Severity.CRITICAL,
        begins=("EXT4-fs (", "EXT3-fs (", "BTRFS info"),
        pattern=(
            r"(?P<file_system>EXT4|EXT3|BTRFS)\S* (?:info )?\((?:device )?(?P<block>[\w!-]+)[^)]*\)(?:[^:]*): "
            r"(?:Remounting filesystem|forced|remounting) read-?only"
        ),
        text="{file_system} on {block} can only be read now",
        same=("block",),
    ),
    Rule(
        type="kernel.file_system.error",
        begins=("XFS (",),
        pattern=(
            r"(?P<file_system>XFS) \((?P<block>[\w!-]+)\): (?P<reason>(?:Metadata|metadata|Internal|Corruption|log|"
            r"writeback|Uncorrected|Filesystem has been shut down|xfs_do_force_shutdown).{0,160})"
        ),
        severity=Severity.ERROR,
        text="{file_system} on {block} is damaged: {reason}",
        same=("block",),
    ),
)

_BLOCK: Final = ("block", "kind", "sector", "logical_block", "operation")
EVENTS: Final = (
    EventSpec(
        "kernel.nvme.timeout",
        "A drive did not answer a command in time; `then` is what the kernel does.",
        (Severity.ERROR,),
        ("controller", "tag", "queue", "then"),
    ),
    EventSpec(
        "kernel.nvme.reset",
        "The kernel resets a drive's controller.",
        (Severity.ERROR,),
        ("controller", "reason", "csts"),
    ),
    EventSpec(
        "kernel.nvme.failed",
        "The kernel gave up a drive: it did not come back from a reset, or never answered.",
        (Severity.CRITICAL,),
        ("controller", "reason", "status"),
    ),
    EventSpec("kernel.block.error", "A drive could not read or write.", (Severity.ERROR,), _BLOCK),
    EventSpec(
        "kernel.array.disk_failed",
        "An array does without a drive that failed.",
        (Severity.CRITICAL,),
        ("array", "raid", "block"),
    ),
    EventSpec(
        "kernel.file_system.error",
        "A file system is damaged, or was shut down.",
        (Severity.ERROR,),
        ("file_system", "block", "reason"),
    ),
    EventSpec(
        "kernel.file_system.read_only",
        "A file system can only be read after an error.",
        (Severity.CRITICAL,),
        ("file_system", "block"),
    ),
)
