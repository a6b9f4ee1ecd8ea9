"""What hooks bind to vfio is vfio's until it is cleaned: NVIDIA's driver reads nothing of it (R002-5, R003-2)."""

from collectors.claims.order import Order
from collectors.simulated.claims import SimulatedClaims
from collectors.simulated.node import SimulatedNode
from schemas.claims import ClaimDevice, Step
from schemas.device import Document, part_key
from tests.collectors.simulated.help import break_it, devices, one_node, run


def order(node: SimulatedNode, document: Document, step: Step, mode: str = "passthrough") -> Order:
    device = ClaimDevice(
        device=f"{document.kind.value}-1",
        kind=document.kind.value,
        part=part_key(document.part, node.id, document.slot),
        address=document.slot.address,
        path=document.slot.path,
        mode=mode,
        group=-1,
        clean=1,
    )
    return Order(step, "c-1", "t", "vm", 1, 1, device)


def gpu(node: SimulatedNode, at: int) -> Document:
    (found,) = [one for one in node.documents() if one.device == node.hardware.gpus[at]]
    return found


def test_a_gpu_that_is_passed_through_is_vfios_and_has_no_telemetry_until_it_is_clean() -> None:
    node = one_node()
    claims, before = SimulatedClaims(node), gpu(node, 2)
    revision = node.documents_revision
    assert claims.perform(order(node, before, Step.PREPARE)).driver == "vfio-pci"
    assert node.documents_revision > revision
    assert gpu(node, 2).capabilities == before.capabilities | {"driver": "vfio-pci"}
    parcels = run(node, 1)
    assert len(devices(parcels, "gpu")) == 7
    assert {before.device}.isdisjoint(devices(parcels, "gpu") + devices(parcels, "nvlink"))
    break_it(node, "bmc_dead")
    run(node, 1, 2)
    assert gpu(node, 2).capabilities["driver"] == "vfio-pci", "a fault elsewhere changes nothing of it"
    assert claims.perform(order(node, before, Step.CLEAN)).driver == "nvidia"
    assert gpu(node, 2) == before
    assert len(devices(run(node, 1, 3), "gpu")) == 8


def test_a_device_that_the_hosts_driver_keeps_is_not_bound() -> None:
    node = one_node()
    (port, *_) = [one for one in node.documents() if one.device in node.hardware.ports]
    revision = node.documents_revision
    report = SimulatedClaims(node).perform(order(node, port, Step.PREPARE, "driver"))
    assert (report.done, report.driver, node.documents_revision) == (True, "mlx5_core", revision)
