/* What a GPU is: names, numbers, versions, modes. */
#include "state.h"

#include <stdio.h>
#include <string.h>

DEVICE_TEXT(nvmlDeviceGetName, "name")
DEVICE_TEXT(nvmlDeviceGetUUID, "uuid")
DEVICE_TEXT(nvmlDeviceGetSerial, "serial")
DEVICE_TEXT(nvmlDeviceGetBoardPartNumber, "board.part")
DEVICE_TEXT(nvmlDeviceGetVbiosVersion, "vbios")
DEVICE_TEXT(nvmlDeviceGetInforomImageVersion, "inforom.image")
DEVICE_UINT(nvmlDeviceGetInforomConfigurationChecksum, unsigned int, "inforom.checksum")
DEVICE_UINT(nvmlDeviceGetBrand, nvmlBrandType_t, "brand")
DEVICE_UINT(nvmlDeviceGetArchitecture, nvmlDeviceArchitecture_t, "architecture")
DEVICE_UINT(nvmlDeviceGetBoardId, unsigned int, "board.id")
DEVICE_UINT(nvmlDeviceGetMultiGpuBoard, unsigned int, "board.multi_gpu")
DEVICE_UINT(nvmlDeviceGetModuleId, unsigned int, "module_id")
DEVICE_UINT(nvmlDeviceGetMinorNumber, unsigned int, "minor")
DEVICE_UINT(nvmlDeviceGetNumGpuCores, unsigned int, "cores")
DEVICE_UINT(nvmlDeviceGetMemoryBusWidth, unsigned int, "memory.bus_width")
DEVICE_UINT(nvmlDeviceGetBusType, nvmlBusType_t, "bus_type")
DEVICE_UINT(nvmlDeviceGetIrqNum, unsigned int, "irq")
DEVICE_UINT(nvmlDeviceGetPersistenceMode, nvmlEnableState_t, "persistence")
DEVICE_UINT(nvmlDeviceGetComputeMode, nvmlComputeMode_t, "compute_mode")
DEVICE_UINT(nvmlDeviceGetDisplayMode, nvmlEnableState_t, "display.mode")
DEVICE_UINT(nvmlDeviceGetDisplayActive, nvmlEnableState_t, "display.active")
DEVICE_UINT(nvmlDeviceGetVirtualizationMode, nvmlGpuVirtualizationMode_t, "virtualization.mode")
DEVICE_UINT(nvmlDeviceGetHostVgpuMode, nvmlHostVgpuMode_t, "virtualization.host_vgpu")
DEVICE_UINT(nvmlDeviceGetPowerSource, nvmlPowerSource_t, "power.source")

EXPORT nvmlReturn_t nvmlDeviceGetInforomVersion(nvmlDevice_t device, nvmlInforomObject_t object, char *version,
                                                unsigned int length)
{
    static const char *const names[] = {"oem", "ecc", "power", "den"};
    BEGIN_DEVICE(gpu, device);
    if ((unsigned)object >= 4)
        return NVML_ERROR_INVALID_ARGUMENT;
    return as_text(of(&gpu, "inforom.%s", names[object]), version, length);
}

EXPORT nvmlReturn_t nvmlDeviceValidateInforom(nvmlDevice_t device)
{
    BEGIN_DEVICE(gpu, device);
    unsigned valid;
    nvmlReturn_t code = as_uint(of(&gpu, "inforom.valid"), &valid);
    return code == NVML_SUCCESS && !valid ? NVML_ERROR_CORRUPTED_INFOROM : code;
}

EXPORT nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor)
{
    BEGIN_DEVICE(gpu, device);
    nvmlReturn_t code = as_int(of(&gpu, "cuda.major"), major);
    return code == NVML_SUCCESS ? as_int(of(&gpu, "cuda.minor"), minor) : code;
}

EXPORT nvmlReturn_t nvmlDeviceGetGspFirmwareVersion(nvmlDevice_t device, char *version)
{
    BEGIN_DEVICE(gpu, device);
    return as_text(of(&gpu, "gsp.version"), version, 0x40);
}

EXPORT nvmlReturn_t nvmlDeviceGetGspFirmwareMode(nvmlDevice_t device, unsigned int *enabled, unsigned int *standard)
{
    BEGIN_DEVICE(gpu, device);
    nvmlReturn_t code = as_uint(of(&gpu, "gsp.enabled"), enabled);
    return code == NVML_SUCCESS ? as_uint(of(&gpu, "gsp.default"), standard) : code;
}

EXPORT nvmlReturn_t nvmlDeviceGetC2cModeInfoV(nvmlDevice_t device, nvmlC2cModeInfo_v1_t *info)
{
    BEGIN_DEVICE(gpu, device);
    return as_uint(of(&gpu, "c2c.enabled"), info ? &info->isC2cEnabled : NULL);
}

EXPORT nvmlReturn_t nvmlDeviceGetAddressingMode(nvmlDevice_t device, nvmlDeviceAddressingMode_t *mode)
{
    BEGIN_DEVICE(gpu, device);
    if (!mode)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (mode->version != NVML_STRUCT_VERSION(DeviceAddressingMode, 1))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    return as_uint(of(&gpu, "addressing_mode"), &mode->value);
}

/* ------------------------------------------------------------------------------------------- PCI */

EXPORT nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
    BEGIN_DEVICE(gpu, device);
    if (!pci)
        return NVML_ERROR_INVALID_ARGUMENT;
    memset(pci, 0, sizeof *pci);
    nvmlReturn_t code = as_uint(of(&gpu, "pci.bus"), &pci->bus);
    if (code != NVML_SUCCESS)
        return code;
    pci->domain = uint_or(of(&gpu, "pci.domain"), 0);
    pci->device = uint_or(of(&gpu, "pci.device"), 0);
    pci->pciDeviceId = uint_or(of(&gpu, "pci.device_id"), 0);
    pci->pciSubSystemId = uint_or(of(&gpu, "pci.subsystem_id"), 0);
    snprintf(pci->busId, sizeof pci->busId, "%08X:%02X:%02X.0", pci->domain, pci->bus & 0xff, pci->device & 0xff);
    snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "%04X:%02X:%02X.0", pci->domain & 0xffff, pci->bus & 0xff,
             pci->device & 0xff);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetPciInfoExt(nvmlDevice_t device, nvmlPciInfoExt_v1_t *pci)
{
    BEGIN_DEVICE(gpu, device);
    if (!pci)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (pci->version != NVML_STRUCT_VERSION(PciInfoExt, 1))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    nvmlReturn_t code = as_uint(of(&gpu, "pci.bus"), &pci->bus);
    if (code != NVML_SUCCESS)
        return code;
    pci->domain = uint_or(of(&gpu, "pci.domain"), 0);
    pci->device = uint_or(of(&gpu, "pci.device"), 0);
    pci->pciDeviceId = uint_or(of(&gpu, "pci.device_id"), 0);
    pci->pciSubSystemId = uint_or(of(&gpu, "pci.subsystem_id"), 0);
    pci->baseClass = uint_or(of(&gpu, "pci.base_class"), 3);
    pci->subClass = uint_or(of(&gpu, "pci.sub_class"), 2);
    snprintf(pci->busId, sizeof pci->busId, "%08X:%02X:%02X.0", pci->domain, pci->bus & 0xff, pci->device & 0xff);
    return NVML_SUCCESS;
}

/* ------------------------------------------------------------------------------------------- platform */

EXPORT nvmlReturn_t nvmlDeviceGetPlatformInfo(nvmlDevice_t device, nvmlPlatformInfo_t *info)
{
    BEGIN_DEVICE(gpu, device);
    if (!info)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (info->version != NVML_STRUCT_VERSION(PlatformInfo, 2))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    const char *chassis = of(&gpu, "platform.chassis_serial"), *guid = of(&gpu, "platform.ib_guid");
    nvmlReturn_t code = code_of(chassis);
    if (code != NVML_SUCCESS)
        return code;
    memset(info->chassisSerialNumber, 0, sizeof info->chassisSerialNumber);
    memcpy(info->chassisSerialNumber, chassis, strnlen(chassis, sizeof info->chassisSerialNumber));
    memset(info->ibGuid, 0, sizeof info->ibGuid);
    if (guid)
        memcpy(info->ibGuid, guid, strnlen(guid, sizeof info->ibGuid));
    info->slotNumber = (unsigned char)uint_or(of(&gpu, "platform.slot"), 0);
    info->trayIndex = (unsigned char)uint_or(of(&gpu, "platform.tray"), 0);
    info->hostId = (unsigned char)uint_or(of(&gpu, "platform.host"), 0);
    info->peerType = (unsigned char)uint_or(of(&gpu, "platform.peer_type"), 0);
    info->moduleId = (unsigned char)uint_or(of(&gpu, "platform.module_id"), 0);
    return NVML_SUCCESS;
}
