"""What the recorded machines' processors, memory and ports measured is what the rows say; hostile ones say nothing."""

import functools
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.metrics_bmc_parts import BMC_MEMORY_METRICS, BMC_PORT_METRICS, BMC_PROCESSOR_METRICS
from collectors.redfish.parts import Found
from collectors.redfish.readings_metrics import memory_fields, port_fields, processor_fields, seconds
from schemas.metrics import ValueType
from schemas.rows import Reading
from tests.collectors.redfish.reading import Reads
from tests.fakes.redfish import Bmc, Simulator, made, recorded

SPECS = {spec.name: spec for spec in (*BMC_PROCESSOR_METRICS, *BMC_MEMORY_METRICS, *BMC_PORT_METRICS)}
MEASURED = {spec.measurement for spec in SPECS.values()}
TYPES = {ValueType.FLOAT: (int, float), ValueType.INT: (int,), ValueType.BOOL: (bool,), ValueType.STR: (str,)}
COUNTS = {
    "dell": {"Memory": 16, "Processor": 1},
    "lenovo": {"Processor": 2},
    "nvidia_viking": {"Processor": 11, "Memory": 40, "Port": 146},
}
SCALES = {"Percent": 0.01, "MHz": 1e6}
LEFT = {
    "EnergykWh", "EDPpPercent", "AllowableMax", "AllowableMin", "DefaultSetPoint", "SpareBlock", "AddressParityError",
    "RXNoProtocolBytes", "TXNoProtocolBytes", "PCIeRXBytes", "PCIeTXBytes", "RuntimeError", "TrainingError",
}  # fmt: skip
"""What is said and not asked for: settings, the same in another unit, bytes that overflow at 32 bits."""
GPU = "/redfish/v1/Systems/System/Processors/GPU_0"


@functools.cache
def tree(name: str) -> dict[str, Any]:
    """Give a recorded machine's resources by path."""
    found = {}
    for path, body in recorded(name).items():
        try:
            found[path] = json.loads(body)
        except ValueError:
            continue
    return found


def leaves(told: Any, name: str = "") -> Iterator[float]:
    """Give every number and truth value that a resource of metrics says, in base units."""
    if isinstance(told, dict):
        for key, inner in told.items():
            if key not in LEFT and not (key == "Reading" and name == "PowerLimitWatts"):
                yield from leaves(inner, name if key == "Reading" else key)
    elif isinstance(told, bool):
        yield told
    elif isinstance(told, int | float) and told != 0xFFFF_FFFF:
        yield told * next((scale for word, scale in SCALES.items() if name.endswith(word)), 1)


@pytest.mark.parametrize("name", COUNTS)
def test_every_number_that_a_part_says_is_in_its_row(name: str) -> None:
    resources = tree(name)
    found = Found("b")
    for path in sorted(resources):
        if isinstance(resources[path], dict) and "/SubProcessors/" not in path and "/Fabrics/" not in path:
            found.take(resources[path])
    assert COUNTS[name] == Counter(part.schema for part in found.parts.values())
    for path, part in found.parts.items():
        metrics, environment = resources.get(part.metrics, {}), resources.get(part.environment, {})
        if part.schema == "Processor":
            fields = processor_fields(metrics, environment, {})
        else:
            fields = memory_fields(metrics) if part.schema == "Memory" else port_fields(metrics)
        said = sorted(round(one, 6) for one in (*leaves(metrics), *leaves(environment)))
        shown = sorted(round(one, 6) for one in fields.values() if isinstance(one, int | float))
        assert said == shown, path


def test_the_accelerators_ports_and_memory_are_told_of_the_accelerator() -> None:
    resources = tree("nvidia_viking")
    found = Found("b")
    for path in sorted(resources):
        if isinstance(resources[path], dict) and "/SubProcessors/" not in path and "/Fabrics/" not in path:
            found.take(resources[path])
    gpu = "gpu:b/HGX_Baseboard_0/GPU_SXM_1"
    of_gpu = Counter(part.schema for part in found.parts.values() if part.device == gpu)
    assert {"Processor": 1, "Memory": 1, "Port": 18} == of_gpu
    assert "memory-module:b/DGX/DevType2_DIMM5" in {part.device for part in found.parts.values()}


def with_metrics(bmc: Bmc) -> None:
    """Give a GPU metrics and a port."""
    bmc.change(GPU, Metrics={"@odata.id": f"{GPU}/Metrics"}, Ports={"@odata.id": f"{GPU}/Ports"})
    bmc.put(
        f"{GPU}/Metrics",
        {
            "@odata.id": f"{GPU}/Metrics",
            "@odata.type": "#ProcessorMetrics.v1_6_1.ProcessorMetrics",
            "BandwidthPercent": 25,
            "ThermalLimitThrottleDuration": "P1DT2H3M4.5S",
            "PCIeErrors": {"ReplayCount": 4294967295, "FatalErrorCount": 2},
            "Oem": {"Nvidia": {"ThrottleReasons": ["SWPowerCap", "HWThermalSlowdown", 7, "\n\u0007"]}},
        },
    )
    port = f"{GPU}/Ports/NVLink_0"
    bmc.put(f"{GPU}/Ports", {"@odata.id": f"{GPU}/Ports", "Members": [{"@odata.id": port}]})
    bmc.put(port, {"@odata.id": port, "@odata.type": "#Port.v1_9_0.Port", "Metrics": {"@odata.id": f"{port}/Metrics"}})
    bmc.put(
        f"{port}/Metrics",
        {
            "@odata.id": f"{port}/Metrics",
            "@odata.type": "#PortMetrics.v1_5_0.PortMetrics",
            "RXBytes": 1 << 60,
            "RXErrors": -1,
            "Networking": {"RXFCSErrors": 3},
        },
    )


def of_parts(rows: list[Reading]) -> dict[tuple[str, str], Reading]:
    """Give the rows of parts by measurement and name."""
    return {(row.measurement, *row.attributes.values()): row for row in rows if row.measurement in MEASURED}  # type: ignore[misc]


def test_parts_are_read_once_a_walk_has_found_them_and_then_as_seldom_as_is_said(simulator: Simulator) -> None:
    bmc = simulator.add(made("made"))
    with_metrics(bmc)
    with Reads(bmc, parts_every_seconds=3600.0) as reads:
        assert not of_parts(reads.rows())
        found = of_parts(reads.rows())
        gpu = found["bmc_processor", "System/GPU_0"]
        port = found["bmc_port", "System/GPU_0/NVLink_0"]
        assert not of_parts(reads.rows())
    assert ("gpu:b/System/GPU_0", "gpu:b/System/GPU_0") == (gpu.device, port.device)
    assert (0.25, 93784.5, 2) == tuple(
        gpu.fields[name] for name in ("bandwidth_ratio", "thermal_throttled_seconds_total", "pcie_fatal_errors_total")
    )
    assert "HWThermalSlowdown,SWPowerCap" == gpu.fields["throttle_reasons"]
    assert "pcie_replays_total" not in gpu.fields, "all ones is what nothing answers with"
    assert {"rx_bytes_total": 1 << 60, "rx_fcs_errors_total": 3} == port.fields


def test_a_round_that_the_time_does_not_suffice_for_goes_on_the_next_time(simulator: Simulator) -> None:
    bmc = simulator.add(made("made"))
    with_metrics(bmc)
    with Reads(bmc, parts_every_seconds=86400.0) as reads:
        reads.rows()
        whole = len(list(reads.reader._found_parts.parts))
        assert whole > 2
        reads.reader._clock = itertools.count(0.0, 1000.0).__next__  # no time is left ever
        told = [len(of_parts(reads.rows())) for _ in range(whole + 2)]
    assert [1] * whole + [0, 0] == told


def test_what_a_part_does_not_say_now_is_absent(simulator: Simulator) -> None:
    bmc = simulator.add(made("made"))
    with_metrics(bmc)
    bmc.remove(f"{GPU}/Metrics")
    bmc.put(f"{GPU}/Ports/NVLink_0/Metrics", b"{]")
    with Reads(bmc) as reads:
        reads.rows()
        found = of_parts(reads.rows())
    assert "bandwidth_ratio" not in found["bmc_processor", "System/GPU_0"].fields
    assert ("bmc_port", "System/GPU_0/NVLink_0") not in found


@pytest.mark.parametrize(
    ("said", "meant"),
    [("PT0.018S", 0.018), ("P2D", 172800.0), ("PT1H", 3600.0), ("PT", None), ("P", None), ("1 h", None), (5, None)],
)
def test_a_duration_is_seconds_or_nothing(said: object, meant: float | None) -> None:
    assert meant == seconds(said)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-(1 << 70), 1 << 70) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted({
        *("PCIeErrors", "ReplayCount", "LifeTime", "CorrectableECCErrorCount", "CacheMetricsTotal", "Oem", "Nvidia"),
        *("NVLinkErrors", "RecoveryCount", "ThrottleReasons", "PowerLimitWatts", "SetPoint", "EnergyJoules", "Reading"),
        *("DataSourceUri", "BandwidthPercent", "OperatingSpeedMHz", "ThermalLimitThrottleDuration", "HealthData"),
        *("AlarmTrips", "Temperature", "RXBytes", "Networking", "RXFrames", "TemperatureCelsius", "PowerWatts"),
    })), inner, max_size=6),
    max_leaves=10,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["a", "PCIeErrors", "RXBytes", "LifeTime", "Oem", "HealthData"]), JSON), JSON)
def test_whatever_metrics_say_their_row_is_as_declared(metrics: dict[str, Any], more: Any) -> None:
    metrics = {**metrics, **(more if isinstance(more, dict) else {})}
    for measurement, fields in (
        ("bmc_processor", processor_fields(metrics, metrics, {})),
        ("bmc_memory", memory_fields(metrics)),
        ("bmc_port", port_fields(metrics)),
    ):
        for name, value in fields.items():
            spec = SPECS[f"{measurement}.{name}"]
            assert isinstance(value, TYPES[spec.type]), (name, value)
            assert isinstance(value, bool) == (spec.type is ValueType.BOOL)
            assert isinstance(value, bool | str) or -100 <= value < 1 << 63 or "watts" in name or "joules" in name
