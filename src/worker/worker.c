#include "worker/worker.h"

#include "log.h"
#include "mailbox.h"
#include "thread.h"
#include "worker/deliver.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define TAKE_WAIT_MS 500
#define PAUSE_FIRST_MS 50
#define PAUSE_MAX_MS 2000

struct worker {
    struct worker_parts parts;
    struct batch batch;
    struct mailbox *pause; /* never holds mail: a wait that worker_stop ends */
    struct thread thread;
    atomic_bool stopping;
    int pause_ms; /* of the next pause; 0 when the last attempt went well */
    int64_t paused_since_ms;
};

enum err
worker_open(struct worker **out, const struct worker_parts *parts)
{
    struct worker *w = calloc(1, sizeof *w);
    if (w == NULL) {
        return ERR_NOMEM;
    }
    w->parts = *parts;
    w->pause = mailbox_open(0, 0, NULL, NULL);
    enum err e = w->pause == NULL ? ERR_NOMEM : batch_init(&w->batch, parts->batch_max);
    if (e != OK) {
        mailbox_close(w->pause);
        free(w);
        return e;
    }
    *out = w;
    return OK;
}

static void
count(struct worker *w)
{
    struct stats *stats = w->parts.stats;
    uint64_t processed = 0, duplicate = 0, conflict = 0, dead = 0;
    for (size_t i = 0; i < w->batch.n; i++) {
        const struct delivery *d = &w->batch.item[i];
        processed += d->state == EVENT_PROCESSED;
        duplicate += d->state == EVENT_DUPLICATE;
        conflict += d->state == EVENT_DUPLICATE && d->conflict;
        dead += d->state == EVENT_DEAD;
    }
    assert(processed + duplicate + dead == w->batch.n); /* nothing vanishes */
    stats_add(&stats->processed, processed);
    stats_add(&stats->duplicate, duplicate);
    stats_add(&stats->conflict, conflict);
    stats_add(&stats->dead, dead);
    stats_add(&stats->batches, 1);
}

/* The same id with another payload is most often a client's mistake: people must hear of it. */
static void
log_conflict(struct worker *w, const struct delivery *d)
{
    char id[LOG_VALUE_MAX];
    log_warn(w->parts.env->log, "event.conflict",
             "id=\"%s\" kept=first why=\"the id came again with another payload\"",
             log_value(id, event_id(d->ev)));
}

static void
report(struct worker *w)
{
    count(w);
    for (size_t i = 0; i < w->batch.n; i++) {
        const struct delivery *d = &w->batch.item[i];
        if (d->conflict) {
            log_conflict(w, d);
        }
        w->parts.watch(w->parts.watch_data, d);
    }
}

static void
went_well(struct worker *w)
{
    if (w->pause_ms != 0) {
        struct env *env = w->parts.env;
        log_info(env->log, "worker.resume", "after_ms=%lld",
                 (long long)(env->mono_ms(env) - w->paused_since_ms));
        w->pause_ms = 0;
    }
}

static void
pause_starts(struct worker *w, enum err why)
{
    struct env *env = w->parts.env;
    w->pause_ms = PAUSE_FIRST_MS;
    w->paused_since_ms = env->mono_ms(env);
    stats_add(&w->parts.stats->pauses, 1);
    log_warn(env->log, "worker.pause", "err=%s why=\"%s\" events=%zu", err_name(why), err_text(why),
             w->batch.n);
}

/* Waits before the next attempt, longer each time. The jitter keeps workers that failed together
 * from trying again together. */
static void
wait_a_little(struct worker *w)
{
    struct env *env = w->parts.env;
    int half = w->pause_ms / 2;
    int wait_ms = half + (int)(env->random(env) % (uint64_t)(half + 1));
    w->parts.consumer->ops->idle(w->parts.consumer);
    struct mail_list none = mailbox_take(w->pause, 0, 0, wait_ms);
    assert(none.first == NULL);
    (void)none;
    w->pause_ms = w->pause_ms * 2 > PAUSE_MAX_MS ? PAUSE_MAX_MS : w->pause_ms * 2;
}

/* True: wait is over, try again. False: this worker ends. */
static bool
may_try_again(struct worker *w, enum err e)
{
    struct env *env = w->parts.env;
    if (err_fate(e) != FATE_RETRY) {
        log_error(env->log, "worker.fatal", "err=%s events=%zu", err_name(e), w->batch.n);
        env->fatal(env, err_text(e));
        return false;
    }
    if (e == ERR_STOPPING) {
        return false;
    }
    if (w->pause_ms == 0) {
        pause_starts(w, e);
    }
    wait_a_little(w);
    return !atomic_load(&w->stopping);
}

/* False: this worker ends. What it holds is still in the queue and given again at the next
 * start. */
static bool
deliver_until_settled(struct worker *w)
{
    const struct deliver_parts parts = {w->parts.env, w->parts.consumer, w->parts.dedup,
                                        w->parts.sink};
    enum err e = deliver(&parts, &w->batch);
    while (e != OK) {
        if (e == ERR_LOST) {
            log_warn(w->parts.env->log, "worker.lost", "events=%zu why=\"%s\"", w->batch.n,
                     err_text(e));
            return true;
        }
        if (!may_try_again(w, e)) {
            return false;
        }
        e = deliver(&parts, &w->batch);
    }
    went_well(w);
    report(w);
    return true;
}

static void
run(void *data)
{
    struct worker *w = data;
    bool going = true;
    while (going && !atomic_load(&w->stopping)) {
        enum err e = w->parts.consumer->ops->take(w->parts.consumer, &w->batch, TAKE_WAIT_MS);
        if (e != OK) {
            going = may_try_again(w, e);
        } else if (w->batch.n > 0) {
            going = deliver_until_settled(w);
        }
        batch_reset(&w->batch);
    }
}

enum err
worker_start(struct worker *w, unsigned number)
{
    char name[16];
    snprintf(name, sizeof name, "worker-%u", number % 1000);
    return thread_start(&w->thread, name, run, w);
}

void
worker_stop(struct worker *w)
{
    atomic_store(&w->stopping, true);
    mailbox_shut(w->pause);
}

void
worker_close(struct worker *w)
{
    if (w == NULL) {
        return;
    }
    worker_stop(w);
    thread_join(&w->thread);
    w->parts.sink->ops->close(w->parts.sink);
    w->parts.dedup->ops->close(w->parts.dedup);
    w->parts.consumer->ops->close(w->parts.consumer);
    batch_fini(&w->batch);
    mailbox_close(w->pause);
    free(w);
}
