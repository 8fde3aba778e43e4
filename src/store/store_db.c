/* store_db.c - happy path: begin, add and remove rows, commit; now and then a checkpoint.
 *
 * Failure modes, all mapped in classify():
 *   SQLITE_FULL, or an I/O error whose errno is ENOSPC or EDQUOT: nothing is damaged; the caller rolls back and waits.
 *   SQLITE_BUSY: another program holds the write lock for longer than BUSY_MS; roll back, try again.
 *   any other I/O error, a failed fsync above all: what is on the disk is unknown, and a second fsync may lie: stop.
 *   SQLITE_CORRUPT, SQLITE_NOTADB: stop.
 * Invariants: 1. synchronous=FULL and journal_mode=WAL are read back after they were set.
 *             2. one connection writes and checkpoints. */
#include "store/store_db.h"

#include "buf.h"
#include "env.h"
#include "log.h"
#include "store/store_db_parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUSY_MS 1000
#define WRITER_CACHE_KIB 6144
#define READER_CACHE_KIB 1024

static enum err
classify_io(const struct store_db *db)
{
    int sys = sqlite3_system_errno(db->db);
    return sys == ENOSPC || sys == EDQUOT ? ERR_DISK_FULL : ERR_IO;
}

static enum err
classify(const struct store_db *db, int rc)
{
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return OK;
    case SQLITE_FULL:
        return ERR_DISK_FULL;
    case SQLITE_NOMEM:
        return ERR_NOMEM;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_INTERRUPT:
        return ERR_UNAVAILABLE;
    case SQLITE_IOERR:
        return rc == SQLITE_IOERR_NOMEM ? ERR_NOMEM : classify_io(db);
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
        return classify_io(db);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return ERR_CORRUPT;
    default:
        return ERR_MISUSE;
    }
}

/* Says in the log what SQLite said, once per failure, and gives our code for it. */
static enum err
fail(struct store_db *db, int rc)
{
    enum err e = classify(db, rc);
    enum fate fate = err_fate(e);
    bool grave = fate == FATE_STOP || fate == FATE_BUG;
    snprintf(db->failure, sizeof db->failure, "%s (SQLite error %d)", sqlite3_errmsg(db->db),
             sqlite3_extended_errcode(db->db));
    log_write(db->env->log, grave ? LOG_ERROR : LOG_WARN, "store.sqlite",
              "err=%s errno=%d text=\"%s\"", err_name(e), sqlite3_system_errno(db->db),
              db->failure);
    return e;
}

const char *
store_db_failure(const struct store_db *db)
{
    return db->failure;
}

struct sqlite3 *
store_db_handle(struct store_db *db)
{
    return db->db;
}

const unsigned char *
store_db_id_key(const struct store_db *db)
{
    return db->id_key;
}

enum err
store_db_prepare(struct store_db *db, sqlite3_stmt **out, const char *sql)
{
    int rc = sqlite3_prepare_v3(db->db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL);
    return rc == SQLITE_OK ? OK : fail(db, rc);
}

enum err
store_db_step(struct store_db *db, sqlite3_stmt *st, bool *row)
{
    int rc = sqlite3_step(st);
    *row = rc == SQLITE_ROW;
    if (rc == SQLITE_ROW) {
        return OK;
    }
    enum err e = rc == SQLITE_DONE ? OK : fail(db, rc);
    sqlite3_reset(st);
    return e;
}

enum err
store_db_run(struct store_db *db, sqlite3_stmt *st)
{
    int rc = sqlite3_step(st);
    enum err e = rc == SQLITE_DONE || rc == SQLITE_ROW ? OK : fail(db, rc);
    sqlite3_reset(st);
    return e;
}

static enum err
run_sql(struct store_db *db, const char *sql)
{
    int rc = sqlite3_exec(db->db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? OK : fail(db, rc);
}

/* Runs a query whose first column of its first row is a text or a number; "" when no row comes. */
static enum err
query_text(struct store_db *db, const char *sql, char *out, size_t size)
{
    sqlite3_stmt *st = NULL;
    out[0] = '\0';
    enum err e = store_db_prepare(db, &st, sql);
    bool row = false;
    if (e == OK) {
        e = store_db_step(db, st, &row);
    }
    if (e == OK && row) {
        const unsigned char *text = sqlite3_column_text(st, 0);
        snprintf(out, size, "%s", text == NULL ? "" : (const char *)text);
    }
    sqlite3_finalize(st);
    return e;
}

static int
on_wal(void *data, sqlite3 *handle, const char *name, int pages)
{
    (void)handle;
    (void)name;
    ((struct store_db *)data)->wal_pages = pages;
    return SQLITE_OK;
}

/* Sets a pragma and reads back what is in force: SQLite ignores what it cannot do without a word. */
static enum err
require_pragma(struct store_db *db, const char *name, const char *want, const char *read_back,
               struct buf *why)
{
    char sql[96];
    char got[64];
    snprintf(sql, sizeof sql, "PRAGMA %s=%s", name, want);
    enum err e = query_text(db, sql, got, sizeof got);
    if (e == OK) {
        snprintf(sql, sizeof sql, "PRAGMA %s", name);
        e = query_text(db, sql, got, sizeof got);
    }
    if (e == OK && strcmp(got, read_back) != 0) {
        buf_addf(why, "SQLite has %s=%s here, and %s is needed for durability", name, got,
                 read_back);
        return ERR_CONFIG;
    }
    return e;
}

static enum err
set_up_connection(struct store_db *db, struct buf *why)
{
    char sql[64];
    bool writer = db->mode == STORE_DB_WRITER;
    snprintf(sql, sizeof sql, "PRAGMA cache_size=-%d",
             writer ? WRITER_CACHE_KIB : READER_CACHE_KIB);
    enum err e = run_sql(db, sql);
    if (e != OK || !writer) {
        return e == OK ? run_sql(db, "PRAGMA query_only=1") : e;
    }
    e = require_pragma(db, "journal_mode", "WAL", "wal", why);
    if (e == OK) {
        e = require_pragma(db, "synchronous", "FULL", "2", why);
    }
    sqlite3_wal_hook(db->db, on_wal, db); /* also turns SQLite's own checkpoints off */
    return e;
}

static enum err
prepare_all(struct store_db *db)
{
    const struct {
        sqlite3_stmt **st;
        const char *sql;
        bool reader_too;
    } all[] = {
        {&db->begin, db->mode == STORE_DB_WRITER ? "BEGIN IMMEDIATE" : "BEGIN", true},
        {&db->commit, "COMMIT", true},
        {&db->rollback, "ROLLBACK", true},
        {&db->probe, "INSERT OR REPLACE INTO meta VALUES('probe', zeroblob(131072))", false},
        {&db->probe_end, "DELETE FROM meta WHERE key = 'probe'", false},
        {&db->queue_add,
         "INSERT INTO queue(seq, accepted_at, attempts, event_id, type, timestamp, payload)"
         " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
         false},
        {&db->queue_remove, "DELETE FROM queue WHERE seq BETWEEN ?1 AND ?2", false},
        {&db->queue_read,
         "SELECT event_id, type, timestamp, payload, seq, accepted_at, attempts FROM queue"
         " WHERE seq > ?1 ORDER BY seq",
         true},
        {&db->queue_oldest, "SELECT accepted_at FROM queue ORDER BY seq LIMIT 1", true},
        {&db->event_add,
         "INSERT INTO events(seq, accepted_at, stored_at, event_id, type, timestamp, payload)"
         " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
         false},
        {&db->mark_add,
         "INSERT INTO marks(seq, event_id, payload_hash, marked_at) VALUES(?1, ?2, ?3, ?4)", false},
        {&db->dead_add,
         "INSERT INTO dead(seq, accepted_at, dead_at, event_id, type, timestamp, payload, "
         "attempts, reason)"
         " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
         false},
    };
    enum err e = OK;
    for (size_t i = 0; i < sizeof all / sizeof *all && e == OK; i++) {
        if (db->mode == STORE_DB_WRITER || all[i].reader_too) {
            e = store_db_prepare(db, all[i].st, all[i].sql);
        }
    }
    return e;
}

static void
finalize_all(struct store_db *db)
{
    sqlite3_stmt *const all[] = {db->begin,        db->commit,    db->rollback,     db->probe,
                                 db->probe_end,    db->queue_add, db->queue_remove, db->queue_read,
                                 db->queue_oldest, db->event_add, db->mark_add,     db->dead_add};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        sqlite3_finalize(all[i]);
    }
}

static enum err
open_parts(struct store_db *db, const char *path, struct buf *why)
{
    /* A lock per allocation less; refused, and no harm, once SQLite runs. */
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    int flags = db->mode == STORE_DB_WRITER ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE
                                            : SQLITE_OPEN_READWRITE;
    int rc = sqlite3_open_v2(path, &db->db, flags | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc != SQLITE_OK) {
        return db->db == NULL ? ERR_NOMEM : fail(db, rc);
    }
    sqlite3_busy_timeout(db->db, BUSY_MS);
    sqlite3_extended_result_codes(db->db, 1);
    enum err e = store_schema_recognize(db->db, why); /* before anything is changed */
    if (e == OK) {
        e = set_up_connection(db, why);
    }
    if (e == OK && db->mode == STORE_DB_WRITER) {
        e = store_schema_prepare(db->db, db->env, why);
    }
    if (e == OK) {
        e = store_schema_id_key(db->db, db->id_key);
    }
    return e == OK ? prepare_all(db) : e;
}

enum err
store_db_open(struct store_db **out, const char *folder, enum store_db_mode mode, struct env *env,
              char *why, size_t why_size)
{
    char path[1100];
    snprintf(path, sizeof path, "%s/weir.db", folder);
    struct store_db *db = calloc(1, sizeof *db);
    if (db == NULL) {
        return ERR_NOMEM;
    }
    db->env = env;
    db->mode = mode;
    struct buf said;
    buf_init(&said, 4096);
    enum err e = open_parts(db, path, &said);
    if (e == OK) {
        buf_fini(&said);
        *out = db;
        return OK;
    }
    snprintf(why, why_size, "%s: %.*s", path, said.len > 0 ? (int)said.len : 200,
             said.len > 0 ? said.at : (db->db != NULL ? sqlite3_errmsg(db->db) : err_text(e)));
    buf_fini(&said);
    store_db_close(db, false);
    return e;
}

void
store_db_close(struct store_db *db, bool clean)
{
    if (db == NULL) {
        return;
    }
    if (clean && db->mode == STORE_DB_WRITER) {
        store_schema_note_clean(db->db);
    } else if (db->db != NULL) {
        /* a file that may be damaged is left as it is found */
        sqlite3_db_config(db->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    }
    finalize_all(db);
    sqlite3_close(db->db); /* the last connection checkpoints and removes the WAL */
    free(db);
}

enum err
store_db_begin(struct store_db *db)
{
    return store_db_run(db, db->begin);
}

enum err
store_db_commit(struct store_db *db)
{
    return store_db_run(db, db->commit);
}

void
store_db_rollback(struct store_db *db)
{
    /* After some errors SQLite has rolled back by itself, and there is nothing left to do. */
    if (!sqlite3_get_autocommit(db->db)) {
        sqlite3_step(db->rollback);
        sqlite3_reset(db->rollback);
    }
}

enum err
store_db_checkpoint_if_due(struct store_db *db)
{
    if (db->wal_pages < STORE_DB_WAL_PAGES) {
        return OK;
    }
    int rc = sqlite3_wal_checkpoint_v2(db->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    if ((rc & 0xff) == SQLITE_BUSY || (rc & 0xff) == SQLITE_LOCKED) {
        return OK; /* a reader is in the way: the next commit tries again */
    }
    db->wal_pages = 0;
    return rc == SQLITE_OK ? OK : fail(db, rc);
}

enum err
store_db_probe(struct store_db *db)
{
    enum err e = store_db_run(db, db->probe);
    return e == OK ? store_db_run(db, db->probe_end) : e;
}
