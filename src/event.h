/* event.h - the thing that flows: parse, validate, hold.
 * Contract: an event is one block of memory; id, type, timestamp and payload lie in it exactly as
 *           they came (strings unescaped, payload byte for byte). It never changes after it was
 *           made, but for what its current owner notes in the first fields.
 * Owns:     whoever holds the pointer; event_free ends it.
 * Threads:  an event belongs to one thread at a time; an event_parser to the thread that opened
 *           it. */
#ifndef WEIR_EVENT_H
#define WEIR_EVENT_H

#include "err.h"
#include "mailbox.h"
#include "span.h"

#include <stdint.h>

#define EVENT_ID_MAX 128   /* bytes */
#define EVENT_TYPE_MAX 64  /* bytes */
#define EVENT_TIME_MAX 64  /* bytes of the timestamp's text */
#define EVENT_DEPTH_MAX 64 /* nesting of the whole event */

/* The one list of states: API, SQL, CLI, metrics and logs use these words. */
#define EVENT_STATES(X)                                                                            \
    X(QUEUED, "queued")                                                                            \
    X(PROCESSING, "processing")                                                                    \
    X(RETRYING, "retrying")                                                                        \
    X(PROCESSED, "processed")                                                                      \
    X(DUPLICATE, "duplicate")                                                                      \
    X(DEAD, "dead")

enum event_state {
#define X(name, text) EVENT_##name,
    EVENT_STATES(X)
#undef X
};
const char *event_state_name(enum event_state s); /* static */

struct event {
    struct mail mail;     /* in one mailbox at a time; mail.bytes is what it counts there */
    uint64_t seq;         /* place in accept order, given by the queue; 0 before */
    int64_t accepted_ms;  /* Unix time at which it became durable; 0 before */
    uint32_t attempt;     /* deliveries begun before this one */
    uint32_t payload_len; /* bytes */
    uint16_t id_len;
    uint16_t type_len;
    uint16_t time_len;
    char bytes[]; /* id, type, timestamp, payload, back to back */
};

/* NULL when out of memory. The lengths must be within the limits above: a parser's or a store's
 * business. */
struct event *event_new(struct span id, struct span type, struct span timestamp,
                        struct span payload);
void event_free(struct event *ev); /* NULL ok */

static inline struct span
event_id(const struct event *ev)
{
    return (struct span){ev->bytes, ev->id_len};
}
static inline struct span
event_type(const struct event *ev)
{
    return (struct span){ev->bytes + ev->id_len, ev->type_len};
}
static inline struct span
event_timestamp(const struct event *ev)
{
    return (struct span){ev->bytes + ev->id_len + ev->type_len, ev->time_len};
}
static inline struct span
event_payload(const struct event *ev)
{
    return (struct span){ev->bytes + ev->id_len + ev->type_len + ev->time_len, ev->payload_len};
}

/* What is wrong with an event: every error at once, at most EVENT_ERRORS_MAX. All of it is UTF-8.
 */
#define EVENT_ERRORS_MAX 16
struct event_error {
    char pointer[96]; /* RFC 6901, "" for the whole event; a long member name is cut */
    char detail[160]; /* what was wrong and what was expected */
};
struct event_errors {
    size_t n;
    bool too_large; /* one of them is the event's size */
    struct event_error item[EVENT_ERRORS_MAX];
};

struct event_parser;
struct event_parser *event_parser_open(size_t max_event_bytes); /* NULL: out of memory */
void event_parser_close(struct event_parser *p);                /* NULL ok */
/* From within on_item: no further item is read, and event_parse_body answers OK. */
void event_parser_stop(struct event_parser *p);

enum event_format {
    EVENT_FORMAT_JSON,   /* one event, or an array of events */
    EVENT_FORMAT_NDJSON, /* one event a line; LF or CRLF; blank lines are skipped and not counted as
                            items */
};

/* Called for each item of a body, in order. `ev` is the callee's, or NULL and `errors` say why;
 * `id` is the item's event_id where one could be read, else empty. Index counts from 0. Both are
 * valid during the call only. */
typedef void event_on_item(void *data, size_t index, struct event *ev, struct span id,
                           const struct event_errors *errors);

/* Reads a whole body. BUF_SLACK readable bytes must follow it (every struct buf has them).
 * *is_batch: true for an array or NDJSON. ERR_INVALID: the body is of no use and *whole says why
 * (not JSON, not an object or array); of an array whose syntax breaks midway, the items before that
 * were reported: drop them. ERR_NOMEM: stop; items already reported are the callee's. For NDJSON a
 * broken line is that item's error, and the other lines are read; so is, in an array too, an item
 * that is not UTF-8, too deep or too large. */
enum err event_parse_body(struct event_parser *p, struct span body, enum event_format format,
                          bool *is_batch, struct event_errors *whole, event_on_item *on_item,
                          void *data) MUST_CHECK;

/* True when more follows the object with which a body begins, and a line break is somewhere: several
 * events, one a line, if it is of any use at all. */
bool event_is_ndjson(struct span body);
/* *data: the text of the object d in a body {"pattern":"…","data":d}, in any order and with nothing
 * else; at NULL when the body is no such thing or has another pattern. BUF_SLACK readable bytes
 * follow the text where they follow the body. ERR_NOMEM. */
enum err event_unwrap(struct event_parser *p, struct span *data, struct span body,
                      struct span pattern) MUST_CHECK;

/* One event in JSON, as the API and the log sink show it:
 * {"event_id":…,"type":…,"timestamp":…,"payload":…} without the closing brace's extras; `extra`
 * (may be empty) is put before the closing brace, e.g. ,"state":"processed". */
struct buf;
void event_write_json(struct buf *out, const struct event *ev, struct span extra);
/* The same on one line, ended by LF: line breaks between the tokens of the payload become spaces.
 */
void event_write_json_line(struct buf *out, const struct event *ev, struct span extra);

#endif
