"""What a simulated node does for claims: prepares, undoes, cleans and reads back, as a real one with good hooks would.

Its evidence is true, unless a fault makes it lie.
"""

import time
from collections.abc import Callable
from typing import Final

from collectors.claims.order import Order, wrong_with
from collectors.simulated.node import VFIO, SimulatedNode
from collectors.simulated.partitions import made as ids_of
from schemas.claims import Checkpoint, DeviceReport, Step
from schemas.device import DeviceKind, Document, part_key
from schemas.evidence import (
    FunctionReadback,
    GpuReadback,
    NvmeReadback,
    PartitionReadback,
    Readback,
    VfReadback,
    encode_readback,
    readback_of,
)

_STEP_SECONDS: Final = {Step.PREPARE: 1.5, Step.UNDO: 1.0, Step.CHECK: 0.1}
_CLEAN_SECONDS: Final = {GpuReadback: 12.0, NvmeReadback: 20.0, VfReadback: 1.0, FunctionReadback: 1.0}
"""A GPU's reset and memory check, a drive's block erase, a function's reset: what real ones take, in order of size."""


class SimulatedClaims:
    """The devices of one node, as far as claims change them. For one thread."""

    def __init__(self, node: SimulatedNode, *, clock: Callable[[], int] = time.time_ns) -> None:
        self._node = node
        self._clock = clock
        self._documents: dict[str, Document] = {}
        self._revision = -1

    def seconds(self, order: Order) -> float:
        """Give how long a step takes."""
        if order.step is Step.CLEAN:
            return _CLEAN_SECONDS[readback_of(DeviceKind(order.device.kind))]
        return _STEP_SECONDS[order.step]

    def perform(self, order: Order) -> DeviceReport:
        """Do a step, and say what became of it."""
        effects, device = self._node.effects, order.device
        wrong = wrong_with(order)
        part = device.family if device.profile else device.part
        document = self._find(part)
        if wrong or document is None:
            return _failed(order, wrong or f"there is no part {part} on {self._node.name}")
        if f"{order.step.value}_fails" in effects.claims:
            return _failed(order, f"hook {device.kind}.{order.step.value}: exit status 1: simulated")
        used = "device_in_use" in effects.claims
        if used and order.step is not Step.PREPARE:
            return _failed(order, f"it is in use by qemu/{4711 + len(device.device)}")
        if device.profile:
            return self._divide(order, document)
        self._drive(order)
        document = self._find(device.part) or document
        return DeviceReport(
            device.device,
            done=True,
            part=device.part,
            group=_group(document),
            driver=str(document.capabilities.get("driver", "")),
            evidence=self._evidence(order, document) if order.step is Step.CLEAN else "",
        )

    def restore(self, kept: Checkpoint) -> None:
        """Make again what the node keeps for claims: the machine that it stands for was not rebooted."""
        for claim in kept.claims:
            for device in claim.devices:
                gpu = self._find(device.family) if device.profile else None
                if gpu is not None:
                    self._node.divide(self._node.hardware.gpus.index(gpu.device), device.profile, claim.sequence)

    def _divide(self, order: Order, document: Document) -> DeviceReport:
        """Make a partition, leave it, or destroy it, as `nvidia-smi mig` would in a hook."""
        device, gpu = order.device, self._node.hardware.gpus.index(document.device)
        made = None
        if order.step is Step.PREPARE:
            found = self._node.divide(gpu, device.profile, order.sequence)
            if isinstance(found, str):
                return _failed(order, found)
            made = ids_of(self._node.hardware, found)
        elif order.step is Step.CLEAN and "evidence_bad" not in self._node.effects.claims:
            self._node.unite(gpu, device.profile)
        evidence = self._evidence(order, document) if order.step is Step.CLEAN else ""
        return DeviceReport(device.device, done=True, part=device.part, evidence=evidence, made=made)

    def _drive(self, order: Order) -> None:
        """Bind what is given away for passthrough to vfio, the whole group, and give it back when it is cleaned."""
        device = order.device
        addresses = {device.address, *device.members} if device.address else set()
        if order.step is Step.PREPARE and device.mode == "passthrough":
            self._node.bind(addresses, VFIO)
        elif order.step is Step.CLEAN:
            self._node.bind(addresses, "")

    def _evidence(self, order: Order, document: Document) -> str:
        lies = self._node.effects.claims
        if "evidence_missing" in lies:
            return ""
        part = "serial:Simulated:ANOTHER" if "evidence_other_part" in lies else order.device.part
        clean = max(0, order.device.clean - 1) if "evidence_old" in lies else order.device.clean
        return encode_readback(self._readback(order, document, part, clean))

    def _readback(self, order: Order, document: Document, part: str, clean: int) -> Readback:
        told = {"device": order.device.device, "part": part, "clean": clean, "read_ns": self._clock()}
        hook, spoilt = f"{order.device.kind}.clean", "evidence_bad" in self._node.effects.claims
        match readback_of(DeviceKind(order.device.kind), planned=bool(order.device.profile)):
            case kind if kind is PartitionReadback:
                return PartitionReadback(
                    **told,  # type: ignore[arg-type]
                    hook=hook,
                    in_use=False,
                    gone=not spoilt,
                    processes=0,
                    memory_check="passed",
                )
            case kind if kind is NvmeReadback:
                status = "failed" if spoilt else "completed"
                return NvmeReadback(
                    **told,  # type: ignore[arg-type]  # str and int, by name
                    hook=hook,
                    in_use=False,
                    sanitize_status=status,
                    sanitize_method="block-erase",
                    data_written_since=False,
                    namespaces=[1],
                )
            case kind if kind is GpuReadback:
                check = "failed" if spoilt else "passed"
                return GpuReadback(
                    **told,  # type: ignore[arg-type]
                    hook=hook,
                    in_use=False,
                    reset_seen=True,
                    processes=0,
                    memory_check=check,
                    memory_used_bytes=0,
                )
            case kind if kind is VfReadback:
                vlan, mac = document.capabilities.get("vlan"), str(document.capabilities.get("mac", ""))
                return VfReadback(
                    **told,  # type: ignore[arg-type]
                    hook=hook,
                    in_use=False,
                    vlan=vlan + spoilt if isinstance(vlan, int) else None,
                    mac=mac,
                    reset_seen=True,
                )
        driver = str(document.capabilities.get("driver", ""))
        return FunctionReadback(
            **told,  # type: ignore[arg-type]
            hook=hook,
            in_use=False,
            reset_seen=not spoilt,
            driver=driver,
        )

    def _find(self, part: str) -> Document | None:
        """Give the document of a part that is there now."""
        node = self._node
        if self._revision != node.documents_revision:
            self._revision = node.documents_revision
            self._documents = {part_key(one.part, node.id, one.slot): one for one in node.documents()}
        return self._documents.get(part)


def _group(document: Document) -> int:
    group = document.capabilities.get("iommu_group")
    return group if isinstance(group, int) else -1


def _failed(order: Order, problem: str) -> DeviceReport:
    return DeviceReport(order.device.device, done=False, problem=problem)
