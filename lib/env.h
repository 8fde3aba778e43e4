/* env.h - everything that is not a function of its inputs: time, randomness, faults, the log, the
 * end of the process.
 * Contract: nothing below app.c calls time(), rand(), getenv() or exit(); it asks its env, so
 *           that a test can drive it.
 * Threads:  every operation may be called from any thread. */
#ifndef WEIR_ENV_H
#define WEIR_ENV_H

#include "err.h"

#include <stdint.h>

struct log;

struct env {
    int64_t (*wall_ms)(struct env *env); /* Unix time in milliseconds; may jump */
    int64_t (*mono_ms)(struct env *env); /* never goes back; for timeouts */
    uint64_t (*random)(struct env *env); /* unpredictable 64 bits */
    /* A named point at which a test may fail or crash the process. OK in production. */
    enum err (*fault)(struct env *env, const char *point);
    /* Stops the process at once, saying why: used where going on could break the promise. Returns
     * only in tests. */
    void (*fatal)(struct env *env, const char *why);
    struct log *log; /* never NULL */
    void *data;      /* of whoever made this env */
};

/* The real one: system clocks, getrandom, exit code 74 (EX_IOERR) after a fatal error. `log` is
 * borrowed. */
void env_init_system(struct env *env, struct log *log);

#endif
