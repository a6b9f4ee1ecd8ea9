/*
 * nvmlDeviceGetFieldValues: many values in one call, each with a return code of its own.
 *
 * Most fields are the same state that a function of its own also reads, so that both ways agree. A script can override
 * any one: `field.82` or, for one scope, `field.138.3`, as `uint:61`, `ull:5`, `double:0.5`, `sll:-2`, `int:-2`, `!3`.
 */
#define _GNU_SOURCE
#include "state.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define UINT NVML_VALUE_TYPE_UNSIGNED_INT
#define ULL NVML_VALUE_TYPE_UNSIGNED_LONG_LONG
#define INT NVML_VALUE_TYPE_SIGNED_INT

enum scope { NONE, LINK, LINK_OR_ALL, POWER };

/* Source: the NVML_FI_DEV_ constants of nvml.h. */
static const struct field {
    unsigned id;
    nvmlValueType_t type;
    enum scope scope;
    const char *key;
} fields[] = {
    {1, UINT, NONE, "ecc.mode"},
    {2, UINT, NONE, "ecc.mode.pending"},
    {3, ULL, NONE, "ecc.volatile.corrected.total"},
    {4, ULL, NONE, "ecc.volatile.uncorrected.total"},
    {5, ULL, NONE, "ecc.aggregate.corrected.total"},
    {6, ULL, NONE, "ecc.aggregate.uncorrected.total"},
    {7, ULL, NONE, "ecc.volatile.corrected.l1"},
    {8, ULL, NONE, "ecc.volatile.uncorrected.l1"},
    {9, ULL, NONE, "ecc.volatile.corrected.l2"},
    {10, ULL, NONE, "ecc.volatile.uncorrected.l2"},
    {11, ULL, NONE, "ecc.volatile.corrected.dram"},
    {12, ULL, NONE, "ecc.volatile.uncorrected.dram"},
    {13, ULL, NONE, "ecc.volatile.corrected.register"},
    {14, ULL, NONE, "ecc.volatile.uncorrected.register"},
    {15, ULL, NONE, "ecc.volatile.corrected.texture"},
    {16, ULL, NONE, "ecc.volatile.uncorrected.texture"},
    {17, ULL, NONE, "ecc.volatile.uncorrected.cbu"},
    {18, ULL, NONE, "ecc.aggregate.corrected.l1"},
    {19, ULL, NONE, "ecc.aggregate.uncorrected.l1"},
    {20, ULL, NONE, "ecc.aggregate.corrected.l2"},
    {21, ULL, NONE, "ecc.aggregate.uncorrected.l2"},
    {22, ULL, NONE, "ecc.aggregate.corrected.dram"},
    {23, ULL, NONE, "ecc.aggregate.uncorrected.dram"},
    {24, ULL, NONE, "ecc.aggregate.corrected.register"},
    {25, ULL, NONE, "ecc.aggregate.uncorrected.register"},
    {26, ULL, NONE, "ecc.aggregate.corrected.texture"},
    {27, ULL, NONE, "ecc.aggregate.uncorrected.texture"},
    {28, ULL, NONE, "ecc.aggregate.uncorrected.cbu"},
    {31, UINT, NONE, "retired.pending"},
    {74, ULL, NONE, "violation.power"},
    {75, ULL, NONE, "violation.thermal"},
    {76, ULL, NONE, "violation.sync_boost"},
    {77, ULL, NONE, "violation.board_limit"},
    {78, ULL, NONE, "violation.low_utilization"},
    {79, ULL, NONE, "violation.reliability"},
    {80, ULL, NONE, "violation.app_clocks"},
    {81, ULL, NONE, "violation.base_clocks"},
    {82, UINT, NONE, "temperature.memory"},
    {83, ULL, NONE, "energy"},
    {90, UINT, NONE, "nvlink.speed"},
    {91, UINT, NONE, "nvlink.count"},
    {92, UINT, NONE, "retired.pending.sbe"},
    {93, UINT, NONE, "retired.pending.dbe"},
    {94, UINT, NONE, "pcie.replay"},
    {95, UINT, NONE, "pcie.replay_rollover"},
    {138, ULL, LINK_OR_ALL, "nvlink.%u.tx_kib"},
    {139, ULL, LINK_OR_ALL, "nvlink.%u.rx_kib"},
    {140, ULL, LINK_OR_ALL, "nvlink.%u.tx_raw_kib"},
    {141, ULL, LINK_OR_ALL, "nvlink.%u.rx_raw_kib"},
    {142, UINT, NONE, "remapped.corrected"},
    {143, UINT, NONE, "remapped.uncorrected"},
    {144, UINT, NONE, "remapped.pending"},
    {145, UINT, NONE, "remapped.failure"},
    {146, UINT, LINK, "nvlink.%u.remote_link"},
    {147, UINT, NONE, "nvlink.switch_links"},
    {161, ULL, LINK_OR_ALL, "nvlink.%u.dl_replay"},
    {162, ULL, LINK_OR_ALL, "nvlink.%u.dl_recovery"},
    {163, ULL, LINK_OR_ALL, "nvlink.%u.dl_crc"},
    {164, UINT, LINK, "nvlink.%u.speed"},
    {165, UINT, LINK, "nvlink.%u.state"},
    {166, UINT, LINK, "nvlink.%u.version"},
    {167, UINT, LINK, "nvlink.%u.power_state"},
    {168, UINT, LINK, "nvlink.%u.power_threshold"},
    {169, ULL, NONE, "pcie.l0_to_recovery"},
    {170, UINT, NONE, "c2c.count"},
    {171, UINT, LINK, "c2c.%u.status"},
    {172, UINT, LINK, "c2c.%u.bandwidth"},
    {173, ULL, NONE, "pcie.correctable"},
    {174, ULL, NONE, "pcie.naks_received"},
    {175, ULL, NONE, "pcie.receiver_error"},
    {176, ULL, NONE, "pcie.bad_tlp"},
    {177, ULL, NONE, "pcie.naks_sent"},
    {178, ULL, NONE, "pcie.bad_dllp"},
    {179, ULL, NONE, "pcie.non_fatal"},
    {180, ULL, NONE, "pcie.fatal"},
    {181, ULL, NONE, "pcie.unsupported_request"},
    {182, ULL, NONE, "pcie.lcrc"},
    {183, ULL, NONE, "pcie.lane"},
    {184, UINT, NONE, "mig.resetless"},
    {185, UINT, POWER, "power.%s.average"},
    {186, UINT, POWER, "power.%s.instant"},
    {187, UINT, NONE, "power.limit.min"},
    {188, UINT, NONE, "power.limit.max"},
    {189, UINT, NONE, "power.limit.default"},
    {190, UINT, NONE, "power.limit.enforced"},
    {191, ULL, NONE, "energy"},
    {192, UINT, NONE, "power.limit"},
    {193, INT, NONE, "temperature.tlimit.shutdown"},
    {194, INT, NONE, "temperature.tlimit.slowdown"},
    {195, INT, NONE, "temperature.tlimit.memory"},
    {196, INT, NONE, "temperature.tlimit.gpu"},
    {197, ULL, NONE, "pcie.tx_bytes"},
    {198, ULL, NONE, "pcie.rx_bytes"},
    {199, UINT, NONE, "mig.independent_query"},
    {201, ULL, LINK_OR_ALL, "nvlink.%u.tx_packets"},
    {202, ULL, LINK_OR_ALL, "nvlink.%u.tx_bytes"},
    {203, ULL, LINK_OR_ALL, "nvlink.%u.rx_packets"},
    {204, ULL, LINK_OR_ALL, "nvlink.%u.rx_bytes"},
    {206, ULL, LINK_OR_ALL, "nvlink.%u.malformed_packets"},
    {207, ULL, LINK_OR_ALL, "nvlink.%u.buffer_overruns"},
    {208, ULL, LINK_OR_ALL, "nvlink.%u.rx_errors"},
    {209, ULL, LINK_OR_ALL, "nvlink.%u.rx_remote_errors"},
    {210, ULL, LINK_OR_ALL, "nvlink.%u.rx_general_errors"},
    {211, ULL, LINK_OR_ALL, "nvlink.%u.integrity_errors"},
    {212, ULL, LINK_OR_ALL, "nvlink.%u.tx_discards"},
    {213, ULL, LINK_OR_ALL, "nvlink.%u.recovery_successful"},
    {214, ULL, LINK_OR_ALL, "nvlink.%u.recovery_failed"},
    {215, ULL, LINK_OR_ALL, "nvlink.%u.recovery_events"},
    {219, ULL, LINK_OR_ALL, "nvlink.%u.effective_errors"},
    {220, ULL, LINK, "nvlink.%u.effective_ber"},
    {221, ULL, LINK_OR_ALL, "nvlink.%u.symbol_errors"},
    {222, ULL, LINK, "nvlink.%u.symbol_ber"},
    {226, UINT, NONE, "reset.status"},
    {227, UINT, NONE, "reset.drain"},
    {230, UINT, NONE, "recovery_action"},
    {231, ULL, LINK, "c2c.%u.intr"},
    {232, ULL, LINK, "c2c.%u.replay"},
    {233, ULL, LINK, "c2c.%u.replay_b2b"},
    {234, UINT, LINK, "c2c.%u.power_state"},
    {269, ULL, NONE, "violation.sw_thermal"},
    {270, ULL, NONE, "violation.hw_thermal"},
    {271, ULL, NONE, "violation.hw_power_brake"},
    {301, UINT, NONE, "remapped.corrected_inactive"},
    {302, UINT, NONE, "remapped.uncorrected_inactive"},
    {303, UINT, NONE, "bank_remapped.active"},
    {304, UINT, NONE, "bank_remapped.inactive"},
    {305, UINT, NONE, "bank_remapped.spare"},
    {306, UINT, NONE, "bank_remapped.none"},
    {307, UINT, NONE, "bank_remapped.pending"},
};

/* Per-link fields of before the scope existed: links 0 to 5, their total, links 6 to 11 elsewhere. */
static const struct family {
    unsigned low, total, high; /* the field of link 0, of all links, of link 6 */
    const char *key;
} families[] = {
    {32, 38, 96, "nvlink.%u.crc_flit"},   {39, 45, 102, "nvlink.%u.crc_data"}, {46, 52, 108, "nvlink.%u.replay"},
    {53, 59, 114, "nvlink.%u.recovery"},  {60, 66, 120, "nvlink.%u.counter0"}, {67, 73, 126, "nvlink.%u.counter1"},
    {148, 160, 154, "nvlink.%u.ecc_data"}, {84, 0, 132, "nvlink.%u.speed_mbps"},
};

static nvmlReturn_t convert(const char *text, nvmlValueType_t type, nvmlValue_t *value)
{
    long long number;
    unsigned long long big = 0;
    nvmlReturn_t code = code_of(text);
    if (code != NVML_SUCCESS)
        return code;
    switch (type) {
    case NVML_VALUE_TYPE_DOUBLE:
        return as_double(text, &value->dVal);
    case NVML_VALUE_TYPE_SIGNED_LONG_LONG:
    case NVML_VALUE_TYPE_SIGNED_INT:
        sscanf(text, "%lli", &number);
        value->sllVal = type == INT ? (int)number : number;
        return NVML_SUCCESS;
    case NVML_VALUE_TYPE_UNSIGNED_INT:
        value->ullVal = 0;
        return as_uint(text, &value->uiVal);
    default:
        code = as_ull(text, &big);
        value->ullVal = big;
        return code;
    }
}

static nvmlReturn_t overridden(const char *text, nvmlFieldValue_t *field)
{
    static const struct {
        const char *name;
        nvmlValueType_t type;
    } types[] = {{"uint:", UINT}, {"ull:", ULL}, {"double:", NVML_VALUE_TYPE_DOUBLE}, {"int:", INT},
                 {"sll:", NVML_VALUE_TYPE_SIGNED_LONG_LONG}};
    for (unsigned at = 0; at < sizeof types / sizeof *types; at++)
        if (strncmp(text, types[at].name, strlen(types[at].name)) == 0) {
            field->valueType = types[at].type;
            return convert(text + strlen(types[at].name), field->valueType, &field->value);
        }
    return *text == '!' ? code_of(text) : NVML_ERROR_UNKNOWN;
}

/* The key of one link. Keys are written here, by this file, with one %u each. */
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
static const char *of_link(const struct target *gpu, const char *key, unsigned link)
{
    char filled[96];
    snprintf(filled, sizeof filled, key, link);
    return of(gpu, "%s", filled);
}

/* The sum over all links that have a value. */
static nvmlReturn_t of_all_links(const struct target *gpu, const char *key, nvmlFieldValue_t *field)
{
    nvmlReturn_t answer = NVML_ERROR_NOT_SUPPORTED;
    unsigned long long sum = 0, one;
    for (unsigned link = 0; link < NVML_NVLINK_MAX_LINKS; link++)
        if (as_ull(of_link(gpu, key, link), &one) == NVML_SUCCESS) {
            sum += one;
            answer = NVML_SUCCESS;
        }
    field->valueType = ULL;
    field->value.ullVal = sum;
    return answer;
}

static nvmlReturn_t of_family(const struct target *gpu, nvmlFieldValue_t *field)
{
    for (unsigned at = 0; at < sizeof families / sizeof *families; at++) {
        const struct family *family = &families[at];
        field->valueType = family->total ? ULL : UINT;
        if (field->fieldId == family->total && family->total)
            return of_all_links(gpu, family->key, field);
        if (field->fieldId >= family->low && field->fieldId < family->low + 6)
            return convert(of_link(gpu, family->key, field->fieldId - family->low), field->valueType, &field->value);
        if (field->fieldId >= family->high && field->fieldId < family->high + 6)
            return convert(of_link(gpu, family->key, field->fieldId - family->high + 6), field->valueType,
                           &field->value);
    }
    return field->fieldId == 0 || field->fieldId > 307 ? NVML_ERROR_INVALID_ARGUMENT : NVML_ERROR_NOT_SUPPORTED;
}

/* The number of pages retired for one cause. */
static nvmlReturn_t retired_count(const struct target *gpu, unsigned cause, nvmlFieldValue_t *field)
{
    char item[64];
    const char *list = of(gpu, "retired.%u", cause);
    nvmlReturn_t code = code_of(list);
    field->valueType = ULL;
    field->value.ullVal = 0;
    while (code == NVML_SUCCESS && next_item(&list, item, sizeof item))
        field->value.ullVal++;
    return code;
}

static nvmlReturn_t read_field(const struct target *gpu, nvmlFieldValue_t *field)
{
    static const char *const powers[] = {"gpu", "module", "memory"};
    const char *given = state_overrides() ? of(gpu, "field.%u.%u", field->fieldId, field->scopeId) : NULL;
    if (!given && state_overrides())
        given = of(gpu, "field.%u", field->fieldId);
    if (given)
        return overridden(given, field);
    if (field->fieldId == 29 || field->fieldId == 30)
        return retired_count(gpu, field->fieldId - 29, field);
    for (unsigned at = 0; at < sizeof fields / sizeof *fields; at++) {
        const struct field *known = &fields[at];
        if (known->id != field->fieldId)
            continue;
        field->valueType = known->type;
        if (known->scope == LINK_OR_ALL && field->scopeId == NOT_GIVEN)
            return of_all_links(gpu, known->key, field);
        if (known->scope == LINK || known->scope == LINK_OR_ALL)
            return convert(of_link(gpu, known->key, field->scopeId), known->type, &field->value);
        if (known->scope == POWER && field->scopeId > 2)
            return NVML_ERROR_INVALID_ARGUMENT;
        if (known->scope == POWER)
            return convert(of(gpu, known->key, powers[field->scopeId]), known->type, &field->value);
        return convert(of(gpu, "%s", known->key), known->type, &field->value);
    }
    return of_family(gpu, field);
}

static long long microseconds(void)
{
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    return (long long)at.tv_sec * 1000000 + at.tv_nsec / 1000;
}

EXPORT nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values)
{
    BEGIN_DEVICE(gpu, device);
    if (!values || count < 0)
        return NVML_ERROR_INVALID_ARGUMENT;
    for (int at = 0; at < count; at++) {
        nvmlFieldValue_t *field = &values[at];
        memset(&field->value, 0, sizeof field->value);
        field->timestamp = microseconds();
        field->nvmlReturn = read_field(&gpu, field);
        field->latencyUsec = state_overrides() ? uint_or(of(&gpu, "field.%u.latency", field->fieldId), 1) : 1;
    }
    return NVML_SUCCESS;
}
