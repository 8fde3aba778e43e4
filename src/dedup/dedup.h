/* dedup.h - which ids have had their effect already.
 * Contract: seen() marks as DUPLICATE those still PROCESSING whose id is known, and those whose
 *           id stands earlier in the same batch. It may miss (a cache may); the authority is a
 *           unique key committed with the effect. mark() notes the ids of those still PROCESSING
 *           with result OK as done. Marking twice is success.
 * Threads:  a dedup stays on the worker thread that opened it. May block.
 * Fails:    a dedup that is only a cache answers OK and lets the sink decide; one that is the
 *           authority returns the error, and nothing may be written. */
#ifndef WEIR_DEDUP_H
#define WEIR_DEDUP_H

#include "batch.h"

struct store;
struct dedup;

struct dedup_ops {
    const char *name;
    enum err (*seen)(struct dedup *d, struct batch *b);
    enum err (*mark)(struct dedup *d, struct batch *b);
    void (*close)(struct dedup *d); /* NULL ok */
};

struct dedup {
    const struct dedup_ops *ops;
};

/* The backends. The store is borrowed. `sink_decides`: the sink commits a unique key with the
 * effect, so seen() need not look. */
enum err dedup_local_open(struct dedup **out, struct store *store, bool sink_decides) MUST_CHECK;
enum err dedup_none_open(struct dedup **out) MUST_CHECK;

#endif
