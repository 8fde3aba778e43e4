/* queue.h - where accepted events wait: the side that takes them in.
 * Contract: publish() answers OK only when every event of the request is durable at the point
 *           named in p->durability. How they come out: consumer.h.
 * Threads:  publish and status: any, never block. close: the composition root, with no other call
 *           running; it answers what was published first.
 * Owns:     the events of a publish.
 * Fails:    publish() not OK: nothing was taken over, p is still the caller's. p->result ERR_BUSY,
 *           ERR_QUEUE_FULL, ERR_DISK_FULL, ERR_UNAVAILABLE: answer 503. */
#ifndef WEIR_QUEUE_H
#define WEIR_QUEUE_H

#include "batch.h"

#include <stdint.h>

struct store;
struct queue;

struct queue_status {
    bool ready;      /* publish() can be expected to work now */
    const char *why; /* static text: what is the matter when not ready; when ready, in what way
                               it is weaker than it should be, else "" */
    uint64_t depth;  /* events durable and not settled */
    uint64_t bytes;  /* of those events */
    int64_t oldest_age_ms;  /* of the oldest of them; 0 when none */
    unsigned retry_after_s; /* when to try again after a refusal: from the rate at which the queue
                               drains, 1 … 60 */
    int64_t slow_ms;        /* age of the oldest publish that waits for its answer; 0 when none */
    uint64_t spool_depth;   /* events in the local store that wait for RabbitMQ */
    uint64_t spool_bytes;
    int64_t spool_age_ms;
};

struct queue_ops {
    const char *name; /* as in the URL */
    enum err (*publish)(struct queue *q, struct publish *p);
    void (*status)(struct queue *q, struct queue_status *out);
    void (*close)(struct queue *q); /* NULL ok */
};

struct queue {
    const struct queue_ops *ops;
};

/* The backends. The store is borrowed and outlives the queue. */
enum err queue_local_open(struct queue **out, struct store *store) MUST_CHECK;

struct config;
struct env;
/* Threads of its own, one a connection (amqp.publishers). Connects in the background: status says
 * how it stands. `why`: a URL or topology that will never do is said at once, as ERR_CONFIG. */
enum err queue_amqp_open(struct queue **out, const struct config *cfg, struct env *env, char *why,
                         size_t why_size) MUST_CHECK;
/* `first` while it is well, the store while it is away, blocked or slow (spool.after); a forwarder
 * thread brings the store's events to `first` when it is back. Takes `first`; borrows the store. */
enum err queue_spool_open(struct queue **out, struct queue *first, struct store *store,
                          const struct config *cfg, struct env *env) MUST_CHECK;

#endif
