/* store.c - the local store as its users see it: opens and closes the parts, and carries calls to the writing thread. */
#include "store/store.h"

#include "env.h"
#include "stats.h"
#include "store/store_lock.h"
#include "store/store_writer.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define RETRY_AFTER_MAX_S 60

static void
wake_writer(void *data)
{
    mailbox_nudge(((struct store *)data)->publishes);
}

static enum err
open_mailboxes(struct store *s)
{
    s->publishes = mailbox_open(s->o.mailbox_bytes, SIZE_MAX, NULL, NULL);
    s->jobs = mailbox_open(SIZE_MAX, SIZE_MAX, wake_writer, s); /* bounded: one a worker */
    s->ready = mailbox_open(s->o.memory_bytes, SIZE_MAX, NULL, NULL);
    s->idle_jobs = mailbox_open(SIZE_MAX, SIZE_MAX, NULL, NULL); /* bounded: one a worker */
    bool all = s->publishes != NULL && s->jobs != NULL && s->ready != NULL && s->idle_jobs != NULL;
    return all ? OK : ERR_NOMEM;
}

static enum err
load_state(struct store *s)
{
    struct store_db_state state = {0};
    enum err e = store_db_state(s->db, &state);
    if (e != OK) {
        return e;
    }
    s->next_seq = state.next_seq;
    s->last_accepted_ms = state.last_accepted_ms;
    atomic_store(&s->depth, state.queued);
    atomic_store(&s->bytes, state.queued_bytes);
    atomic_store(&s->behind, state.queued > 0);
    return store_writer_refill(s);
}

static enum err
open_parts(struct store *s, char *why, size_t why_size)
{
    enum err e = store_lock_take(&s->lock_fd, s->o.folder, why, why_size);
    if (e == OK) {
        e = open_mailboxes(s);
    }
    if (e == OK) {
        e = store_db_open(&s->db, s->o.folder, STORE_DB_WRITER, s->env, why, why_size);
    }
    if (e == OK) {
        e = store_ids_open(&s->ids, s->db);
    }
    if (e == OK) {
        e = load_state(s);
    }
    if (e == OK) {
        e = store_read_open(&s->reader, s->o.folder, s->env, why, why_size);
    }
    return e == OK ? thread_start(&s->thread, "store-writer", store_writer_run, s) : e;
}

enum err
store_open(struct store **out, const struct store_options *o, struct env *env, char *why,
           size_t why_size)
{
    why[0] = '\0';
    struct store *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return ERR_NOMEM;
    }
    s->env = env;
    s->o = *o;
    s->lock_fd = -1;
    enum err e = open_parts(s, why, why_size);
    if (e != OK) {
        if (why[0] == '\0') {
            snprintf(why, why_size, "cannot open the local store in %s: %s", o->folder,
                     err_text(e));
        }
        store_close(s);
        return e;
    }
    *out = s;
    return OK;
}

static void
free_ready(struct store *s)
{
    struct mail_list list = mailbox_take(s->ready, SIZE_MAX, SIZE_MAX, 0);
    struct mail *m;
    while ((m = mail_list_pop(&list)) != NULL) {
        event_free((struct event *)m);
    }
}

static void
free_idle_jobs(struct store *s)
{
    struct mail_list list = mailbox_take(s->idle_jobs, SIZE_MAX, SIZE_MAX, 0);
    struct store_job *job;
    while ((job = (struct store_job *)mail_list_pop(&list)) != NULL) {
        mailbox_close(job->answer);
        free(job);
    }
}

void
store_close(struct store *s)
{
    if (s == NULL) {
        return;
    }
    if (s->publishes != NULL && s->jobs != NULL && s->ready != NULL && s->idle_jobs != NULL) {
        mailbox_shut(s->publishes);
        atomic_store(&s->closing, true);
        mailbox_nudge(s->publishes);
        thread_join(&s->thread);
        free_ready(s);
        free_idle_jobs(s);
    }
    store_read_close(s->reader); /* before the writer's connection: the last to close checkpoints */
    store_ids_close(s->ids);
    store_db_close(s->db, !s->failed);
    mailbox_close(s->publishes);
    mailbox_close(s->jobs);
    mailbox_close(s->ready);
    mailbox_close(s->idle_jobs);
    store_lock_drop(s->lock_fd);
    free(s);
}

enum err
store_publish(struct store *s, struct publish *p)
{
    switch (atomic_load_explicit(&s->refusal, memory_order_relaxed)) {
    case STORE_DISK_FULL:
    case STORE_DISK_LOW:
        return ERR_DISK_FULL;
    case STORE_BUSY_ELSEWHERE:
        return ERR_UNAVAILABLE;
    default:
        break;
    }
    uint64_t bytes = atomic_load_explicit(&s->bytes, memory_order_relaxed);
    if (bytes > 0 && bytes + p->reply.mail.bytes > s->o.max_bytes) {
        atomic_store(&s->full, true);
        return ERR_QUEUE_FULL; /* one that is larger than the whole queue fits when it is empty */
    }
    return mailbox_post(s->publishes, &p->reply.mail);
}

enum err
store_take(struct store *s, struct batch *b, int wait_ms)
{
    if (atomic_load(&s->stop_taking)) {
        return ERR_STOPPING;
    }
    struct mail_list list = mailbox_take(s->ready, b->cap, SIZE_MAX, wait_ms);
    struct mail *m;
    while ((m = mail_list_pop(&list)) != NULL) {
        batch_add(b, (struct event *)m);
    }
    if (atomic_load_explicit(&s->behind, memory_order_relaxed) &&
        mailbox_bytes(s->ready) < s->o.memory_bytes / 2) {
        wake_writer(s);
    }
    return b->n == 0 && atomic_load(&s->stop_taking) ? ERR_STOPPING : OK;
}

void
store_stop_taking(struct store *s)
{
    atomic_store(&s->stop_taking, true);
    mailbox_shut(s->ready);
}

static struct store_job *
get_job(struct store *s)
{
    struct mail_list one = mailbox_take(s->idle_jobs, 1, SIZE_MAX, 0);
    struct store_job *job = (struct store_job *)mail_list_pop(&one);
    if (job != NULL) {
        return job;
    }
    job = calloc(1, sizeof *job);
    if (job == NULL) {
        return NULL;
    }
    job->answer = mailbox_open(SIZE_MAX, SIZE_MAX, NULL, NULL);
    if (job->answer == NULL) {
        free(job);
        return NULL;
    }
    return job;
}

/* Hands a job to the writer and waits for its answer, however long the disk takes. */
static enum err
call(struct store *s, struct batch *b, enum store_job_kind kind)
{
    struct store_job *job = get_job(s);
    if (job == NULL) {
        return ERR_NOMEM;
    }
    job->kind = kind;
    job->batch = b;
    mailbox_post_reply(s->jobs, &job->mail);
    struct mail_list answer = {0};
    while (answer.first == NULL) {
        answer = mailbox_take(job->answer, 1, SIZE_MAX, -1);
    }
    enum err e = job->result;
    mailbox_post_reply(s->idle_jobs, mail_list_pop(&answer));
    return e;
}

enum err
store_commit(struct store *s, struct batch *b, bool settle)
{
    return b->n == 0 ? OK : call(s, b, settle ? STORE_JOB_SETTLE : STORE_JOB_COMMIT);
}

enum err
store_seen(struct store *s, struct batch *b)
{
    /* First the store: a known id is judged against the payload that was kept, not its neighbour's. */
    enum err e = b->n == 0 ? OK : call(s, b, STORE_JOB_SEEN);
    return e == OK ? batch_mark_repeats(b) : e;
}

enum err
store_ask(struct store *s, struct question *q)
{
    return store_read_ask(s->reader, q);
}

static unsigned
retry_after(struct store *s)
{
    if (atomic_load(&s->refusal) != STORE_OPEN) {
        return 5; /* the disk is looked at every half second; people are slower */
    }
    if (!atomic_load(&s->full)) {
        return 1; /* only the mailbox was full */
    }
    uint64_t rate = atomic_load(&s->drain_bytes_s);
    uint64_t seconds =
        rate == 0 ? RETRY_AFTER_MAX_S : s->o.max_bytes / STORE_DRAIN_SHARE / rate + 1;
    return (unsigned)(seconds < RETRY_AFTER_MAX_S ? seconds : RETRY_AFTER_MAX_S);
}

void
store_status(struct store *s, struct queue_status *out)
{
    static const char *const why[] = {
        [STORE_OPEN] = "",
        [STORE_DISK_FULL] = "the disk is full",
        [STORE_DISK_LOW] = "less disk space is free than disk.min_free asks for",
        [STORE_BUSY_ELSEWHERE] = "another program holds the database's write lock",
    };
    int refusal = atomic_load(&s->refusal);
    int64_t oldest_ms = atomic_load(&s->oldest_ms);
    int64_t age_ms =
        oldest_ms == 0 || atomic_load(&s->depth) == 0 ? 0 : s->env->wall_ms(s->env) - oldest_ms;
    *out = (struct queue_status){
        .ready = refusal == STORE_OPEN,
        .why = why[refusal],
        .depth = atomic_load(&s->depth),
        .bytes = atomic_load(&s->bytes),
        .oldest_age_ms = age_ms > 0 ? age_ms : 0,
        .retry_after_s = retry_after(s),
    };
    if (out->ready && atomic_load(&s->full)) {
        out->ready = false;
        out->why = "the queue is full (queue.max_bytes)";
    }
}
