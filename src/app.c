#include "app.h"

#include "api/api.h"
#include "dedup/dedup.h"
#include "history/history.h"
#include "log.h"
#include "queue/queue.h"
#include "sink/sink.h"
#include "stats.h"
#include "store/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct app {
    const struct config *cfg; /* borrowed */
    struct env *env;          /* borrowed */
    struct stats stats;
    struct store *store;
    struct queue *queue;
    struct history *history;
    struct api *api;
    struct worker **workers;
    size_t n_workers;
    worker_watch *watch;
    void *watch_data;
    char *why; /* during app_open */
    size_t why_size;
};

/* The backends, by the scheme of their URL: what stands before the first ':', or all of it. Each gets what follows the ':', or NULL. */
static enum err
open_sink_local(struct sink **out, struct app *a, const char *rest)
{
    (void)rest;
    return sink_local_open(out, a->store);
}

static enum err
open_sink_log(struct sink **out, struct app *a, const char *rest)
{
    return sink_log_open(out, rest, a->env, a->why, a->why_size);
}

static const struct {
    const char *scheme;
    enum err (*open)(struct sink **out, struct app *a, const char *rest);
    bool decides; /* it commits a unique id with the effect */
} sinks[] = {
    {"local", open_sink_local, true},
    {"log", open_sink_log, false},
};

static enum err
open_dedup_local(struct dedup **out, struct app *a, bool sink_decides)
{
    return dedup_local_open(out, a->store, sink_decides);
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
    {"none", open_dedup_none},
};

#define COUNT(table) (sizeof(table) / sizeof *(table))

static bool
has_scheme(const char *url, const char *scheme)
{
    size_t n = strlen(scheme);
    return strncmp(url, scheme, n) == 0 && (url[n] == '\0' || url[n] == ':');
}

static const char *
after_scheme(const char *url)
{
    const char *colon = strchr(url, ':');
    return colon == NULL ? NULL : colon + 1;
}

static enum err
open_sink(struct sink **out, bool *decides, struct app *a)
{
    for (size_t i = 0; i < COUNT(sinks); i++) {
        if (has_scheme(a->cfg->sink, sinks[i].scheme)) {
            *decides = sinks[i].decides;
            return sinks[i].open(out, a, after_scheme(a->cfg->sink));
        }
    }
    return ERR_CONFIG; /* config.c has said so already */
}

static enum err
open_dedup(struct dedup **out, struct app *a, bool sink_decides)
{
    for (size_t i = 0; i < COUNT(dedups); i++) {
        if (has_scheme(a->cfg->dedup, dedups[i].scheme)) {
            return dedups[i].open(out, a, sink_decides);
        }
    }
    return ERR_CONFIG;
}

static enum err
open_store(struct app *a)
{
    const struct store_options o = {
        .folder = a->cfg->data,
        .mailbox_bytes = (size_t)a->cfg->queue_mailbox_bytes,
        .memory_bytes = (size_t)a->cfg->queue_memory_bytes,
        .max_bytes = (uint64_t)a->cfg->queue_max_bytes,
        .min_free_bytes = (uint64_t)a->cfg->disk_min_free,
        .stats = &a->stats,
    };
    return store_open(&a->store, &o, a->env, a->why, a->why_size);
}

static enum err
open_worker(struct app *a)
{
    bool sink_decides = false;
    struct worker_parts parts = {
        .env = a->env,
        .stats = &a->stats,
        .queue = a->queue,
        .batch_max = (size_t)a->cfg->worker_batch,
        .watch = a->watch,
        .watch_data = a->watch_data,
    };
    enum err e = open_sink(&parts.sink, &sink_decides, a);
    if (e != OK) {
        return e;
    }
    e = open_dedup(&parts.dedup, a, sink_decides);
    if (e == OK) {
        e = worker_open(&a->workers[a->n_workers], &parts);
    }
    if (e == OK) {
        a->n_workers++;
        return OK;
    }
    if (parts.dedup != NULL) {
        parts.dedup->ops->close(parts.dedup);
    }
    parts.sink->ops->close(parts.sink);
    return e;
}

static enum err
open_workers(struct app *a)
{
    size_t n = (size_t)a->cfg->worker_threads;
    a->workers = calloc(n, sizeof(struct worker *));
    enum err e = a->workers == NULL ? ERR_NOMEM : OK;
    for (size_t i = 0; i < n && e == OK; i++) {
        e = open_worker(a);
    }
    return e;
}

/* Last: nothing is bound before everything behind it is known to work. */
static enum err
open_api(struct app *a)
{
    const struct api_parts parts = {
        .cfg = a->cfg,
        .env = a->env,
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
    if (e == OK) {
        e = queue_local_open(&a->queue, a->store);
    }
    if (e == OK) {
        e = history_local_open(&a->history, a->store);
    }
    if (e == OK) {
        e = open_workers(a);
    }
    return e == OK ? open_api(a) : e;
}

enum err
app_open(struct app **out, const struct config *cfg, struct env *env, worker_watch *watch,
         void *watch_data, char *why, size_t why_size)
{
    why[0] = '\0';
    struct app *a = calloc(1, sizeof *a);
    if (a == NULL) {
        return ERR_NOMEM;
    }
    *a = (struct app){.cfg = cfg,
                      .env = env,
                      .watch = watch,
                      .watch_data = watch_data,
                      .why = why,
                      .why_size = why_size};
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
    return e == OK ? api_start(a->api) : e;
}

const char *
app_address(const struct app *a)
{
    return api_address(a->api);
}

static void
stop_workers(struct app *a)
{
    for (size_t i = 0; i < a->n_workers; i++) {
        worker_stop(a->workers[i]);
    }
    if (a->queue != NULL) {
        a->queue->ops->stop(a->queue);
    }
    for (size_t i = 0; i < a->n_workers; i++) {
        worker_close(a->workers[i]);
    }
    a->n_workers = 0;
}

void
app_drain(struct app *a)
{
    api_drain(a->api, (int)a->cfg->drain_timeout);
    stop_workers(a);
    struct queue_status status;
    a->queue->ops->status(a->queue, &status);
    log_info(a->env->log, "stop",
             "accepted=%llu processed=%llu duplicate=%llu dead=%llu left_queued=%llu",
             (unsigned long long)stats_get(&a->stats.accepted),
             (unsigned long long)stats_get(&a->stats.processed),
             (unsigned long long)stats_get(&a->stats.duplicate),
             (unsigned long long)stats_get(&a->stats.dead), (unsigned long long)status.depth);
}

void
app_close(struct app *a)
{
    if (a == NULL) {
        return;
    }
    stop_workers(a);
    free(a->workers);
    if (a->history != NULL) {
        a->history->ops->close(a->history);
    }
    if (a->queue != NULL) {
        a->queue->ops->close(a->queue);
    }
    store_close(a->store);
    api_close(a->api); /* last: the store's threads post into its mailboxes until they have ended */
    free(a);
}
