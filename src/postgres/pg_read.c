/* pg_read.c - GET /events, asked of PostgreSQL.
 *
 * The accept order is the number seq (pg_parts.h): since, until and the cursor are bounds of it, and
 * one index answers them all. since also names the days whose tables can hold such an event: it was
 * stored after it was accepted, but by another machine's clock, so a day is allowed for.
 *
 * A plan over the tables of a year takes longer than the answer. So the last day before the end of
 * the list is asked first, then a month, and all days only where these hold too few. */
#include "postgres/pg_parts.h"

#include "clock.h"
#include "env.h"

#include <stdio.h>
#include <stdlib.h>

#define DAY_MS INT64_C(86400000)
#define CLOCKS_APART_MS DAY_MS

#define COLUMNS "event_id, type, timestamp, payload, accepted_at, stored_at, seq"
enum column { C_ID, C_TYPE, C_TIMESTAMP, C_PAYLOAD, C_ACCEPTED, C_STORED, C_SEQ };

static struct span
text_at(const PGresult *r, int column)
{
    return (struct span){PQgetvalue(r, 0, column), (size_t)PQgetlength(r, 0, column)};
}

/* Infinity, which others may have written, becomes the end of what RFC 3339 can say. */
static int64_t
us_at(const PGresult *r, int column)
{
    const int64_t least = -INT64_C(63113904000000000); /* 0000-01-01 */
    const int64_t most = INT64_C(252455615999999999);  /* 9999-12-31 */
    int64_t us = pg_get_i64(r, 0, column);
    return us < least ? least : us > most ? most : us;
}

static int64_t
ms_at(const PGresult *r, int column)
{
    int64_t us = us_at(r, column);
    int64_t ms = us / 1000 - (us % 1000 < 0);
    return ms + PG_EPOCH_MS;
}

/* In UTC, with as many digits of the second as it has. */
static size_t
format_us(char out[EVENT_TIME_MAX], int64_t us, int64_t ms)
{
    char text[CLOCK_RFC3339_MAX];
    int fraction = (int)(((us % 1000000) + 1000000) % 1000000);
    size_t n = clock_format_rfc3339(text, ms) - 5; /* without .123Z */
    int more = fraction == 0 ? 0 : snprintf(out + n, EVENT_TIME_MAX - n, ".%06d", fraction);
    memcpy(out, text, n);
    n += (size_t)more;
    while (more > 0 && out[n - 1] == '0') {
        n--;
    }
    out[n++] = 'Z';
    return n;
}

/* The binary form of jsonb: a version, then the text. */
static struct event *
event_of(const PGresult *r)
{
    char at[EVENT_TIME_MAX];
    struct span id = text_at(r, C_ID);
    struct span type = text_at(r, C_TYPE);
    struct span payload = text_at(r, C_PAYLOAD);
    if (id.len > EVENT_ID_MAX || type.len > EVENT_TYPE_MAX || payload.len < 1) {
        return NULL; /* not written by us */
    }
    size_t n = format_us(at, us_at(r, C_TIMESTAMP), ms_at(r, C_TIMESTAMP));
    return event_new(id, type, (struct span){at, n},
                     (struct span){payload.at + 1, payload.len - 1});
}

static enum err
take_row(struct question *q, const PGresult *r)
{
    struct event *ev = event_of(r);
    if (ev == NULL) {
        return ERR_NOMEM;
    }
    ev->seq = (uint64_t)pg_get_i64(r, 0, C_SEQ);
    ev->accepted_ms = ms_at(r, C_ACCEPTED);
    q->rows[q->n++] =
        (struct found){.ev = ev, .state = EVENT_PROCESSED, .settled_ms = ms_at(r, C_STORED)};
    return OK;
}

/* ---- one ---- */

static enum err
find_place(struct pg *p, const struct question *q, char stored_at[8], char seq[8])
{
    PG_RESULT r = NULL;
    struct pg_args a = {0};
    pg_args_add(&a, q->id, q->id_len);
    enum err e =
        pg_run_args(p, &r, "SELECT stored_at, seq FROM event_ids WHERE event_id = $1::text", &a);
    if (e == OK && PQntuples(r) == 0) {
        return ERR_NOT_FOUND;
    }
    if (e == OK) {
        memcpy(stored_at, PQgetvalue(r, 0, 0), 8);
        memcpy(seq, PQgetvalue(r, 0, 1), 8);
    }
    return e;
}

/* The id tells the day's table and the place in it. A row that the retention takes between the two
 * questions is gone as well. */
static enum err
answer_one(struct pg *p, struct question *q)
{
    char stored_at[8], seq[8];
    PG_RESULT r = NULL;
    struct pg_args a = {0};
    enum err e = find_place(p, q, stored_at, seq);
    if (e != OK) {
        return e == ERR_REJECTED ? ERR_NOT_FOUND : e; /* an id that no row can have */
    }
    pg_args_add(&a, stored_at, 8);
    pg_args_add(&a, seq, 8);
    pg_args_add(&a, q->id, q->id_len);
    e = pg_run_args(p, &r,
                    "SELECT " COLUMNS " FROM events WHERE stored_at = $1::timestamptz"
                    " AND seq = $2::bigint AND event_id = $3::text LIMIT 1",
                    &a);
    if (e == OK) {
        e = PQntuples(r) == 0 ? ERR_NOT_FOUND : take_row(q, r);
    }
    return e;
}

/* ---- many ---- */

static int64_t
seq_of_ms(int64_t ms)
{
    return ms <= 0 ? 0 : ms > PG_SEQ_MS_MAX ? INT64_MAX : ms << PG_SEQ_BITS;
}

/* A list's text and arguments; what is not asked for is not in it, so that the plan fits. */
struct list {
    char sql[512];
    struct pg_args args;
    char from[8], to[8], stored[8], limit[8];
};

static void
build_list(struct list *l, const struct question *q, int64_t since_ms)
{
    int64_t to = seq_of_ms(q->until_ms);
    if (q->before_seq != 0 && q->before_seq < (uint64_t)to) {
        to = (int64_t)q->before_seq;
    }
    pg_args_add_i64(&l->args, l->to, to);
    pg_args_add_i64(&l->args, l->from, seq_of_ms(since_ms));
    pg_args_add_i64(&l->args, l->limit, (int64_t)q->limit + 1);
    int n = snprintf(l->sql, sizeof l->sql,
                     "SELECT " COLUMNS " FROM events WHERE seq < $1::bigint AND seq >= $2::bigint");
    if (q->type_len > 0) {
        pg_args_add(&l->args, q->type, q->type_len);
        n += snprintf(l->sql + n, sizeof l->sql - (size_t)n, " AND type = $%d::text", l->args.n);
    }
    if (since_ms > CLOCKS_APART_MS && since_ms < PG_SEQ_MS_MAX) {
        pg_args_add_i64(&l->args, l->stored, (since_ms - CLOCKS_APART_MS - PG_EPOCH_MS) * 1000);
        n += snprintf(l->sql + n, sizeof l->sql - (size_t)n, " AND stored_at >= $%d::timestamptz",
                      l->args.n);
    }
    snprintf(l->sql + n, sizeof l->sql - (size_t)n, " ORDER BY seq DESC%s LIMIT $3::bigint",
             q->type_len > 0 ? " NULLS LAST" : ""); /* pg_schema.c says why */
}

/* One row more than asked for tells that there is a next page. An answer that is long enough before
 * that ends here: the connection is dropped, so that the rest of it is not sent. */
static enum err
collect(struct pg *p, struct question *q)
{
    size_t bytes = 0;
    for (;;) {
        PG_RESULT r = NULL;
        enum err e = pg_next_row(p, &r);
        if (e != OK || r == NULL) {
            return e;
        }
        if (q->n == q->limit || bytes > HISTORY_ANSWER_BYTES) {
            q->next_seq = q->rows[q->n - 1].ev->seq;
            if (q->n < q->limit) {
                pg_drop(p);
                return OK;
            }
            continue;
        }
        e = take_row(q, r);
        if (e != OK) {
            pg_drop(p);
            return e;
        }
        bytes += q->rows[q->n - 1].ev->mail.bytes;
    }
}

static void
forget_rows(struct question *q)
{
    for (size_t i = 0; i < q->n; i++) {
        event_free(q->rows[i].ev);
    }
    q->n = 0;
    q->next_seq = 0;
}

/* The last moment of which the list can tell. */
static int64_t
end_ms(struct pg *p, const struct question *q)
{
    int64_t ms = p->env->wall_ms(p->env);
    int64_t cursor_ms = (int64_t)(q->before_seq >> PG_SEQ_BITS);
    ms = q->until_ms < ms ? q->until_ms : ms;
    return q->before_seq != 0 && cursor_ms < ms ? cursor_ms : ms;
}

static enum err
list_since(struct pg *p, struct question *q, int64_t since_ms)
{
    struct list l = {0};
    build_list(&l, q, since_ms);
    enum err e = pg_start_rows(p, l.sql, &l.args);
    return e == OK ? collect(p, q) : e;
}

static enum err
answer_list(struct pg *p, struct question *q)
{
    static const int64_t days[] = {1, 30};
    int64_t until_ms = end_ms(p, q);
    for (size_t i = 0; i < sizeof days / sizeof *days; i++) {
        int64_t since_ms = until_ms - days[i] * DAY_MS;
        if (until_ms < 0 || since_ms <= q->since_ms) {
            break;
        }
        enum err e = list_since(p, q, since_ms);
        if (e != OK || q->next_seq != 0) {
            return e;
        }
        forget_rows(q);
    }
    return list_since(p, q, q->since_ms);
}

/* ---- either ---- */

static enum err
ask(struct pg *p, struct question *q)
{
    enum err e = pg_connect(p);
    if (e == OK) {
        e = q->kind == QUESTION_ONE ? answer_one(p, q) : answer_list(p, q);
    }
    if (e != OK) {
        forget_rows(q);
    }
    return e;
}

enum err
pg_answer(struct pg *p, struct question *q)
{
    q->rows = calloc(q->kind == QUESTION_ONE ? 1 : q->limit, sizeof *q->rows);
    if (q->rows == NULL) {
        return ERR_NOMEM;
    }
    bool was_connected = p->conn != NULL;
    enum err e = ask(p, q);
    if (e == ERR_UNAVAILABLE && was_connected && p->conn == NULL) {
        e = ask(p, q); /* the server was restarted since the last question */
    }
    if (e == ERR_UNAVAILABLE) {
        q->why = pg_is_timeout(p) ? "the search took longer than a second; narrow it with type, "
                                    "since or until"
                                  : "PostgreSQL cannot be reached or does not answer";
    }
    return e;
}
