"""Drives and their name spaces become capability documents, merged with what `pci` says of the same functions."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec

from collectors._procfs import link
from collectors.metrics_nvme import NVME_OCP_METRICS
from collectors.nvme import logs, ocp
from collectors.nvme.content import Content, Mounts, read_content
from collectors.nvme.identify import Namespace
from collectors.nvme.sysfs import Block, limits
from collectors.nvme.units import Unit, vf_device
from collectors.nvme.virtualization import primary_words, secondary_words
from collectors.pci_names import PciNames
from collectors.pci_sysfs import UnreadableError, place, read_function
from schemas.device import DeviceKind, Document, Part, Slot, Value

_PAGES = {
    logs.SELF_TEST: ("nvme.self_test", "nvme.self_test_ratio", "nvme.self_test_result"),
    logs.SANITIZE: ("nvme.sanitize", "nvme.sanitize_ratio"),
    logs.FIRMWARE: ("nvme.firmware_slot",),
}
"""By log page, the metrics that a drive without it does not report."""


class Space(msgspec.Struct, frozen=True):
    """A name space, as its drive and the kernel tell of it."""

    unit: Unit
    nsid: int
    told: Namespace | None
    """What the drive says; None when it may not be asked."""
    block: Block | None
    """None when the kernel made no block device of it."""
    uuid: str = ""

    @property
    def sectors(self) -> int | None:
        """Give its sectors, of the size in use."""
        if self.told is not None and self.told.format is not None:
            return self.told.sectors
        if self.block is None or not self.block.capacity_bytes or not self.block.sector_bytes:
            return None
        return self.block.capacity_bytes // self.block.sector_bytes

    @property
    def sector_bytes(self) -> int | None:
        """Give the bytes of data of a sector."""
        if self.told is not None and self.told.format is not None:
            return self.told.format.sector_bytes
        return self.block.sector_bytes if self.block else None

    @property
    def capacity_bytes(self) -> int | None:
        """Give all its bytes."""
        sectors, sector_bytes = self.sectors, self.sector_bytes
        return None if sectors is None or sector_bytes is None else sectors * sector_bytes

    @property
    def format(self) -> str:
        """Give the format in use; "" when only the drive could tell."""
        return self.told.format.words if self.told is not None and self.told.format is not None else ""

    @property
    def device(self) -> str:
        """Give its id."""
        return f"nvme-namespace:{self.unit.device.partition(':')[2]}/{self.nsid}"

    @property
    def identities(self) -> list[str]:
        """Give what it says that it is, strongest first. The kernel's word goes before: it knows who says nonsense."""
        block = self.block
        uuid = block.uuid if block else self.uuid
        nguid = block.nguid if block else self.told.nguid if self.told else ""
        eui64 = block.eui64 if block else self.told.eui64 if self.told else ""
        pairs = (("nvme-uuid", uuid), ("nvme-nguid", nguid), ("nvme-eui", eui64))
        return [f"{word}:{value}" for word, value in pairs if value]


class Describer:
    """Describes all drives of one moment."""

    def __init__(self, root: Path, names: PciNames, units: list[Unit], spaces: list[Space]) -> None:
        """Look up what belongs to several of them."""
        self._root = root
        self._names = names
        self._mounts = Mounts(root)
        said = Counter(one for space in spaces for one in space.identities)
        self._spaces: dict[str, list[Space]] = {}
        self._attached: dict[str, list[Space]] = {}
        """By device, all that it can reach; in `_spaces` each is there once."""
        self._by_address = {unit.drive.address: unit for unit in units}
        seen: set[str] = set()
        for space in sorted(spaces, key=lambda one: one.unit.drive.index is not None):
            self._attached.setdefault(space.unit.device, []).append(space)
            shared = space.told is not None and space.told.shared
            alone = [one for one in space.identities if said[one] == 1 or shared]
            if shared and space.unit.drive.subsystem:  # there, one number is one name space
                alone.append(f"{space.unit.drive.subsystem}/{space.nsid}")
            if not seen & set(alone):  # the second way to a name space that several controllers have
                self._spaces.setdefault(space.unit.device, []).append(space)
            seen |= set(alone)
        self._said = said

    def drive(self, unit: Unit) -> Iterator[Document]:
        """Describe a drive, or a virtual function of one, then its name spaces; then its functions without driver."""
        vendor = self._vendor(unit)
        spaces = self._spaces.get(unit.device, [])
        yield self._function(unit, vendor) if unit.drive.physical else self._controller(unit, vendor, spaces)
        for space in spaces:
            yield self._namespace(space, vendor)
        for address, index in sorted(unit.drive.virtual.items()):
            if address not in self._by_address:
                yield self._idle(unit, address, index, vendor)

    def _function(self, unit: Unit, vendor: str) -> Document:
        """Describe a virtual function that the host's driver has. What is its drive's is told of that alone."""
        drive = unit.drive
        whole = self._by_address.get(drive.physical)
        division = whole.division if whole is not None else None
        known = [space.capacity_bytes for space in self._attached.get(unit.device, ())]
        facts: dict[str, Value | None] = {
            "controller": drive.name,
            "controller_id": drive.controller_id,
            "subsystem_nqn": drive.subsystem or None,
            "namespaces": len(known),
            "capacity_bytes": sum(size for size in known if size is not None) if known and None not in known else None,
            "not_permitted": ["identify", "logs"] if unit.denied else None,
        }
        if drive.index is not None:
            facts = secondary_words(drive.index, division.of(drive.index) if division else None) | facts
        return Document(
            unit.device,
            DeviceKind.VF,
            merge_keys=[f"pci:{drive.address}"],
            parent=whole.device if whole is not None else "",
            slot=Slot(address=drive.address),
            part=Part(vendor=vendor, model=drive.model, firmware=drive.firmware),
            capabilities=_said(facts),
            unsupported=self._unsupported(unit),
        )

    @staticmethod
    def _idle(unit: Unit, address: str, index: int, vendor: str) -> Document:
        """Describe a virtual function that the host's driver does not have: given away, or not online."""
        secondary = unit.division.of(index) if unit.division is not None else None
        return Document(
            vf_device(unit.device, index),
            DeviceKind.VF,
            merge_keys=[f"pci:{address}"],
            parent=unit.device,
            slot=Slot(address=address),
            part=Part(vendor=vendor, model=unit.drive.model),
            capabilities=_said(secondary_words(index, secondary)),
        )

    def _controller(self, unit: Unit, vendor: str, spaces: list[Space]) -> Document:
        drive = unit.drive
        keys = [unit.device, f"serial:{unit.serial}" if unit.serial else "", f"pci:{drive.address}"]
        path, _ = place(link(drive.function))
        return Document(
            unit.device,
            DeviceKind.NVME,
            merge_keys=list(dict.fromkeys(key for key in keys if key and key != f"nvme:{drive.address}")),
            slot=Slot(path=path, address=drive.address),
            part=Part(vendor=vendor, model=drive.model, serial=unit.serial, firmware=drive.firmware),
            capabilities=_said(self._facts(unit, spaces)),
            unsupported=self._unsupported(unit),
        )

    def _facts(self, unit: Unit, spaces: list[Space]) -> dict[str, Value | None]:
        drive, told, firmware = unit.drive, unit.controller, unit.firmware
        sizes = [space.capacity_bytes for space in spaces]
        own = sum(size for size in sizes if size is not None) if sizes and None not in sizes else None
        warning, critical = (told.warning_celsius, told.critical_celsius) if told else limits(drive)
        facts: dict[str, Value | None] = {
            "capacity_bytes": (told.capacity_bytes if told else None) or own,
            "namespaces": len(spaces),
            "controller": drive.name,
            "controller_id": drive.controller_id,
            "subsystem_nqn": drive.subsystem or None,
            "warning_celsius": warning,
            "critical_celsius": critical,
            "not_permitted": ["identify", "logs"] if unit.denied else None,
        }
        if told is not None:
            facts |= {
                "unallocated_bytes": told.unallocated_bytes,
                "most_namespaces": told.most_namespaces or None,
                "sanitize": list(told.sanitize),
                "format": told.can_format,
                "format_crypto_erase": told.format_crypto_erase if told.can_format else None,
                "self_test": told.can_self_test,
                "namespace_management": told.can_manage_namespaces,
                "nvme_version": told.version or None,
                "firmware_slots": told.firmware_slots or None,
            }
        if firmware is not None:
            facts["firmware_revisions"] = [f"{slot}={words}" for slot, words in firmware.revisions.items()]
            facts["firmware_slot"] = firmware.active or None
            facts["firmware_next_slot"] = firmware.next
        return facts | primary_words(unit.division)

    def _namespace(self, space: Space, vendor: str) -> Document:
        block, told = space.block, space.told
        keys = [one for one in space.identities if self._said[one] == 1 or (told and told.shared)]
        uuid = next((one.partition(":")[2] for one in keys if one.startswith("nvme-uuid:")), "")
        serial = next((one.partition(":")[2] for one in keys if not one.startswith("nvme-uuid:")), "")
        drive = space.unit.drive
        content = read_content(self._root, block, self._mounts) if block else Content()
        formatted = told is not None and told.format is not None
        facts: dict[str, Value | None] = {
            "capacity_bytes": space.capacity_bytes,
            "sectors": space.sectors,
            "sector_bytes": space.sector_bytes,
            "lba_format": space.format or None,
            "lba_formats": [one.words for one in told.formats] if told else None,
            "protection_type": (told.protection or None) if told else None,
            "used_bytes": told.used_sectors * told.format.sector_bytes if formatted and told and told.format else None,
            "nsid": space.nsid,
            "read_only": block.read_only if block else None,
            "block_device": block.name if block else None,
            "partition_table": content.partition_table or None,
            "partitions": list(content.partitions),
            "file_systems": list(content.file_systems),
            "mounts": list(content.mounts),
            "holders": list(content.holders),
        }
        return Document(
            space.device,
            DeviceKind.NVME_NAMESPACE,
            merge_keys=keys or [space.device],
            parent=space.unit.device,
            part=Part(
                vendor=vendor,
                model=drive.model,
                serial=serial or (f"{space.unit.serial}/{space.nsid}" if space.unit.serial else ""),
                uuid=uuid,
            ),
            capabilities=_said(facts),
        )

    def _vendor(self, unit: Unit) -> str:
        """Give the name of who made the function, as `pci` gives it."""
        try:
            function = read_function(self._root, unit.drive.address)
        except UnreadableError:
            function = None
        if function is None:
            return ""
        self._names.learn([(function.vendor, function.device)])
        return self._names.vendor(function.vendor)

    def _unsupported(self, unit: Unit) -> list[str]:
        """Give the metrics that a drive lastingly does not report, once it was asked for them."""
        missing = [metric for page, metrics in _PAGES.items() if page in unit.unsupported for metric in metrics]
        if ocp.PAGE in unit.unsupported:
            missing += [spec.name for spec in NVME_OCP_METRICS]
        return sorted(missing)


def _said(facts: dict[str, Value | None]) -> dict[str, Value]:
    return {name: value for name, value in facts.items() if value is not None and value != []}


def spaces_of(unit: Unit, told: dict[int, tuple[Namespace, str]] | None) -> list[Space]:
    """Give the name spaces of a drive: what it tells, and what the kernel made block devices of. None: not asked."""
    blocks = {block.nsid: block for block in unit.drive.blocks}
    found = []
    for nsid in sorted(blocks.keys() | (told or {}).keys()):
        namespace, uuid = (told or {}).get(nsid, (None, ""))
        if namespace is not None or nsid in blocks:
            found.append(Space(unit, nsid, namespace, blocks.get(nsid), uuid))
    return found
