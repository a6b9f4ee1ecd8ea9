"""How a simulated node differs from what it should be: its metadata service, what differs, and the events of that.

The metadata says how the node was made; what it is now, faults have changed (R000-3, R000-4).
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from collectors.simulated.effects import Effects
from collectors.simulated.hardware import Hardware
from collectors.simulated.identity import uuid
from collectors.vnics import Function, Match, compare, parse_vnics
from schemas.events import EventSpec
from schemas.rows import Event, Severity

EVENTS: Final = (
    EventSpec(
        "sriov.drift",
        "Functions are not as the cloud's metadata says. Made up by a simulated node.",
        (Severity.WARNING,),
        ("kind", "vnic", "simulated"),
    ),
    EventSpec(
        "sriov.drift_over",
        "What differed from the cloud's metadata does so no longer. Made up by a simulated node.",
        (Severity.NOTICE,),
        ("kind", "vnic", "simulated"),
    ),
    EventSpec(
        "nvme.drift",
        "A drive is formatted otherwise than it should be. Made up by a simulated node.",
        (Severity.WARNING,),
        ("kind", "simulated"),
    ),
    EventSpec(
        "nvme.drift_over",
        "A drive is formatted as it should be again. Made up by a simulated node.",
        (Severity.NOTICE,),
        ("kind", "simulated"),
    ),
)
"""What simulated nodes tell of drift."""
WRONG_FORMAT: Final = "wrong-format"


MOST_TOLD: Final = 16
"""Of one device, so many differences are told one by one."""


class Standing(msgspec.Struct, frozen=True, order=True):
    """A difference that there is now."""

    source: str
    """`sriov` or `nvme`."""
    device: str
    kind: str
    vnic: str
    message: str

    def event(self, now_ns: int, *, over: bool) -> Event:
        """Make the event that it has come, or is over."""
        detail: dict[str, str | bool] = {"kind": self.kind, "simulated": True}
        if self.vnic:
            detail["vnic"] = self.vnic
        name, severity = ("drift_over", Severity.NOTICE) if over else ("drift", Severity.WARNING)
        text = f"{self.device} no longer differs: {self.message}" if over else f"{self.device}: {self.message}"
        return Event(f"{self.source}.{name}", text, severity, self.device, detail, now_ns)


def metadata_answer(hardware: Hardware) -> bytes:
    """Give what the metadata service of a node answers: one VNIC for each function that it was made with."""
    vnics = [
        _vnic(hardware, port, hardware.port_macs[port], 0, f"10.0.{port}.2") for port in range(hardware.type.nic.ports)
    ]
    for vf, port in enumerate(hardware.vf_ports):
        address = f"10.{1 + port}.{vf // 250}.{vf % 250 + 2}"
        vnics.append(_vnic(hardware, port, hardware.vf_mac(vf), hardware.vf_vlans[vf], address))
    return msgspec.json.encode(vnics)


def match(hardware: Hardware, effects: Effects) -> Match | None:
    """Match the functions that there are with the metadata; None for a node that has no metadata service."""
    if not hardware.type.nic.metadata:
        return None
    ports = [
        Function(device, port, address, 0, virtual=False)
        for port, (device, address) in enumerate(zip(hardware.ports, hardware.port_macs, strict=True))
    ]
    functions = [
        Function(device, hardware.vf_ports[vf], vf_mac(hardware, effects, vf), vf_vlan(hardware, effects, vf))
        for vf, device in enumerate(hardware.vfs)
        if vf not in effects.vfs_missing
    ]
    return compare(parse_vnics(metadata_answer(hardware)), ports + functions)


def vf_mac(hardware: Hardware, effects: Effects, vf: int) -> str:
    """Give the MAC address that a virtual function has."""
    return hardware.vf_mac(vf, other=vf in effects.vfs_with_other_mac)


def vf_vlan(hardware: Hardware, effects: Effects, vf: int) -> int:
    """Give the VLAN that a virtual function has."""
    return effects.vf_vlans.get(vf, hardware.vf_vlans[vf])


def sector_bytes(hardware: Hardware, effects: Effects, drive: int) -> int:
    """Give the size of sectors that a drive is formatted with."""
    made: int = hardware.type.nvme.sector_bytes
    return (512 if made == 4096 else 4096) if drive in effects.drives_reformatted else made


def standing(hardware: Hardware, effects: Effects, found: Match | None) -> Iterator[Standing]:
    """Yield all that differs now. `found`: what `match` gave. What is missing is told of its port."""
    for one in found.drifts if found else ():
        device = one.device or hardware.ports[one.nic or 0]
        yield Standing("sriov", device, one.kind.value, one.vnic, one.message)
    made = hardware.type.nvme.sector_bytes
    for drive in sorted(effects.drives_reformatted):
        size = sector_bytes(hardware, effects, drive)
        message = f"LBA format {size}+0 instead of {made}+0"
        yield Standing("nvme", namespace(hardware, drive), WRONG_FORMAT, "", message)


def namespace(hardware: Hardware, drive: int) -> str:
    """Give the id of a drive's one name space."""
    return f"nvme-namespace:{hardware.drives[drive].partition(':')[2]}/1"


def told_of(device: str, now: list[Standing]) -> list[str]:
    """Give what differs of a device, for people; of much the first, and how many more there are."""
    messages = [one.message for one in now if one.device == device]
    more = len(messages) - MOST_TOLD
    return messages if more <= 0 else [*messages[:MOST_TOLD], f"and {more} more"]


def _vnic(hardware: Hardware, port: int, address: str, vlan: int, ip: str) -> dict[str, object]:
    """Make a VNIC as the service of a bare-metal node tells it."""
    name = uuid(hardware.seed, hardware.name, "vnic", port, address).replace("-", "")
    return {
        "vnicId": f"ocid1.vnic.simulated..{name}",
        "privateIp": ip,
        "vlanTag": vlan,
        "macAddr": address.upper(),
        "virtualRouterIp": f"{ip.rpartition('.')[0]}.1",
        "subnetCidrBlock": f"{ip.rpartition('.')[0]}.0/24",
        "nicIndex": port,
    }
