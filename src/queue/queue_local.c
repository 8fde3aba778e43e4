/* queue_local.c - the queue in the local store. Durable point: fsync, the commit's return. */
#include "queue/queue.h"

#include "store/store.h"

#include <stdlib.h>

struct queue_local {
    struct queue base;
    struct store *store; /* borrowed */
};

static struct store *
store_of(struct queue *q)
{
    return ((struct queue_local *)q)->store;
}

static enum err
local_publish(struct queue *q, struct publish *p)
{
    p->durability = DURABILITY_FSYNC;
    return store_publish(store_of(q), p);
}

static void
local_status(struct queue *q, struct queue_status *out)
{
    store_status(store_of(q), out);
}

static void
local_close(struct queue *q)
{
    free(q);
}

static const struct queue_ops local_ops = {
    .name = "local",
    .publish = local_publish,
    .status = local_status,
    .close = local_close,
};

enum err
queue_local_open(struct queue **out, struct store *store)
{
    struct queue_local *q = calloc(1, sizeof *q);
    if (q == NULL) {
        return ERR_NOMEM;
    }
    q->base.ops = &local_ops;
    q->store = store;
    *out = &q->base;
    return OK;
}
