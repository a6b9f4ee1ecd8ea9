"""The fake has the binary interface that the binding expects: sizes, offsets, version words, prototypes."""

import ctypes
import shutil
import subprocess
from importlib.metadata import files
from pathlib import Path

import pynvml

from tests.fakes.nvml.build import SOURCES, compile_sources
from tests.needs import unmet

STRUCTURES = {
    "nvmlAccountingStats_t": "c_nvmlAccountingStats_t",
    "nvmlC2cModeInfo_v1_t": "c_nvmlC2cModeInfo_v1_t",
    "nvmlDeviceAddressingMode_v1_t": "c_nvmlDeviceAddressingMode_t",
    "nvmlEccBankRemapperStatus_v1_t": "c_nvmlEccBankRemapperStatus_v1_t",
    "nvmlGpmMetric_t": "c_nvmlGpmMetric_t",
    "nvmlGpmMetricsGet_t": "c_nvmlGpmMetricsGet_t",
    "nvmlGpmSupport_t": "c_nvmlGpmSupport_t",
    "nvmlRemappedRowsInfo_v2_t": "c_nvmlRemappedRowsInfo_v2_t",
    "nvmlSystemDriverBranchInfo_v1_t": "c_nvmlSystemDriverBranchInfo_v1_t",
    "nvmlBAR1Memory_t": "c_nvmlBAR1Memory_t",
    "nvmlComputeInstanceInfo_t": "c_nvmlComputeInstanceInfo_t",
    "nvmlComputeInstanceProfileInfo_t": "c_nvmlComputeInstanceProfileInfo_t",
    "nvmlComputeInstanceProfileInfo_v2_t": "c_nvmlComputeInstanceProfileInfo_v2_t",
    "nvmlConfComputeSystemCaps_t": "c_nvmlConfComputeSystemCaps_t",
    "nvmlConfComputeSystemState_t": "c_nvmlConfComputeSystemState_t",
    "nvmlDeviceAttributes_t": "c_nvmlDeviceAttributes",
    "nvmlEccErrorCounts_t": "c_nvmlEccErrorCounts_t",
    "nvmlEccSramErrorStatus_v1_t": "c_nvmlEccSramErrorStatus_v1_t",
    "nvmlEventData_t": "c_nvmlEventData_t",
    "nvmlExcludedDeviceInfo_t": "c_nvmlExcludedDeviceInfo_t",
    "nvmlFanSpeedInfo_v1_t": "c_nvmlFanSpeedInfo_t",
    "nvmlFieldValue_t": "c_nvmlFieldValue_t",
    "nvmlGpuFabricInfo_t": "c_nvmlGpuFabricInfo_t",
    "nvmlGpuFabricInfo_v2_t": "c_nvmlGpuFabricInfo_v2_t",
    "nvmlGpuFabricInfo_v3_t": "c_nvmlGpuFabricInfo_v3_t",
    "nvmlGpuInstanceInfo_t": "c_nvmlGpuInstanceInfo_t",
    "nvmlGpuInstancePlacement_t": "c_nvmlGpuInstancePlacement_t",
    "nvmlGpuInstanceProfileInfo_t": "c_nvmlGpuInstanceProfileInfo_t",
    "nvmlGpuInstanceProfileInfo_v2_t": "c_nvmlGpuInstanceProfileInfo_v2_t",
    "nvmlMarginTemperature_v1_t": "c_nvmlMarginTemperature_v1_t",
    "nvmlMemory_t": "c_nvmlMemory_t",
    "nvmlMemory_v2_t": "c_nvmlMemory_v2_t",
    "nvmlPciInfoExt_v1_t": "nvmlPciInfoExt_v1_t",
    "nvmlPciInfo_t": "nvmlPciInfo_t",
    "nvmlPlatformInfo_v2_t": "c_nvmlPlatformInfo_v2_t",
    "nvmlProcessDetailList_v1_t": "c_nvmlProcessDetailList_v1_t",
    "nvmlProcessDetail_v1_t": "c_nvmlProcessDetail_v1_t",
    "nvmlProcessInfo_t": "c_nvmlProcessInfo_t",
    "nvmlProcessUtilizationSample_t": "c_nvmlProcessUtilizationSample_t",
    "nvmlRepairStatus_v1_t": "c_nvmlRepairStatus_t",
    "nvmlRowRemapperHistogramValues_t": "c_nvmlRowRemapperHistogramValues",
    "nvmlSample_t": "c_nvmlSample_t",
    "nvmlTemperature_v1_t": "c_nvmlTemperature_v1_t",
    "nvmlUtilization_t": "c_nvmlUtilization_t",
    "nvmlViolationTime_t": "c_nvmlViolationTime_t",
}
RENAMED = {
    ("nvmlExcludedDeviceInfo_t", "pci"): "pciInfo",
    ("nvmlRemappedRowsInfo_v2_t", "bfailureOccurred"): "bFailureOccurred",
}
VERSIONS = {
    "Memory, 2": "nvmlMemory_v2",
    "Temperature, 1": "nvmlTemperature_v1",
    "MarginTemperature, 1": "nvmlMarginTemperature_v1",
    "FanSpeedInfo, 1": "nvmlFanSpeedInfo_v1",
    "PciInfoExt, 1": "nvmlPciInfoExt_v1",
    "GpuFabricInfo, 2": "nvmlGpuFabricInfo_v2",
    "GpuFabricInfo, 3": "nvmlGpuFabricInfo_v3",
    "PlatformInfo, 2": "nvmlPlatformInfo_v2",
    "RepairStatus, 1": "nvmlRepairStatus_v1",
    "ProcessDetailList, 1": "nvmlProcessDetailList_v1",
    "GpuInstanceProfileInfo, 2": "nvmlGpuInstanceProfileInfo_v2",
    "ComputeInstanceProfileInfo, 2": "nvmlComputeInstanceProfileInfo_v2",
    "DeviceAddressingMode, 1": "nvmlDeviceAddressingMode_v1",
    "SystemDriverBranchInfo, 1": "SystemDriverBranchInfo_v1",
    "EccSramErrorStatus, 1": "nvmlEccSramErrorStatus_v1",
}


def layout(structure: type[ctypes.Structure]) -> list[tuple[str, int]]:
    """Give the members of a structure of the binding with their offsets."""
    return [(field[0], getattr(structure, field[0]).offset) for field in structure._fields_]


def test_structures_and_version_words_are_those_of_the_binding(tmp_path: Path) -> None:
    lines, expected = [], []
    for name, python in STRUCTURES.items():
        structure = getattr(pynvml, python)
        lines.append(f'printf("%zu\\n", sizeof({name}));')
        expected.append(ctypes.sizeof(structure))
        for member, offset in layout(structure):
            lines.append(f'printf("%zu\\n", offsetof({name}, {RENAMED.get((name, member), member)}));')
            expected.append(offset)
    for arguments, word in VERSIONS.items():
        lines.append(f'printf("%u\\n", NVML_STRUCT_VERSION({arguments}));')
        expected.append(getattr(pynvml, word))
    assert expected == printed(lines, tmp_path)


def test_return_codes_are_those_of_the_binding(tmp_path: Path) -> None:
    header = (SOURCES / "abi" / "nvml.h").read_text()
    names = [word for word in header.replace(",", " ").split() if word.startswith(("NVML_ERROR_", "NVML_VALUE_TYPE_"))]
    said = printed([f'printf("%d\\n", {name});' for name in names], tmp_path)
    assert [getattr(pynvml, name) for name in names] == said
    assert len(names) > 30


def printed(lines: list[str], folder: Path) -> list[int]:
    """Compile a program of these statements against the fake's header, and give the numbers that it prints."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        unmet("no C compiler; install gcc")
    source, program = folder / "layout.c", folder / "layout"
    body = "\n".join(lines)
    source.write_text(f"#include <nvml.h>\n#include <stddef.h>\n#include <stdio.h>\nint main(void) {{\n{body}\n}}\n")
    subprocess.run([compiler, "-w", "-I", str(SOURCES / "abi"), str(source), "-o", str(program)], check=True)
    said = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    return [int(line) for line in said.split()]


def test_sources_compile_against_the_vendors_own_header(tmp_path: Path) -> None:
    """So that the compiler compares every prototype; the header comes with the tests' dependencies."""
    headers = [Path(str(one.locate())) for one in files("nvidia-nvml-dev") or () if one.name == "nvml.h"]
    assert headers, "the distribution nvidia-nvml-dev has no nvml.h"
    compile_sources(headers[0].parent, tmp_path)
