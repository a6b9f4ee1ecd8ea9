"""Devices and what they can do: identity, slot and part, and the capability document that describes one device."""

import re
from collections.abc import Iterable
from enum import Enum
from typing import Final

import msgspec

from schemas.digest import blake2b


class DeviceKind(Enum):
    """What a device is."""

    GPU = "gpu"
    GPU_PARTITION = "gpu-partition"
    NIC = "nic"
    VF = "vf"
    NVME = "nvme"
    NVME_NAMESPACE = "nvme-namespace"
    DPU = "dpu"
    BMC = "bmc"
    PSU = "psu"
    FAN = "fan"
    SENSOR_HUB = "sensor-hub"
    CPU = "cpu"
    MEMORY_MODULE = "memory-module"
    PCI_FUNCTION = "pci"
    NODE = "node"
    """The machine itself, as the parent of everything in it."""


class Slot(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Where a device sits. "" means not known. A slot outlives the parts that sit in it."""

    path: str = ""
    """Root complex, root port and bridges down to the device, without bus numbers, which move between boots:
    `pci0000:00/01.0/00.0` is a root bus, then device and function of a root port and of what is behind it. A virtual
    function is `<path of its PF>/vf<index>`; a bus behind an endpoint (VMD) is `pci:<its first bus>`."""
    location: str = ""
    """What is printed on the machine: `CPU2 SLOT2`."""
    address: str = ""
    """The PCI address of this boot, in normal form."""


class Part(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a device is, wherever it sits. "" means that the device did not say.

    A serial number or UUID is one device's alone; what says a number that others say too, says none.
    """

    vendor: str = ""
    model: str = ""
    part_number: str = ""
    serial: str = ""
    """What is printed on it. Function 0 of a card carries the card's, each other one the card's, a dot and its own
    number; a virtual function carries none."""
    uuid: str = ""
    revision: str = ""
    firmware: str = ""


def part_key(part: Part, node: str, slot: Slot) -> str:
    """Give the strongest identity of a part; for one that says nothing of itself, its place and making."""
    if part.uuid:
        return f"uuid:{part.uuid}"
    if part.serial:
        return serial_key(part)
    return f"slot:{node}:{slot.path or slot.address}:{part.vendor}:{part.model}"


def serial_key(part: Part) -> str:
    """Give the identity that a part's serial number is: a maker's number says nothing of another maker's part."""
    return f"serial:{part.vendor}:{part.serial}"


Value = bool | int | float | str | list[str]


class Document(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The capability document of one device, as one collector sees it.

    Several collectors may describe one device; documents that share a merge key are one device.
    """

    device: str
    """The id within its subject: `gpu:GPU-6f0c...`, `nvme:S64HNE0`, `pci:0000:3b:00.0`."""
    kind: DeviceKind
    merge_keys: list[str] = []
    """Stated identities, strongest first, each `<namespace>:<value>`: `pci:0000:3b:00.0`, `serial:S64HNE0`."""
    parent: str = ""
    """The device that this one is a part of (a VF's PF); "" for the node."""
    slot: Slot = Slot()
    part: Part = Part()
    capabilities: dict[str, Value] = {}
    """What it can do, by name; a number's name ends in its base unit: `memory_bytes`, `link_rate_bytes_per_second`."""
    unsupported: list[str] = []
    """Metrics that this device lastingly does not report (promise: absent is not zero, and this is why)."""


_document_decoder = msgspec.json.Decoder(Document, strict=True)


def encode_document(document: Document) -> str:
    """Give the document as JSON in one form only, so that equal documents have equal texts."""
    return msgspec.json.encode(document, order="sorted").decode()


def decode_document(text: str) -> Document:
    """Read a document. Raises msgspec.ValidationError or msgspec.DecodeError, nothing else."""
    try:
        return _document_decoder.decode(text)
    except RecursionError:
        raise msgspec.DecodeError("nested too deep") from None


def documents_hash(texts: list[str]) -> str:
    """Give the hash of a publisher's set of documents: equal sets, equal hashes, whatever their order."""
    return digests_hash(map(document_digest, texts))


def document_digest(text: str) -> bytes:
    """Give the digest of a document, 16 bytes."""
    return blake2b(text.encode(), digest_size=16).digest()


def digests_hash(digests: Iterable[bytes]) -> str:
    """Give what `documents_hash` gives for documents of which only the digests are known."""
    whole = blake2b(digest_size=16)
    for digest in sorted(set(digests)):
        whole.update(digest)
    return whole.hexdigest()


_PCI: Final = re.compile(
    r"(?:(?P<domain>[0-9a-fA-F]{1,8}):)?(?P<bus>[0-9a-fA-F]{1,2}):(?P<device>[0-9a-fA-F]{1,2})(?:\.(?P<function>[0-7]))?\Z"
)


def pci_address(text: str) -> str:
    """Give a PCI address in its one normal form, `0000:3b:00.0`.

    Takes what drivers, NVML (`00000000:3B:00.0`), kernel messages (`0000:3b:00`, no function: 0) and people (`3b:00.0`)
    write. Raises ValueError on anything else. Domains above 16 bits (VMD) keep their digits.
    """
    match = _PCI.match(text.strip())
    if match is None or int(match["device"], 16) > 0x1F:
        raise ValueError(f"{text!r} is not a PCI address such as 0000:3b:00.0")
    domain = int(match["domain"] or "0", 16)
    bus, device, function = int(match["bus"], 16), int(match["device"], 16), int(match["function"] or "0")
    return f"{domain:04x}:{bus:02x}:{device:02x}.{function}"
