/*
 * GPU performance metrics: what happened between two samples. `gpm.<metric>` of a GPU, `gpm.<metric>.<gi>` of one of
 * its GPU instances, is what any two samples give; a script that wants other values in between sets them in between.
 */
#define _GNU_SOURCE
#include "state.h"

#include <stdlib.h>
#include <time.h>

struct nvmlGpmSample_st {
    int taken;
    unsigned slot, gi; /* NOT_GIVEN: of the whole GPU */
    struct timespec at;
};

EXPORT nvmlReturn_t nvmlGpmQueryDeviceSupport(nvmlDevice_t device, nvmlGpmSupport_t *support)
{
    BEGIN_DEVICE(gpu, device);
    if (!support)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (support->version != NVML_GPM_SUPPORT_VERSION)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    support->isSupportedDevice = uint_or(of(&gpu, "gpm.supported"), 0);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlGpmSampleAlloc(nvmlGpmSample_t *sample)
{
    BEGIN();
    if (!sample)
        return NVML_ERROR_INVALID_ARGUMENT;
    *sample = calloc(1, sizeof **sample);
    return *sample ? NVML_SUCCESS : NVML_ERROR_MEMORY;
}

EXPORT nvmlReturn_t nvmlGpmSampleFree(nvmlGpmSample_t sample)
{
    BEGIN();
    if (!sample)
        return NVML_ERROR_INVALID_ARGUMENT;
    free(sample);
    return NVML_SUCCESS;
}

static nvmlReturn_t take(const struct target *gpu, unsigned gi, nvmlGpmSample_t sample)
{
    if (!sample)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (gpu->mig || !uint_or(of(gpu, "gpm.supported"), 0))
        return NVML_ERROR_NOT_SUPPORTED;
    sample->taken = 1;
    sample->slot = gpu->slot;
    sample->gi = gi;
    clock_gettime(CLOCK_MONOTONIC, &sample->at);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlGpmSampleGet(nvmlDevice_t device, nvmlGpmSample_t sample)
{
    BEGIN_DEVICE(gpu, device);
    return take(&gpu, NOT_GIVEN, sample);
}

EXPORT nvmlReturn_t nvmlGpmMigSampleGet(nvmlDevice_t device, unsigned int gi, nvmlGpmSample_t sample)
{
    BEGIN_DEVICE(gpu, device);
    return take(&gpu, gi, sample);
}

static int in_order(const struct nvmlGpmSample_st *one, const struct nvmlGpmSample_st *two)
{
    long long span = (long long)(two->at.tv_sec - one->at.tv_sec) * 1000000000 + two->at.tv_nsec - one->at.tv_nsec;
    return one->taken && two->taken && one->slot == two->slot && one->gi == two->gi && span > 0;
}

EXPORT nvmlReturn_t nvmlGpmMetricsGet(nvmlGpmMetricsGet_t *get)
{
    BEGIN();
    if (!get || !get->sample1 || !get->sample2 || get->numMetrics > NVML_GPM_METRIC_MAX)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (get->version != NVML_GPM_METRICS_GET_VERSION)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (!in_order(get->sample1, get->sample2))
        return NVML_ERROR_INVALID_ARGUMENT;
    unsigned slot = get->sample1->slot, gi = get->sample1->gi;
    for (unsigned at = 0; at < get->numMetrics; at++) {
        nvmlGpmMetric_t *metric = &get->metrics[at];
        metric->nvmlReturn = as_double(gi == NOT_GIVEN ? lookup("gpu.%u.gpm.%u", slot, metric->metricId)
                                                       : lookup("gpu.%u.gpm.%u.%u", slot, metric->metricId, gi),
                                       &metric->value);
    }
    return NVML_SUCCESS;
}
