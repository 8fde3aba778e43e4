#include "memory.h"

#include "memory_ids.h"

struct memory_dedup {
    struct dedup base;
    struct memory_id *ids;
    enum err error;
    unsigned error_times;
};

static enum err
memory_seen(struct dedup *dedup, struct batch *b)
{
    struct memory_dedup *d = (struct memory_dedup *)dedup;
    for (size_t i = 0; i < b->n; i++) {
        if (b->item[i].state == EVENT_PROCESSING &&
            memory_ids_find(d->ids, event_id(b->item[i].ev)) != NULL) {
            b->item[i].state = EVENT_DUPLICATE;
        }
    }
    return batch_mark_repeats(b);
}

static enum err
memory_mark(struct dedup *dedup, struct batch *b)
{
    struct memory_dedup *d = (struct memory_dedup *)dedup;
    if (d->error_times > 0) {
        d->error_times--;
        return d->error;
    }
    for (size_t i = 0; i < b->n; i++) {
        struct delivery *one = &b->item[i];
        if (one->state == EVENT_PROCESSING && one->result == OK &&
            memory_ids_find(d->ids, event_id(one->ev)) == NULL &&
            memory_ids_add(&d->ids, event_id(one->ev), SPAN("")) == NULL) {
            return ERR_NOMEM;
        }
    }
    return OK;
}

static void
memory_close(struct dedup *dedup)
{
    struct memory_dedup *d = (struct memory_dedup *)dedup;
    if (d != NULL) {
        memory_ids_free(d->ids);
        free(d);
    }
}

void
memory_dedup_fail(struct dedup *dedup, enum err error, unsigned times)
{
    struct memory_dedup *d = (struct memory_dedup *)dedup;
    d->error = error;
    d->error_times = times;
}

enum err
memory_dedup_open(struct dedup **out)
{
    static const struct dedup_ops ops = {"memory", memory_seen, memory_mark, memory_close};
    struct memory_dedup *d = calloc(1, sizeof *d);
    if (d == NULL) {
        return ERR_NOMEM;
    }
    d->base.ops = &ops;
    *out = &d->base;
    return OK;
}
