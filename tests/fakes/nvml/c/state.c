#define _GNU_SOURCE
#include "state.h"

#include <fcntl.h>
#include <libgen.h>
#include <linux/futex.h>
#include <pthread.h>
#include <dlfcn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define RING 256
#define COUNTERS 65536

/* The control page, shared by the script and by every process that has loaded the library. tests/fakes/nvml/control.py
 * knows the same layout. */
struct control {
    _Atomic uint64_t sequence;         /* of the state file: moved on after each replacement */
    _Atomic uint64_t head;             /* events ever told; the last RING of them are in `ring` */
    struct event ring[RING];
    _Atomic uint64_t counts[COUNTERS]; /* calls, by hash of the function's name */
    _Atomic uint32_t moved;            /* with each change of sequence or head, after it; a futex */
};

struct pair {
    const char *key, *value;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static char folder[4096];
static struct control *control;
static char *text;            /* the state file as read, its lines cut into keys and values */
static struct pair *table;    /* of 1 << bits places, probed linearly */
static unsigned bits;
static uint64_t sequence_read;
static int any_fault, any_override; /* keys of this kind are there at all: looking for them costs */

static uint32_t hash(const char *name)
{
    uint32_t value = 2166136261U; /* FNV-1a */
    for (; *name; name++)
        value = (value ^ (unsigned char)*name) * 16777619U;
    return value;
}

/* ------------------------------------------------------------------------------------------- files */

static void attach(void)
{
    Dl_info self;
    char path[4096 + 16];
    if (!dladdr((void *)&attach, &self))
        return;
    snprintf(path, sizeof path, "%s", self.dli_fname);
    snprintf(folder, sizeof folder, "%s", dirname(path));
    snprintf(path, sizeof path, "%s/control", folder);
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return;
    void *page = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (page != MAP_FAILED)
        control = page;
}

static char *read_whole(const char *path)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    struct stat about;
    if (file < 0 || fstat(file, &about) != 0) {
        if (file >= 0)
            close(file);
        return NULL;
    }
    char *content = malloc((size_t)about.st_size + 1);
    ssize_t length = content ? read(file, content, (size_t)about.st_size) : -1;
    close(file);
    if (length != about.st_size) {
        free(content);
        return NULL;
    }
    content[length] = '\0';
    return content;
}

static void put(const char *key, const char *value)
{
    uint32_t place = hash(key) & ((1U << bits) - 1);
    while (table[place].key)
        place = (place + 1) & ((1U << bits) - 1);
    table[place] = (struct pair){key, value};
}

/* Read the state file if the script has replaced it. The number is taken first: a newer file is read again later. */
static void refresh(void)
{
    char path[4096 + 16];
    uint64_t sequence = atomic_load(&control->sequence);
    if (text && sequence == sequence_read)
        return;
    snprintf(path, sizeof path, "%s/state", folder);
    char *content = read_whole(path);
    if (!content)
        return;
    size_t lines = 1;
    for (const char *at = content; *at; at++)
        lines += *at == '\n';
    free(text);
    free(table);
    text = content;
    for (bits = 4; (1UL << bits) < 2 * lines; bits++)
        ;
    table = calloc(1UL << bits, sizeof *table);
    any_fault = any_override = 0;
    char *rest = content;
    for (char *line; table && (line = strsep(&rest, "\n"));) {
        char *equals = strchr(line, '=');
        if (!equals)
            continue;
        *equals = '\0';
        any_fault |= strstr(line, "call.") != NULL;
        any_override |= strstr(line, ".field.") != NULL;
        put(line, equals + 1);
    }
    sequence_read = sequence;
}

static const char *find(const char *key)
{
    if (!table)
        return NULL;
    for (uint32_t place = hash(key) & ((1U << bits) - 1); table[place].key; place = (place + 1) & ((1U << bits) - 1))
        if (strcmp(table[place].key, key) == 0)
            return table[place].value;
    return NULL;
}

const char *lookup(const char *format, ...)
{
    char key[192];
    va_list rest;
    va_start(rest, format);
    vsnprintf(key, sizeof key, format, rest);
    va_end(rest);
    return find(key);
}

int state_faults(void) { return any_fault; }
int state_overrides(void) { return any_override; }

const char *of(const struct target *target, const char *format, ...)
{
    char key[192];
    int length = snprintf(key, sizeof key, "%s", target->prefix);
    va_list rest;
    va_start(rest, format);
    vsnprintf(key + length, sizeof key - (size_t)length, format, rest);
    va_end(rest);
    return find(key);
}

/* ------------------------------------------------------------------------------------------- values */

nvmlReturn_t code_of(const char *value)
{
    if (!value)
        return NVML_ERROR_NOT_SUPPORTED;
    return *value == '!' ? (nvmlReturn_t)strtoul(value + 1, NULL, 10) : NVML_SUCCESS;
}

#define CONVERT(name, type, expression)                                                                                \
    nvmlReturn_t name(const char *value, type *out)                                                                    \
    {                                                                                                                  \
        nvmlReturn_t code = code_of(value);                                                                            \
        if (!out)                                                                                                      \
            return NVML_ERROR_INVALID_ARGUMENT;                                                                        \
        if (code == NVML_SUCCESS)                                                                                      \
            *out = (type)(expression);                                                                                 \
        return code;                                                                                                   \
    }

CONVERT(as_uint, unsigned int, strtoull(value, NULL, 0))
CONVERT(as_int, int, strtoll(value, NULL, 0))
CONVERT(as_ull, unsigned long long, strtoull(value, NULL, 0)) /* "-1" is the greatest of them, as strtoull has it */
CONVERT(as_double, double, strtod(value, NULL))

nvmlReturn_t as_text(const char *value, char *out, unsigned int length)
{
    nvmlReturn_t code = code_of(value);
    if (!out)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (code != NVML_SUCCESS)
        return code;
    if (strlen(value) + 1 > length)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(out, value);
    return NVML_SUCCESS;
}

unsigned int uint_or(const char *value, unsigned int otherwise)
{
    unsigned int number = otherwise;
    as_uint(value, &number);
    return number;
}

int next_item(const char **cursor, char *item, size_t length)
{
    if (!*cursor || !**cursor)
        return 0;
    size_t size = strcspn(*cursor, ";");
    snprintf(item, length, "%.*s", (int)size, *cursor);
    *cursor += size + ((*cursor)[size] == ';');
    return 1;
}

/* ------------------------------------------------------------------------------------------- the lock, counts */

int state_lock(void)
{
    pthread_once(&once, attach);
    if (!control)
        return 0;
    pthread_mutex_lock(&lock);
    refresh();
    return 1;
}

void state_unlock(void) { pthread_mutex_unlock(&lock); }

unsigned long long state_count(const char *function, unsigned more)
{
    return atomic_fetch_add(&control->counts[hash(function) % COUNTERS], more) + more;
}

/* ------------------------------------------------------------------------------------------- events */

unsigned state_moved(void)
{
    return control ? atomic_load(&control->moved) : 0;
}

void state_wait(unsigned seen, long long milliseconds)
{
    struct timespec span = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    if (control)
        syscall(SYS_futex, &control->moved, FUTEX_WAIT, seen, &span, NULL, 0);
    else
        nanosleep(&span, NULL);
}

unsigned long long events_head(void)
{
    return atomic_load(&control->head);
}

int event_at(unsigned long long number, struct event *event)
{
    *event = control->ring[number % RING];
    return events_head() - number <= RING;
}
