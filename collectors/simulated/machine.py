"""The moving parts of one simulated node: all of its physics, moved on together."""

from collectors.simulated import physics_board, physics_dpu, physics_drive, physics_gpu, physics_net
from collectors.simulated.effects import Effects
from collectors.simulated.faults import Active
from collectors.simulated.hardware import Hardware

LOAD_VFS = 8
"""Virtual functions that a node of the profile `load` has in motion."""


class Machine:
    """Plans and states of a node's GPUs, drives, network and board. Starts cold, with all counters at 0."""

    def __init__(self, hardware: Hardware, *, light: bool) -> None:
        kind, seed, name = hardware.type, hardware.seed, hardware.name
        self.gpu_plan = physics_gpu.plan_gpus(hardware.model, kind.gpu.count, _links(hardware), seed, name)
        self.drive_plan = physics_drive.plan_drives(
            kind.nvme.count, kind.nvme.sectors * kind.nvme.sector_bytes, seed, name
        )
        family = _first(hardware, LOAD_VFS) if light else tuple(map(len, hardware.layout.vfs))
        self.net_plan = physics_net.plan_net(family, kind.nic.link_bytes_per_second, seed, name)
        self.dpu_plan = physics_dpu.plan_dpus(hardware.dpu_model, kind.dpu.count, seed, name)
        self.board_plan = physics_board.plan_board(kind.bmc.supplies, kind.bmc.fans, kind.bmc.base_watts, seed, name)
        self.gpus = physics_gpu.cold_gpus(self.gpu_plan)
        self.drives = physics_drive.healthy_drives(self.drive_plan)
        self.net = physics_net.fresh_net(self.net_plan)
        self.dpus = physics_dpu.booted_dpus(self.dpu_plan)
        self.missed_bytes: dict[tuple[int, int], int] = {}
        """By (GPU, NVLink), what a link would have carried while it was down."""

    def advance(self, effects: Effects, now_ns: int, dt_ns: int) -> None:
        """Move everything on by `dt_ns` nanoseconds, to `now_ns`."""
        before = self.gpus.lane_bytes
        self.gpus = physics_gpu.advance_gpus(self.gpus, self.gpu_plan, effects, now_ns, dt_ns)
        for gpu, link in effects.links_down:
            more = self.gpus.lane_bytes[gpu] - before[gpu]
            self.missed_bytes[gpu, link] = self.missed_bytes.get((gpu, link), 0) + more
        self.drives = physics_drive.advance_drives(self.drives, effects, dt_ns)
        self.net = physics_net.advance_net(self.net, self.net_plan, effects, now_ns, dt_ns)
        self.dpus = physics_dpu.advance_dpus(self.dpus, self.dpu_plan, effects, now_ns, dt_ns)

    def begin(self, fault: Active) -> None:
        """Do what a fault does once, when it begins."""
        match fault.kind.name:
            case "ecc_double_bit":
                self.gpus = physics_gpu.add_uncorrected(self.gpus, fault.target, max(int(fault.value), 1))
            case "link_down":
                self.net = physics_net.drop_link(self.net, fault.target)

    def end(self, fault: Active) -> None:
        """Do what the end of a fault does once."""
        match fault.kind.name:
            case "driver_reload":
                self.gpus = physics_gpu.reload_gpus(self.gpus)
                self.missed_bytes.clear()
            case "vf_missing":
                self.net = physics_net.forget_vf(self.net, fault.target)

    def gpu_link_bytes(self, gpu: int) -> int:
        """Give what all NVLinks of a GPU carried in one direction."""
        missed = sum(amount for (at, _), amount in self.missed_bytes.items() if at == gpu)
        return self.gpus.lane_bytes[gpu] * self.gpu_plan.links[gpu] - missed

    def board(self, now_ns: int) -> physics_board.Board:
        """Give what the BMC reads; GPUs that no driver can read take power all the same."""
        return physics_board.read_board(
            self.board_plan,
            physics_gpu.total_watts(self.gpus),
            physics_drive.total_watts(self.drive_plan) + physics_dpu.total_watts(self.dpu_plan),
            max(self.gpus.temperature, default=0.0),
            now_ns,
        )


def _links(hardware: Hardware) -> tuple[int, ...]:
    """Give how many NVLinks of each GPU lead anywhere; () without NVLink."""
    if hardware.type.gpu.links == "switch":
        return (hardware.model.nvlinks,) * len(hardware.layout.links)
    return tuple(map(sum, hardware.layout.links))


def _first(hardware: Hardware, functions: int) -> tuple[int, ...]:
    """Give for each port how many of the node's first virtual functions it has."""
    family = []
    for vfs in hardware.layout.vfs:
        family.append(min(len(vfs), functions))
        functions -= family[-1]
    return tuple(family)
