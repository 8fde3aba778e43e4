#include "amqp/delivered.h"

#include "amqp/envelope.h"

#include <stdio.h>
#include <stdlib.h>

/* The properties of a message are those of every event in it. */
static void
note_properties(struct mail_list *events, const struct amqp_event *said, int64_t now_ms)
{
    for (struct mail *mail = events->first; mail != NULL; mail = mail->next) {
        struct event *ev = (struct event *)(void *)mail;
        ev->accepted_ms = said->accepted_ms != 0 ? said->accepted_ms : now_ms;
        ev->attempt = said->attempt;
    }
}

static void
copy_short(char out[AMQP_SHORT_MAX + 1], struct span text)
{
    snprintf(out, AMQP_SHORT_MAX + 1, "%.*s", SPAN_FMT(text));
}

static struct foreign *
keep(const struct amqp_event *said, const struct event_errors *wrong)
{
    struct foreign *f = malloc(sizeof *f + said->body.len);
    if (f == NULL) {
        return NULL;
    }
    *f = (struct foreign){.accepted_ms = said->accepted_ms,
                          .attempt = said->attempt,
                          .too_large = said->too_large,
                          .len = said->body.len};
    const struct event_error *first = &wrong->item[0];
    snprintf(f->why, sizeof f->why, "%s%s%s", first->pointer, first->pointer[0] == '\0' ? "" : " ",
             first->detail);
    copy_short(f->content_type, said->content_type);
    copy_short(f->message_id, said->message_id);
    if (f->len > 0) {
        memcpy(f->body, said->body.at, f->len);
    }
    return f;
}

static enum err
read_body(struct delivered *d, struct event_parser *p, const struct amqp_event *said)
{
    struct event_errors wrong = {.n = 1, .item = {{"", "is larger than a worker can hold"}}};
    enum err e = said->too_large ? ERR_INVALID : envelope_read(p, &d->events, &wrong, said->body);
    if (e != ERR_INVALID) {
        return e;
    }
    d->foreign = keep(said, &wrong);
    return d->foreign == NULL ? ERR_NOMEM : OK;
}

enum err
delivered_read(struct delivered **out, struct event_parser *p, const struct amqp_event *said,
               int64_t now_ms)
{
    struct delivered *d = calloc(1, sizeof *d);
    if (d == NULL) {
        return ERR_NOMEM;
    }
    d->tag = said->tag;
    d->first_failed_ms = said->first_failed_ms;
    enum err e = read_body(d, p, said);
    if (e != OK) {
        delivered_free(d);
        return e;
    }
    note_properties(&d->events, said, now_ms);
    *out = d;
    return OK;
}

void
delivered_free(struct delivered *d)
{
    if (d == NULL) {
        return;
    }
    for (struct mail *mail; (mail = mail_list_pop(&d->events)) != NULL;) {
        event_free((struct event *)(void *)mail);
    }
    free(d->foreign);
    free(d);
}

struct amqp_message
foreign_message(const struct delivered *d, int64_t now_ms)
{
    const struct foreign *f = d->foreign;
    return (struct amqp_message){
        .exchange = "",
        .routing_key = AMQP_DEAD_QUEUE,
        .body = {f->body, f->len},
        .message_id = span_of(f->message_id),
        .content_type = f->content_type[0] == '\0' ? NULL : f->content_type,
        .accepted_ms = f->accepted_ms,
        .attempt = f->attempt,
        .error = f->why,
        .first_failed_ms = d->first_failed_ms != 0 ? d->first_failed_ms : now_ms,
    };
}
