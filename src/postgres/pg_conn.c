/* pg_conn.c - connecting, and what must be true of a server before events are given to it. */
#include "postgres/pg_parts.h"

#include "config.h"
#include "env.h"
#include "log.h"

#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define CONNECT_MIN_MS 2000
#define CONNECT_MAX_MS 10000

void
pg_drop(struct pg *p)
{
    PQfinish(p->conn); /* NULL ok; never waits on a connection that does not block */
    p->conn = NULL;
}

enum err
pg_new(struct pg **out, const char *url, enum pg_role role, int64_t timeout_ms, struct env *env)
{
    struct pg *p = calloc(1, sizeof *p);
    if (p == NULL) {
        return ERR_NOMEM;
    }
    *p = (struct pg){.env = env, .role = role, .timeout_ms = timeout_ms, .url = strdup(url)};
    for (size_t i = 0; i < PG_ARGS_MAX; i++) {
        buf_init(&p->arg[i], 0); /* bounded by what goes into one statement: pg_write.c */
    }
    if (p->url == NULL) {
        pg_close(p);
        return ERR_NOMEM;
    }
    *out = p;
    return OK;
}

void
pg_close(struct pg *p)
{
    if (p == NULL) {
        return;
    }
    pg_drop(p);
    for (size_t i = 0; i < PG_ARGS_MAX; i++) {
        buf_fini(&p->arg[i]);
    }
    if (p->url != NULL) {
        explicit_bzero(p->url, strlen(p->url));
    }
    free(p->url);
    free(p);
}

/* ---- what the server said while we connected ---- */

/* In its verbose form a message holds "FATAL:  28P01: password …": the only way to the SQLSTATE of a
 * refused connection. Takes it out of the text. */
static void
take_state(struct pg *p, char *text)
{
    p->sqlstate[0] = '\0';
    for (char *at = strstr(text, ":  "); at != NULL; at = strstr(at + 1, ":  ")) {
        char *code = at + 3;
        if (strspn(code, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && code[5] == ':' &&
            code[6] == ' ') {
            snprintf(p->sqlstate, sizeof p->sqlstate, "%.5s", code);
            memmove(code, code + 7, strlen(code + 7) + 1);
        }
    }
}

/* Where in the server's source it was said helps nobody here. */
static void
cut_location(char *text)
{
    char *at = strstr(text, "\nLOCATION:");
    if (at != NULL) {
        *at = '\0';
    }
    size_t n = strlen(text);
    while (n > 0 && text[n - 1] == '\n') {
        text[--n] = '\0';
    }
}

static bool
is_refusal(const struct pg *p)
{
    return strncmp(p->sqlstate, "28", 2) == 0 || strncmp(p->sqlstate, "3D", 2) == 0 ||
           strncmp(p->sqlstate, "42", 2) == 0;
}

static enum err
refused(struct pg *p)
{
    char text[sizeof p->why];
    snprintf(text, sizeof text, "%s", PQerrorMessage(p->conn));
    take_state(p, text);
    cut_location(text);
    bool config = is_refusal(p) || PQconnectionNeedsPassword(p->conn) != 0;
    return pg_fail(p, config ? ERR_CONFIG : ERR_UNAVAILABLE, "PostgreSQL: %s", text);
}

/* libpq's own words about a URL may hold any part of it, the password too: only those that name a
 * parameter are shown. */
static enum err
check_url(struct pg *p)
{
    static const char known[] = "invalid URI query parameter";
    char *wrong = NULL;
    PQconninfoOption *options = PQconninfoParse(p->url, &wrong);
    enum err e = OK;
    if (options == NULL) {
        bool harmless = wrong != NULL && strncmp(wrong, known, sizeof known - 1) == 0;
        e = pg_fail(p, ERR_CONFIG,
                    "the sink's URL cannot be read: %.*s; expected "
                    "postgresql://user:password@host:port/database",
                    harmless ? (int)strcspn(wrong, "\n") : INT_MAX,
                    harmless ? wrong : "a part of it is missing or wrongly encoded");
    }
    PQconninfoFree(options);
    PQfreemem(wrong);
    return e;
}

/* What stands before the URL can be changed in it; what stands after it cannot. */
static enum err
start_connecting(struct pg *p)
{
    const char *const names[] = {"keepalives_idle",           "keepalives_interval",
                                 "keepalives_count",          "tcp_user_timeout",
                                 "fallback_application_name", "dbname",
                                 "client_encoding",           NULL};
    const char *const values[] = {"30", "10", "3", "30000", "weir", p->url, "UTF8", NULL};
    enum err e = check_url(p);
    if (e != OK) {
        return e;
    }
    p->conn = PQconnectStartParams(names, values, 1);
    if (p->conn == NULL) {
        return ERR_NOMEM;
    }
    PQsetErrorVerbosity(p->conn, PQERRORS_VERBOSE);
    return PQstatus(p->conn) == CONNECTION_BAD ? refused(p) : OK;
}

static enum err
dial(struct pg *p)
{
    int64_t ms = p->timeout_ms == 0 || p->timeout_ms > CONNECT_MAX_MS ? CONNECT_MAX_MS
                 : p->timeout_ms < CONNECT_MIN_MS                     ? CONNECT_MIN_MS
                                                                      : p->timeout_ms;
    p->deadline_ms = p->env->mono_ms(p->env) + ms;
    enum err e = start_connecting(p);
    PostgresPollingStatusType next = PGRES_POLLING_WRITING;
    while (e == OK && next != PGRES_POLLING_OK) {
        e = pg_wait(p, next == PGRES_POLLING_READING ? POLLIN : POLLOUT);
        if (e != OK) {
            return pg_fail(p, e, "PostgreSQL does not answer (waited %lld ms for a connection)",
                           (long long)ms);
        }
        next = PQconnectPoll(p->conn);
        e = next == PGRES_POLLING_FAILED ? refused(p) : OK;
    }
    if (e == OK) {
        PQsetErrorVerbosity(p->conn, PQERRORS_DEFAULT);
        PQsetnonblocking(p->conn, 1);
    }
    return e;
}

/* ---- what must be true ---- */

/* Locks get less time than the statement, so that "locked" is told apart from "slow". A join of a
 * batch with itself must never become a loop in a loop: how long an array is, the planner does not
 * know. */
static enum err
set_up_session(struct pg *p)
{
    char sql[512];
    snprintf(sql, sizeof sql,
             "SET statement_timeout = %lld; SET lock_timeout = %lld;"
             "SET idle_in_transaction_session_timeout = 60000; SET TimeZone = 'UTC';"
             "SET default_transaction_isolation = 'read committed';%s",
             (long long)p->timeout_ms, (long long)(p->timeout_ms - p->timeout_ms / 4),
             p->role == PG_READER   ? "SET default_transaction_read_only = on;"
                                      "SET plan_cache_mode = force_custom_plan"
             : p->role == PG_WRITER ? "SET enable_nestloop = off"
                                    : "");
    return pg_run(p, NULL, sql);
}

static enum err
check_durability(struct pg *p, const PGresult *r)
{
    static const struct {
        const char *name;
        const char *good;
    } must[] = {
        {"fsync", "on"},
        {"full_page_writes", "on"},
        {"synchronous_commit", "on local remote_write remote_apply"},
    };
    for (int i = 0; i < 3; i++) {
        const char *is = PQgetvalue(r, 0, i);
        if (strstr(must[i].good, is) == NULL) {
            return pg_fail(p, ERR_CONFIG,
                           "PostgreSQL's %s is %s: a crash of PostgreSQL could lose events that "
                           "weir has acknowledged",
                           must[i].name, is);
        }
    }
    if (strcmp(PQgetvalue(r, 0, 3), "f") != 0) {
        return pg_fail(p, ERR_UNAVAILABLE,
                       "this PostgreSQL is a standby and takes no events; with several hosts in "
                       "the URL add target_session_attrs=read-write");
    }
    return OK;
}

static enum err
check_server(struct pg *p)
{
    PG_RESULT r = NULL;
    enum err e = pg_run(p, &r,
                        "SELECT current_setting('fsync'), current_setting('full_page_writes'),"
                        " current_setting('synchronous_commit'), pg_is_in_recovery(),"
                        " current_setting('server_encoding')");
    if (e != OK) {
        return e;
    }
    if (strcmp(PQgetvalue(r, 0, 4), "UTF8") != 0) {
        return pg_fail(p, ERR_CONFIG,
                       "the database's encoding is %s and cannot hold every event; make one with "
                       "ENCODING 'UTF8'",
                       PQgetvalue(r, 0, 4));
    }
    return p->role == PG_READER ? OK : check_durability(p, r);
}

static enum err
connect_and_check(struct pg *p)
{
    enum err e = dial(p);
    if (e == OK) {
        e = set_up_session(p);
    }
    if (e == OK) {
        e = check_server(p);
    }
    if (e == OK && p->role != PG_MIGRATOR) {
        e = pg_schema_check(p);
    }
    if (e == OK && p->role == PG_WRITER) {
        e = pg_write_prepare(p);
    }
    return e != OK && is_refusal(p) ? ERR_CONFIG : e;
}

/* What would be a wrong configuration at the start is a bad moment later: it is said loudly and tried
 * again, because stopping would help nobody. */
static enum err
not_now(struct pg *p, enum err e)
{
    char why[LOG_VALUE_MAX];
    log_write(p->env->log, e == ERR_CONFIG ? LOG_ERROR : LOG_WARN, "postgres.refused",
              "sqlstate=%s why=\"%s\"", p->sqlstate[0] == '\0' ? "none" : p->sqlstate,
              log_value(why, span_of(p->why)));
    return e == ERR_NOMEM ? e : ERR_UNAVAILABLE;
}

enum err
pg_connect(struct pg *p)
{
    if (p->conn != NULL && PQstatus(p->conn) == CONNECTION_OK) {
        return OK;
    }
    pg_drop(p);
    p->why[0] = '\0';
    p->sqlstate[0] = '\0';
    enum err e = connect_and_check(p);
    if (e == OK) {
        p->opened = true;
        return OK;
    }
    pg_drop(p);
    if (p->why[0] == '\0') {
        (void)pg_fail(p, e, "%s", err_text(e));
    }
    return p->opened ? not_now(p, e) : e;
}

enum err
pg_open(struct pg **out, const char *url, int64_t statement_timeout_ms, bool read_only,
        struct env *env, char *why, size_t why_size)
{
    struct pg *p = NULL;
    enum err e = pg_new(&p, url, read_only ? PG_READER : PG_WRITER, statement_timeout_ms, env);
    if (e == OK) {
        e = pg_connect(p);
    }
    if (e != OK) {
        snprintf(why, why_size, "%s", p == NULL ? err_text(e) : p->why);
        pg_close(p);
        return e;
    }
    *out = p;
    return OK;
}

bool
pg_is_connected(const struct pg *p)
{
    return p->conn != NULL;
}
