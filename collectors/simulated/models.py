"""What simulated machines are made of: models of GPUs with their physics, and the built-in types of nodes.

Figures are those of the real models' data sheets where a sheet gives them; thermal figures are round and plausible.
"""

from typing import Final

import msgspec

from collectors.simulated.spec import BmcSpec, DpuSpec, GpuSpec, NicSpec, NodeType, NvmeSpec, SlotSpec

GIB: Final = 1 << 30


class GpuModel(msgspec.Struct, frozen=True, kw_only=True):
    """One model of GPU: what it can do, and how it heats."""

    name: str
    device_id: str
    """PCI device id; the vendor is 10de."""
    architecture: str
    memory_bytes: int
    idle_watts: float
    limit_watts: float
    """Default and highest power limit."""
    idle_clock_hertz: int
    max_clock_hertz: int
    memory_clock_hertz: int
    slowdown_celsius: float
    """From here on the driver lowers the clocks; 5 degrees above, the hardware halves them."""
    rise_celsius: float
    """How much warmer than the incoming air it gets at full power."""
    lag_seconds: float = 30.0
    """Time constant of that rise."""
    pcie_generation: int = 4
    nvlinks: int = 0
    nvlink_bytes_per_second: int = 25_000_000_000
    """Rate of one link in one direction."""
    fan: bool = False
    memory_sensor: bool = True
    row_remap: bool = True
    mig: tuple[str, ...] = ()
    """MIG profiles with their possible placements, `<profile>:{<starts>}:<size>` as `nvidia-smi mig -lgipp` prints."""


def _mig(one: str, one_wide: str, two: str, three: str, four: str, seven: str) -> tuple[str, ...]:
    return (
        f"{one}:{{0,1,2,3,4,5,6}}:1",
        f"{one_wide}:{{0,2,4,6}}:2",
        f"{two}:{{0,2,4}}:2",
        f"{three}:{{0,4}}:4",
        f"{four}:{{0}}:4",
        f"{seven}:{{0}}:8",
    )


GPU_MODELS: Final[dict[str, GpuModel]] = {
    model.name: model
    for model in (
        GpuModel(
            name="V100",
            device_id="1db4",
            architecture="Volta",
            memory_bytes=16 * GIB,
            idle_watts=25.0,
            limit_watts=250.0,
            idle_clock_hertz=135_000_000,
            max_clock_hertz=1_380_000_000,
            memory_clock_hertz=877_000_000,
            slowdown_celsius=83.0,
            rise_celsius=42.0,
            pcie_generation=3,
            row_remap=False,
        ),
        GpuModel(
            name="V100-SXM2",
            device_id="1db1",
            architecture="Volta",
            memory_bytes=16 * GIB,
            idle_watts=40.0,
            limit_watts=300.0,
            idle_clock_hertz=135_000_000,
            max_clock_hertz=1_530_000_000,
            memory_clock_hertz=877_000_000,
            slowdown_celsius=83.0,
            rise_celsius=40.0,
            pcie_generation=3,
            nvlinks=6,
            row_remap=False,
        ),
        GpuModel(
            name="A10",
            device_id="2236",
            architecture="Ampere",
            memory_bytes=24 * GIB,
            idle_watts=16.0,
            limit_watts=150.0,
            idle_clock_hertz=210_000_000,
            max_clock_hertz=1_695_000_000,
            memory_clock_hertz=6_251_000_000,
            slowdown_celsius=88.0,
            rise_celsius=40.0,
            memory_sensor=False,
        ),
        GpuModel(
            name="A6000",
            device_id="2230",
            architecture="Ampere",
            memory_bytes=48 * GIB,
            idle_watts=22.0,
            limit_watts=300.0,
            idle_clock_hertz=210_000_000,
            max_clock_hertz=2_100_000_000,
            memory_clock_hertz=8_001_000_000,
            slowdown_celsius=90.0,
            rise_celsius=52.0,
            fan=True,
            memory_sensor=False,
        ),
        GpuModel(
            name="A100",
            device_id="20b2",
            architecture="Ampere",
            memory_bytes=80 * GIB,
            idle_watts=60.0,
            limit_watts=400.0,
            idle_clock_hertz=210_000_000,
            max_clock_hertz=1_410_000_000,
            memory_clock_hertz=1_593_000_000,
            slowdown_celsius=89.0,
            rise_celsius=38.0,
            nvlinks=12,
            mig=_mig("1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"),
        ),
        GpuModel(
            name="H100",
            device_id="2330",
            architecture="Hopper",
            memory_bytes=80 * GIB,
            idle_watts=70.0,
            limit_watts=700.0,
            idle_clock_hertz=345_000_000,
            max_clock_hertz=1_980_000_000,
            memory_clock_hertz=2_619_000_000,
            slowdown_celsius=87.0,
            rise_celsius=45.0,
            pcie_generation=5,
            nvlinks=18,
            mig=_mig("1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"),
        ),
        GpuModel(
            name="H200",
            device_id="2335",
            architecture="Hopper",
            memory_bytes=141 * GIB,
            idle_watts=75.0,
            limit_watts=700.0,
            idle_clock_hertz=345_000_000,
            max_clock_hertz=1_980_000_000,
            memory_clock_hertz=3_201_000_000,
            slowdown_celsius=87.0,
            rise_celsius=45.0,
            pcie_generation=5,
            nvlinks=18,
            mig=_mig("1g.18gb", "1g.35gb", "2g.35gb", "3g.71gb", "4g.71gb", "7g.141gb"),
        ),
    )
}
"""The models that a fleet file may name."""


class DpuModel(msgspec.Struct, frozen=True, kw_only=True):
    """One model of DPU, with one network port: what it can do."""

    name: str
    device_id: str
    """PCI device id; the vendor is 15b3."""
    part_number: str
    firmware: str
    """Of the network part."""
    cores: int
    memory_bytes: int
    storage_bytes: int
    link_bytes_per_second: int
    pcie_generation: int
    watts: float
    """What the card takes in use."""
    functions: int
    """Virtual functions at most."""
    subfunctions: int
    flows: int
    security_associations: int
    hardware: tuple[str, ...]
    """What is offloaded to hardware."""
    ciphers: tuple[str, ...]
    compresses: tuple[str, ...]
    """Formats that it compresses to in hardware."""
    decompresses: tuple[str, ...]
    protocols: tuple[str, ...] = ("geneve", "ipsec", "nvme-of", "roce-v2", "tls", "vxlan")
    software_share: float = 0.04
    """How much of its encryption rate its cores reach when the hardware does not help."""


_AES: Final = ("aes-gcm-128", "aes-gcm-256", "aes-xts-256", "aes-xts-512")
DPU_MODELS: Final[dict[str, DpuModel]] = {
    model.name: model
    for model in (
        DpuModel(
            name="BlueField-2",
            device_id="a2d6",
            part_number="MBF2M345A-HECOT",
            firmware="24.42.1000",
            cores=8,
            memory_bytes=16 * GIB,
            storage_bytes=64_000_000_000,
            link_bytes_per_second=25_000_000_000,
            pcie_generation=4,
            watts=60.0,
            functions=127,
            subfunctions=256,
            flows=1_000_000,
            security_associations=16_384,
            hardware=("compression", "decompression", "encryption", "regular-expressions"),
            ciphers=_AES,
            compresses=("deflate",),
            decompresses=("deflate",),
        ),
        DpuModel(
            name="BlueField-3",
            device_id="a2dc",
            part_number="900-9D3B4-00EN-EA0",
            firmware="32.42.1000",
            cores=8,
            memory_bytes=16 * GIB,
            storage_bytes=128_000_000_000,
            link_bytes_per_second=50_000_000_000,
            pcie_generation=5,
            watts=75.0,
            functions=127,
            subfunctions=512,
            flows=4_000_000,
            security_associations=32_768,
            hardware=("decompression", "encryption", "erasure-coding"),
            ciphers=_AES,
            compresses=(),
            decompresses=("deflate", "lz4"),
        ),
    )
}
"""The models of DPU that a fleet file may name: crypto-enabled cards with one port."""

CUBE_MESH: Final[tuple[tuple[int, ...], ...]] = (
    (0, 1, 1, 2, 2, 0, 0, 0),
    (1, 0, 2, 1, 0, 2, 0, 0),
    (1, 2, 0, 2, 0, 0, 1, 0),
    (2, 1, 2, 0, 0, 0, 0, 1),
    (2, 0, 0, 0, 0, 1, 1, 2),
    (0, 2, 0, 0, 1, 0, 2, 1),
    (0, 0, 1, 0, 1, 2, 0, 2),
    (0, 0, 0, 1, 2, 1, 2, 0),
)
"""NVLinks between the eight GPUs of a DGX-1 with V100, as `nvidia-smi topo -m` prints them there."""

NODE_TYPES: Final[dict[str, NodeType]] = {
    "hgx-h100": NodeType(),
    "hgx-h200": NodeType(gpu=GpuSpec(model="H200")),
    "dgx-v100": NodeType(
        cores_per_socket=20,
        memory_bytes=512 * GIB,
        gpu=GpuSpec(model="V100-SXM2", links="cube-mesh"),
        bmc=BmcSpec(base_watts=500.0),
    ),
    # R002-1: the shared server with six V100 in four IOMMU groups.
    "v100-shared": NodeType(
        sockets=2,
        cores_per_socket=24,
        memory_bytes=500 * GIB,
        switches=0,
        gpu=GpuSpec(
            model="V100",
            count=6,
            links="none",
            slots=(
                SlotSpec(address="0000:27:00.0", iommu_group=19, numa_node=0, location="CPU1 SLOT1"),
                SlotSpec(address="0000:28:00.0", iommu_group=19, numa_node=0, location="CPU1 SLOT2"),
                SlotSpec(address="0000:44:00.0", iommu_group=32, numa_node=0, location="CPU1 SLOT3"),
                SlotSpec(address="0000:a3:00.0", iommu_group=75, numa_node=1, location="CPU2 SLOT4"),
                SlotSpec(address="0000:c3:00.0", iommu_group=87, numa_node=1, location="CPU2 SLOT5"),
                SlotSpec(address="0000:c4:00.0", iommu_group=87, numa_node=1, location="CPU2 SLOT6"),
            ),
        ),
        nvme=NvmeSpec(count=2),
        nic=NicSpec(ports=2, vfs=16, link_bytes_per_second=3_125_000_000),
        bmc=BmcSpec(supplies=2, base_watts=350.0),
    ),
    # R000-1 and R000-4: the bare-metal node with 256 virtual functions and two drives of 937,684,566 sectors.
    "a10-sriov": NodeType(
        cores_per_socket=32,
        memory_bytes=1024 * GIB,
        switches=2,
        gpu=GpuSpec(model="A10", count=4, links="none"),
        nvme=NvmeSpec(count=2),
        nic=NicSpec(ports=2, vfs=256, first_vlan=100, link_bytes_per_second=6_250_000_000),
        bmc=BmcSpec(supplies=2, base_watts=400.0),
    ),
    # R003-2: one machine with one GPU and two SR-IOV ports.
    "workstation": NodeType(
        sockets=1,
        cores_per_socket=16,
        memory_bytes=128 * GIB,
        memory_modules=4,
        switches=0,
        gpu=GpuSpec(model="A6000", count=1, links="none"),
        nvme=NvmeSpec(count=1),
        nic=NicSpec(ports=2, vfs=8, link_bytes_per_second=1_250_000_000),
        bmc=BmcSpec(supplies=1, fans=3, base_watts=90.0),
    ),
    # R001-2 and R001-3: a storage server with a DPU.
    "dpu-host": NodeType(
        sockets=1,
        cores_per_socket=32,
        memory_bytes=256 * GIB,
        memory_modules=8,
        switches=0,
        gpu=GpuSpec(count=0, links="none"),
        nvme=NvmeSpec(count=4),
        nic=NicSpec(ports=0, vfs=0),
        dpu=DpuSpec(count=1),
        bmc=BmcSpec(supplies=2, base_watts=220.0),
    ),
}
"""The types that a fleet file may name without describing them."""


def dpu_machine(model: str) -> NodeType:
    """Give the machine that a DPU is by itself: cores, memory, storage and a port, without supplies and fans."""
    dpu = DPU_MODELS[model]
    return NodeType(
        sockets=1,
        cores_per_socket=dpu.cores,
        memory_bytes=dpu.memory_bytes,
        memory_modules=1,
        switches=0,
        gpu=GpuSpec(count=0, links="none"),
        nvme=NvmeSpec(count=1, sectors=dpu.storage_bytes // 4096, sector_bytes=4096),
        nic=NicSpec(ports=1, vfs=0, link_bytes_per_second=dpu.link_bytes_per_second),
        bmc=BmcSpec(supplies=0, fans=0, base_watts=dpu.watts),
    )
