#include "amqp/envelope.h"

#include <stdio.h>

#define NEST_PATTERN "event_created"
/* What stands around id, type, timestamp and payload in a line. */
#define AROUND_EVENT 60

static const struct event *
event_of(const struct mail *mail)
{
    return (const struct event *)(const void *)mail; /* its first member */
}

static void
write_alone(struct buf *out, const struct event *ev, bool nest)
{
    if (nest) {
        buf_add_text(out, "{\"pattern\":\"" NEST_PATTERN "\",\"data\":");
    }
    event_write_json(out, ev, (struct span){0});
    if (nest) {
        buf_add_text(out, "}");
    }
}

/* False, and nothing written: it would make the envelope, which began at `start`, too large. */
static bool
add_line(struct buf *out, size_t start, const struct event *ev)
{
    size_t before = out->len;
    size_t least = (size_t)ev->id_len + ev->type_len + ev->time_len + ev->payload_len;
    if (before - start + least + AROUND_EVENT > ENVELOPE_BYTES) {
        return false;
    }
    event_write_json_line(out, ev, (struct span){0});
    if (out->len - start > ENVELOPE_BYTES) { /* escaping made it longer */
        out->len = before;
        return false;
    }
    return true;
}

static size_t
write_lines(struct buf *out, const struct mail *at, size_t max_events)
{
    size_t start = out->len;
    size_t n = 0;
    while (at != NULL && n < max_events && add_line(out, start, event_of(at))) {
        at = at->next;
        n++;
    }
    if (n < 2) { /* travels alone, as it is */
        out->len = start;
        return 0;
    }
    return n;
}

size_t
envelope_write(struct buf *out, const struct mail **at, size_t max_events, bool nest)
{
    size_t n = nest || (*at)->next == NULL ? 0 : write_lines(out, *at, max_events);
    if (n == 0) {
        write_alone(out, event_of(*at), nest);
        n = 1;
    }
    if (!buf_ok(out)) {
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        *at = (*at)->next;
    }
    return n;
}

const char *
envelope_content_type(size_t events)
{
    return events == 1 ? ENVELOPE_JSON : ENVELOPE_NDJSON;
}

/* ---- reading ---- */

struct reading {
    struct event_parser *parser;
    struct mail_list events;
    struct event_errors *wrong; /* of the first item that is none */
    bool bad;
};

static void
on_item(void *data, size_t index, struct event *ev, struct span id,
        const struct event_errors *errors)
{
    struct reading *r = data;
    (void)index;
    (void)id;
    if (ev != NULL) {
        mail_list_add(&r->events, &ev->mail);
        return;
    }
    *r->wrong = *errors;
    r->bad = true;
    event_parser_stop(r->parser);
}

static void
drop(struct mail_list *events)
{
    for (struct mail *mail; (mail = mail_list_pop(events)) != NULL;) {
        event_free((struct event *)(void *)mail);
    }
}

static void
fail(struct event_errors *wrong, const char *detail)
{
    wrong->n = 1;
    wrong->too_large = false;
    wrong->item[0].pointer[0] = '\0';
    snprintf(wrong->item[0].detail, sizeof wrong->item[0].detail, "%s", detail);
}

static enum err
read_as(struct reading *r, struct span body, enum event_format format)
{
    bool is_batch;
    enum err e = event_parse_body(r->parser, body, format, &is_batch, r->wrong, on_item, r);
    if (e == OK && !r->bad && r->events.count == 0) {
        fail(r->wrong, "holds no event");
    }
    if (e == OK && (r->bad || r->events.count == 0)) {
        e = ERR_INVALID;
    }
    if (e != OK) {
        drop(&r->events);
    }
    return e;
}

/* The older form is looked for only in what is not an event: events need no second look. */
static enum err
read_wrapped(struct reading *r, struct span body)
{
    struct span data;
    enum err e = event_unwrap(r->parser, &data, body, SPAN(NEST_PATTERN));
    if (e != OK) {
        return e;
    }
    if (data.at == NULL) {
        return ERR_INVALID;
    }
    r->bad = false;
    return read_as(r, data, EVENT_FORMAT_JSON);
}

static enum err
read_single(struct reading *r, struct span body)
{
    enum err e = read_as(r, body, EVENT_FORMAT_JSON);
    return e == ERR_INVALID ? read_wrapped(r, body) : e;
}

static void
join(struct mail_list *list, struct mail_list *more)
{
    for (struct mail *mail; (mail = mail_list_pop(more)) != NULL;) {
        mail_list_add(list, mail);
    }
}

enum err
envelope_read(struct event_parser *p, struct mail_list *list, struct event_errors *wrong,
              struct span body)
{
    struct reading r = {.parser = p, .wrong = wrong};
    enum err e =
        event_is_ndjson(body) ? read_as(&r, body, EVENT_FORMAT_NDJSON) : read_single(&r, body);
    if (e == OK) {
        join(list, &r.events);
    }
    return e;
}
