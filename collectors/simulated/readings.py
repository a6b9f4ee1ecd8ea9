"""What can be read of a simulated node at one moment: the columns of every measurement, cut into blocks."""

from collections.abc import Iterator
from typing import Any, Final

from collectors.metrics_bmc import BMC_FAN_METRICS, BMC_METRICS, BMC_PSU_METRICS, BMC_TEMPERATURE_METRICS
from collectors.metrics_dpu import DPU_METRICS, DPU_RESOURCE_METRICS
from collectors.metrics_gpu import GPU_METRICS, NVLINK_METRICS
from collectors.metrics_nic import NIC_METRICS, VF_METRICS
from collectors.metrics_nvme import NVME_METRICS
from collectors.simulated import physics_board, physics_dpu, physics_drive, physics_gpu, physics_net
from collectors.simulated.effects import Effects
from collectors.simulated.hardware import Hardware
from collectors.simulated.machine import Machine
from collectors.simulated.tables import Clock, Table
from schemas.rows import Parcel
from schemas.verbosity import Level

LOAD_FIELDS: Final = {
    "gpu": frozenset(
        {
            "power_watts",
            "energy_joules_total",
            "utilization_ratio",
            "memory_utilization_ratio",
            "memory_used_bytes",
            "sm_clock_hertz",
            "memory_clock_hertz",
            "throttle_reasons",
            "pcie_receive_bytes_total",
            "pcie_transmit_bytes_total",
        }
    ),
    "nvme": frozenset(
        {
            "temperature_celsius",
            "used_ratio",
            "read_bytes_total",
            "written_bytes_total",
            "read_commands_total",
            "write_commands_total",
            "busy_seconds_total",
            "power_on_seconds_total",
            "power_cycles_total",
            "unsafe_shutdowns_total",
        }
    ),
    "vf": frozenset(spec.field for spec in VF_METRICS),
}
"""The ten fields of each measurement that the load profile reports; all are of one level."""

_GROUPS: Final = (
    GPU_METRICS,
    NVLINK_METRICS,
    NVME_METRICS,
    NIC_METRICS,
    VF_METRICS,
    DPU_METRICS,
    DPU_RESOURCE_METRICS,
    BMC_METRICS,
    BMC_TEMPERATURE_METRICS,
    BMC_FAN_METRICS,
    BMC_PSU_METRICS,
)
METRICS: Final = tuple(spec for group in _GROUPS for spec in group)
"""Everything that a simulated node measures."""

_FULL: Final = {group[0].measurement: Table(group) for group in _GROUPS}
_LOAD: Final = {
    group[0].measurement: Table(group, LOAD_FIELDS[group[0].measurement])
    for group in (GPU_METRICS, NVME_METRICS, VF_METRICS)
}


class Readings:
    """Reads one machine. It keeps nothing but the keys of its blocks."""

    def __init__(self, hardware: Hardware, machine: Machine, *, light: bool) -> None:
        self._hardware = hardware
        self._machine = machine
        self._light = light
        self._tables = _LOAD if light else _FULL
        functions = sum(machine.net_plan.family)
        self._gpu_keys = [[device] for device in hardware.gpus]
        self._drive_keys = [[device] for device in hardware.drives]
        self._vf_keys = [[device] for device in hardware.vfs[:functions]]
        self._vlans = hardware.vf_vlans[:functions]

    def parcels(self, effects: Effects, now_ns: int, clock: Clock, level: Level) -> Iterator[Parcel]:
        """Yield what can be read now, up to `level`, one parcel for each measurement and level."""
        if self._hardware.type.gpu.driver == "nvidia" and not effects.driver_gone:
            yield from self._gpu_parcels(effects, clock, level)
        drives = physics_drive.drive_columns(self._machine.drives, self._machine.drive_plan, effects, now_ns)
        yield from self._tables["nvme"].parcels(self._hardware.id, self._drive_keys, drives, clock, level, None)
        yield from self._net_parcels(effects, clock, level)
        if not self._light and self._hardware.dpus:
            yield from self._dpu_parcels(effects, now_ns, clock, level)
        if not self._light and not effects.bmc_dead:
            yield from self._board_parcels(effects, now_ns, clock, level)

    def _gpu_parcels(self, effects: Effects, clock: Clock, level: Level) -> Iterator[Parcel]:
        lost = effects.gpus_lost
        if effects.drivers:
            places = self._hardware.layout.gpus
            lost = lost | {gpu for gpu, place in enumerate(places) if place.address in effects.drivers}
        present = [gpu for gpu in range(len(self._gpu_keys)) if gpu not in lost] if lost else None
        columns = self._busy_columns()
        if not self._light:
            columns |= self._health_columns(effects)
        yield from self._tables["gpu"].parcels(self._hardware.id, self._gpu_keys, columns, clock, level, present)
        if not self._light and self._machine.gpu_plan.links:
            yield from self._link_parcels(effects, clock, level, lost)

    def _busy_columns(self) -> dict[str, list[Any]]:
        """Give the columns of `gpu` that every model and profile reports."""
        state = self._machine.gpus
        return {
            "power_watts": [power / 1000.0 for power in state.power_milliwatts],
            "energy_joules_total": [energy / physics_gpu.PICOJOULES for energy in state.energy_picojoules],
            "utilization_ratio": state.utilization,
            "memory_utilization_ratio": state.memory_utilization,
            "memory_used_bytes": state.memory_used,
            "sm_clock_hertz": state.clock,
            "memory_clock_hertz": [self._hardware.model.memory_clock_hertz] * len(state.clock),
            "throttle_reasons": state.reasons,
            "pcie_receive_bytes_total": state.pcie_receive,
            "pcie_transmit_bytes_total": state.pcie_transmit,
        }

    def _health_columns(self, effects: Effects) -> dict[str, list[Any]]:
        """Give the other columns of `gpu`, as far as the model reports them."""
        machine, model = self._machine, self._hardware.model
        state = machine.gpus
        indexes = range(len(state.clock))
        columns: dict[str, list[Any]] = {
            "temperature_celsius": [round(value, 3) for value in state.temperature],
            "ecc_uncorrected_total": state.uncorrected,
            "power_limit_watts": state.limit_watts,
            "ecc_corrected_total": state.corrected,
            "ecc_uncorrected_lifetime_total": state.lifetime_uncorrected,
            "pcie_replays_total": [count // 7 for count in state.corrected],
        }
        if model.memory_sensor:
            columns["memory_temperature_celsius"] = [round(value, 3) for value in state.memory_temperature]
        if model.fan:
            columns["fan_ratio"] = [min(1.0, max(0.3, (value - 30.0) / 55.0)) for value in state.temperature]
        if model.row_remap:
            columns["row_remap_pending"] = [gpu in effects.remap_pending for gpu in indexes]
            columns["row_remap_failed"] = [False for _ in indexes]
        if machine.gpu_plan.links:
            links = machine.gpu_plan.links
            down = [gpu for gpu, _ in effects.links_down]
            columns["nvlinks_active"] = [links[gpu] - down.count(gpu) for gpu in indexes]
            columns["nvlink_receive_bytes_total"] = [machine.gpu_link_bytes(gpu) for gpu in indexes]
            columns["nvlink_transmit_bytes_total"] = columns["nvlink_receive_bytes_total"]
        return columns

    def _link_parcels(self, effects: Effects, clock: Clock, level: Level, lost: set[int]) -> Iterator[Parcel]:
        """Yield the rows of the NVLinks of GPUs that can be read. A link that is down stands still."""
        hardware, machine = self._hardware, self._machine
        if level < Level.STANDARD:
            return
        pairs = [
            (gpu, link) for gpu, links in enumerate(machine.gpu_plan.links) if gpu not in lost for link in range(links)
        ]
        columns: dict[str, list[Any]] = {"active": [pair not in effects.links_down for pair in pairs]}
        if level >= Level.DETAILED:
            lanes, missed = machine.gpus.lane_bytes, machine.missed_bytes
            moved = [lanes[pair[0]] - missed.get(pair, 0) for pair in pairs]
            columns |= {
                "receive_bytes_total": moved,
                "transmit_bytes_total": moved,
                "recoveries_total": [int(pair in missed) for pair in pairs],
            }
        keys = [[hardware.gpus[gpu], str(link)] for gpu, link in pairs]
        yield from self._tables["nvlink"].parcels(hardware.id, keys, columns, clock, level, None)

    def _net_parcels(self, effects: Effects, clock: Clock, level: Level) -> Iterator[Parcel]:
        hardware, plan, state = self._hardware, self._machine.net_plan, self._machine.net
        up = [True] * len(self._vf_keys)
        if effects.ports_down:
            up = [physics_net.port_of(plan, vf) not in effects.ports_down for vf in range(len(up))]
        missing = effects.vfs_missing
        present = [vf for vf in range(len(up)) if vf not in missing] if missing else None
        vlans = [effects.vf_vlans.get(vf, made) for vf, made in enumerate(self._vlans)] if effects.vf_vlans else None
        columns = physics_net.vf_columns(state, vlans or self._vlans, up)
        yield from self._tables["vf"].parcels(hardware.id, self._vf_keys, columns, clock, level, present)
        if not self._light:
            keys = [[device] for device in hardware.ports]
            ports = physics_net.port_columns(state, plan, effects)
            yield from self._tables["nic"].parcels(hardware.id, keys, ports, clock, level, None)

    def _dpu_parcels(self, effects: Effects, now_ns: int, clock: Clock, level: Level) -> Iterator[Parcel]:
        """Yield the rows of the DPUs; the resources of those that run."""
        hardware, machine = self._hardware, self._machine
        columns = physics_dpu.dpu_columns(machine.dpus, machine.dpu_plan, effects, now_ns)
        present = [dpu for dpu in range(len(hardware.dpus)) if dpu not in effects.dpus_gone]
        keys = [[device] for device in hardware.dpus]
        yield from self._tables["dpu"].parcels(hardware.id, keys, columns, clock, level, present)
        rows = [
            (device, name, amounts)
            for dpu, device in enumerate(hardware.dpus)
            if physics_dpu.running(effects, dpu)
            for name, amounts in physics_dpu.resources(machine.dpu_plan, effects, dpu, now_ns).items()
        ]
        amounts = {"used": [used for _, _, (used, _) in rows], "limit": [limit for _, _, (_, limit) in rows]}
        keys = [[device, name] for device, name, _ in rows]
        yield from self._tables["dpu_resource"].parcels(hardware.id, keys, amounts, clock, level, None)

    def _board_parcels(self, effects: Effects, now_ns: int, clock: Clock, level: Level) -> Iterator[Parcel]:
        """Yield what the BMC reads."""
        hardware, machine = self._hardware, self._machine
        board, supplies = machine.board(now_ns), machine.board_plan.supplies
        rows: tuple[tuple[str, list[list[str]], dict[str, list[Any]]], ...] = (
            (
                "bmc",
                [[hardware.bmc]],
                {
                    "power_state": ["on"],
                    "boot_progress": ["OSRunning"],
                    "health": ["critical" if effects.gpus_lost else "warning" if effects.heat_celsius else "ok"],
                    "system_power_watts": [board.input_watts],
                    "inlet_temperature_celsius": [board.inlet],
                    "outlet_temperature_celsius": [board.outlet],
                },
            ),
            (
                "bmc_temperature",
                [[hardware.bmc, f"GPU {gpu + 1}"] for gpu in range(len(self._gpu_keys))],
                {"temperature_celsius": [float(round(value)) for value in machine.gpus.temperature]},
            ),
            (
                "bmc_fan",
                [[device] for device in hardware.fans],
                {
                    "speed_rpm": [round(board.fan_share * physics_board.FAN_TOP_RPM, -1)] * len(hardware.fans),
                    "speed_ratio": [round(board.fan_share, 2)] * len(hardware.fans),
                    "health": ["ok"] * len(hardware.fans),
                },
            ),
            (
                "bmc_psu",
                [[device] for device in hardware.supplies],
                {
                    "input_watts": [board.input_watts / max(supplies, 1)] * supplies,
                    "output_watts": [board.output_watts / max(supplies, 1)] * supplies,
                    "input_volts": [physics_board.MAINS_VOLTS] * supplies,
                    "input_amperes": [board.input_watts / max(supplies, 1) / physics_board.MAINS_VOLTS] * supplies,
                    "temperature_celsius": [board.supply] * supplies,
                    "health": ["ok"] * supplies,
                },
            ),
        )
        for measurement, keys, columns in rows:
            yield from self._tables[measurement].parcels(hardware.id, keys, columns, clock, level, None)
