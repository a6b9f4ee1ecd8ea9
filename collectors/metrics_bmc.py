"""What is measured by a BMC, whoever reads it: the declarations that `redfish` and `simulated` share.

`bmc` has one row for each BMC, `bmc_temperature` one for each sensor of it, `bmc_fan` and `bmc_psu` one for each fan
and power supply. Source: DMTF Redfish (DSP0268): Sensor, ThermalSubsystem, PowerSupplyMetrics.
"""

from functools import partial
from typing import Final

from schemas.metrics import Category, Kind, MetricSpec, Unit, ValueType
from schemas.verbosity import Level

_metric = partial(
    MetricSpec,
    unit=Unit.COUNT,
    kind=Kind.GAUGE,
    type=ValueType.FLOAT,
    level=Level.STANDARD,
    category=Category.ENVIRONMENT,
)
_watts = partial(_metric, unit=Unit.WATTS)
_state = partial(_metric, unit=Unit.NONE, kind=Kind.STATE, type=ValueType.STR, level=Level.ESSENTIAL)

BMC_METRICS: Final[tuple[MetricSpec, ...]] = (
    _state(
        name="bmc.power_state",
        meaning="Whether the machine is powered: on, off, powering_on or powering_off.",
        source="ComputerSystem.PowerState",
    ),
    _state(
        name="bmc.health",
        category=Category.ERROR,
        meaning="The machine's health as its BMC sums it up: ok, warning or critical.",
        source="ComputerSystem.Status.HealthRollup",
    ),
    _watts(
        name="bmc.system_power_watts",
        meaning="Power that the whole machine takes, at the inputs of its supplies.",
        source="EnvironmentMetrics.PowerWatts",
    ),
    _metric(
        name="bmc.inlet_temperature_celsius",
        unit=Unit.CELSIUS,
        meaning="Temperature of the air that comes in.",
        source="Sensor with PhysicalContext Intake",
    ),
    _metric(
        name="bmc.outlet_temperature_celsius",
        unit=Unit.CELSIUS,
        meaning="Temperature of the air that goes out.",
        source="Sensor with PhysicalContext Exhaust",
    ),
)
"""The columns of the measurement `bmc`; the device is the BMC."""

BMC_TEMPERATURE_METRICS: Final[tuple[MetricSpec, ...]] = (
    _metric(
        name="bmc_temperature.temperature_celsius",
        unit=Unit.CELSIUS,
        level=Level.DETAILED,
        meaning="Reading of one temperature sensor.",
        source="Sensor with ReadingType Temperature",
        attributes=("sensor",),
    ),
)
"""The columns of the measurement `bmc_temperature`; the device is the BMC, the attribute the sensor's name."""

BMC_FAN_METRICS: Final[tuple[MetricSpec, ...]] = (
    _metric(
        name="bmc_fan.speed_rpm",
        unit=Unit.REVOLUTIONS_PER_MINUTE,
        meaning="Speed of the fan; absent when it is not there.",
        source="Fan.SpeedPercent.SpeedRPM",
    ),
)
"""The columns of the measurement `bmc_fan`; the device is the fan."""

BMC_PSU_METRICS: Final[tuple[MetricSpec, ...]] = (
    _watts(
        name="bmc_psu.input_watts",
        meaning="Power that the supply takes from the mains.",
        source="PowerSupplyMetrics.InputPowerWatts",
    ),
    _watts(
        name="bmc_psu.output_watts",
        meaning="Power that the supply gives to the machine.",
        source="PowerSupplyMetrics.OutputPowerWatts",
    ),
    _metric(
        name="bmc_psu.input_volts",
        unit=Unit.VOLTS,
        meaning="Voltage of the mains at the supply.",
        source="PowerSupplyMetrics.InputVoltage",
    ),
    _state(
        name="bmc_psu.health",
        category=Category.ERROR,
        meaning="The supply's health: ok, warning or critical.",
        source="PowerSupply.Status.Health",
    ),
)
"""The columns of the measurement `bmc_psu`; the device is the power supply."""
