/* store_read.h - the store's reader thread: answers questions from its own read-only connection.
 * Contract: private to store/. See history.h for the questions. A question that takes longer than STORE_READ_MS is given up
 *           (ERR_UNAVAILABLE): a long read holds the WAL.
 * Threads:  ask: any; the rest: the composition root, through store.c.
 * Bounds:   STORE_READ_WAITING questions. */
#ifndef WEIR_STORE_READ_H
#define WEIR_STORE_READ_H

#include "history/history.h"

#define STORE_READ_MS 1000
#define STORE_READ_WAITING 1024

struct env;
struct store_read;

enum err store_read_open(struct store_read **out, const char *folder, struct env *env, char *why,
                         size_t why_size) MUST_CHECK;
enum err store_read_ask(struct store_read *r, struct question *q) MUST_CHECK;
void store_read_close(struct store_read *r); /* answers what was asked; NULL ok */

#endif
