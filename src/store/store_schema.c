#include "store/store_schema.h"

#include "env.h"
#include "log.h"

#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#define APPLICATION_ID 0x77656972 /* "weir" */

/* Above this size only the queue is checked after an unclean stop: what is still to be processed must be sound before it is
 * touched, and a start may not take minutes. */
#define CHECK_WHOLE_PAGES 65536 /* 256 MiB of 4 KiB pages */

/* One string a version: what makes it from the one before. Never edit one that was released; add one. */
static const char *const steps[] = {
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
    /* accepted, not settled; in accept order */
    "CREATE TABLE queue(seq INTEGER PRIMARY KEY, accepted_at INTEGER NOT NULL, attempts INTEGER "
    "NOT NULL,"
    " event_id TEXT NOT NULL, type TEXT NOT NULL, timestamp TEXT NOT NULL, payload TEXT NOT NULL);"
    /* the effect of the local sink; seq is the queue's, so accepted_at grows with it */
    "CREATE TABLE events(seq INTEGER PRIMARY KEY, accepted_at INTEGER NOT NULL, stored_at INTEGER "
    "NOT NULL,"
    " event_id TEXT NOT NULL, type TEXT NOT NULL, timestamp TEXT NOT NULL, payload TEXT NOT NULL);"
    "CREATE INDEX events_type ON events(type);"
    /* the unique ids: a keyed hash of event_id (see store_ids.c) */
    "CREATE TABLE ids(hash INTEGER PRIMARY KEY, seq INTEGER NOT NULL);"
    /* ids whose effect is in another sink */
    "CREATE TABLE marks(seq INTEGER PRIMARY KEY, event_id TEXT NOT NULL, payload_hash INTEGER NOT "
    "NULL,"
    " marked_at INTEGER NOT NULL);"
    "CREATE TABLE dead(seq INTEGER PRIMARY KEY, accepted_at INTEGER NOT NULL, dead_at INTEGER NOT "
    "NULL,"
    " event_id TEXT NOT NULL, type TEXT NOT NULL, timestamp TEXT NOT NULL, payload TEXT NOT NULL,"
    " attempts INTEGER NOT NULL, reason TEXT NOT NULL);"
    "CREATE INDEX dead_event_id ON dead(event_id);"
    "INSERT INTO meta VALUES('id_key', randomblob(16));",
};
#define LATEST ((int)(sizeof steps / sizeof *steps))

static int
query_int(sqlite3 *db, const char *sql, int *out)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(st);
        *out = rc == SQLITE_ROW ? sqlite3_column_int(st, 0) : 0;
        rc = rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
    }
    sqlite3_finalize(st);
    return rc;
}

static enum err
refuse(sqlite3 *db, struct buf *why)
{
    int rc = sqlite3_errcode(db) & 0xff;
    if (rc == SQLITE_NOTADB) {
        buf_add_text(why,
                     "is not a database of weir; move it away, or name another folder with --data");
        return ERR_CORRUPT;
    }
    buf_add_text(why, sqlite3_errmsg(db));
    switch (rc) {
    case SQLITE_FULL:
        return ERR_DISK_FULL;
    case SQLITE_CORRUPT:
        buf_add_text(why,
                     "; restore a backup, or save what can be read with: sqlite3 weir.db .recover");
        return ERR_CORRUPT;
    case SQLITE_BUSY:
        buf_add_text(why, " by another program");
        return ERR_UNAVAILABLE;
    default:
        return ERR_IO;
    }
}

static enum err
take_step(sqlite3 *db, int version, struct buf *why)
{
    char end[128];
    snprintf(end, sizeof end, "PRAGMA application_id=%d; PRAGMA user_version=%d; COMMIT",
             APPLICATION_ID, version + 1);
    if (sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK &&
        sqlite3_exec(db, steps[version], NULL, NULL, NULL) == SQLITE_OK &&
        sqlite3_exec(db, end, NULL, NULL, NULL) == SQLITE_OK) {
        return OK;
    }
    enum err e = refuse(db, why);
    sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return e;
}

enum err
store_schema_recognize(sqlite3 *db, struct buf *why)
{
    int version = 0;
    int application = 0;
    int tables = 0;
    if (query_int(db, "PRAGMA user_version", &version) != SQLITE_OK ||
        query_int(db, "PRAGMA application_id", &application) != SQLITE_OK ||
        query_int(db, "SELECT count(*) FROM sqlite_master", &tables) != SQLITE_OK) {
        return refuse(db, why);
    }
    if (application != APPLICATION_ID && tables > 0) {
        buf_add_text(why, "is a database of another program; name another folder with --data");
        return ERR_CONFIG;
    }
    if (version > LATEST) {
        buf_addf(why,
                 "has schema version %d, and this weir knows up to %d: it was written by a later "
                 "version",
                 version, LATEST);
        return ERR_CONFIG;
    }
    return OK;
}

static enum err
upgrade(sqlite3 *db, struct env *env, struct buf *why)
{
    int version = 0;
    if (query_int(db, "PRAGMA user_version", &version) != SQLITE_OK) {
        return refuse(db, why);
    }
    bool is_new = version == 0;
    enum err e = OK;
    for (; version < LATEST && e == OK; version++) {
        e = take_step(db, version, why);
        if (e == OK && !is_new) {
            log_info(env->log, "store.upgraded", "version=%d", version + 1);
        }
    }
    return e;
}

/* The first line of the check's answer is "ok", or the damage. */
static enum err
check(sqlite3 *db, const char *sql, struct buf *why)
{
    sqlite3_stmt *st = NULL;
    if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK || sqlite3_step(st) != SQLITE_ROW) {
        enum err e = refuse(db, why);
        sqlite3_finalize(st);
        return e;
    }
    const char *said = (const char *)sqlite3_column_text(st, 0);
    enum err e = OK;
    if (said == NULL || strcmp(said, "ok") != 0) {
        const char *last = said == NULL ? NULL : strrchr(said, '\n'); /* a heading stands before */
        said = last == NULL ? said : last + 1;
        buf_addf(why,
                 "is damaged: %s; restore a backup, or save what can be read with: sqlite3 weir.db "
                 ".recover",
                 said == NULL ? "no answer" : said);
        e = ERR_CORRUPT;
    }
    sqlite3_finalize(st);
    return e;
}

static enum err
check_after_crash(sqlite3 *db, struct env *env, struct buf *why)
{
    int clean = 0;
    int pages = 0;
    if (query_int(db, "SELECT value FROM meta WHERE key = 'clean'", &clean) != SQLITE_OK ||
        query_int(db, "PRAGMA page_count", &pages) != SQLITE_OK) {
        return refuse(db, why);
    }
    int had_run = 0;
    if (query_int(db, "SELECT count(*) FROM meta WHERE key = 'clean'", &had_run) != SQLITE_OK) {
        return refuse(db, why);
    }
    if (had_run == 0 || clean == 1) {
        return OK;
    }
    bool whole = pages <= CHECK_WHOLE_PAGES;
    log_info(env->log, "store.check", "reason=\"the last stop was not clean\" scope=%s",
             whole ? "whole" : "queue");
    enum err e = check(db, whole ? "PRAGMA quick_check(1)" : "PRAGMA quick_check('queue')", why);
    if (e == OK) {
        log_info(env->log, "store.checked", "result=ok pages=%d", pages);
    }
    return e;
}

enum err
store_schema_prepare(sqlite3 *db, struct env *env, struct buf *why)
{
    enum err e = upgrade(db, env, why);
    if (e == OK) {
        e = check_after_crash(db, env, why);
    }
    if (e == OK &&
        sqlite3_exec(db,
                     "INSERT INTO meta VALUES('clean', 0) ON CONFLICT(key) DO UPDATE SET value = 0",
                     NULL, NULL, NULL) != SQLITE_OK) {
        e = refuse(db, why);
    }
    return e;
}

enum err
store_schema_id_key(sqlite3 *db, unsigned char out[STORE_ID_KEY_BYTES])
{
    sqlite3_stmt *st = NULL;
    enum err e = ERR_CORRUPT;
    if (sqlite3_prepare_v2(db, "SELECT value FROM meta WHERE key = 'id_key'", -1, &st, NULL) ==
            SQLITE_OK &&
        sqlite3_step(st) == SQLITE_ROW && sqlite3_column_bytes(st, 0) == STORE_ID_KEY_BYTES) {
        memcpy(out, sqlite3_column_blob(st, 0), STORE_ID_KEY_BYTES);
        e = OK;
    }
    sqlite3_finalize(st);
    return e;
}

void
store_schema_note_clean(sqlite3 *db)
{
    sqlite3_exec(db, "UPDATE meta SET value = 1 WHERE key = 'clean'", NULL, NULL, NULL);
}
