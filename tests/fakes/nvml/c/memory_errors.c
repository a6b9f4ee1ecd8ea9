/* Errors of memory: ECC counters by location, remapped rows, retired pages, what is to be repaired. */
#include "state.h"

#include <stdio.h>

static const char *const locations[] = {"l1", "l2", "dram", "register", "texture", "texture_shm", "cbu", "sram"};
static const char *const types[] = {"corrected", "uncorrected"};
static const char *const counters[] = {"volatile", "aggregate"};

EXPORT nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t device, nvmlEnableState_t *current, nvmlEnableState_t *pending)
{
    BEGIN_DEVICE(gpu, device);
    nvmlReturn_t code = as_uint(of(&gpu, "ecc.mode"), (unsigned int *)current);
    return code == NVML_SUCCESS ? as_uint(of(&gpu, "ecc.mode.pending"), (unsigned int *)pending) : code;
}

EXPORT nvmlReturn_t nvmlDeviceGetDefaultEccMode(nvmlDevice_t device, nvmlEnableState_t *standard)
{
    BEGIN_DEVICE(gpu, device);
    return as_uint(of(&gpu, "ecc.mode.default"), (unsigned int *)standard);
}

EXPORT nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t type,
                                                nvmlEccCounterType_t counter, unsigned long long *count)
{
    BEGIN_DEVICE(gpu, device);
    if ((unsigned)type > 1 || (unsigned)counter > 1)
        return NVML_ERROR_INVALID_ARGUMENT;
    return as_ull(of(&gpu, "ecc.%s.%s.total", counters[counter], types[type]), count);
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryErrorCounter(nvmlDevice_t device, nvmlMemoryErrorType_t type,
                                                    nvmlEccCounterType_t counter, nvmlMemoryLocation_t location,
                                                    unsigned long long *count)
{
    BEGIN_DEVICE(gpu, device);
    if ((unsigned)type > 1 || (unsigned)counter > 1 || (unsigned)location > 7)
        return NVML_ERROR_INVALID_ARGUMENT;
    return as_ull(of(&gpu, "ecc.%s.%s.%s", counters[counter], types[type], locations[location]), count);
}

EXPORT nvmlReturn_t nvmlDeviceGetDetailedEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t type,
                                                   nvmlEccCounterType_t counter, nvmlEccErrorCounts_t *counts)
{
    BEGIN_DEVICE(gpu, device);
    if (!counts || (unsigned)type > 1 || (unsigned)counter > 1)
        return NVML_ERROR_INVALID_ARGUMENT;
    unsigned long long *const members[] = {&counts->l1Cache, &counts->l2Cache, &counts->deviceMemory,
                                           &counts->registerFile};
    nvmlReturn_t code = NVML_SUCCESS;
    for (unsigned at = 0; at < 4 && code == NVML_SUCCESS; at++)
        code = as_ull(of(&gpu, "ecc.%s.%s.%s", counters[counter], types[type], locations[at]), members[at]);
    return code;
}

EXPORT nvmlReturn_t nvmlDeviceGetSramEccErrorStatus(nvmlDevice_t device, nvmlEccSramErrorStatus_t *status)
{
    BEGIN_DEVICE(gpu, device);
    if (!status)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (status->version != (sizeof(nvmlEccSramErrorStatus_v1_t) | 1U << 24))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    struct {
        const char *key;
        unsigned long long *member;
    } const parts[] = {
        {"aggregate.parity", &status->aggregateUncParity},
        {"aggregate.secded", &status->aggregateUncSecDed},
        {"aggregate.corrected", &status->aggregateCor},
        {"volatile.parity", &status->volatileUncParity},
        {"volatile.secded", &status->volatileUncSecDed},
        {"volatile.corrected", &status->volatileCor},
        {"bucket.l2", &status->aggregateUncBucketL2},
        {"bucket.sm", &status->aggregateUncBucketSm},
        {"bucket.pcie", &status->aggregateUncBucketPcie},
        {"bucket.mcu", &status->aggregateUncBucketMcu},
        {"bucket.other", &status->aggregateUncBucketOther},
    };
    nvmlReturn_t code = NVML_SUCCESS;
    for (unsigned at = 0; at < sizeof parts / sizeof *parts && code == NVML_SUCCESS; at++)
        code = as_ull(of(&gpu, "sram.%s", parts[at].key), parts[at].member);
    return code == NVML_SUCCESS ? as_uint(of(&gpu, "sram.threshold_exceeded"), &status->bThresholdExceeded) : code;
}

/* ------------------------------------------------------------------------------------------- rows, pages, repair */

EXPORT nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned int *corrected, unsigned int *uncorrected,
                                              unsigned int *pending, unsigned int *failed)
{
    BEGIN_DEVICE(gpu, device);
    nvmlReturn_t code = as_uint(of(&gpu, "remapped.corrected"), corrected);
    if (code == NVML_SUCCESS)
        code = as_uint(of(&gpu, "remapped.uncorrected"), uncorrected);
    if (code == NVML_SUCCESS)
        code = as_uint(of(&gpu, "remapped.pending"), pending);
    return code == NVML_SUCCESS ? as_uint(of(&gpu, "remapped.failure"), failed) : code;
}

EXPORT nvmlReturn_t nvmlDeviceGetRemappedRows_v2(nvmlDevice_t device, nvmlRemappedRowsInfo_v2_t *info)
{
    BEGIN_DEVICE(gpu, device);
    if (!info)
        return NVML_ERROR_INVALID_ARGUMENT;
    info->corrInactiveRemaps = uint_or(of(&gpu, "remapped.corrected_inactive"), 0);
    info->uncInactiveRemaps = uint_or(of(&gpu, "remapped.uncorrected_inactive"), 0);
    info->bPending = uint_or(of(&gpu, "remapped.pending"), 0);
    info->bFailureOccurred = uint_or(of(&gpu, "remapped.failure"), 0);
    nvmlReturn_t code = as_uint(of(&gpu, "remapped.corrected"), &info->corrActiveRemaps);
    return code == NVML_SUCCESS ? as_uint(of(&gpu, "remapped.uncorrected"), &info->uncActiveRemaps) : code;
}

EXPORT nvmlReturn_t nvmlDeviceGetBankRemapperStatus_v1(nvmlDevice_t device, nvmlEccBankRemapperStatus_v1_t *status)
{
    BEGIN_DEVICE(gpu, device);
    if (!status)
        return NVML_ERROR_INVALID_ARGUMENT;
    status->inactiveRemappings = uint_or(of(&gpu, "bank_remapped.inactive"), 0);
    status->bPending = uint_or(of(&gpu, "bank_remapped.pending"), 0);
    status->histogram.maxSpareGroupCount = uint_or(of(&gpu, "bank_remapped.spare"), 0);
    status->histogram.noSpareGroupCount = uint_or(of(&gpu, "bank_remapped.none"), 0);
    return as_uint(of(&gpu, "bank_remapped.active"), &status->activeRemappings);
}

EXPORT nvmlReturn_t nvmlDeviceGetRowRemapperHistogram(nvmlDevice_t device, nvmlRowRemapperHistogramValues_t *values)
{
    BEGIN_DEVICE(gpu, device);
    const char *histogram = of(&gpu, "remapped.histogram"); /* banks with max,high,partial,low,none spare rows */
    nvmlReturn_t code = code_of(histogram);
    if (!values)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (code == NVML_SUCCESS && sscanf(histogram, "%u,%u,%u,%u,%u", &values->max, &values->high, &values->partial,
                                       &values->low, &values->none) != 5)
        return NVML_ERROR_UNKNOWN;
    return code;
}

/* `retired.<cause>` is `address,timestamp;...`, the address in hexadecimal digits. */
static nvmlReturn_t retired(const char *function, const struct target *gpu, unsigned cause, unsigned int *count,
                            unsigned long long *addresses, unsigned long long *timestamps)
{
    char item[64];
    unsigned there = 0;
    unsigned long long address, timestamp;
    if (!count || cause > 1)
        return NVML_ERROR_INVALID_ARGUMENT;
    const char *list = of(gpu, "retired.%u", cause);
    nvmlReturn_t code = code_of(list);
    if (code != NVML_SUCCESS)
        return code;
    for (const char *at = list; next_item(&at, item, sizeof item);)
        there++;
    code = list_room(function, gpu, count, there, addresses != NULL);
    for (const char *at = list; code == NVML_SUCCESS && next_item(&at, item, sizeof item);) {
        if (sscanf(item, "%llx,%llu", &address, &timestamp) != 2)
            continue;
        *addresses++ = address;
        if (timestamps)
            *timestamps++ = timestamp;
    }
    return code;
}

EXPORT nvmlReturn_t nvmlDeviceGetRetiredPages(nvmlDevice_t device, nvmlPageRetirementCause_t cause, unsigned int *count,
                                              unsigned long long *addresses)
{
    BEGIN_DEVICE(gpu, device);
    return retired(__func__, &gpu, cause, count, addresses, NULL);
}

EXPORT nvmlReturn_t nvmlDeviceGetRetiredPages_v2(nvmlDevice_t device, nvmlPageRetirementCause_t cause,
                                                 unsigned int *count, unsigned long long *addresses,
                                                 unsigned long long *timestamps)
{
    BEGIN_DEVICE(gpu, device);
    return retired(__func__, &gpu, cause, count, addresses, timestamps);
}

DEVICE_UINT(nvmlDeviceGetRetiredPagesPendingStatus, nvmlEnableState_t, "retired.pending")

EXPORT nvmlReturn_t nvmlDeviceGetRepairStatus(nvmlDevice_t device, nvmlRepairStatus_t *status)
{
    BEGIN_DEVICE(gpu, device);
    if (!status)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (status->version != NVML_STRUCT_VERSION(RepairStatus, 1))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    nvmlReturn_t code = as_uint(of(&gpu, "repair.channel"), &status->bChannelRepairPending);
    return code == NVML_SUCCESS ? as_uint(of(&gpu, "repair.tpc"), &status->bTpcRepairPending) : code;
}
