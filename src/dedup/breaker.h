/* breaker.h - keeps calls away from what failed a moment ago: 1 s at first, doubling up to its
 * most, each with jitter, so that those who failed together do not come back together. One log line
 * when it opens, one when it closes.
 * Threads:  one owner. */
#ifndef WEIR_BREAKER_H
#define WEIR_BREAKER_H

#include "env.h"

#include <stdbool.h>

#define BREAKER_FIRST_MS 1000

struct breaker {
    struct env *env;  /* borrowed */
    const char *what; /* for the log, as are the two below: what does not work, */
    const char *then; /* and what is done without it */
    int64_t most_ms;
    int64_t wait_ms;  /* 0: closed */
    int64_t since_ms; /* monotonic, as is the next */
    int64_t until_ms;
};

bool breaker_is_open(const struct breaker *k);
/* `why` goes into the log when it was closed. */
void breaker_trip(struct breaker *k, const char *why);
void breaker_mend(struct breaker *k);

#endif
