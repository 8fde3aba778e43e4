#include "store/store_read.h"

#include "batch.h"
#include "env.h"
#include "store/store_db.h"
#include "store/store_ids.h"
#include "thread.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct store_read {
    struct env *env;
    struct store_db *db;
    struct store_ids *ids;
    struct mailbox *questions;
    struct thread thread;
    int64_t deadline_ms; /* of the question in hand */
    sqlite3_stmt *event_by_seq, *dead_by_id, *queue_by_id, *list, *list_type, *seq_at;
};

/* Every statement that gives an event begins with these columns. */
#define EVENT_COLUMNS "event_id, type, timestamp, payload, seq, accepted_at"

static enum err
prepare_all(struct store_read *r)
{
    const struct {
        sqlite3_stmt **st;
        const char *sql;
    } all[] = {
        {&r->event_by_seq, "SELECT " EVENT_COLUMNS ", stored_at FROM events WHERE seq = ?1"},
        {&r->dead_by_id,
         "SELECT " EVENT_COLUMNS
         ", dead_at, reason FROM dead WHERE event_id = ?1 ORDER BY seq DESC LIMIT 1"},
        /* No index: the queue is short, and an index on ids is what costs most in this store. */
        {&r->queue_by_id,
         "SELECT " EVENT_COLUMNS " FROM queue WHERE event_id = ?1 ORDER BY seq LIMIT 1"},
        {&r->list, "SELECT " EVENT_COLUMNS
                   ", stored_at FROM events WHERE seq < ?1 AND seq >= ?2 ORDER BY seq DESC"},
        {&r->list_type, "SELECT " EVENT_COLUMNS
                        ", stored_at FROM events WHERE type = ?3 AND seq < ?1 AND seq >= ?2"
                        " ORDER BY seq DESC"},
        {&r->seq_at, "SELECT seq, accepted_at FROM events WHERE seq >= ?1 ORDER BY seq LIMIT 1"},
    };
    enum err e = OK;
    for (size_t i = 0; i < sizeof all / sizeof *all && e == OK; i++) {
        e = store_db_prepare(r->db, all[i].st, all[i].sql);
    }
    return e;
}

static enum err
take_row(struct question *q, sqlite3_stmt *st, enum event_state state)
{
    struct event *ev = store_db_row_event(st, 0);
    if (ev == NULL) {
        return ERR_NOMEM;
    }
    ev->seq = (uint64_t)sqlite3_column_int64(st, 4);
    ev->accepted_ms = sqlite3_column_int64(st, 5);
    struct found *f = &q->rows[q->n++];
    *f = (struct found){.ev = ev, .state = state, .durability = durability_name(DURABILITY_FSYNC)};
    if (state != EVENT_QUEUED) {
        f->settled_ms = sqlite3_column_int64(st, 6);
    }
    if (state == EVENT_DEAD) {
        snprintf(f->reason, sizeof f->reason, "%s", (const char *)sqlite3_column_text(st, 7));
    }
    return OK;
}

/* One row by one bound value, if there is one. */
static enum err
look(struct store_read *r, struct question *q, sqlite3_stmt *st, enum event_state state)
{
    bool row = false;
    enum err e = store_db_step(r->db, st, &row);
    if (e == OK && row) {
        e = take_row(q, st, state);
    }
    sqlite3_reset(st);
    return e;
}

/* In the order in which an event moves backwards, within one snapshot: it is in exactly one of these places. */
static enum err
answer_one(struct store_read *r, struct question *q)
{
    struct span id = {q->id, q->id_len};
    struct store_first first;
    enum err e = store_ids_find(r->ids, &first, id);
    store_ids_release(r->ids);
    if (e == OK && first.seq != 0) {
        sqlite3_bind_int64(r->event_by_seq, 1, (int64_t)first.seq);
        e = look(r, q, r->event_by_seq, EVENT_PROCESSED);
    }
    if (e == OK && q->n == 0) {
        sqlite3_bind_text(r->dead_by_id, 1, id.at, (int)id.len, SQLITE_STATIC);
        e = look(r, q, r->dead_by_id, EVENT_DEAD);
    }
    if (e == OK && q->n == 0) {
        sqlite3_bind_text(r->queue_by_id, 1, id.at, (int)id.len, SQLITE_STATIC);
        e = look(r, q, r->queue_by_id, EVENT_QUEUED);
    }
    return e == OK && q->n == 0 ? ERR_NOT_FOUND : e;
}

/* The first event with seq >= at_least; *seq 0 when there is none. */
static enum err
probe_seq(struct store_read *r, uint64_t *seq, int64_t *accepted_ms, uint64_t at_least)
{
    bool row = false;
    sqlite3_bind_int64(r->seq_at, 1, (int64_t)at_least);
    enum err e = store_db_step(r->db, r->seq_at, &row);
    *seq = e == OK && row ? (uint64_t)sqlite3_column_int64(r->seq_at, 0) : 0;
    *accepted_ms = *seq != 0 ? sqlite3_column_int64(r->seq_at, 1) : 0;
    sqlite3_reset(r->seq_at);
    return e;
}

/* The least seq such that every event from it on was accepted at or after `ms`: accepted_at grows with seq, so halving finds it. */
static enum err
seq_of_time(struct store_read *r, uint64_t *out, int64_t ms)
{
    uint64_t low = 0;
    uint64_t high = INT64_MAX;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        uint64_t seq = 0;
        int64_t accepted_ms = 0;
        enum err e = probe_seq(r, &seq, &accepted_ms, middle);
        if (e != OK) {
            return e;
        }
        if (seq == 0 || accepted_ms >= ms) {
            high = middle;
        } else {
            low = seq + 1;
        }
    }
    *out = low;
    return OK;
}

static enum err
collect(struct store_read *r, struct question *q, sqlite3_stmt *st)
{
    size_t bytes = 0;
    bool row = true;
    enum err e = OK;
    while (e == OK && row) {
        e = store_db_step(r->db, st, &row);
        if (e != OK || !row) {
            break;
        }
        if (q->n == q->limit || bytes > HISTORY_ANSWER_BYTES) {
            q->next_seq = q->rows[q->n - 1].ev->seq;
            break;
        }
        e = take_row(q, st, EVENT_PROCESSED);
        bytes += e == OK ? q->rows[q->n - 1].ev->mail.bytes : 0;
    }
    sqlite3_reset(st);
    return e;
}

static enum err
answer_list(struct store_read *r, struct question *q)
{
    sqlite3_stmt *st = q->type_len > 0 ? r->list_type : r->list;
    uint64_t from = 0;
    uint64_t to = q->before_seq != 0 ? q->before_seq : INT64_MAX;
    enum err e = OK;
    if (q->since_ms != INT64_MIN) {
        e = seq_of_time(r, &from, q->since_ms);
    }
    if (e == OK && q->until_ms != INT64_MAX) {
        uint64_t until = 0;
        e = seq_of_time(r, &until, q->until_ms);
        to = until < to ? until : to;
    }
    if (e != OK) {
        return e;
    }
    sqlite3_bind_int64(st, 1, (int64_t)to);
    sqlite3_bind_int64(st, 2, (int64_t)from);
    if (q->type_len > 0) {
        sqlite3_bind_text(st, 3, q->type, (int)q->type_len, SQLITE_STATIC);
    }
    return collect(r, q, st);
}

static enum err
answer(struct store_read *r, struct question *q)
{
    size_t rows = q->kind == QUESTION_ONE ? 1 : q->limit;
    q->rows = calloc(rows, sizeof *q->rows);
    if (q->rows == NULL) {
        return ERR_NOMEM;
    }
    enum err e = store_db_begin(r->db);
    if (e == OK) {
        e = q->kind == QUESTION_ONE ? answer_one(r, q) : answer_list(r, q);
    }
    store_db_rollback(r->db);
    return e;
}

/* SQLite asks every few thousand steps whether to go on. */
static int
is_late(void *data)
{
    struct store_read *r = data;
    return r->env->mono_ms(r->env) > r->deadline_ms;
}

static void
run(void *data)
{
    struct store_read *r = data;
    for (;;) {
        struct mail_list list = mailbox_take(r->questions, 1, SIZE_MAX, -1);
        struct question *q = (struct question *)mail_list_pop(&list);
        if (q == NULL) {
            return; /* shut, and nothing is left */
        }
        r->deadline_ms = r->env->mono_ms(r->env) + STORE_READ_MS;
        q->result = answer(r, q);
        if (q->result == ERR_UNAVAILABLE) {
            q->why = "the search took longer than a second; narrow it with type, since or until";
        }
        mailbox_post_reply(q->reply_to, &q->reply.mail); /* now the asker's */
    }
}

enum err
store_read_open(struct store_read **out, const char *folder, struct env *env, char *why,
                size_t why_size)
{
    struct store_read *r = calloc(1, sizeof *r);
    if (r == NULL) {
        return ERR_NOMEM;
    }
    r->env = env;
    r->questions = mailbox_open(SIZE_MAX, STORE_READ_WAITING, NULL, NULL);
    enum err e = r->questions == NULL
                     ? ERR_NOMEM
                     : store_db_open(&r->db, folder, STORE_DB_READER, env, why, why_size);
    if (e == OK) {
        e = store_ids_open(&r->ids, r->db);
    }
    if (e == OK) {
        e = prepare_all(r);
    }
    if (e == OK) {
        sqlite3_progress_handler(store_db_handle(r->db), 5000, is_late, r);
        e = thread_start(&r->thread, "store-reader", run, r);
    }
    if (e != OK) {
        store_read_close(r);
        return e;
    }
    *out = r;
    return OK;
}

enum err
store_read_ask(struct store_read *r, struct question *q)
{
    q->rows = NULL;
    q->n = 0;
    q->next_seq = 0;
    q->why = "";
    return mailbox_post(r->questions, &q->reply.mail);
}

void
store_read_close(struct store_read *r)
{
    if (r == NULL) {
        return;
    }
    if (r->questions != NULL) {
        mailbox_shut(r->questions);
    }
    thread_join(&r->thread);
    mailbox_close(r->questions);
    sqlite3_stmt *const all[] = {r->event_by_seq, r->dead_by_id, r->queue_by_id,
                                 r->list,         r->list_type,  r->seq_at};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        sqlite3_finalize(all[i]);
    }
    store_ids_close(r->ids);
    store_db_close(r->db, false);
    free(r);
}
