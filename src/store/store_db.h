/* store_db.h - the SQLite file of the local store: schema, statements, transactions, and what its errors mean.
 * Contract: private to store/. Nothing is durable before store_db_commit returns OK. After any error in a transaction the caller
 *           rolls back. ERR_IO and ERR_CORRUPT: the caller stops the process; it never tries the same file again.
 * Threads:  one connection, one thread. The writer's connection also checkpoints; no other ever does (SQLite 3.40 can damage the file
 *           when two connections checkpoint at once: "WAL-reset bug").
 * Owns:     its connection and statements. */
#ifndef WEIR_STORE_DB_H
#define WEIR_STORE_DB_H

#include "event.h"

#include <stdint.h>

struct env;
struct sqlite3;
struct sqlite3_stmt;
struct store_db;

enum store_db_mode { STORE_DB_WRITER, STORE_DB_READER };

/* The writer creates and migrates; and checks the file when the last stop was not clean. */
enum err store_db_open(struct store_db **out, const char *folder, enum store_db_mode mode,
                       struct env *env, char *why, size_t why_size) MUST_CHECK;
/* Writer: checkpoints and, if `clean`, notes a clean stop. NULL ok. */
void store_db_close(struct store_db *db, bool clean);

enum err store_db_begin(struct store_db *db)
    MUST_CHECK; /* writer: takes the write lock; reader: a snapshot */
enum err store_db_commit(struct store_db *db) MUST_CHECK; /* writer: durable when OK */
void store_db_rollback(struct store_db *db);
/* Copies the WAL into the file when it holds STORE_DB_WAL_PAGES or more. Not OK: as for commit. */
#define STORE_DB_WAL_PAGES 1000
enum err store_db_checkpoint_if_due(struct store_db *db) MUST_CHECK;
/* Writes and removes some pages: does the disk take writes again? */
enum err store_db_probe(struct store_db *db) MUST_CHECK;

enum err store_db_queue_add(struct store_db *db, const struct event *ev) MUST_CHECK;
enum err store_db_queue_remove(struct store_db *db, uint64_t first_seq,
                               uint64_t last_seq) MUST_CHECK;
/* Appends to *list the events with seq > after, oldest first, up to max_count and about max_bytes; *more: others are left. */
enum err store_db_queue_read(struct store_db *db, struct mail_list *list, bool *more,
                             uint64_t after, size_t max_bytes) MUST_CHECK;
/* accepted_ms of the oldest queued event, 0 when none is. */
enum err store_db_queue_oldest(struct store_db *db, int64_t *accepted_ms) MUST_CHECK;

enum err store_db_event_add(struct store_db *db, const struct event *ev,
                            int64_t stored_ms) MUST_CHECK;
enum err store_db_mark_add(struct store_db *db, const struct event *ev, int64_t payload_hash,
                           int64_t marked_ms) MUST_CHECK;
enum err store_db_dead_add(struct store_db *db, const struct event *ev, const char *reason,
                           int64_t dead_ms) MUST_CHECK;

/* What the writer must know when it starts. */
struct store_db_state {
    uint64_t next_seq;
    int64_t last_accepted_ms;
    uint64_t queued;       /* events */
    uint64_t queued_bytes; /* as mail.bytes counts them */
};
enum err store_db_state(struct store_db *db, struct store_db_state *out) MUST_CHECK;

/* What SQLite said of the last failure, for people. */
const char *store_db_failure(const struct store_db *db);

/* For store_ids.c and store_read.c, which keep statements of their own on this connection. */
struct sqlite3 *store_db_handle(struct store_db *db);
enum err store_db_prepare(struct store_db *db, struct sqlite3_stmt **out,
                          const char *sql) MUST_CHECK;
/* Steps once. OK with *row set when a row came; resets the statement when none did or it failed. */
enum err store_db_step(struct store_db *db, struct sqlite3_stmt *st, bool *row) MUST_CHECK;
/* Steps a statement that gives no rows, and resets it. */
enum err store_db_run(struct store_db *db, struct sqlite3_stmt *st) MUST_CHECK;
/* The key under which ids are hashed: 16 random bytes, made with the file. */
const unsigned char *store_db_id_key(const struct store_db *db);
/* Columns first … first+3 of a row as an event: event_id, type, timestamp, payload. NULL: out of memory. */
struct event *store_db_row_event(struct sqlite3_stmt *st, int first);

#endif
