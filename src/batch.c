#include "batch.h"

#include <assert.h>
#include <stdlib.h>

const char *
durability_name(enum durability d)
{
    static const char *const names[] = {
#define X(name, text) [DURABILITY_##name] = text,
        DURABILITY_MAP(X)
#undef X
    };
    return names[d];
}

enum err
batch_init(struct batch *b, size_t cap)
{
    *b = (struct batch){.item = calloc(cap, sizeof *b->item), .cap = cap};
    return b->item == NULL ? ERR_NOMEM : OK;
}

void
batch_fini(struct batch *b)
{
    batch_reset(b);
    free(b->item);
    *b = (struct batch){0};
}

void
batch_reset(struct batch *b)
{
    for (size_t i = 0; i < b->n; i++) {
        event_free(b->item[i].ev);
    }
    b->n = 0;
    b->joined = false;
    b->staged = 0;
}

void
batch_add(struct batch *b, struct event *ev)
{
    assert(b->n < b->cap);
    b->item[b->n++] = (struct delivery){.ev = ev, .state = EVENT_PROCESSING};
}
