"""What a step's process is told, and what is checked before anything is done with what came over the wire."""

import re
from typing import Final

import msgspec

from collectors.claims.options import Hook
from schemas.claims import ClaimDevice, ClaimStep, Step
from schemas.device import DeviceKind, pci_address
from schemas.mig import read_plan

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z")
_KINDS: Final = frozenset(kind.value for kind in DeviceKind)
_LONGEST: Final = 255


class Order(msgspec.Struct, array_like=True, frozen=True):
    """One step for one device."""

    step: Step
    claim: str
    tenant: str
    consumer: str
    generation: int
    sequence: int
    device: ClaimDevice
    name: str = ""
    """The hook's name in the configuration; "" without one."""
    hook: Hook | None = None
    """None: nothing is to be run, only read."""
    root: str = "/"
    output_bytes: int = 4096
    reset: bool = True
    lender: str = ""
    """Folder of the collector that has all GPUs open, and lends them; "" for none."""
    library: str = ""
    """Path of NVIDIA's management library; "": the system's."""
    again: bool = False
    """Whether the device was confirmed for this very claim in this boot: who uses it may be the claim's own."""
    beside: bool = False
    """Whether the tenant has another member of its group already, for passthrough: so its programs may have it open."""


def order_of(step: ClaimStep, device: ClaimDevice) -> Order:
    """Give the order for one device of a step, yet without a hook."""
    return Order(step.step, step.claim, step.tenant, step.consumer, step.generation, step.sequence, device)


def wrong_with(order: Order) -> str:
    """Say why an order cannot be meant; "" when it can. Addresses become paths below `/sys`: they must be addresses."""
    device = order.device
    if not _NAME.match(device.device) or (order.claim and not _NAME.match(order.claim)):
        return "a name of a claim or device that is none"
    if device.kind not in _KINDS:
        return f"{device.kind[:40]!r} is no kind of device"
    if device.mode not in ("passthrough", "driver"):
        return f"{device.mode[:40]!r} is no mode"
    if device.profile and read_plan(device.profile) is None:
        return f"{device.profile[:40]!r} is no plan of a partition"
    for address in (device.address, device.parent, *device.members):
        if address and not _is_address(address):
            return f"{address[:40]!r} is no PCI address"
    return ""


def _is_address(text: str) -> bool:
    try:
        return pci_address(text) == text
    except ValueError:
        return False


def plain(text: str) -> str:
    """Give a text of somebody's as it may stand in an environment or a log: printable, and not long."""
    return "".join(character if character.isprintable() else "?" for character in text[:_LONGEST])


def environment(order: Order) -> dict[str, str]:
    """Give what a hook finds in its environment: typed fields of the step, and nothing of the agent's own."""
    device = order.device
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "MUSTER_STEP": order.step.value,
        "MUSTER_CLAIM": order.claim,
        "MUSTER_TENANT": plain(order.tenant),
        "MUSTER_CONSUMER": plain(order.consumer),
        "MUSTER_EPOCH": f"{order.generation}.{order.sequence}",
        "MUSTER_DEVICE": device.device,
        "MUSTER_KIND": device.kind,
        "MUSTER_PART": plain(device.part),
        "MUSTER_ADDRESS": device.address,
        "MUSTER_SLOT": plain(device.path),
        "MUSTER_MODE": device.mode,
        "MUSTER_GROUP": "" if device.group < 0 else str(device.group),
        "MUSTER_MEMBERS": " ".join(device.members),
        "MUSTER_PARENT": device.parent,
        "MUSTER_PROFILE": plain(device.profile),
        "MUSTER_MAC": plain(device.expected.get("mac", "")),
        "MUSTER_VLAN": plain(device.expected.get("vlan", "")),
    }
