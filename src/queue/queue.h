/* queue.h - where accepted events wait.
 * Contract: publish() answers OK only when every event of the request is durable at the point
 *           named in p->durability. take() gives each durable event to one worker at a time,
 *           oldest first, until it is settled; after a crash it is given again. settle() ends the
 *           events of a batch by their state (PROCESSED, DUPLICATE, DEAD); an event that is still
 *           PROCESSING stays taken and is the caller's to deliver again. When settle() is not OK
 *           nothing is settled.
 * Threads:  publish and status: any, never block. take and settle: worker threads, may block; a
 *           batch is settled by the thread that took it. open and close: the composition root,
 *           with no other call running.
 * Owns:     the events of a publish; a taken event is the batch's.
 * Fails:    publish() not OK: nothing was taken over, p is still the caller's. p->result
 *           ERR_BUSY, ERR_QUEUE_FULL, ERR_DISK_FULL, ERR_UNAVAILABLE: answer 503. */
#ifndef WEIR_QUEUE_H
#define WEIR_QUEUE_H

#include "batch.h"

#include <stdint.h>

struct store;
struct queue;

struct queue_status {
    bool ready;             /* publish() can be expected to work now */
    const char *why;        /* static text; when not ready, what is the matter */
    uint64_t depth;         /* events durable and not settled */
    uint64_t bytes;         /* of those events */
    int64_t oldest_age_ms;  /* of the oldest of them; 0 when none */
    unsigned retry_after_s; /* when to try again after a refusal: from the rate at which the queue
                               drains, 1 … 60 */
};

struct queue_ops {
    const char *name; /* as in the URL */
    enum err (*publish)(struct queue *q, struct publish *p);
    /* Fills b (empty before) with up to b->cap events; waits up to wait_ms for the first. OK with
     * b->n == 0: none came. ERR_STOPPING: stop() was called and nothing more is to be taken. */
    enum err (*take)(struct queue *q, struct batch *b, int wait_ms);
    enum err (*settle)(struct queue *q, struct batch *b);
    void (*stop)(struct queue *q); /* take() gives nothing from now on; publishes on their way are
                                      still answered */
    void (*status)(struct queue *q, struct queue_status *out);
    void (*close)(struct queue *q); /* NULL ok */
};

struct queue {
    const struct queue_ops *ops;
};

/* The backends. The store is borrowed and outlives the queue. */
enum err queue_local_open(struct queue **out, struct store *store) MUST_CHECK;

#endif
