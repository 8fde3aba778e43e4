/* json_explain.c - where and why a text is not JSON. simdjson only says that it is not; this
 * reads the text once more, byte by byte, when there is an error to report. */
#include "json.h"

#include <stdint.h>

struct scan {
    const unsigned char *at;
    const unsigned char *end;
    const char *wrong;                  /* once set, the scan is over and `at` is the place */
    unsigned depth;                     /* open brackets */
    unsigned char open[JSON_DEPTH_MAX]; /* each { or [ */
};

static void
fail(struct scan *s, const char *wrong)
{
    if (s->wrong == NULL) {
        s->wrong = wrong;
    }
}

static int
peek(const struct scan *s)
{
    return s->at < s->end ? *s->at : -1;
}

static bool
take(struct scan *s, int c)
{
    bool is = peek(s) == c;
    s->at += is;
    return is;
}

static void
skip_space(struct scan *s)
{
    while (peek(s) == ' ' || peek(s) == '\t' || peek(s) == '\r' || peek(s) == '\n') {
        s->at++;
    }
}

static bool
skip_digits(struct scan *s)
{
    const unsigned char *from = s->at;
    while (peek(s) >= '0' && peek(s) <= '9') {
        s->at++;
    }
    return s->at > from;
}

static void
skip_number(struct scan *s)
{
    take(s, '-');
    bool zero = take(s, '0');
    bool digits = skip_digits(s);
    bool ok = zero != digits;
    if (ok && take(s, '.')) {
        ok = skip_digits(s);
    }
    if (ok && (take(s, 'e') || take(s, 'E'))) {
        if (!take(s, '+')) {
            take(s, '-');
        }
        ok = skip_digits(s);
    }
    if (!ok) {
        fail(s, "a number that JSON does not allow");
    }
}

/* The four digits of \uXXXX; -1 where they are none. */
static int
take_hex4(struct scan *s)
{
    int value = 0;
    for (int i = 0; i < 4; i++, s->at++) {
        int c = peek(s);
        int lower = c | 0x20;
        if (c >= '0' && c <= '9') {
            value = value * 16 + c - '0';
        } else if (c > 0 && lower >= 'a' && lower <= 'f') {
            value = value * 16 + lower - 'a' + 10;
        } else {
            return -1;
        }
    }
    return value;
}

static void
skip_escape(struct scan *s)
{
    const unsigned char *from = s->at - 1;
    int c = peek(s);
    if (c > 0 && strchr("\"\\/bfnrt", c) != NULL) {
        s->at++;
        return;
    }
    if (!take(s, 'u')) {
        fail(s, "expected an escape that JSON knows");
        return;
    }
    int unit = take_hex4(s);
    if (unit < 0) {
        fail(s, "expected four hexadecimal digits");
    } else if (unit >= 0xD800 && unit <= 0xDFFF) {
        bool pair = unit < 0xDC00 && take(s, '\\') && take(s, 'u');
        int low = pair ? take_hex4(s) : -1;
        if (low < 0xDC00 || low > 0xDFFF) {
            s->at = from;
            fail(s, "half of a surrogate pair");
        }
    }
}

/* One character of two to four bytes (Unicode 15, table 3-7). */
static void
skip_utf8(struct scan *s)
{
    unsigned lead = *s->at;
    size_t more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
    bool ok = lead >= 0xC2 && lead <= 0xF4 && (size_t)(s->end - s->at) > more;
    if (ok) {
        unsigned least = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
        unsigned most = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
        ok = s->at[1] >= least && s->at[1] <= most;
        for (size_t i = 2; ok && i <= more; i++) {
            ok = (s->at[i] & 0xC0) == 0x80;
        }
    }
    if (!ok) {
        fail(s, "bytes that are not UTF-8");
        return;
    }
    s->at += more + 1;
}

static void
skip_string(struct scan *s)
{
    s->at++;
    while (s->wrong == NULL && !take(s, '"')) {
        int c = peek(s);
        if (c < 0) {
            fail(s, "a string without its closing quote");
        } else if (c < 0x20) {
            fail(s, "a control character in a string; it must be escaped");
        } else if (c >= 0x80) {
            skip_utf8(s);
        } else {
            s->at++;
            if (c == '\\') {
                skip_escape(s);
            }
        }
    }
}

static bool
skip_word(struct scan *s, struct span word)
{
    bool is = (size_t)(s->end - s->at) >= word.len && memcmp(s->at, word.at, word.len) == 0;
    s->at += is ? word.len : 0;
    return is;
}

static void
open_bracket(struct scan *s)
{
    if (s->depth == JSON_DEPTH_MAX) {
        fail(s, "too many brackets are open");
        return;
    }
    s->open[s->depth++] = *s->at++;
}

/* What may come next. */
enum expect {
    VALUE,
    FIRST_VALUE, /* or ] */
    NAME,
    FIRST_NAME, /* or } */
    COLON,
    COMMA, /* or the closing bracket */
    NOTHING,
};

static bool
in_object(const struct scan *s)
{
    return s->open[s->depth - 1] == '{';
}

static enum expect
after_value(const struct scan *s)
{
    return s->depth == 0 ? NOTHING : COMMA;
}

static enum expect
take_value(struct scan *s, const char *expected)
{
    int c = peek(s);
    if (c == '{' || c == '[') {
        open_bracket(s);
        return c == '{' ? FIRST_NAME : FIRST_VALUE;
    }
    if (c == '"') {
        skip_string(s);
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        skip_number(s);
    } else if (!skip_word(s, SPAN("true")) && !skip_word(s, SPAN("false")) &&
               !skip_word(s, SPAN("null"))) {
        fail(s, expected);
    }
    return after_value(s);
}

static enum expect
take_name(struct scan *s, const char *expected)
{
    if (peek(s) == '"') {
        skip_string(s);
    } else {
        fail(s, expected);
    }
    return COLON;
}

static enum expect
take_close(struct scan *s)
{
    s->at++;
    s->depth--;
    return after_value(s);
}

static enum expect
take_comma(struct scan *s)
{
    bool object = in_object(s);
    if (take(s, ',')) {
        return object ? NAME : VALUE;
    }
    if (peek(s) == (object ? '}' : ']')) {
        return take_close(s);
    }
    fail(s, object ? "expected a comma or }" : "expected a comma or ]");
    return COMMA;
}

static enum expect
step(struct scan *s, enum expect expect)
{
    switch (expect) {
    case VALUE:
        return take_value(s, "expected a value");
    case FIRST_VALUE:
        return peek(s) == ']' ? take_close(s) : take_value(s, "expected a value or ]");
    case NAME:
        return take_name(s, "expected a member's name in double quotes");
    case FIRST_NAME:
        return peek(s) == '}' ? take_close(s)
                              : take_name(s, "expected a member's name in double quotes, or }");
    case COLON:
        if (!take(s, ':')) {
            fail(s, "expected a colon");
        }
        return VALUE;
    case COMMA:
        return take_comma(s);
    case NOTHING:
        fail(s, "expected nothing more");
        break;
    }
    return NOTHING;
}

const char *
json_explain(struct span text, size_t *offset)
{
    struct scan s;
    s.at = (const unsigned char *)text.at;
    s.end = s.at + text.len;
    s.wrong = NULL;
    s.depth = 0;
    enum expect expect = VALUE;
    skip_space(&s);
    while (s.wrong == NULL && (s.at < s.end || expect != NOTHING)) {
        expect = step(&s, expect);
        if (s.wrong == NULL) {
            skip_space(&s);
        }
    }
    *offset = (size_t)(s.at - (const unsigned char *)text.at);
    return s.wrong;
}
