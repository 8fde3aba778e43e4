/* store_rows.c - the rows of the local store: what is put in and taken out, one prepared statement
 * each. The statements are prepared in store_db.c. */
#include "store/store_db.h"

#include "store/store_db_parts.h"

static void
bind_text(sqlite3_stmt *st, int at, struct span s)
{
    sqlite3_bind_text(st, at, s.at, (int)s.len, SQLITE_STATIC);
}

static void
bind_event(sqlite3_stmt *st, int first, const struct event *ev)
{
    bind_text(st, first, event_id(ev));
    bind_text(st, first + 1, event_type(ev));
    bind_text(st, first + 2, event_timestamp(ev));
    bind_text(st, first + 3, event_payload(ev));
}

enum err
store_db_queue_add(struct store_db *db, const struct event *ev)
{
    sqlite3_bind_int64(db->queue_add, 1, (int64_t)ev->seq);
    sqlite3_bind_int64(db->queue_add, 2, ev->accepted_ms);
    sqlite3_bind_int64(db->queue_add, 3, ev->attempt);
    bind_event(db->queue_add, 4, ev);
    return store_db_run(db, db->queue_add);
}

enum err
store_db_queue_remove(struct store_db *db, uint64_t first_seq, uint64_t last_seq)
{
    sqlite3_bind_int64(db->queue_remove, 1, (int64_t)first_seq);
    sqlite3_bind_int64(db->queue_remove, 2, (int64_t)last_seq);
    return store_db_run(db, db->queue_remove);
}

static struct span
column_span(sqlite3_stmt *st, int at)
{
    const char *text = sqlite3_column_blob(st, at);
    return (struct span){text == NULL ? "" : text, (size_t)sqlite3_column_bytes(st, at)};
}

struct event *
store_db_row_event(sqlite3_stmt *st, int first)
{
    return event_new(column_span(st, first), column_span(st, first + 1), column_span(st, first + 2),
                     column_span(st, first + 3));
}

static enum err
take_queue_row(struct mail_list *list, sqlite3_stmt *st)
{
    struct event *ev = store_db_row_event(st, 0);
    if (ev == NULL) {
        return ERR_NOMEM;
    }
    ev->seq = (uint64_t)sqlite3_column_int64(st, 4);
    ev->accepted_ms = sqlite3_column_int64(st, 5);
    ev->attempt = (uint32_t)sqlite3_column_int64(st, 6);
    mail_list_add(list, &ev->mail);
    return OK;
}

enum err
store_db_queue_read(struct store_db *db, struct mail_list *list, bool *more, uint64_t after,
                    size_t max_bytes)
{
    sqlite3_stmt *st = db->queue_read;
    sqlite3_bind_int64(st, 1, (int64_t)after);
    bool row = true;
    enum err e = OK;
    while (e == OK && list->bytes < max_bytes) {
        e = store_db_step(db, st, &row);
        if (e != OK || !row) {
            break;
        }
        e = take_queue_row(list, st);
    }
    sqlite3_reset(st);
    *more = row;
    return e;
}

enum err
store_db_queue_oldest(struct store_db *db, int64_t *accepted_ms)
{
    bool row = false;
    enum err e = store_db_step(db, db->queue_oldest, &row);
    *accepted_ms = e == OK && row ? sqlite3_column_int64(db->queue_oldest, 0) : 0;
    sqlite3_reset(db->queue_oldest);
    return e;
}

enum err
store_db_event_add(struct store_db *db, const struct event *ev, int64_t stored_ms)
{
    sqlite3_bind_int64(db->event_add, 1, (int64_t)ev->seq);
    sqlite3_bind_int64(db->event_add, 2, ev->accepted_ms);
    sqlite3_bind_int64(db->event_add, 3, stored_ms);
    bind_event(db->event_add, 4, ev);
    return store_db_run(db, db->event_add);
}

enum err
store_db_mark_add(struct store_db *db, const struct event *ev, int64_t payload_hash,
                  int64_t marked_ms)
{
    sqlite3_bind_int64(db->mark_add, 1, (int64_t)ev->seq);
    bind_text(db->mark_add, 2, event_id(ev));
    sqlite3_bind_int64(db->mark_add, 3, payload_hash);
    sqlite3_bind_int64(db->mark_add, 4, marked_ms);
    return store_db_run(db, db->mark_add);
}

enum err
store_db_dead_add(struct store_db *db, const struct event *ev, const char *reason, int64_t dead_ms)
{
    sqlite3_bind_int64(db->dead_add, 1, (int64_t)ev->seq);
    sqlite3_bind_int64(db->dead_add, 2, ev->accepted_ms);
    sqlite3_bind_int64(db->dead_add, 3, dead_ms);
    bind_event(db->dead_add, 4, ev);
    sqlite3_bind_int64(db->dead_add, 8, ev->attempt);
    bind_text(db->dead_add, 9, span_of(reason));
    return store_db_run(db, db->dead_add);
}

/* One number; 0 when the query gives no row or NULL. */
static enum err
query_number(struct store_db *db, int64_t *out, const char *sql)
{
    sqlite3_stmt *st = NULL;
    bool row = false;
    *out = 0;
    enum err e = store_db_prepare(db, &st, sql);
    if (e == OK) {
        e = store_db_step(db, st, &row);
    }
    if (e == OK && row) {
        *out = sqlite3_column_int64(st, 0);
    }
    sqlite3_finalize(st);
    return e;
}

enum err
store_db_state(struct store_db *db, struct store_db_state *out)
{
    int64_t last_seq = 0;
    int64_t queued = 0;
    int64_t text_bytes = 0;
    enum err e = query_number(
        db, &last_seq,
        "SELECT max(coalesce((SELECT max(seq) FROM queue), 0), coalesce((SELECT max(seq) FROM "
        "events), 0),"
        " coalesce((SELECT max(seq) FROM marks), 0), coalesce((SELECT max(seq) FROM dead), 0))");
    if (e == OK) {
        e = query_number(
            db, &out->last_accepted_ms,
            "SELECT max(coalesce((SELECT accepted_at FROM queue ORDER BY seq DESC LIMIT 1), 0),"
            " coalesce((SELECT accepted_at FROM events ORDER BY seq DESC LIMIT 1), 0))");
    }
    if (e == OK) {
        e = query_number(db, &queued, "SELECT count(*) FROM queue");
    }
    if (e == OK) {
        e = query_number(
            db, &text_bytes,
            "SELECT sum(length(CAST(event_id AS BLOB)) + length(CAST(type AS BLOB))"
            " + length(CAST(timestamp AS BLOB)) + length(CAST(payload AS BLOB))) FROM queue");
    }
    out->next_seq = (uint64_t)last_seq + 1;
    out->queued = (uint64_t)queued;
    out->queued_bytes = (uint64_t)text_bytes + (uint64_t)queued * sizeof(struct event);
    return e;
}
