/* Event sets: scripted events are delivered to every set that has registered for them, from then on. */
#define _GNU_SOURCE
#include "state.h"

#include <stdlib.h>
#include <time.h>

#define MOST_GPUS 64
#define MOST_WAIT 50 /* milliseconds */

struct nvmlEventSet_st {
    unsigned long long next; /* the number of the next event to look at */
    unsigned long long types[MOST_GPUS];
};

EXPORT nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set)
{
    BEGIN();
    if (!set)
        return NVML_ERROR_INVALID_ARGUMENT;
    *set = calloc(1, sizeof **set);
    if (!*set)
        return NVML_ERROR_MEMORY;
    (*set)->next = events_head();
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set)
{
    BEGIN();
    if (!set)
        return NVML_ERROR_INVALID_ARGUMENT;
    free(set);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long *types)
{
    BEGIN_DEVICE(gpu, device);
    return as_ull(of(&gpu, "events.supported"), types);
}

EXPORT nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types, nvmlEventSet_t set)
{
    unsigned long long supported;
    BEGIN_DEVICE(gpu, device);
    nvmlReturn_t code = as_ull(of(&gpu, "events.supported"), &supported);
    if (code != NVML_SUCCESS)
        return code;
    if (!set || gpu.mig || gpu.slot >= MOST_GPUS)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (types & ~supported)
        return NVML_ERROR_NOT_SUPPORTED;
    set->types[gpu.slot] |= types;
    return NVML_SUCCESS;
}

/* An error of the whole set: a GPU that is lost fails every wait at once, and so for ever. */
static nvmlReturn_t set_condition(const struct nvmlEventSet_st *set)
{
    nvmlReturn_t code = driver_condition();
    for (unsigned slot = 0; code == NVML_SUCCESS && slot < MOST_GPUS && slot < slots(); slot++)
        if (set->types[slot] && condition(slot) == NVML_ERROR_GPU_IS_LOST)
            return NVML_ERROR_GPU_IS_LOST;
    return code;
}

static int next_event(struct nvmlEventSet_st *set, struct event *event)
{
    while (set->next < events_head()) {
        int whole = event_at(set->next++, event);
        if (whole && event->slot < MOST_GPUS && set->types[event->slot] & event->type)
            return 1;
    }
    return 0;
}

static long long milliseconds(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (long long)at.tv_sec * 1000 + at.tv_nsec / 1000000;
}

/* Wait with the lock given up; an event that was told before an error of the set still comes first. What has changed
 * before the lock was taken first may go unseen by the first look, so none waits for long. */
static nvmlReturn_t wait_for(nvmlEventSet_t set, struct event *event, unsigned int timeout)
{
    long long until = milliseconds() + timeout;
    unsigned seen = state_moved();
    if (!set)
        return NVML_ERROR_INVALID_ARGUMENT;
    for (;;) {
        if (next_event(set, event))
            return NVML_SUCCESS;
        nvmlReturn_t code = set_condition(set);
        if (code != NVML_SUCCESS)
            return code;
        long long left = until - milliseconds();
        if (left <= 0)
            return NVML_ERROR_TIMEOUT;
        state_unlock();
        state_wait(seen, left < MOST_WAIT ? left : MOST_WAIT);
        seen = state_moved();
        state_lock();
    }
}

EXPORT nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, unsigned int timeout)
{
    struct event event;
    BEGIN();
    nvmlReturn_t code = data ? wait_for(set, &event, timeout) : NVML_ERROR_INVALID_ARGUMENT;
    if (code == NVML_SUCCESS)
        *data = (nvmlEventData_t){gpu_handle(event.slot), event.type, event.data, event.gi, event.ci};
    return code;
}

/* The first version: its structure ends before the MIG instances. */
EXPORT nvmlReturn_t nvmlEventSetWait(nvmlEventSet_t set, nvmlEventData_t *data, unsigned int timeout)
{
    struct event event;
    BEGIN();
    nvmlReturn_t code = data ? wait_for(set, &event, timeout) : NVML_ERROR_INVALID_ARGUMENT;
    if (code == NVML_SUCCESS) {
        data->device = gpu_handle(event.slot);
        data->eventType = event.type;
        data->eventData = event.data;
    }
    return code;
}
