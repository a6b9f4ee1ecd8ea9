"""What the BMC of a simulated node sees: air, fans and power. It has no state of its own; all follows from the rest."""

from math import sin
from typing import Final

import msgspec

from collectors.simulated.identity import share
from collectors.simulated.physics_gpu import INLET_CELSIUS

SUPPLY_EFFICIENCY: Final = 0.94
MAINS_VOLTS: Final = 230.0
SUPPLY_COOLING: Final = 12.0
"""Watts that a supply loses, for each kelvin by which it is warmer than the air that it takes in."""
FAN_WATTS: Final = 25.0
"""Of one fan at full speed; power goes with the cube of the speed."""
FAN_TOP_RPM: Final = 12_000.0
FAN_LOWEST: Final = 0.3
AIR: Final = 90.0
"""Watts that warm the air through the machine by one kelvin, for each fan's share of full speed."""


class BoardPlan(msgspec.Struct, frozen=True):
    """What does not change."""

    supplies: int
    fans: int
    base_watts: float
    phase: float


class Board(msgspec.Struct, frozen=True):
    """What the BMC reads at one moment."""

    inlet: float
    outlet: float
    fan_share: float
    """Speed of all fans, as a share of their highest."""
    output_watts: float
    """What the supplies give: GPUs, drives, DPUs, fans and the rest."""
    input_watts: float
    supply: float
    """Temperature of each supply, in Celsius."""


def plan_board(supplies: int, fans: int, base_watts: float, seed: int, node: str) -> BoardPlan:
    """Make the board of one node."""
    return BoardPlan(supplies, fans, base_watts, 6.28 * share(seed, node, "air"))


def read_board(plan: BoardPlan, gpu_watts: float, card_watts: float, hottest: float, now_ns: int) -> Board:
    """Give what the BMC reads. `card_watts`: of drives and DPUs; `hottest`: the highest of the GPUs, in Celsius."""
    inlet = INLET_CELSIUS + 1.5 * sin(now_ns / 1e9 / 1800.0 + plan.phase)
    speed = min(1.0, max(FAN_LOWEST, (hottest - 30.0) / 50.0))
    output = plan.base_watts + gpu_watts + card_watts + plan.fans * FAN_WATTS * speed**3
    return Board(
        inlet=round(inlet, 2),
        outlet=round(inlet + output / (AIR * max(plan.fans, 1) * speed), 2),
        fan_share=speed,
        output_watts=output,
        input_watts=output / SUPPLY_EFFICIENCY,
        supply=round(inlet + output * (1 / SUPPLY_EFFICIENCY - 1) / max(plan.supplies, 1) / SUPPLY_COOLING, 2),
    )
