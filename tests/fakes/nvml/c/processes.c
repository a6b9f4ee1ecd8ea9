/* Who runs on a GPU, and the accounting of those who did. */
#include "state.h"

#include <stdio.h>
#include <string.h>

static const char *const modes[] = {"compute", "graphics", "mps"};

struct process {
    unsigned pid, gi, ci;
    unsigned long long used, protected;
};

/* An item of `process.<mode>`: `pid,bytes,gpu instance,compute instance,protected bytes`; bytes `-` are not told. */
static int parse(const char *item, struct process *process)
{
    char used[24], protected[24] = "-";
    process->gi = process->ci = NOT_GIVEN;
    int fields = sscanf(item, "%u,%23[^,],%u,%u,%23s", &process->pid, used, &process->gi, &process->ci, protected);
    process->used = process->protected = ~0ULL;
    if (used[0] != '-')
        as_ull(used, &process->used);
    if (protected[0] != '-')
        as_ull(protected, &process->protected);
    return fields >= 2;
}

static unsigned length(const char *list)
{
    char item[96];
    unsigned there = 0;
    while (next_item(&list, item, sizeof item))
        there++;
    return there;
}

/* `full` structures carry the MIG instances, those of the first version do not. */
static nvmlReturn_t running(const char *function, const struct target *gpu, const char *mode, unsigned int *count,
                            void *out, int full)
{
    char item[96];
    struct process process;
    const char *list = of(gpu, "process.%s", mode);
    nvmlReturn_t code = code_of(list);
    if (!count)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (code == NVML_SUCCESS)
        code = list_room(function, gpu, count, length(list), out != NULL);
    for (unsigned at = 0; code == NVML_SUCCESS && next_item(&list, item, sizeof item); at++) {
        if (!parse(item, &process))
            return NVML_ERROR_UNKNOWN;
        if (full)
            ((nvmlProcessInfo_t *)out)[at] = (nvmlProcessInfo_t){process.pid, process.used, process.gi, process.ci};
        else
            ((nvmlProcessInfo_v1_t *)out)[at] = (nvmlProcessInfo_v1_t){process.pid, process.used};
    }
    return code;
}

#define RUNNING(function, mode, type, full)                                                                            \
    EXPORT nvmlReturn_t function(nvmlDevice_t device, unsigned int *count, type *out)                                  \
    {                                                                                                                  \
        BEGIN_DEVICE(gpu, device);                                                                                     \
        return running(__func__, &gpu, mode, count, out, full);                                                        \
    }
RUNNING(nvmlDeviceGetComputeRunningProcesses, "compute", nvmlProcessInfo_v1_t, 0)
RUNNING(nvmlDeviceGetComputeRunningProcesses_v2, "compute", nvmlProcessInfo_v2_t, 1)
RUNNING(nvmlDeviceGetComputeRunningProcesses_v3, "compute", nvmlProcessInfo_t, 1)
RUNNING(nvmlDeviceGetGraphicsRunningProcesses, "graphics", nvmlProcessInfo_v1_t, 0)
RUNNING(nvmlDeviceGetGraphicsRunningProcesses_v2, "graphics", nvmlProcessInfo_v2_t, 1)
RUNNING(nvmlDeviceGetGraphicsRunningProcesses_v3, "graphics", nvmlProcessInfo_t, 1)
RUNNING(nvmlDeviceGetMPSComputeRunningProcesses, "mps", nvmlProcessInfo_v1_t, 0)
RUNNING(nvmlDeviceGetMPSComputeRunningProcesses_v2, "mps", nvmlProcessInfo_v2_t, 1)
RUNNING(nvmlDeviceGetMPSComputeRunningProcesses_v3, "mps", nvmlProcessInfo_t, 1)

EXPORT nvmlReturn_t nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t device, nvmlProcessDetailList_t *details)
{
    char item[96];
    struct process process;
    BEGIN_DEVICE(gpu, device);
    if (!details || details->mode >= 3)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (details->version != NVML_STRUCT_VERSION(ProcessDetailList, 1))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    const char *list = of(&gpu, "process.%s", modes[details->mode]);
    nvmlReturn_t code = code_of(list);
    if (code == NVML_SUCCESS)
        code = list_room(__func__, &gpu, &details->numProcArrayEntries, length(list), details->procArray != NULL);
    for (unsigned at = 0; code == NVML_SUCCESS && next_item(&list, item, sizeof item); at++) {
        if (!parse(item, &process))
            return NVML_ERROR_UNKNOWN;
        details->procArray[at] =
            (nvmlProcessDetail_v1_t){process.pid, process.used, process.gi, process.ci, process.protected};
    }
    return code;
}

/* `process.utilization` is `pid,timestamp,sm,memory,encoder,decoder;...`. */
EXPORT nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, nvmlProcessUtilizationSample_t *samples,
                                                    unsigned int *count, unsigned long long last)
{
    char item[96];
    unsigned there = 0;
    BEGIN_DEVICE(gpu, device);
    const char *list = of(&gpu, "process.utilization");
    nvmlReturn_t code = code_of(list);
    if (code != NVML_SUCCESS)
        return code;
    if (!count)
        return NVML_ERROR_INVALID_ARGUMENT;
    while (next_item(&list, item, sizeof item)) {
        nvmlProcessUtilizationSample_t one;
        if (sscanf(item, "%u,%llu,%u,%u,%u,%u", &one.pid, &one.timeStamp, &one.smUtil, &one.memUtil, &one.encUtil,
                   &one.decUtil) != 6 || one.timeStamp <= last)
            continue;
        if (samples && there < *count)
            samples[there] = one;
        there++;
    }
    return there ? list_room(__func__, &gpu, count, there, samples != NULL) : NVML_ERROR_NOT_FOUND;
}

/* ------------------------------------------------------------------------------------------- accounting */

DEVICE_UINT(nvmlDeviceGetAccountingMode, nvmlEnableState_t, "accounting.mode")
DEVICE_UINT(nvmlDeviceGetAccountingBufferSize, unsigned int, "accounting.size")

/* `accounting.pids` is `pid;...`, `accounting.<pid>` is `gpu,memory,most bytes,ms,started at,running`. */
EXPORT nvmlReturn_t nvmlDeviceGetAccountingPids(nvmlDevice_t device, unsigned int *count, unsigned int *pids)
{
    char item[16];
    BEGIN_DEVICE(gpu, device);
    const char *list = of(&gpu, "accounting.pids");
    nvmlReturn_t code = code_of(list);
    if (!count)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (code == NVML_SUCCESS)
        code = list_room(__func__, &gpu, count, length(list), pids != NULL);
    while (code == NVML_SUCCESS && next_item(&list, item, sizeof item))
        as_uint(item, pids++);
    return code;
}

EXPORT nvmlReturn_t nvmlDeviceGetAccountingStats(nvmlDevice_t device, unsigned int pid, nvmlAccountingStats_t *stats)
{
    BEGIN_DEVICE(gpu, device);
    const char *text = of(&gpu, "accounting.%u", pid);
    if (!stats)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (!text)
        return of(&gpu, "accounting.mode") ? NVML_ERROR_NOT_FOUND : NVML_ERROR_NOT_SUPPORTED;
    memset(stats, 0, sizeof *stats);
    sscanf(text, "%u,%u,%llu,%llu,%llu,%u", &stats->gpuUtilization, &stats->memoryUtilization, &stats->maxMemoryUsage,
           &stats->time, &stats->startTime, &stats->isRunning);
    return NVML_SUCCESS;
}
