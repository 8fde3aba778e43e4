/* pg_call.c - one call to the server, under a deadline, and what its errors mean. */
#include "postgres/pg_parts.h"

#include "env.h"
#include "log.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define GRACE_MS 1000 /* after statement_timeout, for the server to say so */

enum err
pg_fail(struct pg *p, enum err e, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(p->why, sizeof p->why, fmt, args);
    va_end(args);
    for (int i = 0; i < n && p->why[i] != '\0'; i++) {
        if (p->why[i] == '\n') {
            p->why[i] = ' ';
        }
    }
    return e;
}

/* Before it was connected once, whoever asked for it says what failed. */
static void
log_failure(struct pg *p)
{
    if (!p->opened) {
        return;
    }
    char why[LOG_VALUE_MAX];
    log_warn(p->env->log, "postgres.failed", "sqlstate=%s why=\"%s\"",
             p->sqlstate[0] == '\0' ? "none" : p->sqlstate, log_value(why, span_of(p->why)));
}

/* The connection is of no more use: the other side is away, or in a state that we do not know. */
static enum err
lost(struct pg *p, const char *why)
{
    p->sqlstate[0] = '\0';
    enum err e = pg_fail(p, ERR_UNAVAILABLE, "%s", why);
    log_failure(p);
    pg_drop(p);
    return e;
}

static const char *
connection_why(const struct pg *p)
{
    const char *why = PQerrorMessage(p->conn);
    return why[0] == '\0' ? "the connection was lost" : why;
}

/* ---- arguments and values ---- */

void
pg_args_add(struct pg_args *a, const void *value, size_t length)
{
    assert(a->n < PG_ARGS_MAX && length <= INT_MAX);
    a->value[a->n] = value;
    a->length[a->n++] = (int)length;
}

void
pg_put_i64(char out[8], int64_t value)
{
    uint64_t v = (uint64_t)value;
    for (int i = 7; i >= 0; i--, v >>= 8) {
        out[i] = (char)(v & 0xff);
    }
}

int64_t
pg_get_i64(const PGresult *r, int row, int column)
{
    const unsigned char *at = (const unsigned char *)PQgetvalue(r, row, column);
    uint64_t v = 0;
    for (int i = 0; i < 8; i++) {
        v = v << 8 | at[i];
    }
    return (int64_t)v;
}

int64_t
pg_number(const PGresult *r, int column)
{
    return strtoll(PQgetvalue(r, 0, column), NULL, 10);
}

void
pg_args_add_i64(struct pg_args *a, char out[8], int64_t value)
{
    pg_put_i64(out, value);
    pg_args_add(a, out, 8);
}

/* ---- waiting ---- */

static int
remaining_ms(struct pg *p)
{
    if (p->deadline_ms == INT64_MAX) {
        return -1;
    }
    int64_t left = p->deadline_ms - p->env->mono_ms(p->env);
    return left < 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
}

enum err
pg_wait(struct pg *p, short events)
{
    struct pollfd fd = {.fd = PQsocket(p->conn), .events = events};
    int rc = poll(&fd, 1, remaining_ms(p));
    while (rc < 0 && errno == EINTR) {
        rc = poll(&fd, 1, remaining_ms(p));
    }
    return rc > 0 ? OK : lost(p, rc == 0 ? "no answer in time" : "cannot wait for the connection");
}

/* What is ready while we wait for anything: reads, so that the server, too, can go on sending. */
static enum err
wait_and_read(struct pg *p, short events)
{
    enum err e = pg_wait(p, events);
    if (e == OK && PQconsumeInput(p->conn) == 0) {
        e = lost(p, connection_why(p));
    }
    return e;
}

static enum err
flush_out(struct pg *p)
{
    int rc = PQflush(p->conn);
    enum err e = OK;
    while (rc > 0 && e == OK) {
        e = wait_and_read(p, POLLIN | POLLOUT);
        rc = e == OK ? PQflush(p->conn) : rc;
    }
    return e != OK || rc == 0 ? e : lost(p, connection_why(p));
}

/* *out NULL: there is no further result of this call. */
static enum err
next_result(struct pg *p, PGresult **out)
{
    *out = NULL;
    while (PQisBusy(p->conn)) {
        enum err e = wait_and_read(p, POLLIN);
        if (e != OK) {
            return e;
        }
    }
    *out = PQgetResult(p->conn);
    return OK;
}

/* ---- what an answer means ---- */

static bool
state_is(const struct pg *p, const char *prefix)
{
    return strncmp(p->sqlstate, prefix, strlen(prefix)) == 0;
}

bool
pg_is_retryable(const struct pg *p)
{
    return state_is(p, "40");
}

bool
pg_is_timeout(const struct pg *p)
{
    return state_is(p, "57014");
}

/* A row that lands in no partition is the schema's fault, though it comes as a check violation: no
 * constraint is named. */
static bool
is_rows_fault(const struct pg *p, const PGresult *r)
{
    bool check = state_is(p, "23514");
    return state_is(p, "22") || state_is(p, "54000") ||
           (state_is(p, "23") &&
            (!check || PQresultErrorField(r, PG_DIAG_CONSTRAINT_NAME) != NULL));
}

/* After these the session is as it was. */
static bool
may_go_on(const struct pg *p)
{
    return pg_is_retryable(p) || pg_is_timeout(p) || state_is(p, "55P03") || state_is(p, "42501");
}

static enum err
judge_error(struct pg *p, const PGresult *r)
{
    const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
    const char *text = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
    if (state == NULL) {
        return lost(p, connection_why(p));
    }
    snprintf(p->sqlstate, sizeof p->sqlstate, "%s", state);
    if (is_rows_fault(p, r)) {
        return pg_fail(p, ERR_REJECTED, "%s", text == NULL ? "refused" : text);
    }
    enum err e = pg_fail(p, ERR_UNAVAILABLE, "%s", text == NULL ? "refused" : text);
    log_failure(p);
    if (!may_go_on(p)) {
        pg_drop(p);
    }
    return e;
}

static enum err
judge(struct pg *p, const PGresult *r)
{
    switch (PQresultStatus(r)) {
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
    case PGRES_SINGLE_TUPLE:
    case PGRES_EMPTY_QUERY:
        return OK;
    case PGRES_FATAL_ERROR:
        return judge_error(p, r);
    default:
        return lost(p, "an answer of a kind that was not asked for");
    }
}

/* Reads a whole answer. The first error counts; what follows it is only read. */
static enum err
collect(struct pg *p, PGresult **out)
{
    PGresult *last = NULL;
    PGresult *r = NULL;
    enum err e = OK;
    do {
        enum err wait = next_result(p, &r);
        if (wait != OK) {
            e = wait;
        } else if (r != NULL && e == OK) {
            e = judge(p, r);
        }
        if (r != NULL) {
            PQclear(last);
            last = r;
        }
    } while (r != NULL && p->conn != NULL);
    if (e == OK && last == NULL) {
        e = lost(p, connection_why(p));
    }
    if (e != OK || out == NULL) {
        PQclear(last);
        last = NULL;
    }
    if (out != NULL) {
        *out = last;
    }
    return e;
}

/* ---- sending ---- */

static enum err
begin_call(struct pg *p)
{
    enum err e = p->conn != NULL ? OK : pg_fail(p, ERR_UNAVAILABLE, "not connected");
    p->deadline_ms =
        p->timeout_ms == 0 ? INT64_MAX : p->env->mono_ms(p->env) + p->timeout_ms + GRACE_MS;
    return e;
}

/* `sent` is what libpq's PQsend… gave. A fault after it: the server may or may not do the work. */
static enum err
after_send(struct pg *p, int sent)
{
    if (sent == 0) {
        return lost(p, connection_why(p));
    }
    enum err e = flush_out(p);
    if (e == OK && p->env->fault(p->env, "postgres.sent") != OK) {
        e = lost(p, "a fault asked for by a test");
    }
    return e;
}

enum err
pg_run(struct pg *p, PGresult **out, const char *sql)
{
    enum err e = begin_call(p);
    if (e == OK) {
        e = after_send(p, PQsendQuery(p->conn, sql));
    }
    return e == OK ? collect(p, out) : e;
}

enum err
pg_prepare(struct pg *p, const char *name, const char *sql)
{
    enum err e = begin_call(p);
    if (e == OK) {
        e = after_send(p, PQsendPrepare(p->conn, name, sql, 0, NULL));
    }
    return e == OK ? collect(p, NULL) : e;
}

static const int all_binary[PG_ARGS_MAX] = {1, 1, 1, 1, 1, 1, 1, 1};

enum err
pg_run_prepared(struct pg *p, PGresult **out, const char *name, const struct pg_args *a)
{
    enum err e = begin_call(p);
    if (e == OK) {
        e = after_send(
            p, PQsendQueryPrepared(p->conn, name, a->n, a->value, a->length, all_binary, 1));
    }
    return e == OK ? collect(p, out) : e;
}

static enum err
send_args(struct pg *p, const char *sql, const struct pg_args *a)
{
    enum err e = begin_call(p);
    if (e == OK) {
        e = after_send(
            p, PQsendQueryParams(p->conn, sql, a->n, NULL, a->value, a->length, all_binary, 1));
    }
    return e;
}

enum err
pg_run_args(struct pg *p, PGresult **out, const char *sql, const struct pg_args *a)
{
    enum err e = send_args(p, sql, a);
    return e == OK ? collect(p, out) : e;
}

enum err
pg_start_rows(struct pg *p, const char *sql, const struct pg_args *a)
{
    enum err e = send_args(p, sql, a);
    if (e == OK && PQsetSingleRowMode(p->conn) == 0) {
        e = lost(p, "row by row is not possible");
    }
    return e;
}

static enum err
read_the_end(struct pg *p)
{
    PGresult *r = NULL;
    enum err e = OK;
    do {
        e = next_result(p, &r);
        PQclear(r);
    } while (e == OK && r != NULL);
    return e;
}

enum err
pg_next_row(struct pg *p, PGresult **out)
{
    enum err e = next_result(p, out);
    if (e == OK && *out != NULL) {
        e = judge(p, *out);
    }
    if (e == OK && *out != NULL && PQresultStatus(*out) == PGRES_SINGLE_TUPLE) {
        return OK;
    }
    PQclear(*out);
    *out = NULL;
    enum err end = p->conn != NULL ? read_the_end(p) : OK;
    return e != OK ? e : end;
}
