#include "api/http_head.h"

#include <arpa/inet.h>
#include <assert.h>

#define LETTERS_AND_DIGITS(class)                                                                  \
    ['0' ... '9'] = (class), ['A' ... 'Z'] = (class), ['a' ... 'z'] = (class)
#define T CHAR_TOKEN
#define U CHAR_TARGET
#define H CHAR_HOST

/* RFC 9110 5.6.2 (token); RFC 3986 2.2, 2.3 and 3.2.2 (target without '#', host without '%'). */
/* clang-format off */
const uint8_t http_char_class[256] = {
    LETTERS_AND_DIGITS(T | U | H),
    ['-'] = T | U | H, ['.'] = T | U | H, ['_'] = T | U | H, ['~'] = T | U | H,
    ['!'] = T | U | H, ['$'] = T | U | H, ['&'] = T | U | H, ['\''] = T | U | H,
    ['*'] = T | U | H, ['+'] = T | U | H, ['('] = U | H, [')'] = U | H,
    [','] = U | H, [';'] = U | H, ['='] = U | H,
    [':'] = U, ['@'] = U, ['/'] = U, ['?'] = U, ['['] = U, [']'] = U, ['%'] = T | U,
    ['#'] = T, ['^'] = T, ['`'] = T, ['|'] = T,
};
/* clang-format on */
#undef T
#undef U
#undef H

int
http_hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

bool
http_is_token(struct span s)
{
    size_t i = 0;
    while (i < s.len && http_char_is(s.at[i], CHAR_TOKEN)) {
        i++;
    }
    return s.len > 0 && i == s.len;
}

static bool
is_port(struct span s)
{
    unsigned port = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] < '0' || s.at[i] > '9') {
            return false;
        }
        port = port * 10 + (unsigned)(s.at[i] - '0');
        if (port > 65535) {
            return false;
        }
    }
    return true;
}

static bool
is_ipv6(struct span s)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;
    if (s.len >= sizeof text) {
        return false;
    }
    memcpy(text, s.at, s.len);
    text[s.len] = '\0';
    return inet_pton(AF_INET6, text, &address) == 1;
}

static bool
is_reg_name(struct span s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (http_char_is(s.at[i], CHAR_HOST)) {
            continue;
        }
        if (s.at[i] != '%' || s.len - i < 3 || http_hex_value(s.at[i + 1]) < 0 ||
            http_hex_value(s.at[i + 2]) < 0) {
            return false;
        }
        i += 2;
    }
    return s.len > 0;
}

bool
http_is_authority(struct span s)
{
    const char *bracket = s.len > 0 && s.at[0] == '[' ? memchr(s.at, ']', s.len) : NULL;
    size_t from = bracket == NULL ? 0 : (size_t)(bracket - s.at) + 1;
    const char *colon = memchr(s.at + from, ':', s.len - from);
    size_t host_len = colon == NULL ? s.len : (size_t)(colon - s.at);
    if (colon != NULL && !is_port((struct span){colon + 1, s.len - host_len - 1})) {
        return false;
    }
    if (bracket == NULL) {
        return is_reg_name((struct span){s.at, host_len});
    }
    return is_ipv6((struct span){s.at + 1, host_len - 2}); /* ']' and more is no address */
}

struct span
http_trim(struct span s)
{
    while (s.len > 0 && (s.at[0] == ' ' || s.at[0] == '\t')) {
        s = (struct span){s.at + 1, s.len - 1};
    }
    while (s.len > 0 && (s.at[s.len - 1] == ' ' || s.at[s.len - 1] == '\t')) {
        s.len--;
    }
    return s;
}

/* Cuts the span at the first such byte; without one, all of it is before. */
static struct span
cut(struct span s, char at, struct span *rest)
{
    const char *found = s.len > 0 ? memchr(s.at, at, s.len) : NULL;
    size_t len = found == NULL ? s.len : (size_t)(found - s.at);
    *rest = found == NULL ? (struct span){NULL, 0} : (struct span){found + 1, s.len - len - 1};
    return (struct span){s.at, len};
}

bool
http_list_next(struct span *list, struct span *item)
{
    if (list->at == NULL) {
        return false;
    }
    *item = http_trim(cut(*list, ',', list));
    return true;
}

size_t
http_unescape(char *out, size_t size, struct span s, bool plus)
{
    size_t len = 0;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.at[i];
        if (c == '+' && plus) {
            c = ' ';
        } else if (c == '%') {
            int high = s.len - i > 2 ? http_hex_value(s.at[i + 1]) : -1;
            int low = s.len - i > 2 ? http_hex_value(s.at[i + 2]) : -1;
            if (high < 0 || low < 0 || high + low == 0) {
                return SIZE_MAX;
            }
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (len == size) {
            return SIZE_MAX;
        }
        out[len++] = c;
    }
    return len;
}

/* Whether the text means this name; a text with a bad escape means none. */
static bool
unescapes_to(struct span text, const char *name)
{
    size_t i = 0;
    while (i < text.len && *name != '\0') {
        size_t step = text.at[i] == '%' && text.len - i > 2 ? 3 : 1;
        char c;
        if (http_unescape(&c, 1, (struct span){text.at + i, step}, true) != 1 || c != *name) {
            return false;
        }
        i += step;
        name++;
    }
    return i == text.len && *name == '\0';
}

int
http_query_get(struct span query, const char *name, char *out, size_t size)
{
    assert(size > 0);
    int found = 0;
    while (query.len > 0) {
        struct span value;
        struct span key = cut(cut(query, '&', &query), '=', &value);
        if (!unescapes_to(key, name)) {
            continue;
        }
        size_t len = found != 0 ? SIZE_MAX : http_unescape(out, size - 1, value, true);
        if (len == SIZE_MAX) {
            return -1;
        }
        out[len] = '\0';
        found = 1;
    }
    return found;
}
