#include "env.h"

#include "clock.h"
#include "log.h"

#include <stdlib.h>
#include <sys/random.h>
#include <sysexits.h>
#include <unistd.h>

static int64_t
system_wall_ms(struct env *env)
{
    (void)env;
    return clock_wall_ms();
}

static int64_t
system_mono_ms(struct env *env)
{
    (void)env;
    return clock_mono_ns() / 1000000;
}

static uint64_t
system_random(struct env *env)
{
    uint64_t r = 0;
    if (getrandom(&r, sizeof r, 0) != (ssize_t)sizeof r) {
        env->fatal(env, "getrandom failed");
    }
    return r;
}

static enum err
system_fault(struct env *env, const char *point)
{
    (void)env;
    (void)point;
    return OK;
}

/* _exit, not exit: no destructor may write or sync anything after the disk has lied. */
static void
system_fatal(struct env *env, const char *why)
{
    log_error(env->log, "fatal", "why=\"%s\"", why);
    log_flush(env->log);
    _exit(EX_IOERR);
}

void
env_init_system(struct env *env, struct log *log)
{
    *env = (struct env){
        .wall_ms = system_wall_ms,
        .mono_ms = system_mono_ms,
        .random = system_random,
        .fault = system_fault,
        .fatal = system_fatal,
        .log = log,
    };
}
