/* consumer_local.c - events out of the local store. Several consumers of one store share its queue. */
#include "queue/consumer.h"

#include "store/store.h"

#include <stdlib.h>

struct consumer_local {
    struct consumer base;
    struct store *store; /* borrowed */
};

static struct store *
store_of(struct consumer *c)
{
    return ((struct consumer_local *)c)->store;
}

static enum err
local_take(struct consumer *c, struct batch *b, int wait_ms)
{
    enum err e = store_take(store_of(c), b, wait_ms);
    b->joined = true; /* write and mark join the transaction that settle commits */
    return e;
}

static enum err
local_settle(struct consumer *c, struct batch *b)
{
    return store_commit(store_of(c), b, true);
}

static void
local_idle(struct consumer *c)
{
    (void)c;
}

static void
local_stop(struct consumer *c)
{
    store_stop_taking(store_of(c));
}

static void
local_close(struct consumer *c)
{
    free(c);
}

static const struct consumer_ops local_ops = {
    .name = "local",
    .take = local_take,
    .settle = local_settle,
    .idle = local_idle,
    .stop = local_stop,
    .close = local_close,
};

enum err
consumer_local_open(struct consumer **out, struct store *store)
{
    struct consumer_local *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return ERR_NOMEM;
    }
    c->base.ops = &local_ops;
    c->store = store;
    *out = &c->base;
    return OK;
}
