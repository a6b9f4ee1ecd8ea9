/* Links: NVLink, PCIe, chip to chip, the NVLink fabric. */
#include "state.h"

#include <stdio.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------- NVLink */

static nvmlReturn_t link_uint(const struct target *gpu, unsigned link, const char *what, unsigned int *value)
{
    if (link >= NVML_NVLINK_MAX_LINKS)
        return NVML_ERROR_INVALID_ARGUMENT;
    return as_uint(of(gpu, "nvlink.%u.%s", link, what), value);
}

EXPORT nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, unsigned int link, nvmlEnableState_t *active)
{
    BEGIN_DEVICE(gpu, device);
    return link_uint(&gpu, link, "state", (unsigned int *)active);
}

EXPORT nvmlReturn_t nvmlDeviceGetNvLinkVersion(nvmlDevice_t device, unsigned int link, unsigned int *version)
{
    BEGIN_DEVICE(gpu, device);
    return link_uint(&gpu, link, "version", version);
}

EXPORT nvmlReturn_t nvmlDeviceGetNvLinkCapability(nvmlDevice_t device, unsigned int link,
                                                  nvmlNvLinkCapability_t capability, unsigned int *able)
{
    BEGIN_DEVICE(gpu, device);
    unsigned mask;
    if ((unsigned)capability > 5 || !able)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t code = link_uint(&gpu, link, "capabilities", &mask);
    *able = mask >> capability & 1;
    return code;
}

EXPORT nvmlReturn_t nvmlDeviceGetNvLinkRemoteDeviceType(nvmlDevice_t device, unsigned int link,
                                                        nvmlIntNvLinkDeviceType_t *type)
{
    BEGIN_DEVICE(gpu, device);
    return link_uint(&gpu, link, "remote.type", (unsigned int *)type);
}

/* `nvlink.<link>.remote.address` is `domain:bus:device` in hexadecimal digits. */
EXPORT nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, unsigned int link, nvmlPciInfo_t *pci)
{
    BEGIN_DEVICE(gpu, device);
    if (!pci || link >= NVML_NVLINK_MAX_LINKS)
        return NVML_ERROR_INVALID_ARGUMENT;
    const char *address = of(&gpu, "nvlink.%u.remote.address", link);
    nvmlReturn_t code = code_of(address);
    if (code != NVML_SUCCESS)
        return code;
    memset(pci, 0, sizeof *pci);
    if (sscanf(address, "%x:%x:%x", &pci->domain, &pci->bus, &pci->device) != 3)
        return NVML_ERROR_UNKNOWN;
    snprintf(pci->busId, sizeof pci->busId, "%08X:%02X:%02X.0", pci->domain, pci->bus & 0xff, pci->device & 0xff);
    snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "%04X:%02X:%02X.0", pci->domain & 0xffff, pci->bus & 0xff,
             pci->device & 0xff);
    pci->pciDeviceId = uint_or(of(&gpu, "nvlink.%u.remote.device_id", link), 0);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetNvLinkErrorCounter(nvmlDevice_t device, unsigned int link,
                                                    nvmlNvLinkErrorCounter_t counter, unsigned long long *count)
{
    static const char *const names[] = {"dl_replay", "dl_recovery", "crc_flit", "crc_data", "ecc_data"};
    BEGIN_DEVICE(gpu, device);
    if (link >= NVML_NVLINK_MAX_LINKS || (unsigned)counter >= 5)
        return NVML_ERROR_INVALID_ARGUMENT;
    return as_ull(of(&gpu, "nvlink.%u.%s", link, names[counter]), count);
}

/* ------------------------------------------------------------------------------------------- PCIe */

DEVICE_UINT(nvmlDeviceGetCurrPcieLinkGeneration, unsigned int, "pcie.generation")
DEVICE_UINT(nvmlDeviceGetMaxPcieLinkGeneration, unsigned int, "pcie.generation.max")
DEVICE_UINT(nvmlDeviceGetGpuMaxPcieLinkGeneration, unsigned int, "pcie.generation.gpu_max")
DEVICE_UINT(nvmlDeviceGetCurrPcieLinkWidth, unsigned int, "pcie.width")
DEVICE_UINT(nvmlDeviceGetMaxPcieLinkWidth, unsigned int, "pcie.width.max")
DEVICE_UINT(nvmlDeviceGetPcieSpeed, unsigned int, "pcie.speed")
DEVICE_UINT(nvmlDeviceGetPcieLinkMaxSpeed, unsigned int, "pcie.speed.max")
DEVICE_UINT(nvmlDeviceGetPcieReplayCounter, unsigned int, "pcie.replay")

EXPORT nvmlReturn_t nvmlDeviceGetPcieThroughput(nvmlDevice_t device, nvmlPcieUtilCounter_t counter, unsigned int *kib)
{
    BEGIN_DEVICE(gpu, device);
    if ((unsigned)counter > 1)
        return NVML_ERROR_INVALID_ARGUMENT;
    return as_uint(of(&gpu, counter ? "pcie.rx_kib_per_second" : "pcie.tx_kib_per_second"), kib);
}

/* ------------------------------------------------------------------------------------------- the fabric */

/* The UUID of the cluster is 32 hexadecimal digits. */
static nvmlReturn_t cluster_uuid(const struct target *gpu, unsigned char *uuid)
{
    const char *digits = of(gpu, "fabric.cluster_uuid");
    unsigned byte;
    memset(uuid, 0, NVML_GPU_FABRIC_UUID_LEN);
    for (unsigned at = 0; digits && at < NVML_GPU_FABRIC_UUID_LEN && sscanf(digits + 2 * at, "%2x", &byte) == 1; at++)
        uuid[at] = (unsigned char)byte;
    return code_of(of(gpu, "fabric.state"));
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuFabricInfo(nvmlDevice_t device, nvmlGpuFabricInfo_t *info)
{
    BEGIN_DEVICE(gpu, device);
    if (!info)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t code = cluster_uuid(&gpu, info->clusterUuid);
    info->status = (nvmlReturn_t)uint_or(of(&gpu, "fabric.status"), 0);
    info->cliqueId = uint_or(of(&gpu, "fabric.clique"), 0);
    info->state = uint_or(of(&gpu, "fabric.state"), 0);
    return code;
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuFabricInfoV(nvmlDevice_t device, nvmlGpuFabricInfoV_t *info)
{
    BEGIN_DEVICE(gpu, device);
    if (!info)
        return NVML_ERROR_INVALID_ARGUMENT;
    int third = info->version == NVML_STRUCT_VERSION(GpuFabricInfo, 3);
    if (!third && info->version != NVML_STRUCT_VERSION(GpuFabricInfo, 2))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    nvmlReturn_t code = cluster_uuid(&gpu, info->clusterUuid);
    info->status = (nvmlReturn_t)uint_or(of(&gpu, "fabric.status"), 0);
    info->cliqueId = uint_or(of(&gpu, "fabric.clique"), 0);
    info->state = uint_or(of(&gpu, "fabric.state"), 0);
    info->healthMask = uint_or(of(&gpu, "fabric.health_mask"), 0);
    if (third)
        info->healthSummary = (unsigned char)uint_or(of(&gpu, "fabric.health_summary"), 0);
    return code;
}
