/* What a GPU shows now: temperature, power, clocks, utilisation, memory, fans. */
#include "state.h"

#include <stdio.h>

DEVICE_UINT(nvmlDeviceGetPowerUsage, unsigned int, "power.usage")
DEVICE_UINT(nvmlDeviceGetPowerManagementMode, nvmlEnableState_t, "power.management")
DEVICE_UINT(nvmlDeviceGetPowerManagementLimit, unsigned int, "power.limit")
DEVICE_UINT(nvmlDeviceGetPowerManagementDefaultLimit, unsigned int, "power.limit.default")
DEVICE_UINT(nvmlDeviceGetEnforcedPowerLimit, unsigned int, "power.limit.enforced")
DEVICE_UINT(nvmlDeviceGetPerformanceState, nvmlPstates_t, "pstate")
DEVICE_UINT(nvmlDeviceGetPowerState, nvmlPstates_t, "pstate")
DEVICE_UINT(nvmlDeviceGetNumFans, unsigned int, "fan.count")
DEVICE_UINT(nvmlDeviceGetFanSpeed, unsigned int, "fan.0.speed")

EXPORT nvmlReturn_t nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t device, unsigned int *least,
                                                                 unsigned int *most)
{
    BEGIN_DEVICE(gpu, device);
    nvmlReturn_t code = as_uint(of(&gpu, "power.limit.min"), least);
    return code == NVML_SUCCESS ? as_uint(of(&gpu, "power.limit.max"), most) : code;
}

EXPORT nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *energy)
{
    BEGIN_DEVICE(gpu, device);
    return as_ull(of(&gpu, "energy"), energy);
}

/* ------------------------------------------------------------------------------------------- temperature */

static const char *sensor(const struct target *gpu, unsigned number)
{
    return number == 0 ? of(gpu, "temperature.gpu") : number == 1 ? of(gpu, "temperature.gpu_max") : NULL;
}

EXPORT nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t type, unsigned int *celsius)
{
    BEGIN_DEVICE(gpu, device);
    return type > 1 ? NVML_ERROR_INVALID_ARGUMENT : as_uint(sensor(&gpu, type), celsius);
}

EXPORT nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *temperature)
{
    BEGIN_DEVICE(gpu, device);
    if (!temperature)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (temperature->version != NVML_STRUCT_VERSION(Temperature, 1))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (temperature->sensorType > 1)
        return NVML_ERROR_INVALID_ARGUMENT;
    return as_int(sensor(&gpu, temperature->sensorType), &temperature->temperature);
}

EXPORT nvmlReturn_t nvmlDeviceGetMarginTemperature(nvmlDevice_t device, nvmlMarginTemperature_t *margin)
{
    BEGIN_DEVICE(gpu, device);
    if (!margin)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (margin->version != NVML_STRUCT_VERSION(MarginTemperature, 1))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    return as_int(of(&gpu, "temperature.margin"), &margin->marginTemperature);
}

EXPORT nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, nvmlTemperatureThresholds_t threshold,
                                                      unsigned int *celsius)
{
    static const char *const names[] = {"shutdown",         "slowdown",     "mem_max", "gpu_max", "acoustic_min",
                                        "acoustic_current", "acoustic_max", "gps"};
    BEGIN_DEVICE(gpu, device);
    if ((unsigned)threshold >= 8)
        return NVML_ERROR_INVALID_ARGUMENT;
    return as_uint(of(&gpu, "temperature.threshold.%s", names[threshold]), celsius);
}

/* ------------------------------------------------------------------------------------------- clocks */

static const char *const clocks[] = {"graphics", "sm", "memory", "video"};

static nvmlReturn_t clock_of(const struct target *gpu, const char *kind, unsigned type, unsigned int *clock)
{
    if (type >= 4)
        return NVML_ERROR_INVALID_ARGUMENT;
    return as_uint(of(gpu, "clock.%s.%s", clocks[type], kind), clock);
}

EXPORT nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, nvmlClockType_t type, unsigned int *clock)
{
    BEGIN_DEVICE(gpu, device);
    return clock_of(&gpu, "current", type, clock);
}

EXPORT nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, nvmlClockType_t type, unsigned int *clock)
{
    BEGIN_DEVICE(gpu, device);
    return clock_of(&gpu, "max", type, clock);
}

EXPORT nvmlReturn_t nvmlDeviceGetApplicationsClock(nvmlDevice_t device, nvmlClockType_t type, unsigned int *clock)
{
    BEGIN_DEVICE(gpu, device);
    return clock_of(&gpu, "application", type, clock);
}

EXPORT nvmlReturn_t nvmlDeviceGetDefaultApplicationsClock(nvmlDevice_t device, nvmlClockType_t type,
                                                          unsigned int *clock)
{
    BEGIN_DEVICE(gpu, device);
    return clock_of(&gpu, "application_default", type, clock);
}

EXPORT nvmlReturn_t nvmlDeviceGetMaxCustomerBoostClock(nvmlDevice_t device, nvmlClockType_t type, unsigned int *clock)
{
    BEGIN_DEVICE(gpu, device);
    return clock_of(&gpu, "boost_max", type, clock);
}

EXPORT nvmlReturn_t nvmlDeviceGetClock(nvmlDevice_t device, nvmlClockType_t type, nvmlClockId_t id, unsigned int *clock)
{
    static const char *const kinds[] = {"current", "application", "application_default", "boost_max"};
    BEGIN_DEVICE(gpu, device);
    return (unsigned)id >= 4 ? NVML_ERROR_INVALID_ARGUMENT : clock_of(&gpu, kinds[id], type, clock);
}

/* A list of clocks in MHz, highest first, as `1980;1965;...`. */
static nvmlReturn_t clock_list(const char *function, const struct target *gpu, const char *list, unsigned int *count,
                               unsigned int *out)
{
    char item[16];
    unsigned there = 0;
    nvmlReturn_t code = code_of(list);
    if (code != NVML_SUCCESS)
        return code;
    if (!count)
        return NVML_ERROR_INVALID_ARGUMENT;
    for (const char *at = list; next_item(&at, item, sizeof item);)
        there++;
    code = list_room(function, gpu, count, there, out != NULL);
    for (const char *at = list; code == NVML_SUCCESS && next_item(&at, item, sizeof item);)
        as_uint(item, out++);
    return code;
}

EXPORT nvmlReturn_t nvmlDeviceGetSupportedMemoryClocks(nvmlDevice_t device, unsigned int *count, unsigned int *out)
{
    BEGIN_DEVICE(gpu, device);
    return clock_list(__func__, &gpu, of(&gpu, "clock.memory.supported"), count, out);
}

EXPORT nvmlReturn_t nvmlDeviceGetSupportedGraphicsClocks(nvmlDevice_t device, unsigned int memory, unsigned int *count,
                                                         unsigned int *out)
{
    BEGIN_DEVICE(gpu, device);
    const char *list = of(&gpu, "clock.graphics.supported.%u", memory);
    if (!list && of(&gpu, "clock.memory.supported"))
        return NVML_ERROR_NOT_FOUND; /* no such memory clock */
    return clock_list(__func__, &gpu, list, count, out);
}

/* Why clocks are what they are: one mask under its new and its old name. */
#define CLOCK_REASONS(function, key)                                                                                   \
    EXPORT nvmlReturn_t function(nvmlDevice_t device, unsigned long long *reasons)                                     \
    {                                                                                                                  \
        BEGIN_DEVICE(gpu, device);                                                                                     \
        return as_ull(of(&gpu, key), reasons);                                                                         \
    }
CLOCK_REASONS(nvmlDeviceGetCurrentClocksEventReasons, "clock.reasons")
CLOCK_REASONS(nvmlDeviceGetCurrentClocksThrottleReasons, "clock.reasons")
CLOCK_REASONS(nvmlDeviceGetSupportedClocksEventReasons, "clock.reasons.supported")
CLOCK_REASONS(nvmlDeviceGetSupportedClocksThrottleReasons, "clock.reasons.supported")

EXPORT nvmlReturn_t nvmlDeviceGetViolationStatus(nvmlDevice_t device, nvmlPerfPolicyType_t policy,
                                                 nvmlViolationTime_t *time)
{
    static const char *const names[] = {"power", "thermal", "sync_boost", "board_limit", "low_utilization",
                                        "reliability", NULL, NULL, NULL, NULL, "app_clocks", "base_clocks"};
    BEGIN_DEVICE(gpu, device);
    if (!time || (unsigned)policy >= 12 || !names[policy])
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t code = as_ull(of(&gpu, "violation.%s", names[policy]), &time->violationTime);
    return code == NVML_SUCCESS ? as_ull(of(&gpu, "violation.reference"), &time->referenceTime) : code;
}

/* ------------------------------------------------------------------------------------------- utilisation */

EXPORT nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilization)
{
    BEGIN_DEVICE(gpu, device);
    if (!utilization)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t code = as_uint(of(&gpu, "utilization.gpu"), &utilization->gpu);
    return code == NVML_SUCCESS ? as_uint(of(&gpu, "utilization.memory"), &utilization->memory) : code;
}

#define ENGINE(function, key)                                                                                          \
    EXPORT nvmlReturn_t function(nvmlDevice_t device, unsigned int *utilization, unsigned int *microseconds)           \
    {                                                                                                                  \
        BEGIN_DEVICE(gpu, device);                                                                                     \
        nvmlReturn_t code = as_uint(of(&gpu, key), utilization);                                                       \
        return code == NVML_SUCCESS ? as_uint(of(&gpu, "utilization.period"), microseconds) : code;                    \
    }
ENGINE(nvmlDeviceGetEncoderUtilization, "utilization.encoder")
ENGINE(nvmlDeviceGetDecoderUtilization, "utilization.decoder")
ENGINE(nvmlDeviceGetJpgUtilization, "utilization.jpeg")
ENGINE(nvmlDeviceGetOfaUtilization, "utilization.ofa")

EXPORT nvmlReturn_t nvmlDeviceGetEncoderStats(nvmlDevice_t device, unsigned int *sessions, unsigned int *fps,
                                              unsigned int *latency)
{
    BEGIN_DEVICE(gpu, device);
    nvmlReturn_t code = as_uint(of(&gpu, "encoder.sessions"), sessions);
    if (code == NVML_SUCCESS)
        code = as_uint(of(&gpu, "encoder.fps"), fps);
    return code == NVML_SUCCESS ? as_uint(of(&gpu, "encoder.latency"), latency) : code;
}

/* What the driver has sampled since `last`: `samples.<type>` is `timestamp,value;...`, oldest first. */
EXPORT nvmlReturn_t nvmlDeviceGetSamples(nvmlDevice_t device, nvmlSamplingType_t type, unsigned long long last,
                                         nvmlValueType_t *kind, unsigned int *count, nvmlSample_t *samples)
{
    char item[64];
    unsigned long long at;
    unsigned value, there = 0;
    BEGIN_DEVICE(gpu, device);
    const char *list = of(&gpu, "samples.%u", (unsigned)type);
    nvmlReturn_t code = code_of(list);
    if (code != NVML_SUCCESS)
        return code;
    if (!kind || !count)
        return NVML_ERROR_INVALID_ARGUMENT;
    *kind = NVML_VALUE_TYPE_UNSIGNED_INT;
    for (const char *cursor = list; next_item(&cursor, item, sizeof item);) {
        if (sscanf(item, "%llu,%u", &at, &value) != 2 || at <= last)
            continue;
        if (samples && there < *count) {
            samples[there].timeStamp = at;
            samples[there].sampleValue.ullVal = value;
        }
        there++;
    }
    if (!samples || there < *count)
        *count = there;
    return there ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
}

/* ------------------------------------------------------------------------------------------- memory */

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
    unsigned long long reserved = 0;
    BEGIN_DEVICE(gpu, device);
    if (!memory)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t code = as_ull(of(&gpu, "memory.total"), &memory->total);
    if (code == NVML_SUCCESS)
        code = as_ull(of(&gpu, "memory.used"), &memory->used);
    if (code != NVML_SUCCESS)
        return code;
    as_ull(of(&gpu, "memory.reserved"), &reserved);
    memory->used += reserved; /* version 1 counts as used what is reserved */
    memory->free = memory->total - memory->used;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
    BEGIN_DEVICE(gpu, device);
    if (!memory)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (memory->version != NVML_STRUCT_VERSION(Memory, 2))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    nvmlReturn_t code = as_ull(of(&gpu, "memory.total"), &memory->total);
    if (code == NVML_SUCCESS)
        code = as_ull(of(&gpu, "memory.used"), &memory->used);
    if (code == NVML_SUCCESS)
        code = as_ull(of(&gpu, "memory.reserved"), &memory->reserved);
    memory->free = memory->total - memory->used - memory->reserved;
    return code;
}

EXPORT nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvmlBAR1Memory_t *memory)
{
    BEGIN_DEVICE(gpu, device);
    if (!memory)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t code = as_ull(of(&gpu, "bar1.total"), &memory->bar1Total);
    if (code == NVML_SUCCESS)
        code = as_ull(of(&gpu, "bar1.used"), &memory->bar1Used);
    memory->bar1Free = memory->bar1Total - memory->bar1Used;
    return code;
}

/* ------------------------------------------------------------------------------------------- fans */

EXPORT nvmlReturn_t nvmlDeviceGetFanSpeed_v2(nvmlDevice_t device, unsigned int fan, unsigned int *percent)
{
    BEGIN_DEVICE(gpu, device);
    if (fan >= uint_or(of(&gpu, "fan.count"), 0))
        return of(&gpu, "fan.count") ? NVML_ERROR_INVALID_ARGUMENT : NVML_ERROR_NOT_SUPPORTED;
    return as_uint(of(&gpu, "fan.%u.speed", fan), percent);
}

EXPORT nvmlReturn_t nvmlDeviceGetTargetFanSpeed(nvmlDevice_t device, unsigned int fan, unsigned int *percent)
{
    BEGIN_DEVICE(gpu, device);
    return as_uint(of(&gpu, "fan.%u.target", fan), percent);
}

EXPORT nvmlReturn_t nvmlDeviceGetFanSpeedRPM(nvmlDevice_t device, nvmlFanSpeedInfo_t *speed)
{
    BEGIN_DEVICE(gpu, device);
    if (!speed)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (speed->version != NVML_STRUCT_VERSION(FanSpeedInfo, 1))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    return as_uint(of(&gpu, "fan.%u.rpm", speed->fan), &speed->speed);
}

EXPORT nvmlReturn_t nvmlDeviceGetMinMaxFanSpeed(nvmlDevice_t device, unsigned int *least, unsigned int *most)
{
    BEGIN_DEVICE(gpu, device);
    nvmlReturn_t code = as_uint(of(&gpu, "fan.min"), least);
    return code == NVML_SUCCESS ? as_uint(of(&gpu, "fan.max"), most) : code;
}
