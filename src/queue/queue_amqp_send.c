/* queue_amqp_send.c - from publishes to messages, and back to their answers.
 * The events of the waiting publishes hang together as one chain, so that those of several requests
 * can travel in one envelope; each publish gets its own list back, whole, when it was sent. */
#include "queue/queue_amqp_parts.h"

#include "amqp/envelope.h"
#include "config.h"
#include "env.h"
#include "log.h"

#include <string.h>

#define TAKE_COUNT 1024
#define BODY_KEPT_BYTES (4 * ENVELOPE_BYTES) /* after a large event */
#define WAITING_BYTES (2 * ENVELOPE_BYTES)

static struct publish *
first_waiting(const struct publisher *p)
{
    return (struct publish *)p->waiting.first;
}

static void
add_waiting(struct publisher *p, struct publish *pub)
{
    struct publish *before = (struct publish *)p->waiting.last;
    if (before != NULL) {
        before->events.last->next = pub->events.first;
    } else {
        p->cursor = pub->events.first;
        p->left = pub->events.count;
    }
    p->waiting_events += pub->events.count;
    p->waiting_bytes += pub->events.bytes;
    pub->parts = 1; /* what is not sent */
    pub->result = OK;
    mail_list_add(&p->waiting, &pub->reply.mail);
}

void
send_take(struct publisher *p)
{
    if (p->waiting_bytes >= WAITING_BYTES) {
        return;
    }
    struct mail_list list = mailbox_take(p->inbox, TAKE_COUNT, WAITING_BYTES - p->waiting_bytes, 0);
    struct mail *m;
    while ((m = mail_list_pop(&list)) != NULL) {
        add_waiting(p, (struct publish *)m);
    }
}

/* The first waiting publish leaves: all of it was sent, or the rest never will be. */
static struct publish *
pop_waiting(struct publisher *p)
{
    struct publish *pub = (struct publish *)mail_list_pop(&p->waiting);
    struct publish *next = first_waiting(p);
    pub->events.last->next = NULL; /* its own list again */
    for (const struct mail *m = p->cursor; p->left > 0; m = m->next, p->left--) {
        p->waiting_events--;
        p->waiting_bytes -= m->bytes;
    }
    p->cursor = next == NULL ? NULL : next->events.first;
    p->left = next == NULL ? 0 : next->events.count;
    return pub;
}

/* Notes which publishes the next n events belong to. */
static void
board(struct publisher *p, struct flight_message *m, size_t n)
{
    m->oldest_ms = first_waiting(p)->published_ms;
    while (n > 0) {
        size_t here = n < p->left ? n : p->left;
        for (size_t i = 0; i < here; i++) {
            p->waiting_bytes -= p->cursor->bytes;
            p->cursor = p->cursor->next;
        }
        p->waiting_events -= here;
        p->left -= here;
        n -= here;
        if (p->left == 0) {
            mail_list_add(&m->ends, &pop_waiting(p)->reply.mail);
        } else {
            m->goes_on = first_waiting(p);
            m->goes_on->parts++;
        }
    }
}

static bool
is_nest(const struct publisher *p)
{
    return strcmp(p->cfg->amqp_format, "nest") == 0;
}

static size_t
envelope_max(const struct publisher *p)
{
    return is_nest(p) ? 1 : (size_t)p->cfg->amqp_envelope;
}

/* A lone event never waits for company. When many messages are on their way already, each is
 * worth more when it is full. */
static bool
is_worth_sending(const struct publisher *p)
{
    return p->flight.undecided < GATHER_FROM || envelope_max(p) == 1 ||
           p->waiting_events >= envelope_max(p) || p->waiting_bytes >= ENVELOPE_BYTES;
}

static bool
may_send(const struct publisher *p)
{
    if (p->cursor == NULL || !flight_has_room(&p->flight) || !is_worth_sending(p)) {
        return false;
    }
    size_t next = p->waiting_bytes < ENVELOPE_BYTES ? p->waiting_bytes : ENVELOPE_BYTES;
    next = p->cursor->bytes > next ? p->cursor->bytes : next;
    /* one message larger than the window has it for itself */
    return p->flight.bytes == 0 ||
           p->flight.bytes + next + MESSAGE_EXTRA_BYTES <= amqp_link_window(p->link);
}

static void
drop_body(struct publisher *p)
{
    buf_fini(&p->body);
    buf_init(&p->body, 0);
}

static enum err
send_message(struct publisher *p)
{
    const struct mail *at = p->cursor;
    const struct event *first = (const struct event *)(const void *)at;
    if (p->body.cap > BODY_KEPT_BYTES) {
        drop_body(p);
    }
    buf_reset(&p->body);
    size_t n = envelope_write(&p->body, &at, envelope_max(p), is_nest(p));
    if (n == 0) {
        drop_body(p);
        flight_part_done(pop_waiting(p), &p->answered, ERR_NOMEM);
        return OK;
    }
    const struct amqp_message m = {
        .exchange = "",
        .routing_key = AMQP_QUEUE,
        .body = buf_span(&p->body),
        .message_id = n == 1 ? event_id(first) : (struct span){0},
        .content_type = envelope_content_type(n),
        .accepted_ms = p->env->wall_ms(p->env),
    };
    uint64_t tag;
    enum err e = amqp_link_publish(p->link, &tag, &m);
    if (e == OK) {
        size_t bytes = p->body.len + MESSAGE_EXTRA_BYTES;
        board(p, flight_add(&p->flight, bytes, p->env->mono_ms(p->env)), n);
    }
    return e;
}

enum err
send_messages(struct publisher *p)
{
    enum err e = OK;
    while (e == OK && may_send(p)) {
        e = send_message(p);
    }
    return e;
}

void
send_expire(struct publisher *p)
{
    int64_t since_ms = p->env->mono_ms(p->env) - p->cfg->amqp_confirm_timeout;
    while (p->cursor != NULL && first_waiting(p)->published_ms < since_ms) {
        flight_part_done(pop_waiting(p), &p->answered, ERR_UNAVAILABLE);
        send_take(p);
    }
}

void
send_fail_all(struct publisher *p, enum err e)
{
    do {
        while (p->cursor != NULL) {
            flight_part_done(pop_waiting(p), &p->answered, e);
        }
        send_take(p);
    } while (p->cursor != NULL);
}

/* ---- answers ---- */

/* Whoever answers frees; a queue in front may still save events of a publish that failed. */
static void
end_events(struct publish *pub)
{
    if (pub->result != OK && pub->then_to != NULL) {
        return;
    }
    struct mail *m;
    while ((m = mail_list_pop(&pub->events)) != NULL) {
        event_free((struct event *)(void *)m);
    }
}

/* All that go to one loop go together. */
void
send_answers(struct publisher *p)
{
    while (p->answered.first != NULL) {
        struct mailbox *to = ((struct publish *)p->answered.first)->reply_to;
        struct mail_list here = {0};
        struct mail_list others = {0};
        struct publish *pub;
        while ((pub = (struct publish *)mail_list_pop(&p->answered)) != NULL) {
            bool same = pub->reply_to == to;
            if (same) {
                end_events(pub);
            }
            mail_list_add(same ? &here : &others, &pub->reply.mail);
        }
        mailbox_post_replies(to, &here); /* now the one's in front */
        p->answered = others;
    }
}

int64_t
send_oldest_ms(const struct publisher *p)
{
    int64_t sent_ms = flight_oldest_ms(&p->flight);
    if (sent_ms != 0) {
        return sent_ms;
    }
    return p->cursor == NULL ? 0 : first_waiting(p)->published_ms;
}
