/* dedup_local.c - the store's unique id is the authority: exact, for ever. */
#include "dedup/dedup.h"

#include "store/store.h"

#include <stdlib.h>

struct dedup_local {
    struct dedup base;
    struct store *store;
    bool sink_decides;
};

static enum err
local_seen(struct dedup *d, struct batch *b)
{
    struct dedup_local *l = (struct dedup_local *)d;
    return l->sink_decides ? OK : store_seen(l->store, b);
}

static bool
anything_to_mark(const struct batch *b)
{
    for (size_t i = 0; i < b->n; i++) {
        if (b->item[i].state == EVENT_PROCESSING && b->item[i].result == OK) {
            return true;
        }
    }
    return false;
}

static enum err
local_mark(struct dedup *d, struct batch *b)
{
    struct dedup_local *l = (struct dedup_local *)d;
    if (b->joined) {
        b->staged |= STAGE_MARK;
        return OK;
    }
    if (!anything_to_mark(b)) {
        return OK; /* a local sink has committed the ids with its rows */
    }
    b->staged = STAGE_MARK;
    enum err e = store_commit(l->store, b, false);
    b->staged = 0;
    return e;
}

static void
local_close(struct dedup *d)
{
    free(d);
}

enum err
dedup_local_open(struct dedup **out, struct store *store, bool sink_decides)
{
    static const struct dedup_ops ops = {"local", local_seen, local_mark, local_close};
    struct dedup_local *l = calloc(1, sizeof *l);
    if (l == NULL) {
        return ERR_NOMEM;
    }
    *l = (struct dedup_local){{&ops}, store, sink_decides};
    *out = &l->base;
    return OK;
}
