/* pg_parts.h - what the files of src/postgres share: the connection and one call to the server.
 * Contract: private to src/postgres. Every call has a deadline of its own beside the server's
 *           statement_timeout: a server that is stopped, not only one that is slow, must not hold
 *           a thread. A failure leaves sqlstate and why in the struct, and is logged once.
 *           What it leaves of the connection: a row's fault, a deadlock or a timeout that the
 *           server told: usable. Anything else: closed, and the next call connects anew.
 * Threads:  those of postgres.h. */
#ifndef WEIR_PG_PARTS_H
#define WEIR_PG_PARTS_H

#include "buf.h"
#include "postgres/postgres.h"

#include <libpq-fe.h>

#define PG_SCHEMA_VERSION 1
#define PG_ARGS_MAX 8

/* The accept order as one number: milliseconds of accepted_at, then a counter that tells apart what
 * was accepted in the same one. Until the year 2109 it is a positive bigint. */
#define PG_SEQ_BITS 21
#define PG_SEQ_MS_MAX ((INT64_C(1) << (63 - PG_SEQ_BITS)) - 1)

#define PG_EPOCH_MS INT64_C(946684800000) /* PostgreSQL counts time from 2000-01-01 */

enum pg_role { PG_READER, PG_WRITER, PG_MIGRATOR };

struct pg {
    struct env *env;
    char *url;
    enum pg_role role;
    int64_t timeout_ms;  /* of a statement; 0: none */
    bool opened;         /* it was connected once: a wrong configuration is now a bad moment */
    PGconn *conn;        /* NULL: not connected */
    int64_t deadline_ms; /* of the call that runs; INT64_MAX: none */
    int64_t upkeep_due_ms;
    char forget_day[9];  /* the day whose ids are being forgotten, as 20260203 */
    int64_t forget_page; /* of its table: the first that is not done */
    char sqlstate[6];    /* of the last failure; "" where it was not the server that spoke */
    char why[320];
    struct buf arg[PG_ARGS_MAX]; /* kept for their memory */
};

/* ---- the connection (pg_conn.c) ---- */

/* OK at once when connected. Else connects, sets the session up and checks the server; p->why says
 * what was wrong. */
enum err pg_connect(struct pg *p) MUST_CHECK;
void pg_drop(struct pg *p); /* the connection, at once */
enum err pg_new(struct pg **out, const char *url, enum pg_role role, int64_t timeout_ms,
                struct env *env) MUST_CHECK;

/* ---- one call (pg_call.c) ---- */

/* Arguments travel in binary form, so that no byte of an event needs escaping. */
struct pg_args {
    int n;
    const char *value[PG_ARGS_MAX];
    int length[PG_ARGS_MAX];
};
void pg_args_add(struct pg_args *a, const void *value, size_t length); /* borrowed until the call */
void pg_args_add_i64(struct pg_args *a, char out[8], int64_t value);

/* The simple protocol: several statements are one transaction. *out (may
 * be asked for with NULL) is the last result, in text. */
enum err pg_run(struct pg *p, PGresult **out, const char *sql) MUST_CHECK;
enum err pg_prepare(struct pg *p, const char *name, const char *sql) MUST_CHECK;
enum err pg_run_prepared(struct pg *p, PGresult **out, const char *name,
                         const struct pg_args *a) MUST_CHECK;
enum err pg_run_args(struct pg *p, PGresult **out, const char *sql,
                     const struct pg_args *a) MUST_CHECK;
/* Row by row: *out is a result of one row, or NULL at the end. */
enum err pg_start_rows(struct pg *p, const char *sql, const struct pg_args *a) MUST_CHECK;
enum err pg_next_row(struct pg *p, PGresult **out) MUST_CHECK;

bool pg_is_retryable(const struct pg *p); /* deadlock or serialization failure: at once again */
bool pg_is_timeout(const struct pg *p);   /* the server gave the statement up in time */
enum err pg_fail(struct pg *p, enum err e, const char *fmt, ...)
    __attribute__((format(printf, 3, 4))); /* sets why; gives e */
/* Waits for the socket until the deadline. */
enum err pg_wait(struct pg *p, short events) MUST_CHECK;

int64_t pg_number(const PGresult *r, int column);           /* of the first row, in text */
int64_t pg_get_i64(const PGresult *r, int row, int column); /* in binary */
void pg_put_i64(char out[8], int64_t value);

static inline void
pg_clear(PGresult **r)
{
    PQclear(*r);
}
#define PG_RESULT __attribute__((cleanup(pg_clear))) PGresult *

/* ---- the schema (pg_schema.c) and its upkeep (pg_upkeep.c) ---- */

enum err pg_schema_check(struct pg *p) MUST_CHECK; /* is it there, and of this version? */
enum err pg_make_days(struct pg *p) MUST_CHECK;    /* partitions of today and the days ahead */

/* ---- writing (pg_write.c) ---- */

enum err pg_write_prepare(struct pg *p) MUST_CHECK;

#endif
