"""One name space on its node: which block device it is, and who uses it. For claims on parts of a drive."""

from collections.abc import Iterator
from pathlib import Path

from collectors._dmi import usable
from collectors._procfs import link, names, read_text
from collectors.nvme.content import Mounts, read_content
from collectors.nvme.sysfs import Block, Drive, read_drives


def find_block(root: Path, address: str, part: str) -> Block | None:
    """Give the block device of a name space of the drive at an address, by its part (`part_key`); None for none."""
    asked = part.partition(":")[2].rpartition(":")[2].lower()
    for drive in read_drives(root):
        if drive.address == address and asked:
            return next((block for block in drive.blocks if asked in _identities(drive, block)), None)
    return None


def uses(root: Path, block: Block) -> Iterator[str]:
    """Give what the host keeps on it: `mount:<point>`, `swap`, and what is built on it, `holder:dm-0`."""
    content = read_content(root, block, Mounts(root))
    yield from (f"mount:{one.partition('=')[2]}" for one in content.mounts)
    yield from (f"holder:{one.partition('=')[2]}" for one in content.holders)
    own = set(nodes(block))
    for line in read_text(root / "proc/swaps").split("\n")[1:]:
        path = line.split(" ")[0]
        if {path, f"/dev/{link(f'{root}{path}').rpartition('/')[2]}"} & own:
            yield "swap"


def nodes(block: Block) -> list[str]:
    """Give the files below `/dev` through which it is used: the whole, and its partitions."""
    return [f"/dev/{one}" for one in (block.name, *names(block.folder)) if one.startswith(block.name)]


def _identities(drive: Drive, block: Block) -> set[str]:
    """Give by what its documents name it."""
    serial = usable(drive.serial)
    told = (block.uuid, block.nguid, block.eui64, f"{serial}/{block.nsid}" if serial else "")
    return {one.lower() for one in told if one}
