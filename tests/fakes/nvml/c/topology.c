/* Where a GPU sits among others: common ancestors, peer access, NUMA, processors nearby. */
#include "state.h"

#include <stdlib.h>
#include <string.h>

/* A key of two GPUs, the lower slot first; where it is absent, that of all pairs. */
static const char *of_pair(const char *what, unsigned one, unsigned other)
{
    unsigned low = one < other ? one : other, high = one < other ? other : one;
    const char *value = lookup("%s.%u.%u", what, low, high);
    return value ? value : lookup("%s", what);
}

EXPORT nvmlReturn_t nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t device, nvmlDevice_t other_device,
                                                        nvmlGpuTopologyLevel_t *level)
{
    struct target other;
    BEGIN_DEVICE(gpu, device);
    nvmlReturn_t code = find_gpu(other_device, &other);
    if (code == NVML_SUCCESS)
        code = condition(other.slot);
    if (code != NVML_SUCCESS)
        return code;
    return gpu.slot == other.slot ? NVML_ERROR_INVALID_ARGUMENT
                                  : as_uint(of_pair("topology", gpu.slot, other.slot), (unsigned int *)level);
}

EXPORT nvmlReturn_t nvmlDeviceGetP2PStatus(nvmlDevice_t device, nvmlDevice_t other_device, nvmlGpuP2PCapsIndex_t index,
                                           nvmlGpuP2PStatus_t *status)
{
    static const char *const names[] = {"p2p.read", "p2p.write", "p2p.nvlink", "p2p.atomics", "p2p.pci"};
    struct target other;
    BEGIN_DEVICE(gpu, device);
    nvmlReturn_t code = find_gpu(other_device, &other);
    if (code == NVML_SUCCESS)
        code = condition(other.slot);
    if (code != NVML_SUCCESS)
        return code;
    if ((unsigned)index >= 5)
        return NVML_ERROR_INVALID_ARGUMENT;
    return as_uint(of_pair(names[index], gpu.slot, other.slot), (unsigned int *)status);
}

EXPORT nvmlReturn_t nvmlDeviceGetTopologyNearestGpus(nvmlDevice_t device, nvmlGpuTopologyLevel_t level,
                                                     unsigned int *count, nvmlDevice_t *out)
{
    BEGIN_DEVICE(gpu, device);
    unsigned there = 0;
    if (!count)
        return NVML_ERROR_INVALID_ARGUMENT;
    for (unsigned slot = 0; slot < slots(); slot++) {
        if (slot == gpu.slot || !is_present(slot) || uint_or(of_pair("topology", gpu.slot, slot), NOT_GIVEN) > level)
            continue;
        if (out && there < *count)
            out[there] = gpu_handle(slot);
        there++;
    }
    *count = out && *count < there ? *count : there;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetNumaNodeId(nvmlDevice_t device, unsigned int *node)
{
    BEGIN_DEVICE(gpu, device);
    return as_uint(of(&gpu, "numa.node"), node);
}

/* A bit mask as words of 64 bits in hexadecimal digits, the lowest first: `ffff;0`. */
static nvmlReturn_t mask(const char *words, unsigned int size, unsigned long *out)
{
    char item[24];
    nvmlReturn_t code = code_of(words);
    if (!out)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (code != NVML_SUCCESS)
        return code;
    memset(out, 0, size * sizeof *out);
    for (unsigned at = 0; next_item(&words, item, sizeof item); at++) {
        unsigned long word = strtoul(item, NULL, 16);
        if (at < size)
            out[at] = word;
        else if (word)
            return NVML_ERROR_INSUFFICIENT_SIZE;
    }
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetCpuAffinity(nvmlDevice_t device, unsigned int size, unsigned long *out)
{
    BEGIN_DEVICE(gpu, device);
    return mask(of(&gpu, "affinity.cpu.node"), size, out);
}

EXPORT nvmlReturn_t nvmlDeviceGetCpuAffinityWithinScope(nvmlDevice_t device, unsigned int size, unsigned long *out,
                                                        nvmlAffinityScope_t scope)
{
    BEGIN_DEVICE(gpu, device);
    return mask(of(&gpu, scope ? "affinity.cpu.socket" : "affinity.cpu.node"), size, out);
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryAffinity(nvmlDevice_t device, unsigned int size, unsigned long *out,
                                                nvmlAffinityScope_t scope)
{
    BEGIN_DEVICE(gpu, device);
    return mask(of(&gpu, scope ? "affinity.memory.socket" : "affinity.memory.node"), size, out);
}
