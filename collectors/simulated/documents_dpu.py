"""The capability document of a simulated DPU, as its host and the DPU's own BMC tell it (R001-1, R001-2)."""

from typing import Final

from collectors.simulated.effects import Effects
from collectors.simulated.hardware import VENDOR, Hardware
from collectors.simulated.physics_dpu import boot_progress, encryption_rate
from schemas.device import DeviceKind, Document, Part, Slot, Value

FIRMWARE: Final = {"atf": "2.2-0", "bmc": "24.07-14", "bsp": "4.8.0", "uefi": "4.8.0-25"}
"""Names and numbers as a real card's BMC lists them, beside its network part's."""


def describe_dpu(hardware: Hardware, index: int, effects: Effects, pci: dict[str, Value]) -> Document:
    """Describe a DPU. `pci` is what the bus says of its function; what it cannot do now is left out."""
    model, place, text = hardware.dpu_model, hardware.layout.dpus[index], hardware.dpu_serials[index]
    versions = {**FIRMWARE, "nic": model.firmware}
    return Document(
        device=hardware.dpus[index],
        kind=DeviceKind.DPU,
        merge_keys=[f"serial:{text}", f"pci:{place.address}"],
        slot=Slot(path=place.path, location=place.location, address=place.address),
        part=Part(
            vendor=VENDOR,
            model=f"{VENDOR} {model.name}",
            part_number=model.part_number,
            serial=text,
            firmware=model.firmware,
        ),
        capabilities={
            **pci,
            "card_serial": text,
            "pcie_generation": model.pcie_generation,
            "pcie_width": 16,
            "sriov_total_vfs": model.functions,
            "sriov_vfs": 0,
            "ports": 1,
            "link_rate_bytes_per_second": model.link_bytes_per_second,
            "cores": model.cores,
            "memory_bytes": model.memory_bytes,
            "storage_bytes": model.storage_bytes,
            "subfunctions": model.subfunctions,
            "flows": model.flows,
            "security_associations": model.security_associations,
            "protocols": list(model.protocols),
            "firmware_versions": sorted(f"{part}={version}" for part, version in versions.items()),
            "dpu_node": hardware.dpu_node(index),
            "management_endpoint": f"https://{hardware.dpu_name(index)}-bmc.example/redfish/v1",
            **_offloads(hardware, index, effects),
            **_condition(effects, index),
        },
    )


def _offloads(hardware: Hardware, index: int, effects: Effects) -> dict[str, Value]:
    """Give what it does in hardware and in software now."""
    model = hardware.dpu_model
    software = index in effects.dpus_in_software
    does = dict.fromkeys(model.hardware, "hardware")
    if software:
        does["encryption"] = "software"
    compresses = list(model.compresses)
    if index in effects.dpu_services:
        does.setdefault("compression", "software")
        compresses = compresses or ["deflate"]
    return {
        "offloads": [f"{what}={how}" for what, how in sorted(does.items())],
        "encryption_algorithms": list(model.ciphers),
        "encryption_rate_bytes_per_second": encryption_rate(model, software=software),
        **({"compression_algorithms": compresses} if compresses else {}),
        "decompression_algorithms": list(model.decompresses),
    }


def _condition(effects: Effects, index: int) -> dict[str, Value]:
    """Give how far it has booted, and why it was reset last."""
    told: dict[str, Value] = {"boot_progress": boot_progress(effects, index)}
    stage = effects.dpus_down.get(index)
    if stage and stage.boot_error:
        told["boot_error"] = stage.boot_error
    if cause := effects.reset_causes.get(index):
        told["reset_cause"] = cause
    return told
