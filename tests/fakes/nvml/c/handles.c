/*
 * Handles: numbers in the shape of pointers. From the lowest bit: slot + 1 (8 bits), GPU instance (8), compute
 * instance (8), generation of the MIG layout (16), kind (4). A handle of an earlier layout is an invalid argument.
 */
#include "state.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum kind { GPU = 1, MIG = 2, GPU_INSTANCE = 3, COMPUTE_INSTANCE = 4 };

static void *make(enum kind kind, unsigned slot, unsigned gi, unsigned ci)
{
    uint64_t layout = kind == GPU ? 0 : uint_or(lookup("gpu.%u.mig.generation", slot), 0) & 0xffff;
    uint64_t number = (uint64_t)kind << 40 | layout << 24 | (uint64_t)ci << 16 | (uint64_t)gi << 8 | (slot + 1);
    return (void *)(uintptr_t)number;
}

nvmlDevice_t gpu_handle(unsigned slot) { return make(GPU, slot, 0, 0); }
nvmlDevice_t mig_handle(unsigned slot, unsigned gi, unsigned ci) { return make(MIG, slot, gi, ci); }
nvmlGpuInstance_t gpu_instance_handle(unsigned slot, unsigned gi) { return make(GPU_INSTANCE, slot, gi, 0); }
nvmlComputeInstance_t compute_instance_handle(unsigned slot, unsigned gi, unsigned ci)
{
    return make(COMPUTE_INSTANCE, slot, gi, ci);
}

unsigned slots(void) { return uint_or(lookup("gpu.count"), 0); }
int is_present(unsigned slot) { return uint_or(lookup("gpu.%u.present", slot), 0) != 0; }

nvmlReturn_t condition(unsigned slot)
{
    return (nvmlReturn_t)uint_or(lookup("gpu.%u.return", slot), NVML_SUCCESS);
}

void gpu_of_slot(unsigned slot, struct target *target)
{
    memset(target, 0, sizeof *target);
    target->slot = slot;
    snprintf(target->prefix, sizeof target->prefix, "gpu.%u.", slot);
}

void mig_of_slot(unsigned slot, unsigned gi, unsigned ci, struct target *target)
{
    gpu_of_slot(slot, target);
    target->mig = 1;
    target->gi = gi;
    target->ci = ci;
    snprintf(target->prefix, sizeof target->prefix, "gpu.%u.mig.%u.%u.", slot, gi, ci);
}

/* Take a handle apart. The target is of the whole GPU; INVALID_ARGUMENT where there is none of this kind, any more. */
static nvmlReturn_t take_apart(const void *handle, enum kind kind, struct target *target)
{
    uint64_t number = (uint64_t)(uintptr_t)handle;
    unsigned slot = (unsigned)(number & 0xff) - 1;
    if (number >> 40 != kind || (number & 0xff) == 0 || slot >= slots())
        return NVML_ERROR_INVALID_ARGUMENT;
    gpu_of_slot(slot, target);
    target->gi = (unsigned)(number >> 8) & 0xff;
    target->ci = (unsigned)(number >> 16) & 0xff;
    if (kind != GPU && ((number >> 24) & 0xffff) != (uint_or(lookup("gpu.%u.mig.generation", slot), 0) & 0xffff))
        return NVML_ERROR_INVALID_ARGUMENT;
    return NVML_SUCCESS;
}

nvmlReturn_t find_gpu(nvmlDevice_t handle, struct target *target)
{
    memset(target, 0, sizeof *target);
    if (take_apart(handle, GPU, target) == NVML_SUCCESS)
        return NVML_SUCCESS;
    nvmlReturn_t answer = take_apart(handle, MIG, target);
    if (answer == NVML_SUCCESS)
        mig_of_slot(target->slot, target->gi, target->ci, target);
    return answer;
}

nvmlReturn_t find_gpu_instance(nvmlGpuInstance_t handle, struct target *target)
{
    nvmlReturn_t answer = take_apart(handle, GPU_INSTANCE, target);
    return answer == NVML_SUCCESS ? condition(target->slot) : answer;
}

nvmlReturn_t find_compute_instance(nvmlComputeInstance_t handle, struct target *target)
{
    nvmlReturn_t answer = take_apart(handle, COMPUTE_INSTANCE, target);
    return answer == NVML_SUCCESS ? condition(target->slot) : answer;
}
