/* Sessions, versions, the list of devices. */
#include "state.h"

#include <stdio.h>
#include <string.h>

EXPORT nvmlReturn_t nvmlInitWithFlags(unsigned int flags)
{
    (void)flags;
    return session_open(__func__);
}

EXPORT nvmlReturn_t nvmlInit_v2(void) { return session_open(__func__); }
EXPORT nvmlReturn_t nvmlInit(void) { return session_open(__func__); }
EXPORT nvmlReturn_t nvmlShutdown(void) { return session_close(__func__); }

EXPORT const char *nvmlErrorString(nvmlReturn_t result)
{
    switch (result) {
    case NVML_SUCCESS: return "Success";
    case NVML_ERROR_UNINITIALIZED: return "Uninitialized";
    case NVML_ERROR_INVALID_ARGUMENT: return "Invalid Argument";
    case NVML_ERROR_NOT_SUPPORTED: return "Not Supported";
    case NVML_ERROR_NO_PERMISSION: return "Insufficient Permissions";
    case NVML_ERROR_NOT_FOUND: return "Not Found";
    case NVML_ERROR_INSUFFICIENT_SIZE: return "Insufficient Size";
    case NVML_ERROR_DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case NVML_ERROR_TIMEOUT: return "Timeout";
    case NVML_ERROR_IRQ_ISSUE: return "Interrupt Request Issue";
    case NVML_ERROR_GPU_IS_LOST: return "GPU is lost";
    case NVML_ERROR_RESET_REQUIRED: return "GPU requires reset";
    case NVML_ERROR_LIB_RM_VERSION_MISMATCH: return "Driver/library version mismatch";
    case NVML_ERROR_IN_USE: return "In use by another client";
    case NVML_ERROR_ARGUMENT_VERSION_MISMATCH: return "Argument version mismatch";
    case NVML_ERROR_NOT_READY: return "Not Ready";
    case NVML_ERROR_GPU_NOT_FOUND: return "GPU not found";
    default: return "Unknown Error";
    }
}

EXPORT nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length)
{
    BEGIN();
    return as_text(lookup("driver.version"), version, length);
}

EXPORT nvmlReturn_t nvmlSystemGetDriverBranch(nvmlSystemDriverBranchInfo_t *info, unsigned int length)
{
    BEGIN();
    if (!info)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (info->version != NVML_STRUCT_VERSION(SystemDriverBranchInfo, 1))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    return as_text(lookup("driver.branch"), info->branch, length);
}

EXPORT nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned int length)
{
    BEGIN();
    return as_text(lookup("nvml.version"), version, length);
}

EXPORT nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version)
{
    BEGIN();
    return as_int(lookup("cuda.version"), version);
}

EXPORT nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version)
{
    BEGIN();
    return as_int(lookup("cuda.version"), version);
}

EXPORT nvmlReturn_t nvmlSystemGetProcessName(unsigned int pid, char *name, unsigned int length)
{
    BEGIN();
    const char *text = lookup("process.%u.name", pid);
    return text || !name ? as_text(text, name, length) : NVML_ERROR_NOT_FOUND;
}

EXPORT nvmlReturn_t nvmlSystemGetConfComputeCapabilities(nvmlConfComputeSystemCaps_t *capabilities)
{
    BEGIN();
    if (!capabilities)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t code = as_uint(lookup("cc.cpu"), &capabilities->cpuCaps);
    return code == NVML_SUCCESS ? as_uint(lookup("cc.gpu"), &capabilities->gpusCaps) : code;
}

EXPORT nvmlReturn_t nvmlSystemGetConfComputeState(nvmlConfComputeSystemState_t *state)
{
    BEGIN();
    if (!state)
        return NVML_ERROR_INVALID_ARGUMENT;
    state->environment = uint_or(lookup("cc.environment"), 0);
    state->devToolsMode = uint_or(lookup("cc.devtools"), 0);
    return as_uint(lookup("cc.feature"), &state->ccFeature);
}

EXPORT nvmlReturn_t nvmlSystemGetConfComputeGpusReadyState(unsigned int *accepting)
{
    BEGIN();
    return as_uint(lookup("cc.ready"), accepting);
}

/* ------------------------------------------------------------------------------------------- devices */

EXPORT nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count)
{
    BEGIN();
    if (!count)
        return NVML_ERROR_INVALID_ARGUMENT;
    *count = 0;
    for (unsigned slot = 0; slot < slots(); slot++)
        *count += is_present(slot);
    return NVML_SUCCESS;
}

/* A handle is refused where the GPU was lost before anybody asked for it. */
static nvmlReturn_t hand_out(unsigned slot, nvmlDevice_t *device)
{
    nvmlReturn_t code = (nvmlReturn_t)uint_or(lookup("gpu.%u.handle.return", slot), NVML_SUCCESS);
    if (code == NVML_SUCCESS)
        *device = gpu_handle(slot);
    return code;
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device)
{
    BEGIN();
    unsigned at = 0;
    for (unsigned slot = 0; device && slot < slots(); slot++)
        if (is_present(slot) && at++ == index)
            return hand_out(slot, device);
    return NVML_ERROR_INVALID_ARGUMENT;
}

/* The MIG devices of one GPU whose UUID is this one. */
static int find_mig_by_uuid(unsigned slot, const char *uuid, nvmlDevice_t *device)
{
    char item[32];
    unsigned gi, ci;
    for (const char *list = lookup("gpu.%u.mig.devices", slot); next_item(&list, item, sizeof item);) {
        const char *own;
        if (sscanf(item, "%u,%u", &gi, &ci) == 2 && (own = lookup("gpu.%u.mig.%u.%u.uuid", slot, gi, ci))
            && strcmp(own, uuid) == 0) {
            *device = mig_handle(slot, gi, ci);
            return 1;
        }
    }
    return 0;
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
    BEGIN();
    if (!uuid || !device)
        return NVML_ERROR_INVALID_ARGUMENT;
    for (unsigned slot = 0; slot < slots(); slot++) {
        const char *own = lookup("gpu.%u.uuid", slot);
        if (is_present(slot) && own && strcmp(own, uuid) == 0)
            return hand_out(slot, device);
        if (is_present(slot) && find_mig_by_uuid(slot, uuid, device))
            return NVML_SUCCESS;
    }
    return NVML_ERROR_NOT_FOUND;
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleBySerial(const char *serial, nvmlDevice_t *device)
{
    BEGIN();
    if (!serial || !device)
        return NVML_ERROR_INVALID_ARGUMENT;
    for (unsigned slot = 0; slot < slots(); slot++) {
        const char *own = lookup("gpu.%u.serial", slot);
        if (is_present(slot) && own && strcmp(own, serial) == 0)
            return hand_out(slot, device);
    }
    return NVML_ERROR_NOT_FOUND;
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *address, nvmlDevice_t *device)
{
    BEGIN();
    unsigned domain = 0, bus, number;
    if (!address || !device)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (sscanf(address, "%x:%x:%x", &domain, &bus, &number) != 3) {
        domain = 0;
        if (sscanf(address, "%x:%x", &bus, &number) != 2)
            return NVML_ERROR_INVALID_ARGUMENT;
    }
    for (unsigned slot = 0; slot < slots(); slot++)
        if (is_present(slot) && uint_or(lookup("gpu.%u.pci.domain", slot), 0) == domain
            && uint_or(lookup("gpu.%u.pci.bus", slot), NOT_GIVEN) == bus
            && uint_or(lookup("gpu.%u.pci.device", slot), 0) == number)
            return hand_out(slot, device);
    return NVML_ERROR_NOT_FOUND;
}

EXPORT nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int *index)
{
    BEGIN_DEVICE(gpu, device);
    if (!index)
        return NVML_ERROR_INVALID_ARGUMENT;
    *index = 0;
    for (unsigned slot = 0; slot < gpu.slot; slot++)
        *index += is_present(slot);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlGetExcludedDeviceCount(unsigned int *count)
{
    BEGIN();
    return as_uint(lookup("excluded.count"), count);
}

EXPORT nvmlReturn_t nvmlGetExcludedDeviceInfoByIndex(unsigned int index, nvmlExcludedDeviceInfo_t *info)
{
    BEGIN();
    if (!info || index >= uint_or(lookup("excluded.count"), 0))
        return NVML_ERROR_INVALID_ARGUMENT;
    memset(info, 0, sizeof *info);
    info->pciInfo.domain = uint_or(lookup("excluded.%u.domain", index), 0);
    info->pciInfo.bus = uint_or(lookup("excluded.%u.bus", index), 0);
    snprintf(info->pciInfo.busId, sizeof info->pciInfo.busId, "%08X:%02X:00.0", info->pciInfo.domain,
             info->pciInfo.bus & 0xff);
    return as_text(lookup("excluded.%u.uuid", index), info->uuid, sizeof info->uuid);
}
