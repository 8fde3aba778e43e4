#include "cmd/args.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct arg *
find(const struct arg *table, const char *word, size_t len)
{
    for (; table->name != NULL; table++) {
        if (strlen(table->name) == len && memcmp(table->name, word, len) == 0) {
            return table;
        }
    }
    return NULL;
}

/* A whole number from the start of `text`; false when there is none. */
static bool
read_number(const char *text, int64_t *out, const char **rest)
{
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || errno != 0 || text[0] == '+' || text[0] == ' ') {
        return false;
    }
    *out = value;
    *rest = end;
    return true;
}

static bool
read_time(const char *text, int64_t *out)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"ms", 1}, {"", 1000}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
    int64_t value;
    const char *rest;
    if (!read_number(text, &value, &rest) || value < 0 || value > INT64_MAX / 3600000) {
        return false;
    }
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(rest, units[i].unit) == 0) {
            *out = value * units[i].ms;
            return true;
        }
    }
    return false;
}

static bool
set_count(const struct arg *a, const char *value)
{
    const char *rest = "";
    int64_t n;
    if (!read_number(value, &n, &rest) || *rest != '\0' || n < a->least || n > a->most) {
        fprintf(stderr, "weir: %s %s: expected a whole number from %lld to %lld\n", a->name, value,
                (long long)a->least, (long long)a->most);
        return false;
    }
    *(int64_t *)a->to = n;
    return true;
}

static bool
set_time(const struct arg *a, const char *value)
{
    int64_t ms;
    if (!read_time(value, &ms) || ms < a->least || ms > a->most) {
        fprintf(stderr, "weir: %s %s: expected a time from %lldms to %llds, such as 500ms or 10s\n",
                a->name, value, (long long)a->least, (long long)(a->most / 1000));
        return false;
    }
    *(int64_t *)a->to = ms;
    return true;
}

static bool
set(const struct arg *a, const char *value)
{
    switch (a->type) {
    case ARG_TEXT:
        *(const char **)a->to = value;
        return true;
    case ARG_COUNT:
        return set_count(a, value);
    case ARG_TIME:
        return set_time(a, value);
    case ARG_SWITCH:
        break;
    }
    *(bool *)a->to = true;
    return true;
}

/* One flag at argv[*i]; *i is left on the last word that it took. */
static bool
take_flag(const struct arg *table, int argc, char **argv, int *i)
{
    const char *word = argv[*i];
    size_t len = strcspn(word, "=");
    const struct arg *a = find(table, word, len);
    if (a == NULL) {
        fprintf(stderr, "weir: no flag \"%.*s\" here; --help lists them\n", (int)len, word);
        return false;
    }
    const char *value = word[len] == '=' ? word + len + 1 : NULL;
    if (a->type == ARG_SWITCH) {
        if (value != NULL) {
            fprintf(stderr, "weir: %s takes no value\n", a->name);
            return false;
        }
        return set(a, "");
    }
    if (value == NULL && *i + 1 < argc) {
        value = argv[++*i];
    }
    if (value == NULL) {
        fprintf(stderr, "weir: %s needs a value\n", a->name);
        return false;
    }
    return set(a, value);
}

enum args_result
args_take(const struct arg *table, const char *usage, int *argc, char **argv)
{
    int kept = 0;
    bool flags = true;
    for (int i = 0; i < *argc; i++) {
        if (flags && strcmp(argv[i], "--") == 0) {
            flags = false;
        } else if (flags && (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)) {
            fputs(usage, stdout);
            return ARGS_HELP;
        } else if (!flags || argv[i][0] != '-' || argv[i][1] == '\0') {
            argv[kept++] = argv[i];
        } else if (!take_flag(table, *argc, argv, &i)) {
            return ARGS_WRONG;
        }
    }
    *argc = kept;
    return ARGS_OK;
}
