/* pg_write.c - a batch becomes rows: in event_ids, which is the unique key, and in events.
 *
 * One statement a batch does both, so they are one transaction: a row in events exists if and only
 * if its id does. An id that was there before, or that another session commits while we wait for
 * it, is not returned: it is a duplicate, and a second, small statement reads the hash that was
 * kept with it, to tell a conflict.
 *
 * 1. What is sent holds each id once: the statement could not tell repeats apart. The first of them
 *    stands for the others (rows_lead), and its fate decides theirs.
 * 2. Ids are inserted in one order in every session, so that two that share ids wait for each other
 *    in turn, not in a circle. Where a deadlock happens all the same, it is tried again at once.
 * 3. A row that PostgreSQL cannot store (\u0000 in its payload, say) makes the whole statement
 *    fail. Halving finds it; the others are stored, by statements of their own.
 * 4. A connection that is lost before the answer came: the rows may be there. The batch is given
 *    again, and meets its ids.
 * 5. The batch is changed only after everything was stored. */
#include "postgres/pg_parts.h"

#include "clock.h"
#include "env.h"

#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

#define STATEMENT_BYTES ((size_t)2 * 1024 * 1024) /* of payload in one statement; or one event */
#define TRIES 4                                   /* of a statement that meets a deadlock */

#define OID_BYTEA 17
#define OID_INT8 20
#define OID_TEXT 25
#define OID_TIMESTAMPTZ 1184
#define OID_JSONB 3802

enum row_fate { ROW_WAITS, ROW_FRESH, ROW_KNOWN, ROW_REJECTED };

struct row {
    struct delivery *d;
    struct row *leader; /* the first of the same id; itself */
    int64_t timestamp_us;
    enum row_fate fate;
    bool kept_known; /* KNOWN: kept is the hash that was stored first */
    unsigned char hash[SHA256_DIGEST_LENGTH];
    unsigned char kept[SHA256_DIGEST_LENGTH];
    char reason[sizeof((struct delivery *)0)->reason];
};

/* nextval gives the counter within a millisecond in the order of the batch; then ids are sorted. */
static const char insert_sql[] =
    "WITH input AS MATERIALIZED ("
    " SELECT i.*, i.place + nextval('events_seq') AS seq"
    " FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::jsonb[], $5::timestamptz[],"
    " $6::bytea[], $7::bigint[]) WITH ORDINALITY"
    " AS i(event_id, type, timestamp, payload, accepted_at, payload_hash, place, number)),"
    "fresh AS ("
    " INSERT INTO event_ids (event_id, payload_hash, stored_at, seq)"
    " SELECT event_id, payload_hash, now(), seq FROM input ORDER BY event_id COLLATE \"C\""
    " ON CONFLICT (event_id) DO NOTHING RETURNING seq),"
    "stored AS ("
    " INSERT INTO events (event_id, type, timestamp, payload, accepted_at, stored_at, seq)"
    " SELECT event_id, type, timestamp, payload, accepted_at, now(), seq"
    " FROM input JOIN fresh USING (seq))"
    "SELECT number FROM input JOIN fresh USING (seq)";

static const char kept_sql[] =
    "SELECT (SELECT k.payload_hash FROM event_ids k WHERE k.event_id = i.event_id)"
    " FROM unnest($1::text[]) WITH ORDINALITY AS i(event_id, number) ORDER BY number";

enum err
pg_write_prepare(struct pg *p)
{
    enum err e = pg_prepare(p, "weir_insert", insert_sql);
    return e == OK ? pg_prepare(p, "weir_kept", kept_sql) : e;
}

/* ---- arrays in binary form ---- */

static void
put_i32(struct buf *b, uint32_t v)
{
    const unsigned char at[4] = {(unsigned char)(v >> 24), (unsigned char)(v >> 16),
                                 (unsigned char)(v >> 8), (unsigned char)v};
    buf_add(b, at, sizeof at);
}

/* One dimension from 1 to n, no NULLs; the elements follow. */
static void
begin_array(struct buf *b, uint32_t type, size_t n)
{
    buf_reset(b);
    put_i32(b, 1);
    put_i32(b, 0);
    put_i32(b, type);
    put_i32(b, (uint32_t)n);
    put_i32(b, 1);
}

static void
put_bytes(struct buf *b, struct span s)
{
    put_i32(b, (uint32_t)s.len);
    buf_add_span(b, s);
}

static void
put_i64(struct buf *b, int64_t v)
{
    char at[8];
    pg_put_i64(at, v);
    put_bytes(b, (struct span){at, sizeof at});
}

/* Its binary form is a version and the text. */
static void
put_jsonb(struct buf *b, struct span s)
{
    put_i32(b, (uint32_t)s.len + 1);
    buf_add(b, "\1", 1);
    buf_add_span(b, s);
}

static int64_t
us_of_ms(int64_t ms)
{
    return (ms - PG_EPOCH_MS) * 1000;
}

static int64_t
accepted_ms(const struct row *r)
{
    int64_t ms = r->d->ev->accepted_ms;
    return ms < 0 ? 0 : ms > PG_SEQ_MS_MAX ? PG_SEQ_MS_MAX : ms;
}

static enum err
add_arrays(struct pg *p, struct pg_args *a, struct row *const *rows, size_t n)
{
    static const uint32_t types[] = {OID_TEXT,        OID_TEXT,  OID_TIMESTAMPTZ, OID_JSONB,
                                     OID_TIMESTAMPTZ, OID_BYTEA, OID_INT8};
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        begin_array(&p->arg[k], types[k], n);
    }
    for (size_t i = 0; i < n; i++) {
        const struct event *ev = rows[i]->d->ev;
        int64_t ms = accepted_ms(rows[i]);
        put_bytes(&p->arg[0], event_id(ev));
        put_bytes(&p->arg[1], event_type(ev));
        put_i64(&p->arg[2], rows[i]->timestamp_us);
        put_jsonb(&p->arg[3], event_payload(ev));
        put_i64(&p->arg[4], us_of_ms(ms));
        put_bytes(&p->arg[5], (struct span){(const char *)rows[i]->hash, sizeof rows[i]->hash});
        put_i64(&p->arg[6], ms << PG_SEQ_BITS);
    }
    bool ok = true;
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        ok = ok && buf_ok(&p->arg[k]);
        pg_args_add(a, p->arg[k].at, p->arg[k].len);
    }
    return ok ? OK : ERR_NOMEM;
}

/* ---- what is asked, and what is answered ---- */

static enum err
read_kept(struct row *const *rows, size_t n, const PGresult *r)
{
    for (size_t i = 0; i < n && (size_t)PQntuples(r) == n; i++) {
        int k = (int)i;
        rows[i]->kept_known = PQgetlength(r, k, 0) == (int)sizeof rows[i]->kept;
        if (rows[i]->kept_known) {
            memcpy(rows[i]->kept, PQgetvalue(r, k, 0), sizeof rows[i]->kept);
        }
    }
    return (size_t)PQntuples(r) == n ? OK : ERR_UNAVAILABLE;
}

/* The hashes of ids that were there before. One that the retention took meanwhile has none. */
static enum err
ask_kept(struct pg *p, struct row *const *rows, size_t n)
{
    PG_RESULT r = NULL;
    struct pg_args a = {0};
    begin_array(&p->arg[0], OID_TEXT, n);
    for (size_t i = 0; i < n; i++) {
        put_bytes(&p->arg[0], event_id(rows[i]->d->ev));
    }
    if (!buf_ok(&p->arg[0])) {
        return ERR_NOMEM;
    }
    pg_args_add(&a, p->arg[0].at, p->arg[0].len);
    enum err e = pg_run_prepared(p, &r, "weir_kept", &a);
    if (e == OK) {
        e = read_kept(rows, n, r);
    }
    return e == ERR_REJECTED ? ERR_UNAVAILABLE : e; /* the rows are there: no row is at fault */
}

/* Sends the rows; marks those that are new. *fresh counts them. */
static enum err
insert(struct pg *p, size_t *fresh, struct row *const *rows, size_t n)
{
    PG_RESULT r = NULL;
    struct pg_args a = {0};
    enum err e = add_arrays(p, &a, rows, n);
    for (int try = 0; e == OK && try < TRIES; try++) {
        e = pg_run_prepared(p, &r, "weir_insert", &a);
        if (e == OK || !pg_is_retryable(p)) {
            break;
        }
        e = try + 1 < TRIES ? OK : e;
    }
    for (int i = 0; e == OK && i < PQntuples(r); i++) {
        size_t number = (size_t)pg_get_i64(r, i, 0);
        rows[number - 1]->fate = ROW_FRESH;
    }
    *fresh = e == OK ? (size_t)PQntuples(r) : 0;
    return e;
}

/* Those of the rows that were not new; gives how many, moved to the front of `known`. */
static size_t
gather_known(struct row **known, struct row *const *rows, size_t n)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        if (rows[i]->fate == ROW_WAITS) {
            rows[i]->fate = ROW_KNOWN;
            known[found++] = rows[i];
        }
    }
    return found;
}

static enum err
store_rows(struct pg *p, struct row *const *rows, size_t n)
{
    size_t fresh = 0;
    enum err e = insert(p, &fresh, rows, n);
    if (e != OK || fresh == n) {
        return e;
    }
    struct row **known = calloc(n - fresh, sizeof *known);
    if (known == NULL) {
        return ERR_NOMEM;
    }
    e = ask_kept(p, known, gather_known(known, rows, n));
    free(known);
    return e;
}

/* ---- rows that cannot be stored ---- */

/* Cut between characters. */
static void
set_reason(struct row *row, const char *text, const char *detail)
{
    size_t n = (size_t)snprintf(row->reason, sizeof row->reason, "PostgreSQL: %s %s", text, detail);
    if (n >= sizeof row->reason) {
        n = sizeof row->reason - 1;
        while (n > 0 && ((unsigned char)row->reason[n - 1] & 0xc0) == 0x80) {
            n--;
        }
        n -= n > 0 && ((unsigned char)row->reason[n - 1] & 0x80);
        row->reason[n] = '\0';
    }
    row->fate = ROW_REJECTED;
}

/* Halves until the rows that are refused stand alone. As deep as the logarithm of the batch. */
static enum err
store_or_halve(struct pg *p, struct row *const *rows, size_t n)
{
    enum err e = store_rows(p, rows, n);
    if (e != ERR_REJECTED) {
        return e;
    }
    if (n == 1) {
        set_reason(rows[0], p->sqlstate, p->why);
        return OK;
    }
    e = store_or_halve(p, rows, n / 2);
    return e == OK ? store_or_halve(p, rows + n / 2, n - n / 2) : e;
}

/* In statements of a bounded size. */
static enum err
store_in_parts(struct pg *p, struct row *const *rows, size_t n)
{
    enum err e = OK;
    for (size_t from = 0, to = 0; from < n && e == OK; from = to) {
        size_t bytes = 0;
        do {
            bytes += rows[to++]->d->ev->mail.bytes;
        } while (to < n && bytes + rows[to]->d->ev->mail.bytes <= STATEMENT_BYTES);
        e = store_or_halve(p, rows + from, to - from);
    }
    return e;
}

/* ---- the batch ---- */

/* The first six digits after the point, as microseconds. */
static int64_t
fraction_us(struct span timestamp)
{
    const char *end = timestamp.at + timestamp.len;
    const char *at = memchr(timestamp.at, '.', timestamp.len);
    int64_t us = 0;
    int64_t scale = at == NULL ? 0 : 100000;
    for (at = at == NULL ? end : at + 1; at < end && *at >= '0' && *at <= '9'; at++) {
        us += (*at - '0') * scale;
        scale /= 10;
    }
    return us;
}

/* Sent as a number, because PostgreSQL's own reader refuses years and offsets that RFC 3339 allows. */
static void
read_timestamp(struct row *row)
{
    int64_t ms = 0;
    struct span text = event_timestamp(row->d->ev);
    const char *wrong = clock_parse_rfc3339(text, &ms);
    if (wrong != NULL) {
        set_reason(row, "timestamp:", wrong);
    }
    row->timestamp_us = us_of_ms(ms) + fraction_us(text) % 1000;
}

static void
fill_row(struct row *row, struct delivery *d)
{
    struct span payload = event_payload(d->ev);
    *row = (struct row){.d = d, .leader = row};
    SHA256((const unsigned char *)payload.at, payload.len, row->hash);
    read_timestamp(row);
}

static size_t
fill_rows(struct row *rows, struct batch *b)
{
    size_t n = 0;
    for (size_t i = 0; i < b->n; i++) {
        if (b->item[i].state == EVENT_PROCESSING) {
            fill_row(&rows[n++], &b->item[i]);
        }
    }
    return n;
}

static int
compare_ids(const void *a, const void *b)
{
    const struct row *x = *(struct row *const *)a;
    const struct row *y = *(struct row *const *)b;
    struct span s = event_id(x->d->ev);
    struct span t = event_id(y->d->ev);
    int order = memcmp(s.at, t.at, s.len < t.len ? s.len : t.len);
    if (order == 0) {
        order = (s.len > t.len) - (s.len < t.len);
    }
    return order != 0 ? order : (x > y) - (x < y);
}

/* Each row whose id stands earlier in the batch follows the first one that is not rejected.
 * `sorted` is room for n. */
static void
choose_leaders(struct row *rows, struct row **sorted, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        sorted[i] = &rows[i];
    }
    qsort(sorted, n, sizeof *sorted, compare_ids);
    for (size_t i = 1; i < n; i++) {
        struct row *before = sorted[i - 1];
        if (span_eq(event_id(before->d->ev), event_id(sorted[i]->d->ev)) &&
            before->leader->fate != ROW_REJECTED) {
            sorted[i]->leader = before->leader;
        } else {
            sorted[i]->leader = sorted[i];
        }
    }
}

/* The rows that are to be sent now, in the order of the batch. */
static size_t
gather_leaders(struct row *rows, struct row **picked, size_t n)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        if (rows[i].leader == &rows[i] && rows[i].fate == ROW_WAITS) {
            picked[found++] = &rows[i];
        }
    }
    return found;
}

/* A second round only where a leader was rejected and others have its id. */
static enum err
store_all(struct pg *p, struct row *rows, struct row **picked, size_t n)
{
    enum err e = OK;
    size_t found = 0;
    do {
        choose_leaders(rows, picked, n);
        found = gather_leaders(rows, picked, n);
        e = store_in_parts(p, picked, found);
    } while (e == OK && found > 0);
    return e;
}

static bool
same_hash(const unsigned char *a, const unsigned char *b)
{
    return memcmp(a, b, SHA256_DIGEST_LENGTH) == 0;
}

/* A repeat of a fresh row is told against that row, any other against what was kept. */
static void
decide(struct row *row)
{
    struct delivery *d = row->d;
    const struct row *leader = row->leader;
    if (row->fate == ROW_REJECTED) {
        d->result = ERR_REJECTED;
        snprintf(d->reason, sizeof d->reason, "%s", row->reason);
    } else if (leader->fate == ROW_KNOWN) {
        d->state = EVENT_DUPLICATE;
        d->conflict = leader->kept_known && !same_hash(row->hash, leader->kept);
    } else if (leader != row) {
        d->state = EVENT_DUPLICATE;
        d->conflict = !same_hash(row->hash, leader->hash);
    }
}

static enum err
write_rows(struct pg *p, struct row *rows, struct row **picked, size_t n)
{
    enum err e = n > 0 ? pg_connect(p) : OK;
    if (e == OK) {
        e = store_all(p, rows, picked, n);
    }
    for (size_t i = 0; i < n && e == OK; i++) {
        decide(&rows[i]);
    }
    return e;
}

enum err
pg_write(struct pg *p, struct batch *b)
{
    struct row *rows = calloc(b->n + 1, sizeof *rows);
    struct row **picked = calloc(b->n + 1, sizeof(struct row *));
    enum err e = ERR_NOMEM;
    if (rows != NULL && picked != NULL) {
        e = write_rows(p, rows, picked, fill_rows(rows, b));
    }
    free(picked);
    free(rows);
    return e;
}
