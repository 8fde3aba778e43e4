/* store_apply.h - what one transaction does, and what becomes true if it commits.
 * Contract: private to store/. store_apply runs inside a transaction; when it is not OK the caller
 *           rolls back, and nothing but the group's own figures and next_state has changed.
 * Threads:  the writer's. */
#ifndef WEIR_STORE_APPLY_H
#define WEIR_STORE_APPLY_H

#include "store/store_writer.h"

struct store_group {
    struct mail_list publishes;
    struct mail_list jobs;
    uint64_t next_seq;
    uint64_t added, added_bytes;
    uint64_t removed, removed_bytes;
};

enum err store_apply(struct store *s, struct store_group *g, int64_t now_ms) MUST_CHECK;

#endif
