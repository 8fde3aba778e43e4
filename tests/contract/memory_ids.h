/* memory_ids.h - a list of ids with what is known of each: behind the memory dedup and sink.
 * Threads:  one owner. */
#ifndef WEIR_TEST_MEMORY_IDS_H
#define WEIR_TEST_MEMORY_IDS_H

#include "span.h"

#include <stdlib.h>

struct memory_id {
    struct memory_id *next;
    unsigned effects;
    size_t id_len;
    size_t payload_len;
    char bytes[]; /* id, payload */
};

static inline struct memory_id *
memory_ids_find(struct memory_id *list, struct span id)
{
    while (list != NULL && !span_eq((struct span){list->bytes, list->id_len}, id)) {
        list = list->next;
    }
    return list;
}

static inline struct memory_id *
memory_ids_add(struct memory_id **list, struct span id, struct span payload)
{
    struct memory_id *m = calloc(1, sizeof *m + id.len + payload.len);
    if (m == NULL) {
        return NULL;
    }
    m->id_len = id.len;
    m->payload_len = payload.len;
    memcpy(m->bytes, id.at, id.len);
    memcpy(m->bytes + id.len, payload.at, payload.len);
    m->next = *list;
    *list = m;
    return m;
}

static inline void
memory_ids_free(struct memory_id *list)
{
    while (list != NULL) {
        struct memory_id *next = list->next;
        free(list);
        list = next;
    }
}

#endif
