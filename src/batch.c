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

enum err
batch_reserve(struct batch *b, size_t cap)
{
    if (cap <= b->cap) {
        return OK;
    }
    struct delivery *item = realloc(b->item, cap * sizeof *item);
    if (item == NULL) {
        return ERR_NOMEM;
    }
    b->item = item;
    b->cap = cap;
    return OK;
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

/* FNV-1a: only spreads ids over a table that lives for one call. */
static uint64_t
spread(struct span id)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < id.len; i++) {
        h = (h ^ (unsigned char)id.at[i]) * 1099511628211u;
    }
    return h ^ (h >> 32);
}

/* True when an event with the id of item[i] is in the table already; else puts it there. */
static bool
stands_earlier(const struct batch *b, uint32_t *table, size_t mask, size_t i)
{
    struct span id = event_id(b->item[i].ev);
    size_t at = spread(id) & mask;
    while (table[at] != 0) {
        struct delivery *other = &b->item[table[at] - 1];
        if (span_eq(event_id(other->ev), id)) {
            b->item[i].conflict = !span_eq(event_payload(other->ev), event_payload(b->item[i].ev));
            return true;
        }
        at = (at + 1) & mask;
    }
    table[at] = (uint32_t)i + 1;
    return false;
}

enum err
batch_mark_repeats(struct batch *b)
{
    size_t size = 16;
    while (size < b->n * 2) {
        size *= 2;
    }
    uint32_t *table = calloc(size, sizeof *table);
    if (table == NULL) {
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < b->n; i++) {
        if (b->item[i].state == EVENT_PROCESSING && stands_earlier(b, table, size - 1, i)) {
            b->item[i].state = EVENT_DUPLICATE;
        }
    }
    free(table);
    return OK;
}

void
batch_add(struct batch *b, struct event *ev)
{
    assert(b->n < b->cap);
    b->item[b->n++] = (struct delivery){.ev = ev, .state = EVENT_PROCESSING};
}
