"""What a BMC measures of a machine's processors, accelerators, memory and ports, beside their sensors.

`bmc_processor` has one row for each processor or accelerator, `bmc_memory` one for each memory module or stack,
`bmc_port` one for each port of an accelerator or a network card. Counts are the BMC's own: of the same link it may have
begun to count at another time than the node's driver.

Source: DMTF Redfish (DSP0268): ProcessorMetrics, EnvironmentMetrics, MemoryMetrics, PortMetrics.
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
    level=Level.DETAILED,
    category=Category.ENVIRONMENT,
)
_count = partial(
    _metric, kind=Kind.COUNTER, type=ValueType.INT, level=Level.STANDARD, category=Category.ERROR
)  # fmt: skip

_PCIE: Final = {
    "CorrectableErrorCount": ("pcie_correctable_errors_total", "Errors of its PCIe link that were corrected."),
    "NonFatalErrorCount": ("pcie_nonfatal_errors_total", "Errors of its PCIe link that lost data, and not the link."),
    "FatalErrorCount": ("pcie_fatal_errors_total", "Errors of its PCIe link that the link did not outlive."),
    "L0ToRecoveryCount": ("pcie_recoveries_total", "Times that its PCIe link had to recover."),
    "ReplayCount": ("pcie_replays_total", "Packets that its PCIe link sent again."),
    "ReplayRolloverCount": ("pcie_replay_rollovers_total", "Times that its PCIe link sent again once too often."),
    "NAKSentCount": ("pcie_naks_sent_total", "Packets that it refused on its PCIe link."),
    "NAKReceivedCount": ("pcie_naks_received_total", "Packets that were refused to it on its PCIe link."),
}
PCIE_ERRORS: Final = {name: field for name, (field, _) in _PCIE.items()}
"""Of `PCIeErrors`, the field of each property."""


def _pcie(measurement: str, schema: str, attribute: str) -> tuple[MetricSpec, ...]:
    return tuple(
        _count(
            name=f"{measurement}.{field}",
            meaning=meaning,
            source=f"{schema}.PCIeErrors.{name}",
            attributes=(attribute,),
        )
        for name, (field, meaning) in _PCIE.items()
    )


_processor = partial(_metric, attributes=("processor",))
_errors = partial(_count, attributes=("processor",))

BMC_PROCESSOR_METRICS: Final[tuple[MetricSpec, ...]] = (
    _processor(
        name="bmc_processor.bandwidth_ratio",
        unit=Unit.RATIO,
        category=Category.LOAD,
        meaning="Share of the processor that is in use, as its BMC has it.",
        source="ProcessorMetrics.BandwidthPercent",
    ),
    _processor(
        name="bmc_processor.frequency_hertz",
        unit=Unit.HERTZ,
        category=Category.LOAD,
        meaning="Frequency at which it runs.",
        source="ProcessorMetrics.OperatingSpeedMHz",
    ),
    _processor(
        name="bmc_processor.temperature_celsius",
        unit=Unit.CELSIUS,
        level=Level.STANDARD,
        meaning="Temperature of the processor.",
        source="EnvironmentMetrics.TemperatureCelsius; ProcessorMetrics.TemperatureCelsius",
    ),
    _processor(
        name="bmc_processor.throttling_margin_celsius",
        unit=Unit.CELSIUS,
        meaning="How much hotter it may become before it is throttled.",
        source="ProcessorMetrics.ThrottlingCelsius",
    ),
    _processor(
        name="bmc_processor.power_watts",
        unit=Unit.WATTS,
        level=Level.STANDARD,
        meaning="Power that it takes.",
        source="EnvironmentMetrics.PowerWatts; ProcessorMetrics.ConsumedPowerWatt",
    ),
    _processor(
        name="bmc_processor.power_limit_watts",
        unit=Unit.WATTS,
        meaning="Power that it is let take.",
        source="EnvironmentMetrics.PowerLimitWatts.SetPoint",
    ),
    _processor(
        name="bmc_processor.energy_joules_total",
        unit=Unit.JOULES,
        kind=Kind.COUNTER,
        meaning="Energy that it has taken.",
        source="EnvironmentMetrics.EnergyJoules",
    ),
    _processor(
        name="bmc_processor.core_volts",
        unit=Unit.VOLTS,
        meaning="Voltage of its core.",
        source="ProcessorMetrics.CoreVoltage",
    ),
    _processor(
        name="bmc_processor.power_throttled_seconds_total",
        unit=Unit.SECONDS,
        kind=Kind.COUNTER,
        level=Level.STANDARD,
        category=Category.LOAD,
        meaning="Time for which its limit of power has slowed it down.",
        source="ProcessorMetrics.PowerLimitThrottleDuration",
    ),
    _processor(
        name="bmc_processor.thermal_throttled_seconds_total",
        unit=Unit.SECONDS,
        kind=Kind.COUNTER,
        level=Level.STANDARD,
        category=Category.LOAD,
        meaning="Time for which heat has slowed it down.",
        source="ProcessorMetrics.ThermalLimitThrottleDuration",
    ),
    _processor(
        name="bmc_processor.throttle_reasons",
        unit=Unit.NONE,
        kind=Kind.STATE,
        type=ValueType.STR,
        level=Level.STANDARD,
        category=Category.LOAD,
        meaning="Why it is slowed down, in its vendor's words, sorted and with commas; `none` when it is not.",
        source="ProcessorMetrics.Oem.Nvidia.ThrottleReasons",
    ),
    _errors(
        name="bmc_processor.cache_ecc_corrected_total",
        meaning="Errors of its caches that were corrected, over its life.",
        source="ProcessorMetrics.CacheMetricsTotal.LifeTime.CorrectableECCErrorCount",
    ),
    _errors(
        name="bmc_processor.cache_ecc_uncorrected_total",
        meaning="Errors of its caches that could not be corrected, over its life.",
        source="ProcessorMetrics.CacheMetricsTotal.LifeTime.UncorrectableECCErrorCount",
    ),
    _errors(
        name="bmc_processor.core_errors_corrected_total",
        meaning="Errors of its cores that were corrected.",
        source="ProcessorMetrics.CorrectableCoreErrorCount",
    ),
    _errors(
        name="bmc_processor.core_errors_uncorrected_total",
        meaning="Errors of its cores that could not be corrected.",
        source="ProcessorMetrics.UncorrectableCoreErrorCount",
    ),
    *_pcie("bmc_processor", "ProcessorMetrics", "processor"),
)
"""The columns of the measurement `bmc_processor`; the device is the CPU or GPU, else the BMC, the attribute the
processor's place in its tree: `<system>/<processor>`."""

_memory = partial(_metric, attributes=("module",))
_memory_errors = partial(_count, attributes=("module",))

BMC_MEMORY_METRICS: Final[tuple[MetricSpec, ...]] = (
    _memory(
        name="bmc_memory.bandwidth_ratio",
        unit=Unit.RATIO,
        category=Category.LOAD,
        meaning="Share of the memory's bandwidth that is in use.",
        source="MemoryMetrics.BandwidthPercent",
    ),
    _memory(
        name="bmc_memory.used_ratio",
        unit=Unit.RATIO,
        category=Category.LOAD,
        meaning="Share of the memory that is in use.",
        source="MemoryMetrics.CapacityUtilizationPercent",
    ),
    _memory(
        name="bmc_memory.frequency_hertz",
        unit=Unit.HERTZ,
        category=Category.LOAD,
        meaning="Frequency at which it runs.",
        source="MemoryMetrics.OperatingSpeedMHz",
    ),
    _memory(
        name="bmc_memory.temperature_celsius",
        unit=Unit.CELSIUS,
        meaning="Temperature of the memory.",
        source="MemoryMetrics.TemperatureCelsius, which some BMCs have",
    ),
    _memory_errors(
        name="bmc_memory.ecc_corrected_total",
        meaning="Errors that were corrected, over its life.",
        source="MemoryMetrics.LifeTime.CorrectableECCErrorCount",
    ),
    _memory_errors(
        name="bmc_memory.ecc_uncorrected_total",
        meaning="Errors that could not be corrected, over its life.",
        source="MemoryMetrics.LifeTime.UncorrectableECCErrorCount",
    ),
    _memory_errors(
        name="bmc_memory.rows_remapped_corrected_total",
        meaning="Rows that were replaced for errors that could be corrected.",
        source="MemoryMetrics.Oem.Nvidia.RowRemapping.CorrectableRowRemappingCount",
    ),
    _memory_errors(
        name="bmc_memory.rows_remapped_uncorrected_total",
        meaning="Rows that were replaced for errors that could not be corrected.",
        source="MemoryMetrics.Oem.Nvidia.RowRemapping.UncorrectableRowRemappingCount",
    ),
    *(
        _memory(
            name=f"bmc_memory.{field}",
            unit=Unit.NONE,
            kind=Kind.STATE,
            type=ValueType.BOOL,
            level=Level.STANDARD,
            category=Category.ERROR,
            meaning=f"Whether the alarm for {what} was raised.",
            source=f"MemoryMetrics.HealthData.AlarmTrips.{name}",
        )
        for field, name, what in (
            ("alarm_corrected", "CorrectableECCError", "errors that were corrected"),
            ("alarm_uncorrected", "UncorrectableECCError", "errors that could not be corrected"),
            ("alarm_temperature", "Temperature", "its temperature"),
        )
    ),
)
"""The columns of the measurement `bmc_memory`; the device is the module, the GPU whose memory it is, else the BMC, the
attribute the memory's place in its tree: `<system>/<memory>`."""

_port = partial(_count, attributes=("port",))
_carried = partial(_port, unit=Unit.BYTES, level=Level.DETAILED, category=Category.LOAD)
_frames = partial(_port, level=Level.DETAILED, category=Category.LOAD)

BMC_PORT_METRICS: Final[tuple[MetricSpec, ...]] = (
    _carried(name="bmc_port.rx_bytes_total", meaning="Bytes that came in.", source="PortMetrics.RXBytes"),
    _carried(name="bmc_port.tx_bytes_total", meaning="Bytes that went out.", source="PortMetrics.TXBytes"),
    _port(name="bmc_port.rx_errors_total", meaning="Errors of what came in.", source="PortMetrics.RXErrors"),
    _port(name="bmc_port.tx_errors_total", meaning="Errors of what went out.", source="PortMetrics.TXErrors"),
    _frames(name="bmc_port.rx_frames_total", meaning="Frames that came in.", source="PortMetrics.Networking.RXFrames"),
    _frames(name="bmc_port.tx_frames_total", meaning="Frames that went out.", source="PortMetrics.Networking.TXFrames"),
    _port(
        name="bmc_port.rx_discards_total",
        meaning="Frames that came in and were dropped.",
        source="PortMetrics.Networking.RXDiscards",
    ),
    _port(
        name="bmc_port.tx_discards_total",
        meaning="Frames that were to go out and were dropped.",
        source="PortMetrics.Networking.TXDiscards",
    ),
    _port(
        name="bmc_port.rx_fcs_errors_total",
        meaning="Frames that came in with a wrong check sum.",
        source="PortMetrics.Networking.RXFCSErrors",
    ),
    _port(
        name="bmc_port.nvlink_data_crc_errors_total",
        meaning="Check sums of data that were wrong on the NVLink.",
        source="PortMetrics.Oem.Nvidia.NVLinkErrors.DataCRCCount",
    ),
    _port(
        name="bmc_port.nvlink_flit_crc_errors_total",
        meaning="Check sums of flits that were wrong on the NVLink.",
        source="PortMetrics.Oem.Nvidia.NVLinkErrors.FlitCRCCount",
    ),
    _port(
        name="bmc_port.nvlink_recoveries_total",
        meaning="Times that the NVLink had to recover.",
        source="PortMetrics.Oem.Nvidia.NVLinkErrors.RecoveryCount",
    ),
    _port(
        name="bmc_port.nvlink_replays_total",
        meaning="Packets that the NVLink sent again.",
        source="PortMetrics.Oem.Nvidia.NVLinkErrors.ReplayCount",
    ),
    *_pcie("bmc_port", "PortMetrics", "port"),
)
"""The columns of the measurement `bmc_port`; the device is the GPU that has the port, else the BMC, the attribute the
port's place in its tree: `<system>/<processor>/<port>`."""
