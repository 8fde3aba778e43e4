/* spool.c - RabbitMQ while it is well, the local store while it is not.
 *
 * Happy path:    publish() hands the request to the first queue; its answer passes through the
 *                spool's answers thread to the api's loop.
 * Away:          the first queue is not ready, or its oldest answer is later than spool.after: the
 *                request goes to the store, and is answered "spooled" when its commit returned.
 * Failed:        the first queue answers that it could not: nobody knows whether RabbitMQ has the
 *                events. They go to the store; if RabbitMQ has them too, the unique id sees it.
 * Afterwards:    the forwarder takes what the store holds, publishes it, and settles it in the
 *                store when it is confirmed. A crash between the two repeats; it never loses.
 * Full mailbox:  the first queue's ERR_BUSY is passed on: a burst is answered 503, not spooled.
 * Invariants:    1. An event leaves the store only after its confirm. 2. A request is answered
 *                once, by whoever has it last. */
#include "queue/queue.h"

#include "config.h"
#include "env.h"
#include "log.h"
#include "store/store.h"
#include "thread.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORWARD_BATCH 512
#define TAKE_WAIT_MS 500
#define PAUSE_FIRST_MS 100
#define PAUSE_MAX_MS 5000

struct spool {
    struct queue base;
    struct queue *first;
    struct store *store; /* borrowed */
    struct env *env;
    int64_t after_ms;
    struct mailbox *answers;   /* the first queue's, for requests that came through publish() */
    struct mailbox *forwarded; /* the first queue's, for what the forwarder published */
    struct mailbox *pause;     /* never holds mail: a wait that the end interrupts */
    struct thread answerer;
    struct thread forwarder;
    atomic_bool stopping;
    atomic_bool away; /* the last request did not go to the first queue */
};

static struct spool *
self(struct queue *q)
{
    return (struct spool *)q;
}

static void
note_away(struct spool *s, bool away, const char *why)
{
    if (atomic_exchange(&s->away, away) == away) {
        return;
    }
    if (away) {
        log_warn(s->env->log, "spool.begin", "why=\"%s\" action=\"events go to the local store\"",
                 why);
    } else {
        log_info(s->env->log, "spool.end", "action=\"events go to RabbitMQ again\"");
    }
}

/* To the store; it answers the api itself. */
static enum err
to_store(struct spool *s, struct publish *p, struct mailbox *reply_to)
{
    p->reply_to = reply_to;
    p->then_to = NULL;
    p->durability = DURABILITY_SPOOLED;
    p->parts = 0;
    return store_publish(s->store, p);
}

static enum err
spool_publish(struct queue *q, struct publish *p)
{
    struct spool *s = self(q);
    struct mailbox *api = p->reply_to;
    struct queue_status status;
    s->first->ops->status(s->first, &status);
    bool well = status.ready && status.slow_ms < s->after_ms;
    if (well) {
        p->then_to = api;
        p->reply_to = s->answers;
        enum err e = s->first->ops->publish(s->first, p); /* now the first queue's, if OK */
        if (e == OK) {
            note_away(s, false, "");
            return OK;
        }
        p->reply_to = api; /* still ours */
        p->then_to = NULL;
        if (e != ERR_UNAVAILABLE) {
            return e;
        }
    }
    note_away(s, true, status.ready ? "RabbitMQ answers too late" : status.why);
    return to_store(s, p, api);
}

/* ---- answers ---- */

static void
free_events(struct publish *p)
{
    struct mail *m;
    while ((m = mail_list_pop(&p->events)) != NULL) {
        event_free((struct event *)m);
    }
}

static void
pass_on(struct spool *s, struct publish *p)
{
    struct mailbox *api = p->then_to;
    if (p->result != OK && p->events.first != NULL) {
        log_warn(s->env->log, "spool.rescue", "err=%s events=%zu", err_name(p->result), p->count);
        enum err e = to_store(s, p, api);
        if (e == OK) {
            return; /* now the store's */
        }
        p->result = e;
        free_events(p);
    }
    mailbox_post_reply(api, &p->reply.mail); /* now the api's */
}

static void
run_answers(void *data)
{
    struct spool *s = data;
    for (;;) {
        struct mail_list list = mailbox_take(s->answers, SIZE_MAX, SIZE_MAX, -1);
        if (list.first == NULL) {
            return; /* shut, and nothing is left */
        }
        struct publish *p;
        while ((p = (struct publish *)mail_list_pop(&list)) != NULL) {
            pass_on(s, p);
        }
    }
}

/* ---- forwarding ---- */

/* Copies: the batch keeps its own events, to settle them. */
static enum err
copy_events(struct publish *p, const struct batch *b)
{
    for (size_t i = 0; i < b->n; i++) {
        const struct event *ev = b->item[i].ev;
        struct event *copy =
            event_new(event_id(ev), event_type(ev), event_timestamp(ev), event_payload(ev));
        if (copy == NULL) {
            free_events(p);
            return ERR_NOMEM;
        }
        copy->accepted_ms = ev->accepted_ms;
        copy->attempt = ev->attempt;
        mail_list_add(&p->events, &copy->mail);
    }
    p->count = p->events.count;
    p->reply.mail.bytes = p->events.bytes;
    return OK;
}

/* Publishes and waits: OK when RabbitMQ has confirmed all of it. */
static enum err
publish_copies(struct spool *s, const struct batch *b)
{
    struct publish p = {.reply_to = s->forwarded};
    enum err e = copy_events(&p, b);
    if (e != OK) {
        return e;
    }
    e = s->first->ops->publish(s->first, &p);
    if (e != OK) {
        free_events(&p);
        return e;
    }
    struct mail_list answer = {0};
    while (answer.first == NULL) {
        answer = mailbox_take(s->forwarded, 1, SIZE_MAX, -1);
    }
    return p.result;
}

static enum err
forward(struct spool *s, struct batch *b)
{
    enum err e = s->env->fault(s->env, "spool.taken");
    if (e == OK) {
        e = publish_copies(s, b);
    }
    if (e == OK) {
        e = s->env->fault(s->env, "spool.confirmed");
    }
    if (e != OK) {
        return e;
    }
    b->staged = 0; /* the effect is the workers' */
    return store_commit(s->store, b, true);
}

static bool
wait_a_little(struct spool *s, int *pause_ms)
{
    int half = *pause_ms / 2;
    int wait_ms = half + (int)(s->env->random(s->env) % (uint64_t)(half + 1));
    struct mail_list none = mailbox_take(s->pause, 0, 0, wait_ms);
    (void)none;
    *pause_ms = *pause_ms * 2 > PAUSE_MAX_MS ? PAUSE_MAX_MS : *pause_ms * 2;
    return !atomic_load(&s->stopping);
}

/* False: the end. What the batch holds is still in the store. */
static bool
forward_until_settled(struct spool *s, struct batch *b)
{
    int pause_ms = PAUSE_FIRST_MS;
    enum err e = forward(s, b);
    while (e != OK) {
        enum fate fate = err_fate(e);
        if (fate == FATE_STOP || fate == FATE_BUG) {
            s->env->fatal(s->env, "the spool cannot be settled");
            return false;
        }
        if (!wait_a_little(s, &pause_ms)) {
            return false;
        }
        e = forward(s, b);
    }
    return true;
}

static void
run_forwarder(void *data)
{
    struct spool *s = data;
    struct batch b;
    if (batch_init(&b, FORWARD_BATCH) != OK) {
        s->env->fatal(s->env, "out of memory");
        return;
    }
    uint64_t forwarded = 0;
    bool going = true;
    while (going && !atomic_load(&s->stopping)) {
        enum err e = store_take(s->store, &b, TAKE_WAIT_MS);
        going = e == OK;
        if (b.n > 0) {
            going = forward_until_settled(s, &b);
            forwarded += going ? b.n : 0;
        } else if (forwarded > 0) {
            log_info(s->env->log, "spool.drained", "events=%llu", (unsigned long long)forwarded);
            forwarded = 0;
        }
        batch_reset(&b);
    }
    batch_fini(&b);
}

/* ---- the queue ---- */

static void
spool_status(struct queue *q, struct queue_status *out)
{
    struct spool *s = self(q);
    struct queue_status store;
    s->first->ops->status(s->first, out);
    store_status(s->store, &store);
    bool first_well = out->ready && out->slow_ms < s->after_ms;
    if (!first_well) {
        out->why = store.ready
                       ? "RabbitMQ is away or slow: events are kept in the local store (spooled)"
                       : store.why;
        out->retry_after_s = store.retry_after_s;
    }
    out->ready = first_well || store.ready;
    out->spool_depth = store.depth;
    out->spool_bytes = store.bytes;
    out->spool_age_ms = store.oldest_age_ms;
    out->depth += store.depth;
    out->bytes += store.bytes;
    out->oldest_age_ms =
        store.oldest_age_ms > out->oldest_age_ms ? store.oldest_age_ms : out->oldest_age_ms;
}

/* In flow order: the forwarder stops, the first queue answers what it has, the last answers go on
 * to the store or the api. */
static void
spool_close(struct queue *q)
{
    struct spool *s = self(q);
    if (s == NULL) {
        return;
    }
    atomic_store(&s->stopping, true);
    if (s->pause != NULL) {
        mailbox_shut(s->pause);
    }
    store_stop_taking(s->store);
    if (s->first != NULL) {
        s->first->ops->close(s->first);
    }
    thread_join(&s->forwarder);
    if (s->answers != NULL) {
        mailbox_shut(s->answers);
    }
    thread_join(&s->answerer);
    mailbox_close(s->answers);
    mailbox_close(s->forwarded);
    mailbox_close(s->pause);
    free(s);
}

static const struct queue_ops spool_ops = {
    .name = "spool",
    .publish = spool_publish,
    .status = spool_status,
    .close = spool_close,
};

enum err
queue_spool_open(struct queue **out, struct queue *first, struct store *store,
                 const struct config *cfg, struct env *env)
{
    struct spool *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return ERR_NOMEM;
    }
    *s = (struct spool){.base = {&spool_ops}, .store = store, .env = env};
    s->after_ms = cfg->spool_after;
    s->answers = mailbox_open(SIZE_MAX, SIZE_MAX, NULL, NULL);   /* bounded by the first queue's */
    s->forwarded = mailbox_open(SIZE_MAX, SIZE_MAX, NULL, NULL); /* bounded: one */
    s->pause = mailbox_open(0, 0, NULL, NULL);
    enum err e = s->answers == NULL || s->forwarded == NULL || s->pause == NULL ? ERR_NOMEM : OK;
    s->first = first;
    if (e == OK) {
        e = thread_start(&s->answerer, "spool-answers", run_answers, s);
    }
    if (e == OK) {
        e = thread_start(&s->forwarder, "spool-forward", run_forwarder, s);
    }
    if (e != OK) {
        s->first = NULL; /* on failure it is still the caller's */
        spool_close(&s->base);
        return e;
    }
    *out = &s->base;
    return OK;
}
