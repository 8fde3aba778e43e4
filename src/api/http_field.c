/* http_field.c - the header fields that decide how a request is read, and nothing else.
 * Order of the checks: a fault of one line is said at that line; what only all lines together
 * show is said when the head is complete. */
#include "api/http_head.h"

typedef enum http_fault field_reader(struct http_head *h, struct span value);

/* RFC 9112 6.3, and stricter: even an identical second one is refused. */
static enum http_fault
read_content_length(struct http_head *h, struct span value)
{
    if (h->has_length) {
        return FAULT_LENGTH_TWICE;
    }
    uint64_t length = 0;
    for (size_t i = 0; i < value.len; i++) {
        unsigned digit = (unsigned char)value.at[i] - (unsigned)'0';
        if (digit > 9 || length > (UINT64_MAX - digit) / 10) {
            return FAULT_LENGTH;
        }
        length = length * 10 + digit;
    }
    h->has_length = true;
    h->content_length = length;
    return value.len > 0 ? FAULT_NONE : FAULT_LENGTH;
}

static enum http_fault
read_coding(struct http_head *h, struct span coding)
{
    const char *semicolon = coding.len > 0 ? memchr(coding.at, ';', coding.len) : NULL;
    size_t len = semicolon == NULL ? coding.len : (size_t)(semicolon - coding.at);
    struct span name = http_trim((struct span){coding.at, len});
    bool is_chunked = span_eq_nocase(name, SPAN("chunked"));
    if (!http_is_token(name) || (is_chunked && semicolon != NULL)) {
        return FAULT_CODING;
    }
    h->chunked_inside = h->chunked_inside || h->chunked;
    h->chunked = h->chunked || is_chunked;
    h->coding_unknown = h->coding_unknown || !is_chunked;
    return FAULT_NONE;
}

static enum http_fault
read_transfer_encoding(struct http_head *h, struct span value)
{
    h->has_coding = true;
    struct span coding;
    while (http_list_next(&value, &coding)) {
        enum http_fault fault = read_coding(h, coding);
        if (fault != FAULT_NONE) {
            return fault;
        }
    }
    return FAULT_NONE;
}

static enum http_fault
read_host(struct http_head *h, struct span value)
{
    if (h->has_host) {
        return FAULT_HOST_TWICE;
    }
    h->has_host = true;
    return http_is_authority(value) ? FAULT_NONE : FAULT_HOST;
}

static enum http_fault
read_connection(struct http_head *h, struct span value)
{
    struct span option;
    while (http_list_next(&value, &option)) {
        h->close = h->close || span_eq_nocase(option, SPAN("close"));
        h->keep_alive = h->keep_alive || span_eq_nocase(option, SPAN("keep-alive"));
    }
    return FAULT_NONE;
}

static enum http_fault
read_expect(struct http_head *h, struct span value)
{
    if (span_eq_nocase(value, SPAN("100-continue"))) {
        h->expect_continue = true;
    } else {
        h->expect_other = true;
    }
    return FAULT_NONE;
}

static const struct {
    struct span name;
    field_reader *read;
} known_fields[] = {
    {SPAN("host"), read_host},
    {SPAN("content-length"), read_content_length},
    {SPAN("transfer-encoding"), read_transfer_encoding},
    {SPAN("connection"), read_connection},
    {SPAN("expect"), read_expect},
};

enum http_fault
http_field_read(struct http_head *h, struct span line)
{
    size_t len = 0;
    while (len < line.len && http_char_is(line.at[len], CHAR_TOKEN)) {
        len++;
    }
    if (len == 0 && (line.at[0] == ' ' || line.at[0] == '\t')) {
        return FAULT_FOLDED;
    }
    if (len == 0 || len == line.len || line.at[len] != ':') {
        return FAULT_FIELD_NAME;
    }
    if (h->n_fields == HTTP_FIELDS_MAX) {
        return FAULT_FIELDS_MANY;
    }
    h->n_fields++;
    struct span name = {line.at, len};
    for (size_t i = 0; i < sizeof known_fields / sizeof known_fields[0]; i++) {
        struct span known = known_fields[i].name;
        if (len == known.len && span_eq_nocase(name, known)) {
            struct span value = {line.at + len + 1, line.len - len - 1};
            return known_fields[i].read(h, http_trim(value));
        }
    }
    return FAULT_NONE;
}

/* RFC 9112 6.1 and 6.3: the framing must be beyond doubt. A last coding that is not chunked is 400
 * by a MUST, which goes before the 501 that an unknown coding SHOULD get. */
static enum http_fault
check_framing(const struct http_head *h, size_t max_body)
{
    if (!h->has_coding) {
        return h->content_length > max_body ? FAULT_BODY_LARGE : FAULT_NONE;
    }
    if (h->version == 0) {
        return FAULT_CODING_OLD;
    }
    if (h->has_length) {
        return FAULT_LENGTH_AND_CODING;
    }
    if (!h->chunked || h->chunked_inside) {
        return FAULT_CODING_LAST;
    }
    return h->coding_unknown ? FAULT_CODING_UNKNOWN : FAULT_NONE;
}

enum http_fault
http_field_check(const struct http_head *h, size_t max_body)
{
    if (h->version == 1 && !h->has_host) {
        return FAULT_HOST_MISSING;
    }
    enum http_fault fault = check_framing(h, max_body);
    if (fault != FAULT_NONE) {
        return fault;
    }
    return h->expect_other ? FAULT_EXPECT : FAULT_NONE;
}
