#include "app.h"

#include "api/api.h"
#include "dedup/dedup.h"
#include "history/history.h"
#include "log.h"
#include "queue/consumer.h"
#include "queue/queue.h"
#include "sink/sink.h"
#include "stats.h"
#include "store/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct app {
    struct app_parts parts;
    struct stats stats;
    struct store *store; /* NULL where no part is local */
    struct queue *queue; /* NULL without the API, as are history and api */
    struct history *history;
    struct api *api;
    struct worker **workers;
    struct consumer **consumers; /* the workers'; kept to stop them */
    size_t n_workers;
    char *why; /* during app_open */
    size_t why_size;
};

#define COUNT(table) (sizeof(table) / sizeof *(table))

static bool
has_scheme(const char *url, const char *scheme)
{
    size_t n = strlen(scheme);
    return strncmp(url, scheme, n) == 0 && (url[n] == '\0' || url[n] == ':');
}

/* ---- the backends, by the scheme of their URL: what stands before the first ':', or all of it ---- */

static enum err
open_queue_local(struct app *a)
{
    return queue_local_open(&a->queue, a->store);
}

static enum err
open_queue_amqp(struct app *a)
{
    const struct config *cfg = a->parts.cfg;
    struct queue *amqp = NULL;
    enum err e = queue_amqp_open(&amqp, cfg, a->parts.env, a->why, a->why_size);
    if (e != OK || strcmp(cfg->spool, "on") != 0) {
        a->queue = amqp;
        return e;
    }
    e = queue_spool_open(&a->queue, amqp, a->store, cfg, a->parts.env);
    if (e != OK) {
        amqp->ops->close(amqp);
    }
    return e;
}

static enum err
open_consumer_local(struct consumer **out, struct app *a)
{
    return consumer_local_open(out, a->store);
}

static enum err
open_consumer_amqp(struct consumer **out, struct app *a)
{
    enum err e = OK;
    if (a->n_workers == 0) { /* once for all of them */
        e = consumer_amqp_check(a->parts.cfg, a->parts.env, a->why, a->why_size);
    }
    return e == OK ? consumer_amqp_open(out, a->parts.cfg, a->parts.env) : e;
}

static const struct {
    const char *scheme;
    enum err (*open)(struct app *a);
    enum err (*open_consumer)(struct consumer **out, struct app *a);
} queues[] = {
    {"local", open_queue_local, open_consumer_local},
    {"amqp", open_queue_amqp, open_consumer_amqp},
    {"amqps", open_queue_amqp, open_consumer_amqp},
};

static enum err
open_sink_local(struct sink **out, struct app *a)
{
    return sink_local_open(out, a->store);
}

static enum err
open_sink_log(struct sink **out, struct app *a)
{
    const char *colon = strchr(a->parts.cfg->sink, ':');
    return sink_log_open(out, colon == NULL ? NULL : colon + 1, a->parts.env, a->why, a->why_size);
}

static enum err
open_sink_postgres(struct sink **out, struct app *a)
{
    return sink_postgres_open(out, a->parts.cfg, a->parts.env, a->why, a->why_size);
}

/* An API alone cannot look into the folders of the workers. */
static enum err
open_history_local(struct app *a)
{
    bool here = (a->parts.roles & APP_WORKER) != 0;
    return here ? history_local_open(&a->history, a->store) : history_none_open(&a->history);
}

static enum err
open_history_postgres(struct app *a)
{
    return history_postgres_open(&a->history, a->parts.cfg, a->parts.env, a->why, a->why_size);
}

/* The local queue knows what waits and what is dead; nobody can be asked for what was logged. */
static enum err
open_history_log(struct app *a)
{
    bool here = has_scheme(a->parts.cfg->queue, "local");
    return here ? history_local_open(&a->history, a->store) : history_none_open(&a->history);
}

static const struct {
    const char *scheme;
    enum err (*open)(struct sink **out, struct app *a);
    enum err (*open_history)(struct app *a);
    bool decides; /* it commits a unique id with the effect */
} sinks[] = {
    {"local", open_sink_local, open_history_local, true},
    {"postgresql", open_sink_postgres, open_history_postgres, true},
    {"postgres", open_sink_postgres, open_history_postgres, true},
    {"log", open_sink_log, open_history_log, false},
};

static enum err
open_dedup_local(struct dedup **out, struct app *a, bool sink_decides)
{
    return dedup_local_open(out, a->store, sink_decides);
}

static enum err
open_dedup_redis(struct dedup **out, struct app *a, bool sink_decides)
{
    return dedup_redis_open(out, a->parts.cfg, a->parts.env, sink_decides, a->why, a->why_size);
}

static enum err
open_dedup_none(struct dedup **out, struct app *a, bool sink_decides)
{
    (void)a;
    (void)sink_decides;
    return dedup_none_open(out);
}

static const struct {
    const char *scheme;
    enum err (*open)(struct dedup **out, struct app *a, bool sink_decides);
} dedups[] = {
    {"local", open_dedup_local},
    {"redis", open_dedup_redis},
    {"none", open_dedup_none},
};

/* The row of a table whose scheme the setting's value has; config.c refuses values that have none. */
#define FIND(row, table, url)                                                                      \
    do {                                                                                           \
        (row) = 0;                                                                                 \
        while ((row) < COUNT(table) - 1 && !has_scheme((url), (table)[row].scheme)) {              \
            (row)++;                                                                               \
        }                                                                                          \
    } while (0)

static size_t
queue_row(const struct app *a)
{
    size_t row;
    FIND(row, queues, a->parts.cfg->queue);
    return row;
}

static size_t
sink_row(const struct app *a)
{
    size_t row;
    FIND(row, sinks, a->parts.cfg->sink);
    return row;
}

static size_t
dedup_row(const struct app *a)
{
    size_t row;
    FIND(row, dedups, a->parts.cfg->dedup);
    return row;
}

/* ---- opening ---- */

static bool
needs_store(const struct app *a)
{
    const struct config *cfg = a->parts.cfg;
    bool queue = has_scheme(cfg->queue, "local");
    bool spool = (a->parts.roles & APP_API) && strcmp(cfg->spool, "on") == 0;
    bool effect = has_scheme(cfg->dedup, "local") || has_scheme(cfg->sink, "local");
    return queue || spool || ((a->parts.roles & APP_WORKER) && effect);
}

static enum err
open_store(struct app *a)
{
    if (!needs_store(a)) {
        return OK;
    }
    const struct config *cfg = a->parts.cfg;
    const struct store_options o = {
        .folder = cfg->data,
        .mailbox_bytes = (size_t)cfg->queue_mailbox_bytes,
        .memory_bytes = (size_t)cfg->queue_memory_bytes,
        .max_bytes = (uint64_t)cfg->queue_max_bytes,
        .min_free_bytes = (uint64_t)cfg->disk_min_free,
        .stats = &a->stats,
    };
    return store_open(&a->store, &o, a->parts.env, a->why, a->why_size);
}

/* The parts of one worker are its own: each has its connections. */
static enum err
open_worker_parts(struct worker_parts *w, struct app *a)
{
    size_t sink = sink_row(a);
    enum err e = queues[queue_row(a)].open_consumer(&w->consumer, a);
    if (e == OK) {
        e = sinks[sink].open(&w->sink, a);
    }
    if (e == OK) {
        e = dedups[dedup_row(a)].open(&w->dedup, a, sinks[sink].decides);
    }
    return e;
}

static void
close_worker_parts(struct worker_parts *w)
{
    if (w->dedup != NULL) {
        w->dedup->ops->close(w->dedup);
    }
    if (w->sink != NULL) {
        w->sink->ops->close(w->sink);
    }
    if (w->consumer != NULL) {
        w->consumer->ops->close(w->consumer);
    }
}

static enum err
open_worker(struct app *a)
{
    struct worker_parts w = {
        .env = a->parts.env,
        .stats = &a->stats,
        .batch_max = (size_t)a->parts.cfg->worker_batch,
        .watch = a->parts.watch,
        .watch_data = a->parts.watch_data,
    };
    enum err e = open_worker_parts(&w, a);
    if (e == OK) {
        e = worker_open(&a->workers[a->n_workers], &w);
    }
    if (e != OK) {
        close_worker_parts(&w);
        return e;
    }
    a->consumers[a->n_workers++] = w.consumer;
    return OK;
}

static enum err
open_workers(struct app *a)
{
    size_t n = (size_t)a->parts.cfg->worker_threads;
    a->workers = calloc(n, sizeof *a->workers);
    a->consumers = calloc(n, sizeof *a->consumers);
    enum err e = a->workers == NULL || a->consumers == NULL ? ERR_NOMEM : OK;
    for (size_t i = 0; i < n && e == OK; i++) {
        e = open_worker(a);
    }
    return e;
}

/* Last: nothing is bound before everything behind it is known to work. */
static enum err
open_api(struct app *a)
{
    enum err e = queues[queue_row(a)].open(a);
    if (e == OK) {
        e = sinks[sink_row(a)].open_history(a);
    }
    if (e != OK) {
        return e;
    }
    const struct api_parts parts = {
        .cfg = a->parts.cfg,
        .env = a->parts.env,
        .stats = &a->stats,
        .queue = a->queue,
        .history = a->history,
    };
    return api_open(&a->api, &parts, a->why, a->why_size);
}

static enum err
open_parts(struct app *a)
{
    enum err e = open_store(a);
    if (e == OK && (a->parts.roles & APP_WORKER)) {
        e = open_workers(a);
    }
    if (e == OK && (a->parts.roles & APP_API)) {
        e = open_api(a);
    }
    return e;
}

enum err
app_open(struct app **out, const struct app_parts *parts, char *why, size_t why_size)
{
    why[0] = '\0';
    struct app *a = calloc(1, sizeof *a);
    if (a == NULL) {
        return ERR_NOMEM;
    }
    *a = (struct app){.parts = *parts, .why = why, .why_size = why_size};
    enum err e = open_parts(a);
    if (e != OK) {
        if (why[0] == '\0') {
            snprintf(why, why_size, "cannot start: %s", err_text(e));
        }
        app_close(a);
        return e;
    }
    *out = a;
    return OK;
}

enum err
app_start(struct app *a)
{
    enum err e = OK;
    for (size_t i = 0; i < a->n_workers && e == OK; i++) {
        e = worker_start(a->workers[i], (unsigned)i);
    }
    return e == OK && a->api != NULL ? api_start(a->api) : e;
}

const char *
app_address(const struct app *a)
{
    return a->api == NULL ? NULL : api_address(a->api);
}

/* ---- ending, in flow order ---- */

static void
stop_workers(struct app *a)
{
    for (size_t i = 0; i < a->n_workers; i++) {
        worker_stop(a->workers[i]);
        a->consumers[i]->ops->stop(a->consumers[i]);
    }
    for (size_t i = 0; i < a->n_workers; i++) {
        worker_close(a->workers[i]);
    }
    a->n_workers = 0;
}

static unsigned long long
count(const _Atomic uint64_t *counter)
{
    return (unsigned long long)stats_get(counter);
}

void
app_drain(struct app *a)
{
    if (a->api != NULL) {
        api_drain(a->api, (int)a->parts.cfg->drain_timeout);
    }
    stop_workers(a);
    struct queue_status status = {0};
    if (a->queue != NULL) {
        a->queue->ops->status(a->queue, &status);
    }
    log_info(a->parts.env->log, "stop",
             "accepted=%llu processed=%llu duplicate=%llu dead=%llu left_queued=%llu",
             count(&a->stats.accepted), count(&a->stats.processed), count(&a->stats.duplicate),
             count(&a->stats.dead), (unsigned long long)status.depth);
}

void
app_close(struct app *a)
{
    if (a == NULL) {
        return;
    }
    stop_workers(a);
    free(a->workers);
    free(a->consumers);
    if (a->history != NULL) {
        a->history->ops->close(a->history);
    }
    if (a->queue != NULL) {
        a->queue->ops->close(a->queue);
    }
    store_close(a->store);
    api_close(a->api); /* last: the others' threads post into its mailboxes until they have ended */
    free(a);
}
