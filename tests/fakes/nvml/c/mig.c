/*
 * MIG: mode, profiles, possible placements, GPU instances, compute instances, MIG devices.
 *
 * Keys of a GPU: `mig.mode`, `mig.mode.pending`, `mig.max`, `mig.generation`, `mig.devices` (`gi,ci;...` in the order
 * of their index), `mig.profile.<number>.*` with `placements` (`start,size;...`), `mig.compute_profile.<number>.*`,
 * `mig.gi` (`id,profile id,start,size;...`), `mig.ci` (`gi,id,profile id,start,size;...`), and `mig.<gi>.<ci>.*` for
 * each device.
 */
#include "state.h"

#include <stdio.h>
#include <string.h>

struct instance {
    unsigned gi, id, profile, start, size;
};

#define FOR_EACH_GPU_INSTANCE(gpu, one)                                                                                \
    for (const char *at_ = of(gpu, "mig.gi"); next_gpu_instance(&at_, one);)
#define FOR_EACH_COMPUTE_INSTANCE(gpu, one)                                                                            \
    for (const char *at_ = of(gpu, "mig.ci"); next_compute_instance(&at_, one);)

static int next_gpu_instance(const char **at, struct instance *one)
{
    char item[64];
    return next_item(at, item, sizeof item)
           && sscanf(item, "%u,%u,%u,%u", &one->id, &one->profile, &one->start, &one->size) == 4;
}

static int next_compute_instance(const char **at, struct instance *one)
{
    char item[64];
    return next_item(at, item, sizeof item)
           && sscanf(item, "%u,%u,%u,%u,%u", &one->gi, &one->id, &one->profile, &one->start, &one->size) == 5;
}

static int mig_on(const struct target *gpu)
{
    return !gpu->mig && uint_or(of(gpu, "mig.mode"), 0) == 1;
}

EXPORT nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending)
{
    BEGIN_DEVICE(gpu, device);
    nvmlReturn_t code = as_uint(of(&gpu, "mig.mode"), current);
    return code == NVML_SUCCESS ? as_uint(of(&gpu, "mig.mode.pending"), pending) : code;
}

/* ------------------------------------------------------------------------------------------- MIG devices */

EXPORT nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned int *is_mig)
{
    BEGIN_DEVICE(gpu, device);
    if (!is_mig)
        return NVML_ERROR_INVALID_ARGUMENT;
    *is_mig = (unsigned)gpu.mig;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int *count)
{
    BEGIN_DEVICE(gpu, device);
    return as_uint(of(&gpu, "mig.max"), count);
}

EXPORT nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int index, nvmlDevice_t *mig)
{
    char item[32];
    unsigned gi, ci;
    BEGIN_DEVICE(gpu, device);
    if (!of(&gpu, "mig.mode"))
        return NVML_ERROR_NOT_SUPPORTED;
    if (!mig || gpu.mig || index >= uint_or(of(&gpu, "mig.max"), 0))
        return NVML_ERROR_INVALID_ARGUMENT;
    for (const char *list = of(&gpu, "mig.devices"); mig_on(&gpu) && next_item(&list, item, sizeof item); index--)
        if (index == 0 && sscanf(item, "%u,%u", &gi, &ci) == 2) {
            *mig = mig_handle(gpu.slot, gi, ci);
            return NVML_SUCCESS;
        }
    return NVML_ERROR_NOT_FOUND;
}

EXPORT nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t mig, nvmlDevice_t *device)
{
    BEGIN_DEVICE(gpu, mig);
    if (!device || !gpu.mig)
        return NVML_ERROR_INVALID_ARGUMENT;
    *device = gpu_handle(gpu.slot);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, unsigned int *id)
{
    BEGIN_DEVICE(gpu, device);
    if (!id || !gpu.mig)
        return id ? NVML_ERROR_NOT_SUPPORTED : NVML_ERROR_INVALID_ARGUMENT;
    *id = gpu.gi;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, unsigned int *id)
{
    BEGIN_DEVICE(gpu, device);
    if (!id || !gpu.mig)
        return id ? NVML_ERROR_NOT_SUPPORTED : NVML_ERROR_INVALID_ARGUMENT;
    *id = gpu.ci;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t device, nvmlDeviceAttributes_t *attributes)
{
    BEGIN_DEVICE(gpu, device);
    if (!attributes)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (!gpu.mig)
        return NVML_ERROR_NOT_SUPPORTED;
    attributes->multiprocessorCount = uint_or(of(&gpu, "sm"), 0);
    attributes->sharedCopyEngineCount = uint_or(of(&gpu, "copy_engines"), 0);
    attributes->sharedDecoderCount = uint_or(of(&gpu, "decoders"), 0);
    attributes->sharedEncoderCount = uint_or(of(&gpu, "encoders"), 0);
    attributes->sharedJpegCount = uint_or(of(&gpu, "jpegs"), 0);
    attributes->sharedOfaCount = uint_or(of(&gpu, "ofas"), 0);
    attributes->gpuInstanceSliceCount = uint_or(of(&gpu, "gpu_slices"), 0);
    attributes->computeInstanceSliceCount = uint_or(of(&gpu, "compute_slices"), 0);
    return as_ull(of(&gpu, "memory_mb"), &attributes->memorySizeMB);
}

/* ------------------------------------------------------------------------------------------- profiles */

static const char *profile_key(const struct target *gpu, unsigned profile, const char *what)
{
    return of(gpu, "mig.profile.%u.%s", profile, what);
}

static nvmlReturn_t fill_profile(const struct target *gpu, unsigned profile, nvmlGpuInstanceProfileInfo_v2_t *info)
{
    if (profile >= NVML_GPU_INSTANCE_PROFILE_COUNT)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t code = as_uint(profile_key(gpu, profile, "id"), &info->id);
    if (code != NVML_SUCCESS)
        return code;
    info->isP2pSupported = uint_or(profile_key(gpu, profile, "p2p"), 0);
    info->sliceCount = uint_or(profile_key(gpu, profile, "slices"), 0);
    info->instanceCount = uint_or(profile_key(gpu, profile, "instances"), 0);
    info->multiprocessorCount = uint_or(profile_key(gpu, profile, "sm"), 0);
    info->copyEngineCount = uint_or(profile_key(gpu, profile, "copy_engines"), 0);
    info->decoderCount = uint_or(profile_key(gpu, profile, "decoders"), 0);
    info->encoderCount = uint_or(profile_key(gpu, profile, "encoders"), 0);
    info->jpegCount = uint_or(profile_key(gpu, profile, "jpegs"), 0);
    info->ofaCount = uint_or(profile_key(gpu, profile, "ofas"), 0);
    as_text(profile_key(gpu, profile, "name"), info->name, sizeof info->name);
    return as_ull(profile_key(gpu, profile, "memory_mb"), &info->memorySizeMB);
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfoV(nvmlDevice_t device, unsigned int profile,
                                                         nvmlGpuInstanceProfileInfo_v2_t *info)
{
    BEGIN_DEVICE(gpu, device);
    if (!info)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (info->version != NVML_STRUCT_VERSION(GpuInstanceProfileInfo, 2))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    return fill_profile(&gpu, profile, info);
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfo(nvmlDevice_t device, unsigned int profile,
                                                        nvmlGpuInstanceProfileInfo_t *info)
{
    nvmlGpuInstanceProfileInfo_v2_t full;
    BEGIN_DEVICE(gpu, device);
    if (!info)
        return NVML_ERROR_INVALID_ARGUMENT;
    memset(&full, 0, sizeof full);
    nvmlReturn_t code = fill_profile(&gpu, profile, &full);
    *info = (nvmlGpuInstanceProfileInfo_t){full.id,           full.isP2pSupported,      full.sliceCount,
                                           full.instanceCount, full.multiprocessorCount, full.copyEngineCount,
                                           full.decoderCount, full.encoderCount,        full.jpegCount,
                                           full.ofaCount,     full.memorySizeMB};
    return code;
}

/* The number of the profile with this id, or the count of profiles. */
static unsigned profile_of_id(const struct target *gpu, unsigned id)
{
    unsigned profile = 0;
    while (profile < NVML_GPU_INSTANCE_PROFILE_COUNT && uint_or(profile_key(gpu, profile, "id"), NOT_GIVEN) != id)
        profile++;
    return profile;
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstancePossiblePlacements_v2(nvmlDevice_t device, unsigned int id,
                                                                  nvmlGpuInstancePlacement_t *placements,
                                                                  unsigned int *count)
{
    char item[32];
    BEGIN_DEVICE(gpu, device);
    unsigned profile = profile_of_id(&gpu, id);
    if (!count || profile == NVML_GPU_INSTANCE_PROFILE_COUNT)
        return NVML_ERROR_INVALID_ARGUMENT;
    const char *list = profile_key(&gpu, profile, "placements");
    nvmlReturn_t code = code_of(list);
    *count = 0; /* the size of the buffer is not told: it is to be large enough */
    for (; code == NVML_SUCCESS && next_item(&list, item, sizeof item); ++*count)
        if (placements)
            sscanf(item, "%u,%u", &placements[*count].start, &placements[*count].size);
    return code;
}

static int overlaps(unsigned start, unsigned size, const struct instance *taken, unsigned count)
{
    for (unsigned at = 0; at < count; at++)
        if (start < taken[at].start + taken[at].size && taken[at].start < start + size)
            return 1;
    return 0;
}

/* How many more instances of a profile fit: its placements, in order, that overlap nothing that is there. */
EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceRemainingCapacity(nvmlDevice_t device, unsigned int id, unsigned int *count)
{
    char item[32];
    struct instance taken[32];
    unsigned there = 0;
    BEGIN_DEVICE(gpu, device);
    if (!of(&gpu, "mig.mode"))
        return NVML_ERROR_NOT_SUPPORTED;
    unsigned profile = profile_of_id(&gpu, id);
    if (!count || profile == NVML_GPU_INSTANCE_PROFILE_COUNT)
        return NVML_ERROR_INVALID_ARGUMENT;
    FOR_EACH_GPU_INSTANCE(&gpu, &taken[there])
        there += there < 31;
    *count = 0;
    for (const char *list = profile_key(&gpu, profile, "placements"); next_item(&list, item, sizeof item);) {
        struct instance *one = &taken[there];
        if (sscanf(item, "%u,%u", &one->start, &one->size) != 2 || overlaps(one->start, one->size, taken, there))
            continue;
        ++*count;
        there += there < 31;
    }
    return NVML_SUCCESS;
}

/* ------------------------------------------------------------------------------------------- GPU instances */

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstances(nvmlDevice_t device, unsigned int profile, nvmlGpuInstance_t *out,
                                              unsigned int *count)
{
    struct instance one;
    BEGIN_DEVICE(gpu, device);
    if (!mig_on(&gpu))
        return NVML_ERROR_NOT_SUPPORTED;
    if (!out || !count || profile_of_id(&gpu, profile) == NVML_GPU_INSTANCE_PROFILE_COUNT)
        return NVML_ERROR_INVALID_ARGUMENT;
    *count = 0;
    FOR_EACH_GPU_INSTANCE(&gpu, &one)
        if (one.profile == profile)
            out[(*count)++] = gpu_instance_handle(gpu.slot, one.id);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceById(nvmlDevice_t device, unsigned int id, nvmlGpuInstance_t *out)
{
    struct instance one;
    BEGIN_DEVICE(gpu, device);
    if (!mig_on(&gpu))
        return NVML_ERROR_NOT_SUPPORTED;
    FOR_EACH_GPU_INSTANCE(&gpu, &one)
        if (one.id == id && out) {
            *out = gpu_instance_handle(gpu.slot, id);
            return NVML_SUCCESS;
        }
    return out ? NVML_ERROR_NOT_FOUND : NVML_ERROR_INVALID_ARGUMENT;
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetInfo(nvmlGpuInstance_t instance, nvmlGpuInstanceInfo_t *info)
{
    struct target gpu;
    struct instance one;
    BEGIN();
    nvmlReturn_t code = info ? find_gpu_instance(instance, &gpu) : NVML_ERROR_INVALID_ARGUMENT;
    if (code != NVML_SUCCESS)
        return code;
    FOR_EACH_GPU_INSTANCE(&gpu, &one)
        if (one.id == gpu.gi) {
            *info = (nvmlGpuInstanceInfo_t){gpu_handle(gpu.slot), one.id, one.profile, {one.start, one.size}};
            return NVML_SUCCESS;
        }
    return NVML_ERROR_INVALID_ARGUMENT;
}

/* ------------------------------------------------------------------------------------------- compute instances */

static nvmlReturn_t fill_compute_profile(nvmlGpuInstance_t instance, unsigned profile, unsigned engine,
                                         nvmlComputeInstanceProfileInfo_v2_t *info)
{
    struct target gpu;
    nvmlReturn_t code = find_gpu_instance(instance, &gpu);
    if (code != NVML_SUCCESS)
        return code;
    if (profile >= NVML_COMPUTE_INSTANCE_PROFILE_COUNT || engine != 0)
        return NVML_ERROR_INVALID_ARGUMENT;
    code = as_uint(of(&gpu, "mig.compute_profile.%u.id", profile), &info->id);
    info->sliceCount = uint_or(of(&gpu, "mig.compute_profile.%u.slices", profile), 0);
    info->instanceCount = uint_or(of(&gpu, "mig.compute_profile.%u.instances", profile), 0);
    info->multiprocessorCount = uint_or(of(&gpu, "mig.compute_profile.%u.sm", profile), 0);
    info->sharedCopyEngineCount = uint_or(of(&gpu, "mig.compute_profile.%u.copy_engines", profile), 0);
    info->sharedDecoderCount = uint_or(of(&gpu, "mig.compute_profile.%u.decoders", profile), 0);
    info->sharedEncoderCount = uint_or(of(&gpu, "mig.compute_profile.%u.encoders", profile), 0);
    info->sharedJpegCount = uint_or(of(&gpu, "mig.compute_profile.%u.jpegs", profile), 0);
    info->sharedOfaCount = uint_or(of(&gpu, "mig.compute_profile.%u.ofas", profile), 0);
    as_text(of(&gpu, "mig.compute_profile.%u.name", profile), info->name, sizeof info->name);
    return code;
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfoV(nvmlGpuInstance_t instance, unsigned int profile,
                                                                  unsigned int engine,
                                                                  nvmlComputeInstanceProfileInfo_v2_t *info)
{
    BEGIN();
    if (!info)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (info->version != NVML_STRUCT_VERSION(ComputeInstanceProfileInfo, 2))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    return fill_compute_profile(instance, profile, engine, info);
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfo(nvmlGpuInstance_t instance, unsigned int profile,
                                                                 unsigned int engine,
                                                                 nvmlComputeInstanceProfileInfo_t *info)
{
    nvmlComputeInstanceProfileInfo_v2_t full;
    BEGIN();
    if (!info)
        return NVML_ERROR_INVALID_ARGUMENT;
    memset(&full, 0, sizeof full);
    nvmlReturn_t code = fill_compute_profile(instance, profile, engine, &full);
    *info = (nvmlComputeInstanceProfileInfo_t){full.id,
                                               full.sliceCount,
                                               full.instanceCount,
                                               full.multiprocessorCount,
                                               full.sharedCopyEngineCount,
                                               full.sharedDecoderCount,
                                               full.sharedEncoderCount,
                                               full.sharedJpegCount,
                                               full.sharedOfaCount};
    return code;
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstances(nvmlGpuInstance_t instance, unsigned int profile,
                                                       nvmlComputeInstance_t *out, unsigned int *count)
{
    struct target gpu;
    struct instance one;
    BEGIN();
    nvmlReturn_t code = out && count ? find_gpu_instance(instance, &gpu) : NVML_ERROR_INVALID_ARGUMENT;
    if (code != NVML_SUCCESS)
        return code;
    *count = 0;
    FOR_EACH_COMPUTE_INSTANCE(&gpu, &one)
        if (one.gi == gpu.gi && one.profile == profile)
            out[(*count)++] = compute_instance_handle(gpu.slot, one.gi, one.id);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstanceById(nvmlGpuInstance_t instance, unsigned int id,
                                                          nvmlComputeInstance_t *out)
{
    struct target gpu;
    struct instance one;
    BEGIN();
    nvmlReturn_t code = out ? find_gpu_instance(instance, &gpu) : NVML_ERROR_INVALID_ARGUMENT;
    if (code != NVML_SUCCESS)
        return code;
    FOR_EACH_COMPUTE_INSTANCE(&gpu, &one)
        if (one.gi == gpu.gi && one.id == id) {
            *out = compute_instance_handle(gpu.slot, one.gi, id);
            return NVML_SUCCESS;
        }
    return NVML_ERROR_NOT_FOUND;
}

EXPORT nvmlReturn_t nvmlComputeInstanceGetInfo_v2(nvmlComputeInstance_t instance, nvmlComputeInstanceInfo_t *info)
{
    struct target gpu;
    struct instance one;
    BEGIN();
    nvmlReturn_t code = info ? find_compute_instance(instance, &gpu) : NVML_ERROR_INVALID_ARGUMENT;
    if (code != NVML_SUCCESS)
        return code;
    FOR_EACH_COMPUTE_INSTANCE(&gpu, &one)
        if (one.gi == gpu.gi && one.id == gpu.ci) {
            *info = (nvmlComputeInstanceInfo_t){gpu_handle(gpu.slot), gpu_instance_handle(gpu.slot, one.gi), one.id,
                                                one.profile, {one.start, one.size}};
            return NVML_SUCCESS;
        }
    return NVML_ERROR_INVALID_ARGUMENT;
}
