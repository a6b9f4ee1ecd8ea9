"""What is measured of DPUs: the declarations that every source of a DPU's telemetry shares.

`dpu` has one row for each DPU, `dpu_resource` one for each resource of it that services and functions consume. Source:
Redfish (DSP0268) of the DPU's BMC, Linux `devlink` and `xfrm` on the DPU.
"""

from functools import partial
from typing import Final

from schemas.metrics import Category, Kind, MetricSpec, Unit, ValueType
from schemas.verbosity import Level

_metric = partial(
    MetricSpec,
    unit=Unit.COUNT,
    kind=Kind.GAUGE,
    type=ValueType.INT,
    level=Level.STANDARD,
    category=Category.USAGE,
)
_resource = partial(_metric, level=Level.ESSENTIAL, attributes=("resource",))

DPU_METRICS: Final[tuple[MetricSpec, ...]] = (
    _metric(
        name="dpu.boot_progress",
        unit=Unit.NONE,
        kind=Kind.STATE,
        type=ValueType.STR,
        level=Level.ESSENTIAL,
        category=Category.ERROR,
        meaning="How far its own processors have booted: None, OSBootStarted, OSRunning and so on.",
        source="ComputerSystem.BootProgress.LastState",
    ),
    _metric(
        name="dpu.temperature_celsius",
        unit=Unit.CELSIUS,
        type=ValueType.FLOAT,
        level=Level.ESSENTIAL,
        category=Category.ENVIRONMENT,
        meaning="Temperature of the chip.",
        source="Sensor bluefield_temp",
    ),
    _metric(
        name="dpu.power_watts",
        unit=Unit.WATTS,
        type=ValueType.FLOAT,
        category=Category.ENVIRONMENT,
        meaning="Power that the card takes.",
        source="EnvironmentMetrics.PowerWatts",
    ),
    _metric(
        name="dpu.encrypted_bytes_total",
        unit=Unit.BYTES,
        kind=Kind.COUNTER,
        meaning="Bytes encrypted and decrypted since it was booted, in hardware or in software.",
        source="/proc/net/xfrm_stat, ethtool ipsec_*_bytes",
    ),
    _metric(
        name="dpu.offload_errors_total",
        kind=Kind.COUNTER,
        level=Level.ESSENTIAL,
        category=Category.ERROR,
        meaning="Packets and jobs that an offload failed at since it was booted.",
        source="ethtool ipsec_*_drop, tls_*_err",
    ),
)
"""The columns of the measurement `dpu`."""

DPU_RESOURCE_METRICS: Final[tuple[MetricSpec, ...]] = (
    _resource(
        name="dpu_resource.used",
        meaning="How much of it is consumed.",
        source="devlink resource show: occ; ip xfrm state count",
    ),
    _resource(
        name="dpu_resource.limit",
        meaning="How much of it there is; what remains is this less `used`.",
        source="devlink resource show: size",
    ),
)
"""The columns of the measurement `dpu_resource`; `resource` is vfs, subfunctions, flows or security_associations."""
