/* store_writer.c - group commit.
 *
 * Happy path, one turn: take every job and every publish that waits → begin → add the published events to the queue,
 * apply the workers' jobs → commit (the durable point of all of them) → answer → hand the new events to the workers → checkpoint if due.
 *
 * Failure modes: any error inside the transaction → rollback, everyone in the group gets the error, nothing else changed.
 *                Disk full → publishes are refused at once until a probe succeeds (upkeep, every second).
 *                I/O error, damage, or a bug → env->fatal: nothing more is answered.
 * Invariants: 1. no answer before the commit's return. 2. sequence numbers and times grow in accept order. 3. `ready` holds a
 *             gapless run of the queue; what does not fit stays on disk only, and is read back in order (behind). */
#include "store/store_writer.h"

#include "env.h"
#include "log.h"
#include "stats.h"
#include "store/store_apply.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#define UPKEEP_MS 500
#define GROUP_BYTES_MAX ((size_t)4 * 1024 * 1024) /* of publishes in one transaction */
#define GROUP_COUNT_MAX 16384

static void
stop_if_fatal(struct store *s, enum err e)
{
    enum fate fate = err_fate(e);
    if (fate == FATE_STOP || fate == FATE_BUG) {
        char why[256];
        snprintf(why, sizeof why,
                 "the local store failed: %s; what is on disk is read anew at the next start",
                 store_db_failure(s->db));
        s->failed = true;
        s->env->fatal(s->env, why);
    }
}

static int64_t
accept_time(struct store *s)
{
    int64_t now_ms = s->env->wall_ms(s->env);
    return now_ms > s->last_accepted_ms ? now_ms : s->last_accepted_ms;
}

static enum err
commit_group(struct store *s, struct store_group *g)
{
    int64_t now_ms = accept_time(s);
    g->next_seq = s->next_seq;
    enum err e = s->env->fault(s->env, "store.begin");
    if (e == OK) {
        e = store_db_begin(s->db);
    }
    if (e != OK) {
        return e;
    }
    e = store_apply(s, g, now_ms);
    if (e == OK) {
        e = s->env->fault(s->env, "store.before_commit");
    }
    if (e == OK) {
        e = store_db_commit(s->db); /* the durable point */
    }
    s->next_seq = g->next_seq; /* also when it failed: an event may have kept its number */
    if (e != OK) {
        store_db_rollback(s->db);
        return e;
    }
    s->last_accepted_ms = now_ms;
    (void)s->env->fault(s->env,
                        "store.after_commit"); /* a place to crash: it is too late to fail */
    return OK;
}

static void
answer_jobs(struct store_group *g, enum err result)
{
    struct store_job *job;
    while ((job = (struct store_job *)mail_list_pop(&g->jobs)) != NULL) {
        for (size_t i = 0; i < job->batch->n && result == OK; i++) {
            struct delivery *d = &job->batch->item[i];
            d->state = d->next_state;
            d->conflict = d->next_conflict;
        }
        job->result = result;
        mailbox_post_reply(job->answer, &job->mail); /* now the worker's */
    }
}

/* Posts the publishes back, all that go to one loop together; their events are moved to *events first. */
static void
answer_publishes(struct store_group *g, struct mail_list *events, enum err result)
{
    while (g->publishes.first != NULL) {
        struct mailbox *to = ((struct publish *)g->publishes.first)->reply_to;
        struct mail_list same = {0};
        struct mail_list others = {0};
        struct publish *p;
        while ((p = (struct publish *)mail_list_pop(&g->publishes)) != NULL) {
            bool here = p->reply_to == to;
            if (here) {
                struct mail *m;
                while ((m = mail_list_pop(&p->events)) != NULL) {
                    mail_list_add(events, m);
                }
                p->result = result;
            }
            mail_list_add(here ? &same : &others, &p->reply.mail);
        }
        mailbox_post_replies(to, &same); /* now the api's */
        g->publishes = others;
    }
}

static void
free_events(struct mail_list *list)
{
    struct event *ev;
    while ((ev = (struct event *)mail_list_pop(list)) != NULL) {
        event_free(ev);
    }
}

static int
by_seq(const void *a, const void *b)
{
    uint64_t x = (*(struct event *const *)a)->seq;
    uint64_t y = (*(struct event *const *)b)->seq;
    return x < y ? -1 : x > y;
}

/* Several loops' publishes were gathered loop by loop: bring the events back into seq order. */
static enum err
sort_events(struct mail_list *list)
{
    bool sorted = true;
    for (struct mail *m = list->first; m != NULL && m->next != NULL; m = m->next) {
        sorted = sorted && ((struct event *)m)->seq < ((struct event *)m->next)->seq;
    }
    if (sorted) {
        return OK;
    }
    size_t n = 0;
    struct event **all = malloc(list->count * sizeof(struct event *));
    if (all == NULL) {
        return ERR_NOMEM;
    }
    struct mail *m;
    while ((m = mail_list_pop(list)) != NULL) {
        all[n++] = (struct event *)m;
    }
    qsort(all, n, sizeof *all, by_seq);
    for (size_t i = 0; i < n; i++) {
        mail_list_add(list, &all[i]->mail);
    }
    free(all);
    return OK;
}

/* New events go straight to the workers, unless older ones still wait on disk or there is no room: then they wait there too. */
static void
hand_to_workers(struct store *s, struct mail_list *events)
{
    if (events->first == NULL) {
        return;
    }
    uint64_t last = s->next_seq - 1;
    if (!atomic_load(&s->behind) && sort_events(events) == OK &&
        mailbox_post_list(s->ready, events) == OK) {
        s->ready_seq = last;
        return;
    }
    free_events(events);
    atomic_store(&s->behind, true);
}

enum err
store_writer_refill(struct store *s)
{
    if (!atomic_load(&s->behind) || atomic_load(&s->stop_taking)) {
        return OK;
    }
    size_t waiting = mailbox_bytes(s->ready);
    if (waiting >= s->o.memory_bytes / 2) {
        return OK;
    }
    struct mail_list list = {0};
    bool more = false;
    enum err e =
        store_db_queue_read(s->db, &list, &more, s->ready_seq, (s->o.memory_bytes - waiting) / 2);
    if (e != OK) {
        free_events(&list);
        return e;
    }
    uint64_t last = list.last != NULL ? ((struct event *)list.last)->seq : s->ready_seq;
    /* Not refused: at most one event more than there is room for, however large it is. */
    mailbox_post_replies(s->ready, &list);
    s->ready_seq = last;
    atomic_store(&s->behind, more);
    return OK;
}

static void
note_room(struct store *s)
{
    if (atomic_load(&s->bytes) < s->o.max_bytes - s->o.max_bytes / STORE_DRAIN_SHARE) {
        atomic_store(&s->full, false);
    }
}

static void
count_group(struct store *s, const struct store_group *g)
{
    atomic_fetch_add(&s->depth, g->added - g->removed);
    atomic_fetch_add(&s->bytes, g->added_bytes - g->removed_bytes);
    s->settled_bytes += g->removed_bytes;
    note_room(s);
    stats_add(&s->o.stats->commits, 1);
}

static void
refuse(struct store *s, enum store_refusal why, const char *text)
{
    if (atomic_exchange(&s->refusal, (int)why) != (int)why) {
        if (why == STORE_OPEN) {
            log_info(s->env->log, "store.open_again", "accepting=true");
        } else {
            log_error(s->env->log, "store.refusing",
                      "why=\"%s\" action=\"events are answered 503 until it ends\"", text);
        }
    }
}

static void
note_result(struct store *s, enum err e)
{
    if (e == ERR_DISK_FULL) {
        refuse(s, STORE_DISK_FULL, "the disk is full");
    } else if (e == ERR_UNAVAILABLE) {
        refuse(s, STORE_BUSY_ELSEWHERE, "another program holds the database's write lock");
    }
    stop_if_fatal(s, e);
}

static bool
disk_is_low(const struct store *s)
{
    struct statvfs fs;
    if (s->o.min_free_bytes == 0 || statvfs(s->o.folder, &fs) != 0) {
        return false;
    }
    return (uint64_t)fs.f_bavail * fs.f_frsize < s->o.min_free_bytes;
}

static void
check_floor(struct store *s)
{
    int refusal = atomic_load(&s->refusal);
    if (refusal == STORE_OPEN || refusal == STORE_DISK_LOW) {
        refuse(s, disk_is_low(s) ? STORE_DISK_LOW : STORE_OPEN,
               "less disk space is free than disk.min_free asks for");
    }
}

static void
run_group(struct store *s, struct store_group *g)
{
    enum err e = s->failed ? ERR_IO : commit_group(s, g);
    note_result(s, e);
    if (e == OK) {
        count_group(s, g);
        check_floor(s); /* a fast disk fills in less time than passes between two upkeeps */
    }
    struct mail_list events = {0};
    answer_publishes(g, &events, e);
    answer_jobs(g, e);
    if (e == OK) {
        hand_to_workers(s, &events);
    } else {
        free_events(&events);
    }
}

static void
check_disk(struct store *s)
{
    int refusal = atomic_load(&s->refusal);
    if (!s->failed && (refusal == STORE_DISK_FULL || refusal == STORE_BUSY_ELSEWHERE)) {
        enum err e = store_db_probe(s->db);
        note_result(s, e);
        if (e == OK) {
            refuse(s, STORE_OPEN, "");
        }
    }
    check_floor(s);
}

static void
upkeep(struct store *s)
{
    int64_t now_ms = s->env->mono_ms(s->env);
    if (now_ms < s->next_upkeep_ms) {
        return;
    }
    s->next_upkeep_ms = now_ms + UPKEEP_MS;
    check_disk(s);
    note_room(s);
    uint64_t rate = s->settled_bytes * 1000 / UPKEEP_MS;
    s->settled_bytes = 0;
    atomic_store(&s->drain_bytes_s, (atomic_load(&s->drain_bytes_s) * 3 + rate) / 4);
    int64_t oldest_ms = 0;
    if (atomic_load(&s->depth) > 0 && !s->failed) {
        note_result(s, store_db_queue_oldest(s->db, &oldest_ms));
    }
    atomic_store(&s->oldest_ms, oldest_ms);
}

/* Jobs first: a worker that waits holds a whole batch. Sleeps only when neither is there. */
static void
take_group(struct store *s, struct store_group *g)
{
    g->jobs = mailbox_take(s->jobs, SIZE_MAX, SIZE_MAX, 0);
    bool wait = g->jobs.first == NULL && !atomic_load(&s->closing);
    g->publishes =
        mailbox_take(s->publishes, GROUP_COUNT_MAX, GROUP_BYTES_MAX, wait ? UPKEEP_MS : 0);
    if (g->jobs.first == NULL && wait) {
        g->jobs = mailbox_take(s->jobs, SIZE_MAX, SIZE_MAX, 0);
    }
}

void
store_writer_run(void *data)
{
    struct store *s = data;
    for (;;) {
        struct store_group g = {0};
        bool closing = atomic_load(&s->closing);
        upkeep(s);
        take_group(s, &g);
        if (g.jobs.first != NULL || g.publishes.first != NULL) {
            run_group(s, &g);
        } else if (closing) {
            return;
        }
        if (!s->failed) {
            note_result(s, store_db_checkpoint_if_due(s->db));
            note_result(s, store_writer_refill(s));
        }
    }
}
