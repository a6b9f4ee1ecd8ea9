"""Which functions a driver does not have yet: the binding is newer than many a driver in the field."""

DRIVER_520_LACKS = (
    "nvmlDeviceGetAddressingMode",
    "nvmlDeviceGetBankRemapperStatus_v1",
    "nvmlDeviceGetC2cModeInfoV",
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetFanSpeedRPM",
    "nvmlDeviceGetGpuFabricInfo",
    "nvmlDeviceGetGpuFabricInfoV",
    "nvmlDeviceGetGpuMaxPcieLinkGeneration",
    "nvmlDeviceGetJpgUtilization",
    "nvmlDeviceGetMarginTemperature",
    "nvmlDeviceGetModuleId",
    "nvmlDeviceGetNumaNodeId",
    "nvmlDeviceGetOfaUtilization",
    "nvmlDeviceGetPciInfoExt",
    "nvmlDeviceGetPlatformInfo",
    "nvmlDeviceGetRemappedRows_v2",
    "nvmlDeviceGetRepairStatus",
    "nvmlDeviceGetRunningProcessDetailList",
    "nvmlDeviceGetSramEccErrorStatus",
    "nvmlDeviceGetSupportedClocksEventReasons",
    "nvmlDeviceGetTemperatureV",
    "nvmlSystemGetConfComputeCapabilities",
    "nvmlSystemGetConfComputeGpusReadyState",
    "nvmlSystemGetConfComputeState",
    "nvmlSystemGetDriverBranch",
)
"""Functions of the fake that the nvml.h of CUDA 11.8 (driver branch 520) does not declare.

Source: nvml.h of the distribution nvidia-nvml-dev-cu11 11.8.86.
"""
