/* store_ids.h - which event ids have had their effect, exactly and for ever.
 * Contract: private to store/. Exact whatever the hash does: a hit is verified against the stored id. Changes are durable with the
 *           transaction they were made in. Can be replaced by another structure with the same three calls.
 * Threads:  the connection's. */
#ifndef WEIR_STORE_IDS_H
#define WEIR_STORE_IDS_H

#include "store/store_db.h"

struct store_ids;

/* What is known of an id's first event. */
struct store_first {
    uint64_t seq;         /* 0: the id is new */
    bool has_payload;     /* it is in events, and `payload` is its payload */
    struct span payload;  /* valid until the next call; end with store_ids_release */
    int64_t payload_hash; /* otherwise: the hash that was noted */
};

enum err store_ids_open(struct store_ids **out, struct store_db *db) MUST_CHECK;
void store_ids_close(struct store_ids *ids); /* NULL ok */
enum err store_ids_find(struct store_ids *ids, struct store_first *first,
                        struct span id) MUST_CHECK;
/* Adds id → seq if the id is new (first->seq is 0 then), else says which event was first. */
enum err store_ids_add(struct store_ids *ids, struct store_first *first, struct span id,
                       uint64_t seq) MUST_CHECK;
/* Call when done with first->payload, before the transaction ends. */
void store_ids_release(struct store_ids *ids);
/* The same keyed hash, over a payload: what store_db_mark_add notes. */
enum err store_ids_hash(struct store_ids *ids, int64_t *out, struct span bytes) MUST_CHECK;

#endif
