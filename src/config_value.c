#include "config_parts.h"

#include <stdio.h>

struct unit {
    const char *name;
    int64_t factor;
};

static const struct unit size_units[] = {{"GiB", GIB}, {"MiB", MIB}, {"KiB", KIB}, {"B", 1}, {0}};
/* Days are read only: what is printed ends at ms at the latest. */
static const struct unit time_units[] = {{"h", 3600000}, {"m", 60000},    {"s", 1000},
                                         {"ms", 1},      {"d", 86400000}, {0}};
static const struct unit count_units[] = {{"", 1}, {0}};

static const struct kind {
    const struct unit *units;
    const char *name;
    const char *examples;
    const char *mismatch;
} kinds[] = {
    [CONFIG_COUNT] = {count_units, "a whole number", "", "is not a whole number"},
    [CONFIG_SIZE] = {size_units, "a size", " such as 512B, 64KiB, 4MiB or 1GiB,", "is not a size"},
    [CONFIG_TIME] = {time_units, "a duration", " such as 50ms, 10s or 5m,", "is not a duration"},
};

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Takes the digits off the front of *text. False when the number does not fit. */
static bool
take_digits(int64_t *out, struct span *text)
{
    int64_t n = 0;
    while (text->len > 0 && is_digit(text->at[0])) {
        if (__builtin_mul_overflow(n, 10, &n) ||
            __builtin_add_overflow(n, (int64_t)(text->at[0] - '0'), &n)) {
            return false;
        }
        text->at++;
        text->len--;
    }
    *out = n;
    return true;
}

static const struct unit *
find_unit(enum config_type type, struct span name)
{
    for (const struct unit *u = kinds[type].units; u->name != NULL; u++) {
        if (span_eq(name, span_of(u->name))) {
            return u;
        }
    }
    return NULL;
}

/* People mean 1000 or 1024 by these: neither is guessed. */
static bool
is_ambiguous_size(struct span unit)
{
    static const char *const names[] = {"k", "m", "g", "kb", "mb", "gb"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (span_eq_nocase(unit, span_of(names[i]))) {
            return true;
        }
    }
    return false;
}

static const char *
unit_problem(enum config_type type, struct span unit)
{
    if (type == CONFIG_TIME && unit.len == 0) {
        return "has no unit";
    }
    if (type == CONFIG_SIZE && is_ambiguous_size(unit)) {
        return "could mean thousands or 1024s: write KiB, MiB or GiB";
    }
    return kinds[type].mismatch;
}

const char *
config_parse_number(int64_t *out, enum config_type type, struct span text)
{
    if (text.len == 0 || !is_digit(text.at[0])) {
        return text.len == 0 ? "is empty" : kinds[type].mismatch;
    }
    int64_t n = 0;
    if (!take_digits(&n, &text)) {
        return "is too large";
    }
    bool bytes = type == CONFIG_SIZE && text.len == 0;
    const struct unit *u = find_unit(type, bytes ? SPAN("B") : text);
    if (u == NULL) {
        return unit_problem(type, text);
    }
    return __builtin_mul_overflow(n, u->factor, out) ? "is too large" : NULL;
}

void
config_add_number(struct buf *out, enum config_type type, int64_t value)
{
    const struct unit *u = kinds[type].units;
    while (u->factor > 1 && (value == 0 || value % u->factor != 0)) {
        u++;
    }
    buf_addf(out, "%lld%s", (long long)(value / u->factor), u->name);
}

struct span
config_word(const struct config_setting *s, size_t n)
{
    const char *at = s->dflt;
    while (n > 0 && at != NULL) {
        at = strchr(at, '|');
        at = at == NULL ? NULL : at + 1;
        n--;
    }
    return at == NULL ? (struct span){"", 0} : (struct span){at, strcspn(at, "|")};
}

static void
add_words(struct buf *out, const struct config_setting *s)
{
    for (size_t i = 0; config_word(s, i).len > 0; i++) {
        bool last = config_word(s, i + 1).len == 0;
        buf_add_text(out, i == 0 ? "" : last ? " or " : ", ");
        buf_add_span(out, config_word(s, i));
    }
}

void
config_add_expected(struct buf *out, const struct config_setting *s)
{
    if (s->type == CONFIG_CHOICE) {
        add_words(out, s);
        return;
    }
    if (s->type == CONFIG_TEXT) {
        buf_addf(out, "%lld to %lld bytes", (long long)s->least, (long long)s->most);
        return;
    }
    buf_addf(out, "%s%s from ", kinds[s->type].name, kinds[s->type].examples);
    config_add_number(out, s->type, s->least);
    buf_add_text(out, " to ");
    config_add_number(out, s->type, s->most);
}

/* Where the URL that starts at `from` ends: at the end of the text, or at the comma before the next
 * one of a list. */
static const char *
end_of_url(const char *from, const char *end)
{
    for (const char *at = from; (at = memmem(at, (size_t)(end - at), "://", 3)) != NULL; at += 3) {
        const char *scheme = at;
        while (scheme > from && scheme[-1] >= 'a' && scheme[-1] <= 'z') {
            scheme--;
        }
        if (scheme > from && scheme[-1] == ',') {
            return scheme - 1;
        }
    }
    return end;
}

static bool
is_path(struct span text)
{
    static const char *const starts[] = {"/", "./", "../", "log:", "unix:"};
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        struct span start = span_of(starts[i]);
        if (text.len >= start.len && memcmp(text.at, start.at, start.len) == 0) {
            return true;
        }
    }
    return false;
}

/* From the first : after scheme:// to the last @, so that a password with a / or an @ in it is
 * covered too, and so is one whose scheme was forgotten. Empty: there is none. */
static struct span
user_secret(const char *from, const char *end)
{
    const char *slashes = memmem(from, (size_t)(end - from), "://", 3);
    from = slashes == NULL ? from : slashes + 3;
    const char *colon = memchr(from, ':', (size_t)(end - from));
    const char *at = memrchr(from, '@', (size_t)(end - from));
    bool found = colon != NULL && at != NULL && colon < at;
    return found ? (struct span){colon + 1, (size_t)(at - colon - 1)} : (struct span){end, 0};
}

static void
add_printable(struct buf *out, const char *from, const char *end)
{
    for (; from < end; from++) {
        unsigned char c = (unsigned char)*from;
        buf_add(out, c < 0x20 || c == 0x7f ? "?" : from, 1);
    }
}

#define PASSWORD "password=" /* of PostgreSQL, and sslpassword= */

/* The value of each password=, up to the next parameter. */
static void
add_parameters(struct buf *out, const char *from, const char *end)
{
    const size_t len = strlen(PASSWORD);
    const char *word = memmem(from, (size_t)(end - from), PASSWORD, len);
    while (word != NULL) {
        add_printable(out, from, word + len);
        buf_add_text(out, "***");
        from = memchr(word, '&', (size_t)(end - word));
        from = from == NULL ? end : from;
        word = memmem(from, (size_t)(end - from), PASSWORD, len);
    }
    add_printable(out, from, end);
}

static void
add_url(struct buf *out, const char *from, const char *end)
{
    const char *word = memmem(from, (size_t)(end - from), PASSWORD, strlen(PASSWORD));
    struct span user = user_secret(from, word == NULL ? end : word);
    if (user.len > 0) {
        add_printable(out, from, user.at);
        buf_add_text(out, "***");
        from = user.at + user.len;
    }
    add_parameters(out, from, end);
}

void
config_add_shown(struct buf *out, struct span text)
{
    size_t start = out->len;
    const char *from = text.at;
    const char *end = text.at + text.len;
    while (!is_path(text) && from < end) {
        const char *url_end = end_of_url(from, end);
        add_url(out, from, url_end);
        add_printable(out, url_end, url_end < end ? url_end + 1 : end);
        from = url_end < end ? url_end + 1 : end;
    }
    add_printable(out, from, end);
    if (out->len - start > CONFIG_SHOWN_MAX) { /* only now: half a URL would not show its secret */
        out->len = start + CONFIG_SHOWN_MAX;
        buf_add_text(out, "...");
    }
}

const char *
config_mask(char *out, size_t size, const char *url)
{
    struct buf shown;
    buf_init(&shown, 0);
    config_add_shown(&shown, span_of(url));
    if (buf_ok(&shown)) {
        snprintf(out, size, "%.*s", SPAN_FMT(buf_span(&shown)));
    } else {
        snprintf(out, size, "***"); /* out of memory: rather nothing than a password */
    }
    buf_fini(&shown);
    return out;
}

void *
config_field(const struct config *cfg, enum config_row row)
{
    return (char *)cfg + config_settings[row].offset;
}

void
config_add_value(struct buf *out, const struct config *cfg, enum config_row row)
{
    enum config_type type = config_settings[row].type;
    if (type == CONFIG_TEXT || type == CONFIG_CHOICE) {
        config_add_shown(out, span_of(*(char **)config_field(cfg, row)));
    } else {
        config_add_number(out, type, *(int64_t *)config_field(cfg, row));
    }
}
