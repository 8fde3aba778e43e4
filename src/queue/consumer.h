/* consumer.h - how a worker gets events out of the queue, and ends them.
 * Contract: take() gives each durable event to one consumer at a time, oldest first, until it is
 *           settled; after a crash, of the consumer or of the queue, it is given again. settle()
 *           ends the events of a batch by their state (PROCESSED, DUPLICATE, DEAD: a dead one is
 *           durable in the dead letters first); a batch is settled as a whole, when every event
 *           of it is decided. When settle() is not OK nothing is known to be settled: all of it
 *           may be given again.
 * Threads:  a consumer stays on the worker thread that took from it first; take and settle may
 *           block. stop: any. open and close: the composition root, with no other call running.
 * Owns:     a taken event is the batch's.
 * Fails:    take() ERR_UNAVAILABLE: the queue cannot be reached; call again, after a pause: it
 *           connects anew by itself. settle() ERR_LOST: what was taken went back to the queue:
 *           forget the batch (batch_reset) and take again; it will be given again. settle()
 *           ERR_DISK_FULL, ERR_UNAVAILABLE, ERR_NOMEM: still taken; deliver the same batch again. */
#ifndef WEIR_CONSUMER_H
#define WEIR_CONSUMER_H

#include "batch.h"

#include <stdint.h>

struct store;
struct consumer;

struct consumer_ops {
    const char *name; /* as in the URL */
    /* Fills b (empty before) with up to b->cap events; waits up to wait_ms for the first. OK with
     * b->n == 0: none came. ERR_STOPPING: stop() was called and nothing more is to be taken. */
    enum err (*take)(struct consumer *c, struct batch *b, int wait_ms);
    enum err (*settle)(struct consumer *c, struct batch *b);
    void (*idle)(struct consumer *c); /* keeps the connection alive while the worker pauses: call it
                                         every few seconds */
    void (*stop)(struct consumer *c); /* take() gives nothing from now on */
    void (*close)(struct consumer *c); /* NULL ok */
};

struct consumer {
    const struct consumer_ops *ops;
};

/* The backends. What they are given is borrowed and outlives them. */
enum err consumer_local_open(struct consumer **out, struct store *store) MUST_CHECK;

struct config;
struct env;
/* Connects in take(). */
enum err consumer_amqp_open(struct consumer **out, const struct config *cfg,
                            struct env *env) MUST_CHECK;
/* What no waiting will mend (password, vhost, another type of queue) is better said at the start:
 * ERR_CONFIG. A broker that is away is OK. */
enum err consumer_amqp_check(const struct config *cfg, struct env *env, char *why,
                             size_t why_size) MUST_CHECK;

#endif
