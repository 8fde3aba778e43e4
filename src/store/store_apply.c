/* store_apply.c - everything between begin and commit: published events join the queue, staged
 * effects and ids are added, what is decided leaves the queue. */
#include "store/store_apply.h"

#include "env.h"

static enum err
add_publish(struct store *s, struct store_group *g, struct publish *p, int64_t now_ms)
{
    for (struct mail *m = p->events.first; m != NULL; m = m->next) {
        struct event *ev = (struct event *)m;
        ev->seq = g->next_seq++;
        ev->accepted_ms = now_ms;
        enum err e = s->env->fault(s->env, "store.append");
        if (e == OK) {
            e = store_db_queue_add(s->db, ev);
        }
        if (e != OK) {
            return e;
        }
    }
    g->added += p->events.count;
    g->added_bytes += p->events.bytes;
    return OK;
}

/* The id was there before: same payload, or a conflict? */
static enum err
note_duplicate(struct store *s, struct delivery *d, const struct store_first *first)
{
    d->next_state = EVENT_DUPLICATE;
    if (first->has_payload) {
        d->next_conflict = !span_eq(first->payload, event_payload(d->ev));
        return OK;
    }
    int64_t hash = 0;
    enum err e = store_ids_hash(s->ids, &hash, event_payload(d->ev));
    d->next_conflict = e == OK && hash != first->payload_hash;
    return e;
}

static enum err
add_effect(struct store *s, struct delivery *d, unsigned staged, int64_t now_ms)
{
    if (staged & STAGE_WRITE) {
        return store_db_event_add(s->db, d->ev, now_ms);
    }
    int64_t hash = 0;
    enum err e = store_ids_hash(s->ids, &hash, event_payload(d->ev));
    return e == OK ? store_db_mark_add(s->db, d->ev, hash, now_ms) : e;
}

static enum err
apply_delivery(struct store *s, struct store_group *g, struct delivery *d, unsigned staged,
               int64_t now_ms)
{
    d->next_state = d->state;
    d->next_conflict = d->conflict;
    if (d->state == EVENT_DEAD) {
        return store_db_dead_add(s->db, d->ev, d->reason, now_ms);
    }
    if (d->state != EVENT_PROCESSING || d->result != OK) {
        return OK;
    }
    d->next_state = EVENT_PROCESSED;
    if (staged == 0) {
        return OK; /* the effect and its id are elsewhere */
    }
    if (d->ev->seq == 0) {
        d->ev->seq = g->next_seq++; /* it came from another queue */
    }
    struct store_first first;
    enum err e = store_ids_add(s->ids, &first, event_id(d->ev), d->ev->seq);
    if (e == OK && first.seq != 0) {
        e = note_duplicate(s, d, &first);
    } else if (e == OK) {
        e = add_effect(s, d, staged, now_ms);
    }
    store_ids_release(s->ids);
    return e;
}

static bool
is_decided(const struct delivery *d)
{
    return d->next_state == EVENT_PROCESSED || d->next_state == EVENT_DUPLICATE ||
           d->next_state == EVENT_DEAD;
}

/* Runs of neighbours leave the queue with one statement each. */
static enum err
remove_decided(struct store *s, struct store_group *g, const struct batch *b)
{
    enum err e = OK;
    uint64_t first = 0; /* of the run in hand; 0: none */
    uint64_t last = 0;
    for (size_t i = 0; i < b->n && e == OK; i++) {
        const struct delivery *d = &b->item[i];
        if (!is_decided(d)) {
            continue;
        }
        g->removed++;
        g->removed_bytes += d->ev->mail.bytes;
        if (first != 0 && d->ev->seq == last + 1) {
            last++;
            continue;
        }
        if (first != 0) {
            e = store_db_queue_remove(s->db, first, last);
        }
        first = last = d->ev->seq;
    }
    return e == OK && first != 0 ? store_db_queue_remove(s->db, first, last) : e;
}

static enum err
apply_commit(struct store *s, struct store_group *g, struct store_job *job, int64_t now_ms)
{
    struct batch *b = job->batch;
    enum err e = OK;
    for (size_t i = 0; i < b->n && e == OK; i++) {
        e = s->env->fault(s->env, "store.settle");
        if (e == OK) {
            e = apply_delivery(s, g, &b->item[i], b->staged, now_ms);
        }
    }
    if (e == OK && job->kind == STORE_JOB_SETTLE) {
        e = remove_decided(s, g, b);
    }
    return e;
}

static enum err
apply_seen(struct store *s, struct batch *b)
{
    enum err e = OK;
    for (size_t i = 0; i < b->n && e == OK; i++) {
        struct delivery *d = &b->item[i];
        d->next_state = d->state;
        d->next_conflict = d->conflict;
        if (d->state != EVENT_PROCESSING) {
            continue;
        }
        struct store_first first;
        e = store_ids_find(s->ids, &first, event_id(d->ev));
        if (e == OK && first.seq != 0) {
            e = note_duplicate(s, d, &first);
        }
        store_ids_release(s->ids);
    }
    return e;
}

enum err
store_apply(struct store *s, struct store_group *g, int64_t now_ms)
{
    enum err e = OK;
    for (struct mail *m = g->jobs.first; m != NULL && e == OK; m = m->next) {
        struct store_job *job = (struct store_job *)m;
        e = job->kind == STORE_JOB_SEEN ? apply_seen(s, job->batch)
                                        : apply_commit(s, g, job, now_ms);
    }
    for (struct mail *m = g->publishes.first; m != NULL && e == OK; m = m->next) {
        e = add_publish(s, g, (struct publish *)m, now_ms);
    }
    return e;
}
