#include "cmd/scan.h"

static const struct span nothing = {NULL, 0};

static struct span
skip(struct span in, size_t n)
{
    return n == 0 ? in : (struct span){in.at + n, in.len - n};
}

struct span
scan_blank(struct span in)
{
    size_t n = 0;
    while (n < in.len && (in.at[n] == ' ' || (in.at[n] >= '\t' && in.at[n] <= '\r'))) {
        n++;
    }
    return skip(in, n);
}

/* The length of the string at the front, quotes included; 0 when it does not end. */
static size_t
string_len(struct span in)
{
    for (size_t i = 1; i < in.len; i++) {
        if (in.at[i] == '\\') {
            i++;
        } else if (in.at[i] == '"') {
            return i + 1;
        }
    }
    return 0;
}

/* The length of the object or array at the front; 0 when it does not end. Counts brackets without
 * asking which kind closes which: the server validates. */
static size_t
nested_len(struct span in)
{
    size_t depth = 0;
    for (size_t i = 0; i < in.len; i++) {
        char c = in.at[i];
        if (c == '"') {
            size_t n = string_len(skip(in, i));
            if (n == 0) {
                return 0;
            }
            i += n - 1;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if ((c == '}' || c == ']') && --depth == 0) {
            return i + 1;
        }
    }
    return 0;
}

static size_t
atom_len(struct span in)
{
    size_t n = 0;
    while (n < in.len && memchr(",:]} \t\r\n\"{[", in.at[n], 11) == NULL) {
        n++;
    }
    return n;
}

struct span
scan_value(struct span *in)
{
    struct span at = scan_blank(*in);
    if (at.len == 0) {
        return nothing;
    }
    size_t n = at.at[0] == '"'                      ? string_len(at)
               : at.at[0] == '{' || at.at[0] == '[' ? nested_len(at)
                                                    : atom_len(at);
    if (n == 0) {
        return nothing;
    }
    *in = skip(at, n);
    return (struct span){at.at, n};
}

/* Takes `c` and the white space before it. */
static bool
take(struct span *in, char c)
{
    struct span at = scan_blank(*in);
    if (at.len == 0 || at.at[0] != c) {
        return false;
    }
    *in = skip(at, 1);
    return true;
}

struct span
scan_member(struct span object, const char *name)
{
    struct span in = object;
    size_t len = strlen(name);
    if (!take(&in, '{')) {
        return nothing;
    }
    for (;;) {
        struct span key = scan_value(&in);
        if (key.len < 2 || !take(&in, ':')) {
            return nothing;
        }
        struct span value = scan_value(&in);
        if (value.at == NULL) {
            return nothing;
        }
        if (key.len == len + 2 && memcmp(key.at + 1, name, len) == 0) {
            return value;
        }
        if (!take(&in, ',')) {
            return nothing;
        }
    }
}

struct span
scan_item(struct span *rest)
{
    if (!take(rest, '[') && !take(rest, ',')) {
        return nothing;
    }
    return scan_value(rest);
}

uint64_t
scan_count(struct span value)
{
    uint64_t n = 0;
    for (size_t i = 0; i < value.len; i++) {
        unsigned digit = (unsigned)(value.at[i] - '0');
        if (digit > 9 || n > (UINT64_MAX - digit) / 10) {
            return 0;
        }
        n = n * 10 + digit;
    }
    return n;
}

static unsigned
hex4(const char *at)
{
    unsigned value = 0;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A' + 10)
                                                : 0;
        value = value * 16 + digit;
    }
    return value;
}

static void
add_utf8(struct buf *out, unsigned c)
{
    char b[4];
    size_t n;
    if (c < 0x80) {
        b[0] = (char)c;
        n = 1;
    } else if (c < 0x800) {
        b[0] = (char)(0xc0 | c >> 6);
        n = 2;
    } else if (c < 0x10000) {
        b[0] = (char)(0xe0 | c >> 12);
        n = 3;
    } else {
        b[0] = (char)(0xf0 | c >> 18);
        n = 4;
    }
    for (size_t i = 1; i < n; i++) {
        b[i] = (char)(0x80 | (c >> (6 * (n - 1 - i)) & 0x3f));
    }
    buf_add(out, b, n);
}

/* One escape at the front (after the backslash); returns how many bytes it took. */
static size_t
add_escape(struct buf *out, struct span in)
{
    static const char from[] = "bfnrt";
    static const char to[] = "\b\f\n\r\t";
    const char *found = memchr(from, in.at[0], sizeof from - 1);
    if (found != NULL) {
        buf_add(out, to + (found - from), 1);
        return 1;
    }
    if (in.at[0] != 'u' || in.len < 5) {
        buf_add(out, in.at, 1);
        return 1;
    }
    unsigned c = hex4(in.at + 1);
    if (c >= 0xd800 && c < 0xdc00 && in.len >= 11 && in.at[5] == '\\' && in.at[6] == 'u') {
        add_utf8(out, 0x10000 + ((c & 0x3ff) << 10) + (hex4(in.at + 7) & 0x3ff));
        return 11;
    }
    add_utf8(out, c);
    return 5;
}

void
scan_text(struct buf *out, struct span value)
{
    if (value.len < 2 || value.at[0] != '"') {
        buf_add_span(out, value);
        return;
    }
    struct span in = {value.at + 1, value.len - 2};
    while (in.len > 0) {
        const char *slash = memchr(in.at, '\\', in.len);
        size_t plain = slash == NULL ? in.len : (size_t)(slash - in.at);
        buf_add(out, in.at, plain);
        in = skip(in, plain);
        if (in.len > 1) {
            in = skip(in, 1);
            in = skip(in, add_escape(out, in));
        } else {
            in.len = 0;
        }
    }
}
