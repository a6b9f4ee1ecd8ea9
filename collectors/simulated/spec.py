"""The words of a fleet file: what it may say, with ranges. Reading it is `fleet_file`'s work."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=0, le=256)]
Some = Annotated[int, Meta(ge=1, le=256)]
Bytes = Annotated[int, Meta(ge=1, le=1 << 50)]
Watts = Annotated[float, Meta(ge=0, le=100_000)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Profile = Literal["full", "load"]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class SlotSpec(_Section, frozen=True):
    """A place for one GPU, given by hand instead of laid out."""

    address: str
    """PCI address."""
    iommu_group: Annotated[int, Meta(ge=0, le=65535)]
    """GPUs of one group sit below one bridge that does not keep them apart."""
    numa_node: Annotated[int, Meta(ge=0, le=7)] = 0
    location: str = ""
    """What is printed on the machine."""


class GpuSpec(_Section, frozen=True):
    """The GPUs of a node."""

    model: str = "H100"
    """One of `models.GPU_MODELS`."""
    count: Annotated[int, Meta(ge=0, le=64)] = 8
    links: Literal["switch", "cube-mesh", "none"] = "switch"
    """How NVLinks run: all into a switch, as in a DGX-1 (8 GPUs), or not at all."""
    driver: Literal["nvidia", "vfio-pci"] = "nvidia"
    """With vfio-pci the GPUs are described from PCI alone, and have no telemetry (R002-5)."""
    slots: tuple[SlotSpec, ...] = ()
    """As many as GPUs, or none: then they are laid out."""


class NvmeSpec(_Section, frozen=True):
    """The drives of a node."""

    count: Annotated[int, Meta(ge=0, le=64)] = 4
    sectors: Bytes = 937_684_566
    """Sectors of the one name space (R000-4)."""
    sector_bytes: Literal[512, 4096] = 4096


class NicSpec(_Section, frozen=True):
    """The network ports of a node, each a physical function with virtual ones."""

    ports: Annotated[int, Meta(ge=0, le=8)] = 2
    vfs: Annotated[int, Meta(ge=0, le=1024)] = 64
    """Over all ports, shared out evenly."""
    first_vlan: Annotated[int, Meta(ge=0, le=4094)] = 0
    """VLAN of each port's first function, counting up from there; 0 for none."""
    link_bytes_per_second: Bytes = 25_000_000_000
    metadata: bool = False
    """A metadata service of a cloud says how the functions should be (R000-2)."""


class DpuSpec(_Section, frozen=True):
    """The DPUs of a node. Each is a device of it, and a node of its own: `<name of its host>-dpu0` and up."""

    model: str = "BlueField-3"
    """One of `models.DPU_MODELS`."""
    count: Annotated[int, Meta(ge=0, le=8)] = 0


class BmcSpec(_Section, frozen=True):
    """The board's own computer, and what it watches."""

    supplies: Annotated[int, Meta(ge=0, le=16)] = 4
    fans: Annotated[int, Meta(ge=0, le=32)] = 8
    base_watts: Watts = 900.0
    """What the machine takes beside its GPUs, drives and fans."""


class NodeType(_Section, frozen=True):
    """A type of node: `[types.NAME]`."""

    sockets: Literal[1, 2, 4] = 2
    """Each is a NUMA node."""
    cores_per_socket: Some = 56
    memory_bytes: Bytes = 2 << 40
    memory_modules: Count = 16
    switches: Annotated[int, Meta(ge=0, le=16)] = 4
    """PCIe switches; 0: every device has a root port of its own."""
    acs: bool = True
    """Switches keep their devices apart; without, all below one switch share an IOMMU group."""
    gpu: GpuSpec = GpuSpec()
    nvme: NvmeSpec = NvmeSpec()
    nic: NicSpec = NicSpec()
    dpu: DpuSpec = DpuSpec()
    bmc: BmcSpec = BmcSpec()


class NodeGroup(_Section, frozen=True):
    """Nodes of one type: `[[nodes]]`."""

    count: Annotated[int, Meta(ge=1, le=100_000)] = 1
    type: str = "hgx-h100"
    """A table `[types.NAME]` of the file, or a built-in type."""
    prefix: Annotated[str, Meta(pattern=r"\A[a-z][a-z0-9.-]{0,40}\Z")] = "sim"
    """Names are `<prefix>-0001` and up, counting on over groups of one prefix."""
    profile: Profile = "full"
    """`load`: exactly 20 rows of 10 fields a step, for load tests."""
    boot: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """How many times the machines were booted: with another number they come back as after a boot."""


class Fault(_Section, frozen=True):
    """Something that goes wrong: `[[faults]]`, or an injection."""

    fault: str
    """A name of `faults.FAULTS`."""
    node: str = ""
    """The node's name; in an injection it may stay empty."""
    target: Annotated[int, Meta(ge=0, le=1023)] = 0
    """Which of the node's devices of the fault's kind, from 0."""
    link: Annotated[int, Meta(ge=0, le=63)] = 0
    """Which NVLink of the GPU."""
    after_seconds: Seconds = 0.0
    """When, counted from the node's first step, or from the first one after the injection."""
    duration_seconds: Seconds | None = None
    """How long; absent: as long as the fault usually lasts."""
    value: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    """How much (watts of a power cap, errors, degrees); absent: the fault's usual amount."""


class FleetSpec(_Section, frozen=True):
    """A whole fleet file."""

    seed: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] = 1
    """All identities and all noise follow from it."""
    types: dict[str, NodeType] = {}
    nodes: tuple[NodeGroup, ...] = (NodeGroup(),)
    faults: tuple[Fault, ...] = ()
