/* sink_local.c - the effect is a row in the local store. */
#include "sink/sink.h"

#include "store/store.h"

#include <stdlib.h>

struct sink_local {
    struct sink base;
    struct store *store;
};

/* Not joined: the queue is elsewhere and settles later. Row and id are one transaction here, so
 * that the batch, when it is given again, meets its ids. */
static enum err
local_write(struct sink *s, struct batch *b)
{
    struct sink_local *l = (struct sink_local *)s;
    if (b->joined) {
        b->staged |= STAGE_WRITE;
        return OK;
    }
    b->staged = STAGE_WRITE | STAGE_MARK;
    enum err e = store_commit(l->store, b, false);
    b->staged = 0;
    return e;
}

static void
local_close(struct sink *s)
{
    free(s);
}

enum err
sink_local_open(struct sink **out, struct store *store)
{
    static const struct sink_ops ops = {"local", local_write, local_close};
    struct sink_local *l = calloc(1, sizeof *l);
    if (l == NULL) {
        return ERR_NOMEM;
    }
    *l = (struct sink_local){{&ops}, store};
    *out = &l->base;
    return OK;
}
