/*
 * What every exported function begins with: the scripted state, the faults, the handles.
 *
 * The state is a text file of lines `key=value`, written and replaced as a whole by the script; it is read anew when
 * the sequence number in the shared control page has changed. A key that is not there means NVML_ERROR_NOT_SUPPORTED; a
 * value `!15` means that whoever asks for it gets return code 15.
 */
#ifndef FAKE_NVML_STATE_H
#define FAKE_NVML_STATE_H

#define NVML_NO_UNVERSIONED_FUNC_DEFS
#include <nvml.h>
#include <stddef.h>

#define EXPORT __attribute__((visibility("default")))
#define NOT_GIVEN 0xffffffffU

/* What a handle stands for: a whole GPU, or one of its MIG devices. */
struct target {
    unsigned slot;       /* the GPU, by its place in the state; never renumbered */
    int mig;             /* a MIG device: gi and ci say which */
    unsigned gi, ci;
    char prefix[48];     /* of its keys: "gpu.3." or "gpu.3.mig.1.0." */
};

/* One scripted event, as it lies in the control page. */
struct event {
    unsigned long long type, data;
    unsigned slot, gi, ci, unused;
};

/* Enter a call: count it, act out its faults, check that the library is initialised. The lock is held afterwards. */
nvmlReturn_t state_enter(const char *function, int *entered);
nvmlReturn_t state_enter_device(const char *function, nvmlDevice_t handle, struct target *target, int *entered);
void state_leave(int *entered);

#define BEGIN()                                                                                                        \
    __attribute__((cleanup(state_leave))) int entered_ = 0;                                                            \
    do {                                                                                                               \
        nvmlReturn_t answer_ = state_enter(__func__, &entered_);                                                       \
        if (answer_ != NVML_SUCCESS)                                                                                   \
            return answer_;                                                                                            \
    } while (0)

#define BEGIN_DEVICE(found, handle)                                                                                    \
    struct target found;                                                                                               \
    __attribute__((cleanup(state_leave))) int entered_ = 0;                                                            \
    do {                                                                                                               \
        nvmlReturn_t answer_ = state_enter_device(__func__, handle, &found, &entered_);                                \
        if (answer_ != NVML_SUCCESS)                                                                                   \
            return answer_;                                                                                            \
    } while (0)

/* How often the script has changed something. Wait, without the lock, until that is no longer `seen`, or so long. */
unsigned state_moved(void);
void state_wait(unsigned seen, long long milliseconds);

/* Opening and closing a session: nvmlInit and nvmlShutdown. */
nvmlReturn_t session_open(const char *function);
nvmlReturn_t session_close(const char *function);

/* The text of a key, or NULL. It is valid while the lock is held. */
const char *lookup(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *of(const struct target *target, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The lock of the state, which is the newest when it is taken; 0: there is none. The counts of calls. */
int state_lock(void);
void state_unlock(void);
unsigned long long state_count(const char *function, unsigned more);
int state_faults(void);    /* some faults of calls are set */
int state_overrides(void); /* some field values are overridden */

/* The value of a text: NOT_SUPPORTED for NULL, the code for `!code`, INVALID_ARGUMENT where there is no room for it. */
nvmlReturn_t as_uint(const char *text, unsigned int *value);
nvmlReturn_t as_int(const char *text, int *value);
nvmlReturn_t as_ull(const char *text, unsigned long long *value);
nvmlReturn_t as_double(const char *text, double *value);
nvmlReturn_t as_text(const char *text, char *out, unsigned int length);
unsigned int uint_or(const char *text, unsigned int otherwise);
nvmlReturn_t code_of(const char *text); /* SUCCESS, NOT_SUPPORTED for NULL, or the code of `!code` */

/* A function that reads one number. */
#define DEVICE_UINT(function, type, key)                                                                               \
    EXPORT nvmlReturn_t function(nvmlDevice_t device, type *value)                                                     \
    {                                                                                                                  \
        BEGIN_DEVICE(gpu, device);                                                                                     \
        return as_uint(of(&gpu, key), (unsigned int *)value);                                                          \
    }

/* A function that reads one text into a buffer of the caller. */
#define DEVICE_TEXT(function, key)                                                                                     \
    EXPORT nvmlReturn_t function(nvmlDevice_t device, char *text, unsigned int length)                                 \
    {                                                                                                                  \
        BEGIN_DEVICE(gpu, device);                                                                                     \
        return as_text(of(&gpu, key), text, length);                                                                   \
    }

/* The rule of list calls: `*count` is the room, afterwards what there is. Says whether the buffer is to be filled. */
nvmlReturn_t list_room(const char *function, const struct target *target, unsigned int *count, unsigned int there,
                       int buffer_given);

/* Walk a value made of items with `;` between them: `*cursor` is the text at first, NULL at the end. */
int next_item(const char **cursor, char *item, size_t length);

/* Handles. */
nvmlDevice_t gpu_handle(unsigned slot);
nvmlDevice_t mig_handle(unsigned slot, unsigned gi, unsigned ci);
nvmlGpuInstance_t gpu_instance_handle(unsigned slot, unsigned gi);
nvmlComputeInstance_t compute_instance_handle(unsigned slot, unsigned gi, unsigned ci);
nvmlReturn_t find_gpu(nvmlDevice_t handle, struct target *target);
nvmlReturn_t find_gpu_instance(nvmlGpuInstance_t handle, struct target *target);
nvmlReturn_t find_compute_instance(nvmlComputeInstance_t handle, struct target *target);
void gpu_of_slot(unsigned slot, struct target *target);
void mig_of_slot(unsigned slot, unsigned gi, unsigned ci, struct target *target);
nvmlReturn_t driver_condition(void); /* SUCCESS, or what every call answers; another driver than ours: mismatch */
nvmlReturn_t condition(unsigned slot); /* SUCCESS, or what every call on this GPU answers: lost, reset required */
unsigned slots(void);
int is_present(unsigned slot);

/* The ring of scripted events. */
unsigned long long events_head(void);
int event_at(unsigned long long number, struct event *event); /* 0: it has been overwritten */

#endif
