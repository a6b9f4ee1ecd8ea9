"""GPUs and partitions become capability documents: what each is, what it can do, who uses it, in what state it is."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from collectors.nvml.gpus import Gpu
from collectors.nvml.library import Asker, Nvml, system
from collectors.nvml.partitions import Partition, mode_of, profiles_of, words_of
from collectors.nvml.topology import affinity, fabric, links_of, near
from collectors.nvml.users import MOST_USERS, User, counted, named
from collectors.pci_sysfs import UnreadableError, read_function
from schemas.device import DeviceKind, Document, Part, Slot, Value
from schemas.mig import partition_serial, partition_slot, partition_uuid, read_place

_VENDOR: Final = "NVIDIA"
_ARCHITECTURES: Final = {2: "Kepler", 3: "Maxwell", 4: "Pascal", 5: "Volta", 6: "Turing", 7: "Ampere", 8: "Ada",
                         9: "Hopper", 10: "Blackwell", 13: "Rubin"}  # fmt: skip
_COMPUTE_MODES: Final = {0: "default", 1: "exclusive-thread", 2: "prohibited", 3: "exclusive-process"}
_VIRTUALIZATION: Final = {0: "none", 1: "passthrough", 2: "vgpu", 3: "host-vgpu", 4: "host-vsga"}
RECOVERY: Final = {1: "reset", 2: "reboot", 3: "drain-peers", 4: "drain-and-reset", 5: "recover-imex-domain",
                   6: "bus-reset", 7: "reboot"}  # fmt: skip
"""Source: nvml.h, nvmlDeviceGpuRecoveryAction_t."""
_SM, _MEMORY_CLOCK = 1, 2
_SHUTDOWN, _SLOWDOWN = 0, 1
_MEGA: Final = 1_000_000
_GB200: Final = "c_nvmlPlatformInfo_v2_t"


class Facts(msgspec.Struct, frozen=True):
    """What holds for all GPUs of the node."""

    driver: str = ""
    library: str = ""
    cuda: str = ""
    confidential: bool | None = None


def facts_of(nvml: Nvml) -> Facts:
    """Ask for versions. Raises NewProcessError."""
    cuda = system(nvml, "nvmlSystemGetCudaDriverVersion_v2")
    state = system(nvml, "nvmlSystemGetConfComputeState")
    return Facts(
        system(nvml, "nvmlSystemGetDriverVersion") or "",
        system(nvml, "nvmlSystemGetNVMLVersion") or "",
        f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else "",
        None if state is None else bool(state.ccFeature),
    )


class Describer:
    """Makes the documents of one look."""

    def __init__(self, root: Path, gpus: Sequence[Gpu], facts: Facts, *, names: bool) -> None:
        """Prepare. `names`: whether programs that use a GPU are named, or only counted."""
        self._root = root
        self._gpus = gpus
        self._facts = facts
        self._names = names
        self._serials = Counter(gpu.identity.serial for gpu in gpus)

    def gpu(self, gpu: Gpu, users: list[User] | None) -> Document:
        """Describe a GPU. Raises GpuLostError, NewProcessError."""
        identity = gpu.identity
        asker = gpu.asker
        serial = identity.serial if self._serials[identity.serial] == 1 else ""  # boards of two have one number
        keys = [identity.device, f"serial:{serial}" if serial else "", f"pci:{identity.address}"]
        told: dict[str, Value | None] = {
            **self._common(),
            **_bus(gpu),
            **_making(asker),
            **_limits(asker),
            **_modes(asker),
            **links_of(gpu, self._gpus),
            **near(gpu, self._gpus),
            **affinity(asker, self._root),
            **fabric(asker),
            **_place(asker),
            **_division(gpu),
            **self._use(users),
            "variant_hint": _hint(identity.name),
            "confidential_computing": self._facts.confidential,
            "not_permitted": sorted(asker.denied) or None,
        }
        return Document(
            identity.device,
            DeviceKind.GPU,
            merge_keys=[key for key in keys if key and key != "pci:"],
            slot=self._slot(identity.address),
            part=Part(
                vendor=_VENDOR,
                model=identity.name,
                part_number=identity.part_number,
                serial=serial,
                uuid=identity.uuid,
                firmware=identity.vbios,
            ),
            capabilities=_said(told),
            unsupported=gpu.reader.unsupported if gpu.surveyed else [],
        )

    def bare(self, gpu: Gpu) -> Document:
        """Describe a GPU that answers nothing before it is reset: who it is, and that."""
        identity = gpu.identity
        return Document(
            identity.device,
            DeviceKind.GPU,
            merge_keys=[identity.device, *([f"pci:{identity.address}"] if identity.address else [])],
            slot=self._slot(identity.address),
            part=Part(vendor=_VENDOR, model=identity.name, uuid=identity.uuid, firmware=identity.vbios),
            capabilities=_said({**self._common(), **_bus(gpu), "reset_required": True}),
        )

    def partition(self, one: Partition, address: str, users: list[User] | None) -> Document:
        """Describe a partition of the GPU at an address."""
        place = read_place(one.placement)
        told: dict[str, Value | None] = {
            **self._common(),
            **one.attributes,
            **self._use(users),
            "mig_profile": one.profile or None,
            "mig_placement": one.placement or None,
            "mig_gpu_instance": one.gpu_instance,
            "mig_compute_instance": one.compute_instance,
            "mig_generation": one.generation,
        }
        return Document(
            one.device,
            DeviceKind.GPU_PARTITION,
            merge_keys=[one.device],
            parent=one.parent,
            slot=Slot() if place is None else partition_slot(self._slot(address), place),
            part=Part(
                vendor=_VENDOR,
                model=f"MIG {one.profile}".strip(),
                uuid=partition_uuid(one.uuid, one.generation),
                serial=partition_serial(one.gpu_instance, one.compute_instance, one.generation),
            ),
            capabilities=_said(told),
        )

    def _common(self) -> dict[str, Value | None]:
        facts = self._facts
        return {
            "driver_version": facts.driver or None,
            "nvml_version": facts.library or None,
            "cuda_version": facts.cuda or None,
        }

    def _use(self, users: list[User] | None) -> dict[str, Value | None]:
        if not users:
            return {}
        return {"in_use_by": named(self._root, users)[:MOST_USERS] if self._names else counted(users)}

    def _slot(self, address: str) -> Slot:
        path = ""
        if address:
            try:
                function = read_function(self._root, address)
            except UnreadableError:
                function = None
            path = "" if function is None or function.physical else function.path
        return Slot(path=path, address=address)


def _said(told: dict[str, Value | None]) -> dict[str, Value]:
    return {name: value for name, value in told.items() if value is not None}


def _hint(name: str) -> str | None:
    """Give `NVIDIA_H100` for `NVIDIA H100 80GB HBM3`: the maker and the model's own word."""
    words = [word for word in name.replace("-", " ").split() if word not in ("NVIDIA", "Tesla", "Quadro", "GeForce")]
    return f"{_VENDOR}_{words[0]}" if words else None


def _bus(gpu: Gpu) -> dict[str, Value | None]:
    identity = gpu.identity
    return {
        "pci_vendor_id": identity.vendor_id or None,
        "pci_device_id": identity.device_id or None,
        "pci_subsystem_vendor_id": identity.subsystem_vendor_id or None,
        "pci_subsystem_id": identity.subsystem_id or None,
    }


def _making(asker: Asker) -> dict[str, Value | None]:
    memory = asker.first(("nvmlDeviceGetMemoryInfo", 0x02000028), ("nvmlDeviceGetMemoryInfo",))
    window = asker.ask("nvmlDeviceGetBAR1MemoryInfo")
    capability = asker.ask("nvmlDeviceGetCudaComputeCapability")
    gsp = asker.ask("nvmlDeviceGetGspFirmwareVersion")
    return {
        "architecture": _ARCHITECTURES.get(asker.ask("nvmlDeviceGetArchitecture") or 0),
        "cuda_capability": None if capability is None else f"{capability[0]}.{capability[1]}",
        "cores": asker.ask("nvmlDeviceGetNumGpuCores"),
        "memory_bytes": None if memory is None else memory.total,
        "memory_bus_bits": asker.ask("nvmlDeviceGetMemoryBusWidth"),
        "bar1_bytes": None if window is None else window.bar1Total,
        "pcie_generation": asker.first(
            ("nvmlDeviceGetGpuMaxPcieLinkGeneration",), ("nvmlDeviceGetMaxPcieLinkGeneration",)
        ),
        "pcie_width": asker.ask("nvmlDeviceGetMaxPcieLinkWidth"),
        "max_sm_clock_hertz": _times(asker.ask("nvmlDeviceGetMaxClockInfo", _SM), _MEGA),
        "max_memory_clock_hertz": _times(asker.ask("nvmlDeviceGetMaxClockInfo", _MEMORY_CLOCK), _MEGA),
        "inforom_version": asker.ask("nvmlDeviceGetInforomImageVersion") or None,
        "gsp_firmware_version": (gsp.decode("ascii", "replace") if isinstance(gsp, bytes) else gsp) or None,
    }  # fmt: skip


def _limits(asker: Asker) -> dict[str, Value | None]:
    span = asker.ask("nvmlDeviceGetPowerManagementLimitConstraints")
    limit = asker.ask("nvmlDeviceGetPowerManagementDefaultLimit")
    slowdown = asker.ask("nvmlDeviceGetTemperatureThreshold", _SLOWDOWN)
    shutdown = asker.ask("nvmlDeviceGetTemperatureThreshold", _SHUTDOWN)
    return {
        "power_limit_watts": None if limit is None else limit / 1000,
        "power_limit_min_watts": None if span is None else span[0] / 1000,
        "power_limit_max_watts": None if span is None else span[1] / 1000,
        "slowdown_celsius": None if not slowdown else float(slowdown),
        "shutdown_celsius": None if not shutdown else float(shutdown),
    }


def _modes(asker: Asker) -> dict[str, Value | None]:
    ecc = asker.ask("nvmlDeviceGetEccMode")
    persistence = asker.ask("nvmlDeviceGetPersistenceMode")
    return {
        "ecc": None if ecc is None else bool(ecc[0]),
        "ecc_pending": None if ecc is None or ecc[0] == ecc[1] else bool(ecc[1]),
        "compute_mode": _COMPUTE_MODES.get(asker.ask("nvmlDeviceGetComputeMode")),
        "persistence_mode": None if persistence is None else bool(persistence),
        "virtualization_mode": _VIRTUALIZATION.get(asker.ask("nvmlDeviceGetVirtualizationMode")),
        "recovery_action": RECOVERY.get(recovery_action(asker) or 0),
    }


def recovery_action(asker: Asker) -> int | None:
    """Give what the driver says that a GPU needs, 0 for nothing; None when it does not say."""
    from collectors.nvml.fields import Field, Fields
    from schemas.verbosity import Level

    found: dict[str, Any] = {}
    Fields(asker, [Field("action", 230, Level.ESSENTIAL)]).read(found, Level.ESSENTIAL)
    return found.get("action")


def _place(asker: Asker) -> dict[str, Value | None]:
    """Give where a GPU says that it sits. Rack-scale systems know chassis and tray too."""
    from ctypes import c_uint

    platform = None
    make = getattr(asker.nvml, _GB200, None)
    if make is not None:
        platform = asker.fill("nvmlDeviceGetPlatformInfo", make())
    return {  # the binding's own place for a module's number is one for all calls: ours is handed in
        "module_id": asker.hand("nvmlDeviceGetModuleId", (), c_uint()),
        "minor_number": asker.ask("nvmlDeviceGetMinorNumber"),
        "chassis_serial": None if platform is None else _text(platform.chassisSerialNumber),
        "tray_index": None if platform is None else _byte(platform.trayIndex),
    }


def _division(gpu: Gpu) -> dict[str, Value | None]:
    mode = mode_of(gpu)
    if mode is None:
        return {"mig": False}
    now, pending = mode
    word = "enabled" if now else "disabled"
    return {"mig": True, "mig_mode": word if now == pending else f"{word}-pending", **words_of(profiles_of(gpu))}


def _times(value: int | None, factor: int) -> int | None:
    return None if value is None else value * factor


def _text(value: Any) -> str | None:
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
    return text.strip("\0 ") or None


def _byte(value: Any) -> int | None:
    return value[0] if isinstance(value, bytes) and value else value if isinstance(value, int) else None
