/* memory_queue.c - what waits is a mailbox; what is not settled is a list under a lock. */
#include "memory.h"

#include "env.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct open_event {
    struct open_event *next;
    uint64_t seq;
    size_t bytes;
    int64_t accepted_ms;
};

struct memory_queue {
    struct queue base;
    struct env *env;
    struct mailbox *waiting;
    uint64_t max_bytes;
    atomic_bool stopped;
    atomic_uint idles;
    pthread_mutex_t lock; /* of all below */
    struct open_event *open;
    uint64_t next_seq;
    uint64_t bytes;
    enum err error;
    unsigned error_times;
};

struct memory_consumer {
    struct consumer base;
    struct memory_queue *queue; /* borrowed */
};

static struct memory_queue *
self(struct queue *q)
{
    return (struct memory_queue *)q;
}

static struct memory_queue *
queue_of(struct consumer *c)
{
    return ((struct memory_consumer *)c)->queue;
}

static void
accept_one(struct memory_queue *q, struct event *ev)
{
    struct open_event *o = calloc(1, sizeof *o);
    assert(o != NULL);
    ev->seq = ++q->next_seq;
    ev->accepted_ms = q->env->wall_ms(q->env);
    *o = (struct open_event){NULL, ev->seq, ev->mail.bytes, ev->accepted_ms};
    struct open_event **at = &q->open;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    *at = o;
    q->bytes += o->bytes;
}

static enum err
memory_publish(struct queue *queue, struct publish *p)
{
    struct memory_queue *q = self(queue);
    size_t bytes = p->events.bytes;
    pthread_mutex_lock(&q->lock);
    if (q->bytes + bytes > q->max_bytes) {
        pthread_mutex_unlock(&q->lock);
        return ERR_QUEUE_FULL;
    }
    for (struct mail *m = p->events.first; m != NULL; m = m->next) {
        accept_one(q, (struct event *)m);
    }
    enum err e = mailbox_post_list(q->waiting, &p->events); /* under the lock: in seq order */
    pthread_mutex_unlock(&q->lock);
    assert(e == OK);
    p->result = e;
    p->durability = DURABILITY_FSYNC;
    mailbox_post_reply(p->reply_to, &p->reply.mail);
    return OK;
}

static enum err
memory_take(struct consumer *c, struct batch *b, int wait_ms)
{
    struct memory_queue *q = queue_of(c);
    struct mail_list got = {0};
    if (!atomic_load(&q->stopped)) {
        got = mailbox_take(q->waiting, b->cap, SIZE_MAX, wait_ms);
    }
    for (struct mail *m = mail_list_pop(&got); m != NULL; m = mail_list_pop(&got)) {
        batch_add(b, (struct event *)m);
    }
    if (b->n == 0 && atomic_load(&q->stopped)) {
        mailbox_nudge(q->waiting); /* one nudge wakes one: pass it on */
        return ERR_STOPPING;
    }
    return OK;
}

static void
let_go(struct memory_queue *q, const struct delivery *d)
{
    for (struct open_event **at = &q->open; *at != NULL; at = &(*at)->next) {
        struct open_event *o = *at;
        if (o->seq == d->ev->seq) {
            *at = o->next;
            q->bytes -= o->bytes;
            free(o);
            return;
        }
    }
}

/* The batch's own events stay the batch's. Called under the lock. */
static void
give_back(struct memory_queue *q, const struct batch *b)
{
    for (size_t i = 0; i < b->n; i++) {
        const struct event *ev = b->item[i].ev;
        struct event *again =
            event_new(event_id(ev), event_type(ev), event_timestamp(ev), event_payload(ev));
        assert(again != NULL);
        again->seq = ev->seq;
        again->accepted_ms = ev->accepted_ms;
        enum err e = mailbox_post(q->waiting, &again->mail);
        assert(e == OK);
        (void)e;
    }
}

static enum err
planned_error(struct memory_queue *q)
{
    if (q->error_times == 0) {
        return OK;
    }
    q->error_times--;
    return q->error;
}

static enum err
memory_settle(struct consumer *c, struct batch *b)
{
    struct memory_queue *q = queue_of(c);
    pthread_mutex_lock(&q->lock);
    enum err e = planned_error(q);
    if (e == ERR_LOST) {
        give_back(q, b);
    }
    for (size_t i = 0; e == OK && i < b->n; i++) {
        assert(b->item[i].state != EVENT_PROCESSING); /* settled as a whole */
        let_go(q, &b->item[i]);
    }
    pthread_mutex_unlock(&q->lock);
    return e;
}

static void
memory_idle(struct consumer *c)
{
    atomic_fetch_add(&queue_of(c)->idles, 1);
}

static void
memory_stop(struct consumer *c)
{
    struct memory_queue *q = queue_of(c);
    atomic_store(&q->stopped, true);
    mailbox_nudge(q->waiting);
}

static void
memory_consumer_close(struct consumer *c)
{
    free(c);
}

static void
memory_status(struct queue *queue, struct queue_status *out)
{
    struct memory_queue *q = self(queue);
    *out = (struct queue_status){.ready = true, .why = "", .retry_after_s = 1};
    pthread_mutex_lock(&q->lock);
    for (struct open_event *o = q->open; o != NULL; o = o->next) {
        out->depth++;
    }
    out->bytes = q->bytes;
    if (q->open != NULL) {
        int64_t age = q->env->wall_ms(q->env) - q->open->accepted_ms;
        out->oldest_age_ms = age > 0 ? age : 0;
    }
    if (q->bytes >= q->max_bytes) {
        out->ready = false;
        out->why = err_text(ERR_QUEUE_FULL);
    }
    pthread_mutex_unlock(&q->lock);
}

static void
memory_close(struct queue *queue)
{
    struct memory_queue *q = self(queue);
    if (q == NULL) {
        return;
    }
    struct mail_list left = mailbox_take(q->waiting, SIZE_MAX, SIZE_MAX, 0);
    for (struct mail *m = mail_list_pop(&left); m != NULL; m = mail_list_pop(&left)) {
        event_free((struct event *)m);
    }
    while (q->open != NULL) {
        struct open_event *o = q->open;
        q->open = o->next;
        free(o);
    }
    mailbox_close(q->waiting);
    pthread_mutex_destroy(&q->lock);
    free(q);
}

void
memory_queue_fail(struct queue *queue, enum err error, unsigned times)
{
    struct memory_queue *q = self(queue);
    pthread_mutex_lock(&q->lock);
    q->error = error;
    q->error_times = times;
    pthread_mutex_unlock(&q->lock);
}

unsigned
memory_queue_idles(struct queue *queue)
{
    return atomic_load(&self(queue)->idles);
}

enum err
memory_consumer_open(struct consumer **out, struct queue *queue)
{
    static const struct consumer_ops ops = {
        .name = "memory",
        .take = memory_take,
        .settle = memory_settle,
        .idle = memory_idle,
        .stop = memory_stop,
        .close = memory_consumer_close,
    };
    struct memory_consumer *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return ERR_NOMEM;
    }
    c->base.ops = &ops;
    c->queue = self(queue);
    *out = &c->base;
    return OK;
}

enum err
memory_queue_open(struct queue **out, struct env *env, uint64_t max_bytes)
{
    static const struct queue_ops ops = {
        .name = "memory",
        .publish = memory_publish,
        .status = memory_status,
        .close = memory_close,
    };
    struct memory_queue *q = calloc(1, sizeof *q);
    if (q == NULL) {
        return ERR_NOMEM;
    }
    q->base.ops = &ops;
    q->env = env;
    q->max_bytes = max_bytes;
    q->waiting = mailbox_open(SIZE_MAX, SIZE_MAX, NULL, NULL);
    pthread_mutex_init(&q->lock, NULL);
    if (q->waiting == NULL) {
        memory_close(&q->base);
        return ERR_NOMEM;
    }
    *out = &q->base;
    return OK;
}
