/* sink_postgres.c - the effect is a row in PostgreSQL, in one transaction with its id. */
#include "sink/sink.h"

#include "config.h"
#include "env.h"
#include "log.h"
#include "postgres/postgres.h"

#include <stdio.h>
#include <stdlib.h>

struct sink_postgres {
    struct sink base;
    struct env *env;
    struct pg *pg;
    int64_t retention_ms;
};

/* Makes and drops partitions when it is time. A failure is told and tried again later: until then
 * the default partition takes what has no other. */
static void
keep_up(struct sink_postgres *s)
{
    enum err e = pg_upkeep(s->pg, s->retention_ms);
    if (e != OK) {
        log_warn(s->env->log, "sink.postgres.upkeep",
                 "err=%s why=\"partitions could not be made or dropped\"", err_name(e));
    }
}

static enum err
postgres_write(struct sink *sink, struct batch *b)
{
    struct sink_postgres *s = (struct sink_postgres *)sink;
    enum err e = s->env->fault(s->env, "sink_postgres.write");
    if (e == OK) {
        e = pg_write(s->pg, b);
    }
    if (e == OK) {
        keep_up(s);
    }
    return e;
}

static void
postgres_close(struct sink *sink)
{
    struct sink_postgres *s = (struct sink_postgres *)sink;
    if (s == NULL) {
        return;
    }
    pg_close(s->pg);
    free(s);
}

enum err
sink_postgres_open(struct sink **out, const struct config *cfg, struct env *env, char *why,
                   size_t why_size)
{
    static const struct sink_ops ops = {"postgresql", postgres_write, postgres_close};
    struct sink_postgres *s = calloc(1, sizeof *s);
    if (s == NULL) {
        snprintf(why, why_size, "out of memory");
        return ERR_NOMEM;
    }
    *s = (struct sink_postgres){.base = {&ops}, .env = env, .retention_ms = cfg->retention};
    enum err e = pg_open(&s->pg, cfg->sink, cfg->sink_timeout, false, env, why, why_size);
    if (e != OK) {
        postgres_close(&s->base);
        return e;
    }
    keep_up(s);
    *out = &s->base;
    return OK;
}
