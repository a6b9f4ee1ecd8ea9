/* What a call goes through before it reads anything: its faults, the session, the driver, the GPU. */
#define _GNU_SOURCE
#include "state.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static unsigned sessions;
static char generation[32]; /* of the driver that this process's library belongs to; fixed by its first session */

/* ------------------------------------------------------------------------------------------- faults */

/* A fault that is set for this call: of one GPU or of all, of one function or of all (`*`). */
static const char *fault(const char *kind, const char *function, const struct target *target)
{
    const char *value = NULL;
    if (!state_faults())
        return NULL;
    if (target) {
        value = lookup("gpu.%u.call.%s.%s", target->slot, function, kind);
        if (!value)
            value = lookup("gpu.%u.call.*.%s", target->slot, kind);
    }
    if (!value)
        value = lookup("call.%s.%s", function, kind);
    return value ? value : lookup("call.*.%s", kind);
}

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

static void nap(double seconds)
{
    struct timespec span = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&span, NULL);
}

/* Sleep as long as scripted, without the lock: a call that hangs ends when its fault is taken back, or never. */
static void act_sleep(const char *function, const struct target *target)
{
    double begun = now();
    for (;;) {
        const char *seconds = fault("sleep", function, target);
        double left = seconds ? begun + strtod(seconds, NULL) - now() : 0;
        if (!(left > 0))
            return;
        state_unlock();
        nap(left < 0.005 ? left : 0.005);
        state_lock();
    }
}

static nvmlReturn_t act_faults(const char *function, const struct target *target)
{
    if (!state_faults())
        return NVML_SUCCESS;
    act_sleep(function, target);
    if (fault("crash", function, target))
        raise(SIGSEGV);
    const char *code = fault("return", function, target);
    const char *until = fault("until", function, target); /* the fault ends when so many calls have been made */
    if (!code || (until && state_count(function, 0) > strtoull(until, NULL, 10)))
        return NVML_SUCCESS;
    return (nvmlReturn_t)strtoul(code, NULL, 10);
}

/* ------------------------------------------------------------------------------------------- entering a call */

static nvmlReturn_t begin(const char *function)
{
    if (!state_lock())
        return NVML_ERROR_UNKNOWN; /* a library without its control page beside it */
    state_count(function, 1);
    return NVML_SUCCESS;
}

nvmlReturn_t driver_condition(void)
{
    const char *current = lookup("driver.generation");
    if (generation[0] && current && strcmp(current, generation) != 0)
        return NVML_ERROR_LIB_RM_VERSION_MISMATCH;
    return (nvmlReturn_t)uint_or(lookup("driver.return"), NVML_SUCCESS);
}

nvmlReturn_t state_enter(const char *function, int *entered)
{
    nvmlReturn_t answer = begin(function);
    if (answer != NVML_SUCCESS)
        return answer;
    *entered = 1;
    answer = sessions ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
    if (answer == NVML_SUCCESS)
        answer = act_faults(function, NULL);
    return answer == NVML_SUCCESS ? driver_condition() : answer;
}

nvmlReturn_t state_enter_device(const char *function, nvmlDevice_t handle, struct target *target, int *entered)
{
    nvmlReturn_t answer = begin(function);
    if (answer != NVML_SUCCESS)
        return answer;
    *entered = 1;
    if (!sessions)
        return NVML_ERROR_UNINITIALIZED;
    answer = find_gpu(handle, target);
    struct target whole = *target;
    if (answer == NVML_SUCCESS)
        answer = act_faults(function, &whole);
    if (answer == NVML_SUCCESS)
        answer = driver_condition();
    if (answer == NVML_SUCCESS)
        answer = condition(target->slot);
    return answer == NVML_SUCCESS ? find_gpu(handle, target) : answer;
}

void state_leave(int *entered)
{
    if (*entered)
        state_unlock();
}

nvmlReturn_t session_open(const char *function)
{
    nvmlReturn_t answer = begin(function);
    if (answer != NVML_SUCCESS)
        return answer;
    answer = act_faults(function, NULL);
    if (answer == NVML_SUCCESS)
        answer = driver_condition();
    if (answer == NVML_SUCCESS)
        answer = (nvmlReturn_t)uint_or(lookup("init.return"), NVML_SUCCESS);
    if (answer == NVML_SUCCESS) {
        sessions++;
        if (!generation[0])
            as_text(lookup("driver.generation"), generation, sizeof generation);
    }
    state_unlock();
    return answer;
}

nvmlReturn_t session_close(const char *function)
{
    nvmlReturn_t answer = begin(function);
    if (answer != NVML_SUCCESS)
        return answer;
    answer = act_faults(function, NULL);
    if (answer == NVML_SUCCESS)
        answer = sessions ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
    if (answer == NVML_SUCCESS)
        sessions--;
    state_unlock();
    return answer;
}

nvmlReturn_t list_room(const char *function, const struct target *target, unsigned int *count, unsigned int there,
                       int buffer_given)
{
    unsigned int room = buffer_given ? *count : 0;
    *count = there;
    if (fault("insufficient", function, target)) {
        *count = (there > room ? there : room) + 1; /* it has grown again, as it does under load */
        return NVML_ERROR_INSUFFICIENT_SIZE;
    }
    return room < there ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}
