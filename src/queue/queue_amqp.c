/* queue_amqp.c - the queue in RabbitMQ. Durable point: confirmed, a quorum queue's confirm (it has
 * synced the message to disk, on a majority of its nodes). */
#include "queue/queue.h"

#include "config.h"
#include "env.h"
#include "log.h"
#include "queue/queue_amqp_parts.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_AFTER_BLOCKED_S 10
#define RETRY_AFTER_MAX_S 60

struct queue_amqp {
    struct queue base;
    struct env *env;
    bool classic;
    atomic_size_t turn; /* of the publishers */
    size_t n;
    struct publisher publisher[];
};

static struct queue_amqp *
self(struct queue *q)
{
    return (struct queue_amqp *)q;
}

static bool
is_up(const struct publisher *p)
{
    return atomic_load(&p->state) == PUBLISHER_UP;
}

/* Round about, past those that are away or full. */
static enum err
amqp_publish(struct queue *base, struct publish *p)
{
    struct queue_amqp *q = self(base);
    assert(p->events.first != NULL);
    enum err e = ERR_UNAVAILABLE;
    size_t from = atomic_fetch_add_explicit(&q->turn, 1, memory_order_relaxed);
    p->durability = DURABILITY_CONFIRMED;
    p->published_ms = q->env->mono_ms(q->env);
    for (size_t i = 0; i < q->n; i++) {
        struct publisher *to = &q->publisher[(from + i) % q->n];
        if (!is_up(to)) {
            continue;
        }
        e = mailbox_post(to->inbox, &p->reply.mail); /* now the publisher's, if OK */
        if (e == OK) {
            return OK;
        }
    }
    return e;
}

static unsigned
retry_after(struct queue_amqp *q, const struct publisher *best)
{
    if (is_up(best)) {
        return 1; /* only its mailbox was full */
    }
    if (atomic_load(&best->state) == PUBLISHER_BLOCKED) {
        return RETRY_AFTER_BLOCKED_S;
    }
    int64_t ms = atomic_load(&best->next_try_ms) - q->env->mono_ms(q->env);
    ms = ms > 0 ? ms : 0;
    return ms / 1000 + 2 < RETRY_AFTER_MAX_S ? (unsigned)(ms / 1000 + 2) : RETRY_AFTER_MAX_S;
}

static void
amqp_status(struct queue *base, struct queue_status *out)
{
    static const char *const why[] = {
        [PUBLISHER_AWAY] = "RabbitMQ cannot be reached",
        [PUBLISHER_REFUSED] =
            "RabbitMQ refuses the user, the vhost or the queue: the log line amqp.refused says why",
        [PUBLISHER_BLOCKED] = "RabbitMQ takes nothing: it has a memory or disk alarm",
        [PUBLISHER_UP] = "",
    };
    struct queue_amqp *q = self(base);
    const struct publisher *best = &q->publisher[0];
    int64_t now_ms = q->env->mono_ms(q->env);
    *out = (struct queue_status){0};
    for (size_t i = 0; i < q->n; i++) {
        const struct publisher *p = &q->publisher[i];
        int64_t oldest_ms = atomic_load(&p->oldest_ms);
        int64_t slow_ms = oldest_ms == 0 ? 0 : now_ms - oldest_ms;
        out->slow_ms = slow_ms > out->slow_ms ? slow_ms : out->slow_ms;
        best = atomic_load(&p->state) > atomic_load(&best->state) ? p : best;
    }
    out->ready = is_up(best);
    out->why = why[atomic_load(&best->state)];
    out->depth = atomic_load(&best->depth);
    out->retry_after_s = retry_after(q, best);
    if (out->ready && q->classic) {
        out->why = AMQP_QUEUE " is a classic queue (amqp.queue_type): weaker, since RabbitMQ "
                              "confirms before the message is on disk";
    }
}

static void
amqp_close(struct queue *base)
{
    if (base == NULL) {
        return;
    }
    struct queue_amqp *q = self(base);
    for (size_t i = 0; i < q->n; i++) {
        publisher_stop(&q->publisher[i]);
    }
    for (size_t i = 0; i < q->n; i++) {
        publisher_close(&q->publisher[i]);
    }
    free(q);
}

static const struct queue_ops amqp_ops = {
    .name = "amqp",
    .publish = amqp_publish,
    .status = amqp_status,
    .close = amqp_close,
};

/* The first connection is made here and now: what is wrong for good is said before anything is
 * served. RabbitMQ being away is not. */
static enum err
open_publishers(struct queue_amqp *q, const struct config *cfg, char *why, size_t why_size)
{
    enum err e = OK;
    for (size_t i = 0; i < q->n && e == OK; i++) {
        e = publisher_open(&q->publisher[i], cfg, q->env, (unsigned)i + 1);
    }
    if (e == OK && publisher_connect(&q->publisher[0], why, why_size) == ERR_CONFIG) {
        return ERR_CONFIG;
    }
    why[0] = '\0';
    for (size_t i = 0; i < q->n && e == OK; i++) {
        e = publisher_start(&q->publisher[i]);
    }
    return e;
}

enum err
queue_amqp_open(struct queue **out, const struct config *cfg, struct env *env, char *why,
                size_t why_size)
{
    size_t n = (size_t)cfg->amqp_publishers;
    struct queue_amqp *q = calloc(1, sizeof *q + n * sizeof q->publisher[0]);
    if (q == NULL) {
        return ERR_NOMEM;
    }
    q->base.ops = &amqp_ops;
    q->env = env;
    q->n = n;
    q->classic = strcmp(cfg->amqp_queue_type, "classic") == 0;
    enum err e = open_publishers(q, cfg, why, why_size);
    if (e != OK) {
        amqp_close(&q->base);
        return e;
    }
    *out = &q->base;
    return OK;
}
