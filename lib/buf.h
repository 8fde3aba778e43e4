/* buf.h - a growing byte buffer.
 * Contract: append fails as a whole or not at all; a failed append sets `failed`, and every later
 *           append fails too, so a chain of appends is checked once at its end with buf_ok().
 * Bounds:   `limit` bytes (0: none); the caller names it.
 * Slack:    BUF_SLACK readable bytes always follow at[len) once anything was reserved (a JSON
 *           parser reads past the end).
 * Threads:  one owner.
 * Owns:     its memory; buf_fini frees, buf_take moves out. */
#ifndef WEIR_BUF_H
#define WEIR_BUF_H

#include "err.h"
#include "span.h"

#include <stdint.h>

#define BUF_SLACK 64

struct buf {
    char *at;
    size_t len;
    size_t cap;   /* without the slack */
    size_t limit; /* bytes; 0 is none */
    bool failed;
};

void buf_init(struct buf *b, size_t limit);
void buf_fini(struct buf *b);
void buf_reset(struct buf *b);                               /* empty, keeps its memory */
enum err buf_reserve(struct buf *b, size_t more) MUST_CHECK; /* room for `more` bytes after len */
void buf_add(struct buf *b, const void *bytes, size_t len);
void buf_add_span(struct buf *b, struct span s);
void buf_add_text(struct buf *b, const char *text);
void buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_add_json_string(struct buf *b, struct span s); /* quoted and escaped; s is UTF-8 */
void buf_consume(struct buf *b, size_t len);            /* drops bytes from the front */
static inline bool
buf_ok(const struct buf *b)
{
    return !b->failed;
}
static inline struct span
buf_span(const struct buf *b)
{
    return (struct span){b->at, b->len};
}

#endif
