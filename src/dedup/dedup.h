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
struct config;
struct env;
/* `sink_decides`: a cache of decisions, which saves work and never decides; without Redis, or when it
 * is slow, all is as with `none`. A batch whose effect is only staged (joined, local sink) is asked
 * for and not noted: the store has its ids with the commit. Not `sink_decides`: it also claims ids,
 * so that two workers do not write one at once; then seen() is ERR_UNAVAILABLE while Redis is away
 * or another worker has claimed an id of the batch, since going on would be weaker in silence; and
 * mark() is while it is away: the retry finds those events as DUPLICATE. Not OK: `why` says what to
 * tell the user; a Redis that cannot be reached is OK. */
enum err dedup_redis_open(struct dedup **out, const struct config *cfg, struct env *env,
                          bool sink_decides, char *why, size_t why_size) MUST_CHECK;

#endif
