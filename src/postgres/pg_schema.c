/* pg_schema.c - the tables: made and upgraded by weir migrate, checked at every connect.
 *
 * Each step is one transaction and leaves its number in weir_schema; a lock that lasts as long as
 * the session keeps two migrations apart. To change the schema, add a step: those that were
 * released are never edited. */
#include "postgres/pg_parts.h"

#include "config.h"
#include "env.h"
#include "log.h"

#include <stdio.h>
#include <stdlib.h>

#define LOCK_MIGRATE "7310311200001" /* any number, the same in every version */

/* COLLATE "C": ids compare by bytes. It is faster, and an upgrade of the system's locales cannot
 * leave a damaged index behind.
 * seq: the accept order, pg_parts.h. One index on it serves the newest first, since, until and the
 * cursor.
 * events_type_seq: NULLS FIRST, though there are none. Read backwards it gives DESC NULLS LAST, an
 * order that the index on seq cannot give. A list of one type asks for that order, and so never
 * walks over the rows of all others.
 * event_ids.seq: with stored_at the place of the row, found without an index on events.event_id. */
static const char *const steps[PG_SCHEMA_VERSION] = {
    "CREATE SEQUENCE events_seq MINVALUE 0 MAXVALUE 2097151 CYCLE CACHE 512;"
    "CREATE TABLE events ("
    " event_id text COLLATE \"C\" NOT NULL,"
    " type text COLLATE \"C\" NOT NULL,"
    " timestamp timestamptz NOT NULL,"
    " payload jsonb NOT NULL,"
    " accepted_at timestamptz NOT NULL,"
    " stored_at timestamptz NOT NULL,"
    " seq bigint NOT NULL"
    ") PARTITION BY RANGE (stored_at);"
    "CREATE TABLE events_default PARTITION OF events DEFAULT;"
    "CREATE INDEX events_stored_at ON events USING brin (stored_at) WITH (autosummarize = on);"
    "CREATE INDEX events_type_timestamp ON events (type, timestamp);"
    "CREATE INDEX events_seq_key ON events (seq);"
    "CREATE INDEX events_type_seq ON events (type, seq NULLS FIRST);"
    "CREATE TABLE event_ids ("
    " event_id text COLLATE \"C\" PRIMARY KEY,"
    " payload_hash bytea NOT NULL,"
    " stored_at timestamptz NOT NULL,"
    " seq bigint NOT NULL"
    ") PARTITION BY HASH (event_id);"
    "DO $$ BEGIN FOR i IN 0..15 LOOP EXECUTE format("
    "'CREATE TABLE event_ids_%s PARTITION OF event_ids FOR VALUES WITH (MODULUS 16, REMAINDER %s)',"
    " to_char(i, 'FM00'), i); END LOOP; END $$",
};

/* ---- is it there? ---- */

/* A URL as it may be shown. */
static const char *
shown(const struct pg *p, char *out, size_t size)
{
    return config_mask(out, size, p->url);
}

static enum err
not_migrated(struct pg *p)
{
    char url[160];
    return pg_fail(p, ERR_CONFIG, "the tables are not there; run: weir migrate --sink %s",
                   shown(p, url, sizeof url));
}

static enum err
judge_version(struct pg *p, int version)
{
    char url[160];
    if (version < PG_SCHEMA_VERSION) {
        return pg_fail(p, ERR_CONFIG,
                       "the tables are of version %d, this weir needs %d; run: weir migrate --sink "
                       "%s",
                       version, PG_SCHEMA_VERSION, shown(p, url, sizeof url));
    }
    if (version > PG_SCHEMA_VERSION) {
        return pg_fail(p, ERR_CONFIG,
                       "the tables are of version %d, this weir knows up to %d: it is too old for "
                       "them",
                       version, PG_SCHEMA_VERSION);
    }
    return OK;
}

/* *version 0: nothing is there. */
static enum err
read_version(struct pg *p, int *version)
{
    PG_RESULT there = NULL;
    PG_RESULT r = NULL;
    *version = 0;
    enum err e = pg_run(p, &there, "SELECT to_regclass('weir_schema') IS NOT NULL");
    if (e != OK || strcmp(PQgetvalue(there, 0, 0), "t") != 0) {
        return e;
    }
    e = pg_run(p, &r, "SELECT coalesce(max(version), 0) FROM weir_schema");
    if (e == OK) {
        *version = (int)pg_number(r, 0);
    }
    return e;
}

/* An unlogged table is emptied by a crash. */
static enum err
check_logged(struct pg *p)
{
    PG_RESULT r = NULL;
    enum err e = pg_run(p, &r,
                        "SELECT relname FROM pg_class WHERE relpersistence <> 'p' AND oid IN"
                        " (SELECT relid FROM pg_partition_tree('events') UNION ALL"
                        "  SELECT relid FROM pg_partition_tree('event_ids')) LIMIT 1");
    if (e == OK && PQntuples(r) > 0) {
        return pg_fail(p, ERR_CONFIG,
                       "the table %s is UNLOGGED: a crash of PostgreSQL would empty it; run: ALTER "
                       "TABLE %s SET LOGGED",
                       PQgetvalue(r, 0, 0), PQgetvalue(r, 0, 0));
    }
    return e;
}

/* Asked now, because at the first event it would be an error that is tried again for ever. */
static enum err
check_rights(struct pg *p)
{
    static const char writer[] = "SELECT current_user, has_table_privilege('events', 'INSERT')"
                                 " AND has_table_privilege('event_ids', 'INSERT')"
                                 " AND has_table_privilege('event_ids', 'SELECT')"
                                 " AND has_sequence_privilege('events_seq', 'USAGE')";
    static const char reader[] = "SELECT current_user, has_table_privilege('events', 'SELECT')"
                                 " AND has_table_privilege('event_ids', 'SELECT')";
    PG_RESULT r = NULL;
    bool writes = p->role == PG_WRITER;
    enum err e = pg_run(p, &r, writes ? writer : reader);
    if (e == OK && strcmp(PQgetvalue(r, 0, 1), "t") != 0) {
        return pg_fail(p, ERR_CONFIG, "the role %s lacks a right; run: GRANT %s",
                       PQgetvalue(r, 0, 0),
                       writes ? "SELECT, INSERT ON events, event_ids TO it; GRANT USAGE ON "
                                "SEQUENCE events_seq TO it"
                              : "SELECT ON events, event_ids TO it");
    }
    return e;
}

enum err
pg_schema_check(struct pg *p)
{
    int version = 0;
    enum err e = read_version(p, &version);
    if (e == OK) {
        e = version == 0 ? not_migrated(p) : judge_version(p, version);
    }
    if (e == OK) {
        e = check_rights(p);
    }
    return e == OK && p->role == PG_WRITER ? check_logged(p) : e;
}

/* ---- making it ---- */

/* Statements sent together are one transaction. */
static enum err
run_step(struct pg *p, int version)
{
    struct buf sql;
    buf_init(&sql, 0); /* our own text */
    buf_addf(&sql, "%s;INSERT INTO weir_schema (version) VALUES (%d)", steps[version - 1], version);
    buf_add(&sql, "", 1);
    enum err e = buf_ok(&sql) ? pg_run(p, NULL, sql.at) : ERR_NOMEM;
    buf_fini(&sql);
    return e;
}

/* Tables of the same name that are not ours stay as they are. */
static enum err
explain(struct pg *p, enum err e)
{
    char text[sizeof p->why];
    snprintf(text, sizeof text, "%s", p->why);
    if (strcmp(p->sqlstate, "42P07") == 0) {
        return pg_fail(p, ERR_CONFIG,
                       "%s, and weir did not make it: rename it, or choose a schema with "
                       "?options=-csearch_path%%3DNAME in the URL",
                       text);
    }
    if (strcmp(p->sqlstate, "42501") == 0) {
        return pg_fail(p, ERR_CONFIG, "%s: weir migrate needs the right to create tables", text);
    }
    return e == ERR_REJECTED ? ERR_CONFIG : e;
}

static enum err
migrate_from(struct pg *p, int version, struct buf *said)
{
    enum err e = OK;
    if (version > PG_SCHEMA_VERSION) {
        return judge_version(p, version);
    }
    for (int next = version + 1; next <= PG_SCHEMA_VERSION && e == OK; next++) {
        e = run_step(p, next);
    }
    if (e == OK) {
        e = pg_make_days(p);
    }
    if (e != OK) {
        return explain(p, e);
    }
    if (version == PG_SCHEMA_VERSION) {
        buf_addf(said, "the tables are of version %d already; nothing to do\n", version);
    } else {
        buf_addf(said, "%s the tables: version %d\n", version == 0 ? "created" : "upgraded",
                 PG_SCHEMA_VERSION);
    }
    return OK;
}

static enum err
migrate(struct pg *p, struct buf *said)
{
    int version = 0;
    enum err e = pg_connect(p);
    if (e == OK) {
        e = pg_run(p, NULL, "SELECT pg_advisory_lock(" LOCK_MIGRATE ")");
    }
    if (e == OK) {
        e = pg_run(p, NULL,
                   "SET client_min_messages = warning;"
                   "CREATE TABLE IF NOT EXISTS weir_schema (version int PRIMARY KEY,"
                   " applied_at timestamptz NOT NULL DEFAULT now())");
        e = e == OK ? read_version(p, &version) : explain(p, e);
    }
    return e == OK ? migrate_from(p, version, said) : e; /* the lock ends with the session */
}

enum err
pg_migrate(const char *url, struct buf *said, char *why, size_t why_size)
{
    struct env env;
    struct pg *p = NULL;
    struct log *log = log_open(-1, LOG_ERROR, false); /* what is to be said is in said and why */
    if (log == NULL) {
        return ERR_NOMEM;
    }
    env_init_system(&env, log);
    enum err e = pg_new(&p, url, PG_MIGRATOR, 0, &env);
    if (e == OK) {
        e = migrate(p, said);
    }
    if (e != OK) {
        snprintf(why, why_size, "%s", p == NULL || p->why[0] == '\0' ? err_text(e) : p->why);
    }
    pg_close(p);
    log_close(log);
    return e;
}
