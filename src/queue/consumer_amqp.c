/* consumer_amqp.c - events out of RabbitMQ.
 *
 * Happy path: connect and consume (in take, when there is no link), read what was delivered until
 * there is a batch of it, hand it over; settle publishes the dead ones to events.dlq, waits until
 * they are confirmed, and then acks every message of the batch at once.
 *
 * What may happen instead:
 *  - The link is lost, at any moment: what was delivered on it is the broker's again. Whatever was
 *    read ahead is thrown away and settle says ERR_LOST: a delivery tag means nothing on another
 *    channel. The broker gives all of it again, and the unique ids absorb what was done already.
 *  - A dead letter cannot be confirmed (an alarm, a full events.dlq): nothing is acked, the batch
 *    stays taken, and settling it again sends only what is not confirmed yet. One that no queue
 *    takes loses the link on purpose: the next one declares events.dlq again.
 *  - A message is not ours to understand: it becomes a dead letter byte for byte, and is acked once
 *    that is confirmed. Until then no batch is handed over.
 *  - The queue is deleted under us: what was read ahead exists nowhere else now, so it is still
 *    handed over; then a new link declares the queue again.
 *  - The broker will never have us (password, vhost, type of the queue): said as an error, and tried
 *    again slowly, because somebody may mend it.
 *
 * Invariants: 1. One batch is taken at a time, messages go into it in the order of their tags, and
 * no foreign one stands before or among them: so one ack up to its highest tag covers exactly its
 * messages. 2. A message is acked on the link that delivered it, after all of its events are
 * settled. 3. A message's events are in one batch.
 *
 * Bounds: those of the inbox, and one batch, which grows to the largest message. */
#include "queue/consumer.h"

#include "amqp/inbox.h"
#include "buf.h"
#include "config.h"
#include "env.h"

#include <assert.h>
#include <stdlib.h>

/* Consecutive events of a batch that came in one message. */
struct taken {
    size_t events;
    int64_t first_failed_ms;
};

struct consumer_amqp {
    struct consumer base;
    const struct config *cfg; /* borrowed, as env */
    struct env *env;
    struct inbox *inbox;
    struct buf body; /* of a dead letter, while it is written */

    /* the batch in the worker's hands */
    struct taken *taken; /* room for amqp.prefetch */
    size_t n_taken;
    uint64_t high_tag;
    struct letter *dead; /* by event; NULL: none was dead yet */
};

static struct consumer_amqp *
self(struct consumer *c)
{
    return (struct consumer_amqp *)c;
}

static void
forget_batch(struct consumer_amqp *c)
{
    c->n_taken = 0;
    free(c->dead);
    c->dead = NULL;
}

/* ---- take ---- */

static void
hand_over(struct consumer_amqp *c, struct batch *b)
{
    struct delivered *d = inbox_pop(c->inbox);
    c->taken[c->n_taken++] = (struct taken){d->events.count, d->first_failed_ms};
    c->high_tag = d->tag;
    for (struct mail *mail; (mail = mail_list_pop(&d->events)) != NULL;) {
        batch_add(b, (struct event *)(void *)mail);
    }
    delivered_free(d);
}

/* Whole messages only, up to the first that is not ours. */
static bool
fits(const struct consumer_amqp *c, const struct batch *b, size_t enough)
{
    const struct delivered *next = inbox_peek(c->inbox);
    if (next == NULL || next->foreign != NULL || c->n_taken == (size_t)c->cfg->amqp_prefetch) {
        return false;
    }
    return b->n == 0 || b->n + next->events.count <= enough;
}

/* The first message may be larger than the batch: then the batch grows. */
static enum err
hand_over_all(struct consumer_amqp *c, struct batch *b, size_t enough)
{
    const struct delivered *first = inbox_peek(c->inbox);
    if (first != NULL && batch_reserve(b, first->events.count) != OK) {
        return ERR_NOMEM;
    }
    while (fits(c, b, enough)) {
        hand_over(c, b);
    }
    return OK;
}

/* Reads messages ahead for a batch of `enough` events, the foreign ones away from it. */
static enum err
read_messages(struct consumer_amqp *c, size_t enough, int64_t until_ms)
{
    enum err e = inbox_connect(c->inbox, until_ms);
    if (e == OK) {
        e = inbox_fill(c->inbox, enough, until_ms);
    }
    if (e == OK) {
        e = inbox_bury_foreign(c->inbox);
    }
    return e == ERR_LOST ? ERR_UNAVAILABLE : e; /* nothing of it was handed over */
}

static enum err
amqp_take(struct consumer *base, struct batch *b, int wait_ms)
{
    struct consumer_amqp *c = self(base);
    assert(b->n == 0 && c->n_taken == 0);
    b->joined = false;
    size_t most = (size_t)c->cfg->worker_batch; /* b->cap may have grown */
    size_t enough = b->cap < most ? b->cap : most;
    enum err e = read_messages(c, enough, c->env->mono_ms(c->env) + wait_ms);
    if (e != OK) {
        return e;
    }
    if (inbox_is_cancelled(c->inbox) && inbox_peek(c->inbox) == NULL) {
        inbox_leave(c->inbox);
        return OK;
    }
    return hand_over_all(c, b, enough);
}

/* ---- settle ---- */

static struct amqp_message
dead_message(struct consumer_amqp *c, const struct delivery *d, int64_t first_failed_ms)
{
    buf_reset(&c->body);
    event_write_json(&c->body, d->ev, (struct span){0});
    return (struct amqp_message){
        .exchange = "",
        .routing_key = AMQP_DEAD_QUEUE,
        .body = buf_span(&c->body),
        .message_id = event_id(d->ev),
        .content_type = "application/json",
        .accepted_ms = d->ev->accepted_ms,
        .attempt = d->ev->attempt,
        .error = d->reason,
        .first_failed_ms = first_failed_ms != 0 ? first_failed_ms : c->env->wall_ms(c->env),
    };
}

static enum err
send_dead(struct consumer_amqp *c, const struct batch *b, size_t i, int64_t first_failed_ms)
{
    if (b->item[i].state != EVENT_DEAD) {
        return OK;
    }
    if (c->dead == NULL) {
        c->dead = calloc(b->n, sizeof *c->dead);
        if (c->dead == NULL) {
            return ERR_NOMEM;
        }
    }
    const struct amqp_message m = dead_message(c, &b->item[i], first_failed_ms);
    return buf_ok(&c->body) ? inbox_send(c->inbox, &c->dead[i], &m) : ERR_NOMEM;
}

static enum err
send_all_dead(struct consumer_amqp *c, const struct batch *b)
{
    enum err e = OK;
    size_t i = 0;
    for (size_t m = 0; m < c->n_taken; m++) {
        for (size_t end = i + c->taken[m].events; i < end && e == OK; i++) {
            e = send_dead(c, b, i, c->taken[m].first_failed_ms);
        }
    }
    return e;
}

/* OK: each dead event of the batch is durable among the dead letters. */
static enum err
bury_dead(struct consumer_amqp *c, const struct batch *b)
{
    enum err e = send_all_dead(c, b);
    if (e == OK && c->dead != NULL) {
        e = inbox_await(c->inbox);
    }
    for (size_t i = 0; e == OK && c->dead != NULL && i < b->n; i++) {
        if (b->item[i].state == EVENT_DEAD && c->dead[i].state != LETTER_CONFIRMED) {
            e = ERR_UNAVAILABLE;
        }
    }
    return e == ERR_UNAVAILABLE ? inbox_not_confirmed(c->inbox) : e;
}

static void
assert_decided(const struct batch *b)
{
    for (size_t i = 0; i < b->n; i++) {
        assert(b->item[i].state == EVENT_PROCESSED || b->item[i].state == EVENT_DUPLICATE ||
               b->item[i].state == EVENT_DEAD);
    }
}

/* First the dead letters, then the ack: what is acked is never given again. */
static enum err
settle_linked(struct consumer_amqp *c, const struct batch *b)
{
    enum err e = inbox_hear_if_silent(c->inbox);
    if (e == OK) {
        e = bury_dead(c, b);
    }
    if (e == OK) {
        e = c->env->fault(c->env, "consumer_amqp.ack");
    }
    return e == OK ? inbox_ack(c->inbox, c->high_tag, true) : e;
}

static enum err
amqp_settle(struct consumer *base, struct batch *b)
{
    struct consumer_amqp *c = self(base);
    assert_decided(b);
    enum err e = inbox_is_linked(c->inbox) ? settle_linked(c, b) : ERR_LOST;
    if (e == OK || e == ERR_LOST) {
        forget_batch(c);
    }
    return e;
}

/* ---- the rest ---- */

static void
amqp_idle(struct consumer *base)
{
    struct consumer_amqp *c = self(base);
    if (inbox_is_linked(c->inbox) && inbox_hear(c->inbox) != OK) {
        assert(!inbox_is_linked(c->inbox)); /* settle will say so */
    }
}

static void
amqp_stop(struct consumer *base)
{
    inbox_stop(self(base)->inbox);
}

static void
amqp_close(struct consumer *base)
{
    struct consumer_amqp *c = self(base);
    if (c == NULL) {
        return;
    }
    inbox_close(c->inbox); /* before the letters: it may still know some */
    forget_batch(c);
    buf_fini(&c->body);
    free(c->taken);
    free(c);
}

static const struct consumer_ops amqp_ops = {
    .name = "amqp",
    .take = amqp_take,
    .settle = amqp_settle,
    .idle = amqp_idle,
    .stop = amqp_stop,
    .close = amqp_close,
};

/* A connection for the sake of its errors. */
enum err
consumer_amqp_check(const struct config *cfg, struct env *env, char *why, size_t why_size)
{
    struct amqp_link *link = NULL;
    enum err e = amqp_link_open(&link, cfg, env, AMQP_CONSUMER, why, why_size);
    amqp_link_close(link);
    return e == ERR_CONFIG ? e : OK;
}

enum err
consumer_amqp_open(struct consumer **out, const struct config *cfg, struct env *env)
{
    struct consumer_amqp *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return ERR_NOMEM;
    }
    c->base.ops = &amqp_ops;
    c->cfg = cfg;
    c->env = env;
    buf_init(&c->body, 0);
    c->taken = calloc((size_t)cfg->amqp_prefetch, sizeof *c->taken);
    enum err e = c->taken == NULL ? ERR_NOMEM : inbox_open(&c->inbox, cfg, env);
    if (e != OK) {
        amqp_close(&c->base);
        return e;
    }
    *out = &c->base;
    return OK;
}
