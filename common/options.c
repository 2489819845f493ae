#include "common/options.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static enum status wrong(const struct option *o, const char *value,
                         const char *want, struct error *err)
{
    return error_set(err, ST_USAGE, "%s %s: %s", o->name, value, want);
}

static bool parse_u64(const char *text, uint64_t *out, const char **end)
{
    if (*text < '0' || *text > '9') return false;
    char *stop;
    errno = 0;
    const unsigned long long v = strtoull(text, &stop, 10);
    if (errno != 0) return false;
    *out = v;
    *end = stop;
    return true;
}

static enum status set_size(const struct option *o, const char *value,
                            struct error *err)
{
    static const char units[] = "KMGT";
    uint64_t v;
    const char *end;
    if (!parse_u64(value, &v, &end)) {
        return wrong(o, value, "needs a size, as in 512M or 6G", err);
    }
    unsigned shift = 0;
    const char *unit = *end ? strchr(units, *end & ~0x20) : NULL;
    if (unit && *unit) {
        shift = 10 * (unsigned)(unit - units + 1);
        end++;
        if (*end == 'i') end++;
        if (*end == 'B') end++;
    }
    if (*end != '\0' || v > UINT64_MAX >> shift) {
        return wrong(o, value, "needs a size, as in 512M or 6G", err);
    }
    *(uint64_t *)o->target = v << shift;
    return ST_OK;
}

static enum status set_f32(const struct option *o, const char *value,
                           struct error *err)
{
    char *end;
    const float v = strtof(value, &end);
    if (end == value || *end != '\0' || !isfinite(v)) {
        return wrong(o, value, "needs a number", err);
    }
    *(float *)o->target = v;
    return ST_OK;
}

static enum status set(const struct option *o, const char *value,
                       struct error *err)
{
    uint64_t v = 0;
    const char *end = "";
    switch (o->kind) {
    case OPTION_FLAG:
        *(bool *)o->target = true;
        return ST_OK;
    case OPTION_STRING:
        *(const char **)o->target = value;
        return ST_OK;
    case OPTION_F32:
        return set_f32(o, value, err);
    case OPTION_SIZE:
        return set_size(o, value, err);
    case OPTION_U64:
        if (!parse_u64(value, &v, &end) || *end != '\0') {
            return wrong(o, value, "needs a whole number", err);
        }
        *(uint64_t *)o->target = v;
        return ST_OK;
    case OPTION_U32:
        if (!parse_u64(value, &v, &end) || *end != '\0' || v < o->lo ||
            v > o->hi) {
            return error_set(err, ST_USAGE,
                             "%s %s: needs a whole number from %u to %u",
                             o->name, value, o->lo, o->hi);
        }
        *(uint32_t *)o->target = (uint32_t)v;
        return ST_OK;
    }
    return ST_USAGE;
}

/* The option that word names; *value is the text after '=' or a letter. */
static const struct option *match(const struct option *table, size_t n,
                                  const char *word, const char **value)
{
    *value = NULL;
    for (size_t i = 0; i < n; i++) {
        const size_t len = strlen(table[i].name);
        if (strncmp(word, table[i].name, len) == 0 &&
            (word[len] == '\0' || word[len] == '=')) {
            if (word[len] == '=') *value = word + len + 1;
            return &table[i];
        }
        if (table[i].letter && word[1] == table[i].letter && word[0] == '-') {
            if (word[2] != '\0') *value = word + 2;
            return &table[i];
        }
    }
    return NULL;
}

enum status options_parse(const struct option *table, size_t n, int argc,
                          char **argv, const char **positional, size_t max,
                          size_t *n_positional, struct error *err)
{
    bool only_positional = false;
    size_t found = 0;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i], *value;
        if (!only_positional && strcmp(word, "--") == 0) {
            only_positional = true;
            continue;
        }
        if (only_positional || word[0] != '-' || word[1] == '\0') {
            if (found == max) {
                return error_set(err, ST_USAGE, "unexpected \"%s\"", word);
            }
            positional[found++] = word;
            continue;
        }
        const struct option *o = match(table, n, word, &value);
        if (!o) return error_set(err, ST_USAGE, "unknown option %s", word);
        if (o->kind == OPTION_FLAG && value) {
            return error_set(err, ST_USAGE, "%s takes no value", o->name);
        }
        if (o->kind != OPTION_FLAG && !value) {
            if (i + 1 == argc) {
                return error_set(err, ST_USAGE, "%s needs %s", o->name, o->arg);
            }
            value = argv[++i];
        }
        const enum status st = set(o, value, err);
        if (st != ST_OK) return st;
    }
    *n_positional = found;
    return ST_OK;
}

void options_help(const struct option *table, size_t n, FILE *to)
{
    for (size_t i = 0; i < n; i++) {
        const struct option *o = &table[i];
        if (!o->help) continue;
        char left[64];
        const char letter[] = {'-', o->letter, ',', ' ', '\0'};
        snprintf(left, sizeof left, "%s%s %s", o->letter ? letter : "    ",
                 o->name, o->arg ? o->arg : "");
        fprintf(to, "  %-26s %s\n", left, o->help);
    }
}
