/* store.h - the local store: one SQLite file, one thread that writes and checkpoints it, group
 * commit.
 * Contract: whatever is answered OK is committed with synchronous=FULL: it survives kill -9 and
 *           power loss. Work that arrives while a commit runs shares the next one. Events are
 *           given out in seq order, which is accept order. The first event of an id is kept for
 *           ever; a later one with the same id is a duplicate.
 * Threads:  publish, status: any, never block. take, commit, seen, mark: worker threads, block
 *           until the answer. ask: any, never blocks, answered by the store's reader thread.
 *           open, close: the composition root.
 * Bounds:   the mailbox (mailbox_bytes), the queue on disk (max_bytes), its head in memory
 *           (memory_bytes), free disk (min_free_bytes).
 * Fails:    disk full: ERR_DISK_FULL while it lasts, probed every second. Any other I/O error or
 *           a failed fsync: env->fatal. */
#ifndef WEIR_STORE_H
#define WEIR_STORE_H

#include "batch.h"
#include "history/history.h"
#include "queue/queue.h"

struct env;
struct stats;
struct store;

struct store_options {
    const char *folder;
    size_t mailbox_bytes;
    size_t memory_bytes;
    uint64_t max_bytes;
    uint64_t min_free_bytes;
    struct stats *stats;
};

/* Creates or opens; takes the folder's lock. Not OK: `why` says what to tell the user. */
enum err store_open(struct store **out, const struct store_options *o, struct env *env, char *why,
                    size_t why_size) MUST_CHECK;
void store_close(struct store *s); /* answers everything that was posted, checkpoints, marks a clean
                                      stop; NULL ok */

enum err store_publish(struct store *s, struct publish *p) MUST_CHECK;         /* see queue.h */
enum err store_take(struct store *s, struct batch *b, int wait_ms) MUST_CHECK; /* see queue.h */
void store_stop_taking(struct store *s);
void store_status(struct store *s, struct queue_status *out);

/* One transaction: the staged steps for events still PROCESSING with result OK (b->staged), then
 * the end of every decided event in the queue. `settle` false: the queue is not this store, and
 * only the staged steps are committed. Sets PROCESSED or DUPLICATE (and conflict) in b. Not OK:
 * nothing happened and b is as it was. */
enum err store_commit(struct store *s, struct batch *b, bool settle) MUST_CHECK;
/* Marks as DUPLICATE those whose id is known or stands earlier in the batch. */
enum err store_seen(struct store *s, struct batch *b) MUST_CHECK;

enum err store_ask(struct store *s, struct question *q) MUST_CHECK; /* see history.h */

#endif
