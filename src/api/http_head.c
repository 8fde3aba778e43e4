/* http_head.c - the head of a request: its line ends, its request line.
 * One pass over the bytes finds line ends and control characters at once, so that no later step
 * meets a control character other than a tab. A line is read when it is complete; limits count
 * bytes from the start of the request. Both make the outcome independent of how the bytes came. */
#include "api/http_head.h"

#include <endian.h>

/* The longest request line that is not over one of its limits: two spaces, version, CRLF. */
#define REQUEST_LINE_MAX (HTTP_METHOD_MAX + HTTP_TARGET_MAX + 12)

_Static_assert(HTTP_HEAD_MAX <= UINT16_MAX, "offsets are 16 bits");

static bool
is_control(char c)
{
    return (unsigned char)c < 0x20 ? c != '\t' : c == 0x7f;
}

/* The offset of the first byte below space or DEL among eight, or 8. In the two masks a borrow may
 * mark bytes after a hit, never before it: the lowest mark is exact. */
static size_t
find_in_eight(const char *at)
{
    const uint64_t ones = 0x0101010101010101;
    uint64_t word;
    memcpy(&word, at, sizeof word);
    word = le64toh(word);
    uint64_t del = word ^ ones * 0x7f;
    uint64_t marks = ((word - ones * 0x20) & ~word) | ((del - ones) & ~del);
    marks &= ones * 0x80;
    return marks == 0 ? 8 : (size_t)__builtin_ctzll(marks) / 8;
}

/* The first control character at or after i, or end. */
static size_t
find_control(const char *text, size_t i, size_t end)
{
    while (end - i >= 8) {
        size_t step = find_in_eight(text + i);
        i += step;
        if (step == 8) {
            continue;
        }
        if (text[i] != '\t') {
            return i;
        }
        i++;
    }
    while (i < end && !is_control(text[i])) {
        i++;
    }
    return i;
}

/* How a request line is wrong that has not ended where the longest good one does. */
static enum http_fault
line_too_long(const char *text)
{
    size_t len = 0;
    while (len <= HTTP_METHOD_MAX && http_char_is(text[len], CHAR_TOKEN)) {
        len++;
    }
    if (len > HTTP_METHOD_MAX) {
        return FAULT_METHOD_LONG;
    }
    return len > 0 && text[len] == ' ' ? FAULT_TARGET_LONG : FAULT_REQUEST_LINE;
}

enum line_end { LINE_MORE, LINE_WHOLE, LINE_FAULT };

/* Moves scan_at on to the end of the line. LINE_WHOLE: the line is line_at to scan_at - 2. */
static enum line_end
find_line_end(struct http_head *h, struct span text, enum http_fault *fault)
{
    size_t limit = h->line_at == 0 ? REQUEST_LINE_MAX : HTTP_HEAD_MAX;
    size_t end = text.len < limit ? text.len : limit;
    size_t i = find_control(text.at, h->scan_at, end);
    bool cut_off = i == end || (i + 1 == end && text.at[i] == '\r');
    if (cut_off && end < limit) {
        h->scan_at = (uint16_t)i;
        return LINE_MORE;
    }
    if (cut_off) {
        h->scan_at = (uint16_t)limit;
        *fault = h->line_at == 0 ? line_too_long(text.at) : FAULT_HEAD_LARGE;
        return LINE_FAULT;
    }
    bool is_cr = text.at[i] == '\r';
    h->scan_at = (uint16_t)(i + (is_cr ? 2 : 1));
    if (is_cr && text.at[i + 1] == '\n') {
        return LINE_WHOLE;
    }
    *fault = is_cr ? FAULT_BARE_CR : text.at[i] == '\n' ? FAULT_BARE_LF : FAULT_CONTROL;
    return LINE_FAULT;
}

static enum http_fault
read_version(struct http_head *h, struct span s)
{
    bool is_version = s.len == 8 && memcmp(s.at, "HTTP/", 5) == 0 && s.at[6] == '.' &&
                      s.at[5] >= '0' && s.at[5] <= '9' && s.at[7] >= '0' && s.at[7] <= '9';
    if (!is_version) {
        return FAULT_REQUEST_LINE;
    }
    if (s.at[5] != '1' || s.at[7] > '1') {
        return FAULT_VERSION;
    }
    h->version = (uint8_t)(s.at[7] - '0');
    return FAULT_NONE;
}

/* Skips what may stand in a path, up to '?' or the end; SIZE_MAX: a bad escape. */
static size_t
path_length(struct span s, bool *escaped)
{
    size_t i = 0;
    while (i < s.len && s.at[i] != '?' && http_char_is(s.at[i], CHAR_TARGET)) {
        char c;
        if (s.at[i] == '%') {
            *escaped = true;
            size_t left = s.len - i < 3 ? s.len - i : 3;
            if (http_unescape(&c, 1, (struct span){s.at + i, left}, false) != 1) {
                return SIZE_MAX;
            }
        }
        i++;
    }
    return i;
}

/* s: path and query, at offset `at` of the head. */
static enum http_fault
read_path(struct http_head *h, struct span s, size_t at)
{
    bool escaped = false;
    size_t path = path_length(s, &escaped);
    if (path == SIZE_MAX) {
        return FAULT_ESCAPE;
    }
    size_t i = path;
    while (i < s.len && http_char_is(s.at[i], CHAR_TARGET)) {
        i++;
    }
    if (i < s.len) {
        return FAULT_TARGET;
    }
    size_t query = path < s.len ? path + 1 : path;
    h->path_escaped = escaped;
    h->path_at = (uint16_t)at;
    h->path_len = (uint16_t)path;
    h->query_at = (uint16_t)(at + query);
    h->query_len = (uint16_t)(s.len - query);
    return FAULT_NONE;
}

/* The length of scheme and authority before the path of an absolute-form target, or 0. */
static size_t
absolute_prefix(struct span target)
{
    const struct span schemes[] = {SPAN("http://"), SPAN("https://")};
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        size_t from = schemes[i].len;
        if (target.len <= from || !span_eq_nocase((struct span){target.at, from}, schemes[i])) {
            continue;
        }
        size_t to = from;
        while (to < target.len && target.at[to] != '/' && target.at[to] != '?') {
            to++;
        }
        return http_is_authority((struct span){target.at + from, to - from}) ? to : 0;
    }
    return 0;
}

/* RFC 9112 3.2: origin-form, absolute-form, or the '*' of OPTIONS. */
static enum http_fault
read_target(struct http_head *h, const char *line, struct span target)
{
    size_t at = (size_t)(target.at - line);
    if (target.len > HTTP_TARGET_MAX) {
        return FAULT_TARGET_LONG;
    }
    if (target.len > 0 && target.at[0] == '/') {
        return read_path(h, target, at);
    }
    if (span_eq(target, SPAN("*")) &&
        span_eq((struct span){line, h->method_len}, SPAN("OPTIONS"))) {
        return read_path(h, target, at);
    }
    size_t prefix = absolute_prefix(target);
    if (prefix == 0) {
        return FAULT_TARGET;
    }
    return read_path(h, (struct span){target.at + prefix, target.len - prefix}, at + prefix);
}

static enum http_fault
read_request_line(struct http_head *h, struct span line)
{
    size_t method = 0;
    while (method < line.len && http_char_is(line.at[method], CHAR_TOKEN)) {
        method++;
    }
    if (method > HTTP_METHOD_MAX) {
        return FAULT_METHOD_LONG;
    }
    if (method == 0 || method == line.len || line.at[method] != ' ') {
        return FAULT_REQUEST_LINE;
    }
    struct span rest = {line.at + method + 1, line.len - method - 1};
    const char *space = rest.len > 0 ? memchr(rest.at, ' ', rest.len) : NULL;
    if (space == NULL) {
        return FAULT_REQUEST_LINE;
    }
    size_t target = (size_t)(space - rest.at);
    enum http_fault fault = read_version(h, (struct span){space + 1, rest.len - target - 1});
    if (fault != FAULT_NONE) {
        return fault;
    }
    h->method_len = (uint16_t)method;
    return read_target(h, line.at, (struct span){rest.at, target});
}

/* One whole line of the head; the empty one ends it. */
static enum http_fault
read_line(struct http_head *h, struct span line)
{
    if (h->line_at == 0) {
        h->fields_at = h->scan_at;
        return read_request_line(h, line);
    }
    if (line.len == 0) {
        h->complete = true;
        h->fields_len = (uint16_t)(h->line_at - h->fields_at);
        return FAULT_NONE;
    }
    return http_field_read(h, line);
}

enum http_fault
http_head_read(struct http_head *h, struct span text)
{
    enum http_fault fault = FAULT_NONE;
    while (!h->complete && fault == FAULT_NONE) {
        enum line_end end = find_line_end(h, text, &fault);
        if (end != LINE_WHOLE) {
            return fault;
        }
        size_t len = (size_t)(h->scan_at - h->line_at) - 2;
        fault = read_line(h, (struct span){text.at + h->line_at, len});
        h->line_at = h->scan_at;
    }
    return fault;
}
