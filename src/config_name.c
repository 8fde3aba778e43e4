#include "config_parts.h"

#include <limits.h>
#include <stdio.h>

const struct config_setting config_settings[CONFIG_ROWS] = {
#define X(type, field, key, dflt, least, most, help)                                               \
    {CONFIG_##type, key, dflt, least, most, help, offsetof(struct config, field)},
    CONFIG_TABLE(X)
#undef X
};

static char
spell_char(char c, enum config_spelling as)
{
    bool separator = c == '.' || c == '_';
    if (as == CONFIG_AS_FLAG && separator) {
        return '-';
    }
    if (as == CONFIG_AS_VARIABLE && separator) {
        return '_';
    }
    return as == CONFIG_AS_VARIABLE && c >= 'a' && c <= 'z' ? (char)(c - 32) : c;
}

void
config_spell(char out[CONFIG_NAME_MAX], enum config_spelling as, enum config_row row)
{
    static const char *const prefixes[] = {"", "--", "WEIR_"};
    const char *key = row < CONFIG_ROWS ? config_settings[row].key : "config";
    int len = snprintf(out, CONFIG_NAME_MAX, "%s%s", prefixes[as], key);
    for (int i = (int)strlen(prefixes[as]); i < len && i < CONFIG_NAME_MAX - 1; i++) {
        out[i] = spell_char(out[i], as);
    }
}

enum config_row
config_find(enum config_spelling as, struct span name)
{
    for (unsigned row = 0; row < CONFIG_ROWS; row++) {
        char known[CONFIG_NAME_MAX];
        config_spell(known, as, row);
        if (span_eq(name, span_of(known))) {
            return row;
        }
    }
    return CONFIG_ROWS;
}

static size_t
least_of(size_t a, size_t b, size_t c)
{
    size_t ab = a < b ? a : b;
    return ab < c ? ab : c;
}

/* How many characters must be added, dropped or changed (Levenshtein); case does not count. */
static size_t
edit_distance(struct span a, struct span b)
{
    size_t row[CONFIG_NAME_MAX + 1];
    for (size_t j = 0; j <= b.len; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= a.len; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            struct span ca = {a.at + i - 1, 1};
            struct span cb = {b.at + j - 1, 1};
            size_t change = diagonal + (span_eq_nocase(ca, cb) ? 0 : 1);
            diagonal = row[j];
            row[j] = least_of(change, row[j] + 1, row[j - 1] + 1);
        }
    }
    return row[b.len];
}

int
config_nearest(enum config_spelling as, struct span name)
{
    static const size_t prefixes[] = {
        [CONFIG_AS_KEY] = 0, [CONFIG_AS_FLAG] = 2, [CONFIG_AS_VARIABLE] = 5};
    int nearest = -1;
    size_t own = name.len > prefixes[as] ? name.len - prefixes[as] : 0; /* what is the name's own */
    size_t least = own < 7 ? own / 2 + 1 : name.len / 2;
    unsigned last = as == CONFIG_AS_KEY ? CONFIG_ROWS - 1 : CONFIG_ROWS;
    for (unsigned row = 0; row <= last && name.len < CONFIG_NAME_MAX; row++) {
        char known[CONFIG_NAME_MAX];
        config_spell(known, as, row);
        size_t distance = edit_distance(name, span_of(known));
        if (distance < least) {
            least = distance;
            nearest = (int)row;
        }
    }
    return nearest;
}

void
config_add_source(struct buf *out, const struct config *cfg, enum config_row row)
{
    char name[CONFIG_NAME_MAX];
    switch (cfg->source[row]) {
    case CONFIG_FROM_DEFAULT:
        buf_add_text(out, "default");
        break;
    case CONFIG_FROM_FILE:
        config_add_shown(out, span_of(cfg->file));
        buf_addf(out, ":%u", cfg->line[row]);
        break;
    case CONFIG_FROM_ENVIRONMENT:
        config_spell(name, CONFIG_AS_VARIABLE, row);
        buf_add_text(out, name);
        break;
    case CONFIG_FROM_FLAG:
        config_spell(name, CONFIG_AS_FLAG, row);
        buf_add_text(out, name);
        break;
    }
}
