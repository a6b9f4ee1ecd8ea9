"""What is measured by a BMC, whoever reads it: the declarations that `redfish` and `simulated` share.

`bmc` has one row for each BMC, `bmc_temperature` and `bmc_sensor` together one for each sensor that reads a number,
`bmc_fan` and `bmc_psu` one for each fan and power supply: what they say of a part is what its sensors say, by its name.
`bmc_reader` says how reading a BMC goes.

Source: DMTF Redfish (DSP0268): Sensor, ThermalSubsystem, PowerSupplyMetrics, Thermal, Power.
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
        name="bmc.boot_progress",
        meaning="How far the machine has booted, as Redfish has it, or its BMC's own word; absent when nobody says.",
        source="ComputerSystem.BootProgress.LastState",
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
"""The columns of the measurement `bmc_temperature`; the device is the BMC, the attribute is `<chassis>/<sensor>`."""

_sensor = partial(_metric, level=Level.DETAILED, attributes=("sensor",), source="Sensor.Reading")

BMC_SENSOR_METRICS: Final[tuple[MetricSpec, ...]] = (
    _sensor(name="bmc_sensor.power_watts", unit=Unit.WATTS, meaning="Reading of one sensor of power."),
    _sensor(name="bmc_sensor.voltage_volts", unit=Unit.VOLTS, meaning="Reading of one sensor of voltage."),
    _sensor(name="bmc_sensor.current_amperes", unit=Unit.AMPERES, meaning="Reading of one sensor of current."),
    _sensor(
        name="bmc_sensor.energy_joules",
        unit=Unit.JOULES,
        meaning="Reading of one sensor of energy; most count up, and begin again at a reset that nobody tells of.",
    ),
    _sensor(name="bmc_sensor.frequency_hertz", unit=Unit.HERTZ, meaning="Reading of one sensor of frequency."),
    _sensor(name="bmc_sensor.speed_rpm", unit=Unit.REVOLUTIONS_PER_MINUTE, meaning="Speed of one fan or pump."),
    _sensor(
        name="bmc_sensor.share_ratio",
        unit=Unit.RATIO,
        meaning="Reading of one sensor that reads percent: load, humidity, duty; above 1 where it says so.",
    ),
    _sensor(name="bmc_sensor.pressure_pascals", unit=Unit.PASCALS, meaning="Reading of one sensor of pressure."),
    _sensor(
        name="bmc_sensor.flow_cubic_meters_per_second",
        unit=Unit.CUBIC_METERS_PER_SECOND,
        meaning="Reading of one sensor of air or liquid that flows.",
    ),
    _sensor(name="bmc_sensor.time_seconds", unit=Unit.SECONDS, meaning="Reading of one sensor of time."),
    _sensor(
        name="bmc_sensor.value",
        meaning="Reading of one sensor of no unit, or of one that is not converted: states, counts and the like.",
    ),
)
"""The columns of the measurement `bmc_sensor`, one of them in each row; device and attribute as for temperatures."""

BMC_FAN_METRICS: Final[tuple[MetricSpec, ...]] = (
    _metric(
        name="bmc_fan.speed_rpm",
        unit=Unit.REVOLUTIONS_PER_MINUTE,
        meaning="Speed of the fan; absent when it is not there.",
        source="Fan.SpeedPercent.SpeedRPM",
    ),
    _metric(
        name="bmc_fan.speed_ratio",
        unit=Unit.RATIO,
        meaning="Speed of the fan as a share of its highest.",
        source="Fan.SpeedPercent.Reading",
    ),
    _state(
        name="bmc_fan.health",
        category=Category.ERROR,
        meaning="The fan's health: ok, warning or critical.",
        source="Fan.Status.Health",
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
    _metric(
        name="bmc_psu.input_amperes",
        unit=Unit.AMPERES,
        meaning="Current that the supply takes from the mains.",
        source="PowerSupplyMetrics.InputCurrentAmps",
    ),
    _metric(
        name="bmc_psu.temperature_celsius",
        unit=Unit.CELSIUS,
        meaning="Temperature in the supply.",
        source="PowerSupplyMetrics.TemperatureCelsius",
    ),
    _state(
        name="bmc_psu.health",
        category=Category.ERROR,
        meaning="The supply's health: ok, warning or critical.",
        source="PowerSupply.Status.Health",
    ),
)
"""The columns of the measurement `bmc_psu`; the device is the power supply."""

BMC_LEAK_METRICS: Final[tuple[MetricSpec, ...]] = (
    _state(
        name="bmc_leak.state",
        category=Category.ERROR,
        meaning="What a detector of leaks sees: ok, warning or critical (it is wet).",
        source="LeakDetector.DetectorState",
        attributes=("detector",),
    ),
)
"""The column of the measurement `bmc_leak`; the device is the BMC, the attribute is `<chassis>/<detector>`."""

_count = partial(_metric, kind=Kind.COUNTER, type=ValueType.INT, category=Category.USAGE, source="Muster")

BMC_READER_METRICS: Final[tuple[MetricSpec, ...]] = (
    _state(
        name="bmc_reader.state",
        category=Category.ERROR,
        meaning="How the latest reading went: ok, partial, denied, untrusted, occupied or unreachable.",
        source="Muster",
    ),
    _metric(
        name="bmc_reader.reading_seconds",
        unit=Unit.SECONDS,
        category=Category.USAGE,
        meaning="How long the latest reading of the BMC took.",
        source="Muster",
    ),
    _metric(
        name="bmc_reader.sensors",
        type=ValueType.INT,
        category=Category.USAGE,
        meaning="Sensors that gave a number in the latest reading.",
        source="Muster",
    ),
    _count(name="bmc_reader.requests_total", meaning="Requests that were sent to the BMC."),
    _count(
        name="bmc_reader.faults_total",
        category=Category.ERROR,
        meaning="Answers that were not as they should be: no JSON, wrong types, errors; what they said is left out.",
    ),
    _count(
        name="bmc_reader.denied",
        kind=Kind.GAUGE,
        category=Category.ERROR,
        meaning="Resources that the user may not read.",
    ),
)
"""The columns of the measurement `bmc_reader`; the device is the BMC."""
