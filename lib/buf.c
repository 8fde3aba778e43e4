#include "buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void
buf_init(struct buf *b, size_t limit)
{
    *b = (struct buf){.limit = limit};
}

void
buf_fini(struct buf *b)
{
    free(b->at);
    *b = (struct buf){.limit = b->limit};
}

void
buf_reset(struct buf *b)
{
    b->len = 0;
    b->failed = false;
}

enum err
buf_reserve(struct buf *b, size_t more)
{
    if (b->failed || more > SIZE_MAX / 4 || (b->limit != 0 && b->len + more > b->limit)) {
        b->failed = true;
        return ERR_NOMEM;
    }
    if (b->at != NULL && b->len + more <= b->cap) {
        return OK;
    }
    size_t cap = b->cap == 0 ? 256 : b->cap;
    while (cap < b->len + more) {
        cap *= 2;
    }
    if (b->limit != 0 && cap > b->limit) {
        cap = b->limit;
    }
    char *at = realloc(b->at, cap + BUF_SLACK);
    if (at == NULL) {
        b->failed = true;
        return ERR_NOMEM;
    }
    memset(at + cap, 0, BUF_SLACK);
    b->at = at;
    b->cap = cap;
    return OK;
}

void
buf_add(struct buf *b, const void *bytes, size_t len)
{
    if (buf_reserve(b, len) != OK) {
        return;
    }
    if (len > 0) {
        memcpy(b->at + b->len, bytes, len);
    }
    b->len += len;
}

void
buf_add_span(struct buf *b, struct span s)
{
    buf_add(b, s.at, s.len);
}

void
buf_add_text(struct buf *b, const char *text)
{
    buf_add(b, text, strlen(text));
}

void
buf_addf(struct buf *b, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int need = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (need < 0 || buf_reserve(b, (size_t)need + 1) != OK) {
        b->failed = true;
        return;
    }
    va_start(args, fmt);
    vsnprintf(b->at + b->len, (size_t)need + 1, fmt, args);
    va_end(args);
    b->len += (size_t)need;
}

/* RFC 8259 section 7: quote, backslash and controls must be escaped; all else may stand as it is.
 */
void
buf_add_json_string(struct buf *b, struct span s)
{
    buf_add(b, "\"", 1);
    size_t from = 0;
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.at[i];
        if (c >= 0x20 && c != '"' && c != '\\') {
            continue;
        }
        buf_add(b, s.at + from, i - from);
        from = i + 1;
        if (c == '"' || c == '\\') {
            buf_addf(b, "\\%c", c);
        } else {
            buf_addf(b, "\\u%04x", c);
        }
    }
    buf_add(b, s.at + from, s.len - from);
    buf_add(b, "\"", 1);
}

void
buf_consume(struct buf *b, size_t len)
{
    memmove(b->at, b->at + len, b->len - len);
    b->len -= len;
}
