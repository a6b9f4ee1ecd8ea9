"""The hardware of one simulated node: its layout with identities, and the ids under which its devices are known."""

from functools import cached_property
from typing import Final

from collectors.simulated.identity import mac, serial, uuid
from collectors.simulated.models import DPU_MODELS, GPU_MODELS
from collectors.simulated.spec import NodeType
from collectors.simulated.topology import Layout

DRIVER: Final = "550.54.15"
"""Version of the GPU driver that simulated nodes run."""
VENDOR: Final = "Simulated"


class Hardware:
    """Who the devices of a node are. All of it follows from seed and name, and is made when asked for."""

    def __init__(
        self, name: str, seed: int, type_name: str, node_type: NodeType, layout: Layout, boot: int = 0
    ) -> None:
        self.name = name
        self.seed = seed
        self.type_name = type_name
        self.type = node_type
        self.layout = layout
        self.model = GPU_MODELS[node_type.gpu.model]
        self.dpu_model = DPU_MODELS[node_type.dpu.model]
        self.host: Hardware | None = None
        """Of a node that is a DPU, the machine in which it sits."""
        self.host_index = 0
        """Which of that machine's DPUs it is."""
        self.id = uuid(seed, name, "system")
        self.boot_id = uuid(seed, name, "boot", *([boot] if boot else []))

    def serial(self, prefix: str, *words: object) -> str:
        """Give the serial number of a part of this node."""
        return serial(prefix, self.seed, self.name, *words)

    @cached_property
    def gpu_uuids(self) -> list[str]:
        """Give the UUIDs of the GPUs as the driver prints them."""
        return [f"GPU-{uuid(self.seed, self.name, 'gpu', index)}" for index in range(self.type.gpu.count)]

    @cached_property
    def gpus(self) -> list[str]:
        """Give the ids of the GPUs; a GPU that the driver does not have is known by its address."""
        if self.type.gpu.driver == "vfio-pci":
            return [f"pci:{place.address}" for place in self.layout.gpus]
        return [f"gpu:{text}" for text in self.gpu_uuids]

    @cached_property
    def drives(self) -> list[str]:
        """Give the ids of the NVMe controllers."""
        return [f"nvme:{self.serial('SIMN', 'nvme', index)}" for index in range(self.type.nvme.count)]

    @cached_property
    def port_macs(self) -> list[str]:
        """Give the MAC addresses of the network ports."""
        return [mac(self.seed, self.name, "port", index) for index in range(self.type.nic.ports)]

    @cached_property
    def ports(self) -> list[str]:
        """Give the ids of the network ports (physical functions)."""
        return [f"nic:{text}" for text in self.port_macs]

    @cached_property
    def vfs(self) -> list[str]:
        """Give the ids of the virtual functions, counted over all ports: the port's MAC and the function's index."""
        return [
            f"vf:{text}/{index}"
            for text, family in zip(self.port_macs, self.layout.vfs, strict=True)
            for index in range(len(family))
        ]

    @cached_property
    def vf_vlans(self) -> list[int]:
        """Give the VLAN of each virtual function, 0 for none."""
        first = self.type.nic.first_vlan
        return [
            (first + index - 1) % 4094 + 1 if first else 0 for family in self.layout.vfs for index in range(len(family))
        ]

    def vf_mac(self, vf: int, *, other: bool = False) -> str:
        """Give the MAC address of a virtual function; `other`: one that it should not have."""
        return mac(self.seed, self.name, "vf", vf, *(["other"] if other else []))

    @cached_property
    def vf_ports(self) -> list[int]:
        """Give the port of each virtual function."""
        return [port for port, family in enumerate(self.layout.vfs) for _ in family]

    @cached_property
    def dpu_serials(self) -> list[str]:
        """Give the serial numbers of the DPUs, which are those of the nodes that they are."""
        return [self.serial("SIMD", "dpu", index) for index in range(self.type.dpu.count)]

    @cached_property
    def dpus(self) -> list[str]:
        """Give the ids of the DPUs."""
        return [f"dpu:{text}" for text in self.dpu_serials]

    def dpu_name(self, index: int) -> str:
        """Give the name of the node that a DPU is."""
        return f"{self.name}-dpu{index}"

    def dpu_node(self, index: int) -> str:
        """Give the id of the node that a DPU is."""
        return uuid(self.seed, self.dpu_name(index), "system")

    @cached_property
    def chassis_serial(self) -> str:
        """Give the serial number of the whole machine; that of a DPU's machine is the DPU's own."""
        return self.serial("SIMC", "chassis") if self.host is None else self.host.dpu_serials[self.host_index]

    @cached_property
    def bmc(self) -> str:
        """Give the id of the BMC."""
        return f"bmc:{self.serial('SIMB', 'bmc')}"

    @cached_property
    def supplies(self) -> list[str]:
        """Give the ids of the power supplies."""
        return [f"psu:{self.serial('SIMP', 'psu', index)}" for index in range(self.type.bmc.supplies)]

    @cached_property
    def fans(self) -> list[str]:
        """Give the ids of the fans, which have no serial numbers."""
        board = self.serial("SIMB", "bmc")
        return [f"fan:{board}/{index + 1}" for index in range(self.type.bmc.fans)]

    def interface(self, port: int) -> str:
        """Give the name of a port's network interface."""
        return f"ens{port + 1}f0np0"
