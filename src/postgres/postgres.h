/* postgres.h - the PostgreSQL side: connection, schema, what its errors mean, writing and reading
 * events.
 * Contract: private to *_postgres.c and cmd/migrate.c. libpq-fe.h is included in src/postgres
 *           only. SQLSTATE classes give the fate: 08, 40, 53, 57P0x, 58 and a lost connection:
 *           ERR_UNAVAILABLE (pause, try again); 22, 23: that row, found by bisection,
 *           ERR_REJECTED; 28, 3D, 42P01 (not migrated): ERR_CONFIG at the start, ERR_UNAVAILABLE
 *           later; anything else ERR_UNAVAILABLE, logged. At connect fsync, synchronous_commit
 *           and full_page_writes are asserted.
 * Threads:  a connection belongs to one thread; may block, never longer than its timeout (TCP
 *           keepalives and tcp_user_timeout set). */
#ifndef WEIR_POSTGRES_H
#define WEIR_POSTGRES_H

#include "batch.h"
#include "history/history.h"

struct env;
struct pg;

/* Connects and checks: not OK, `why` says what to tell the user (never the password). Lost later, it
 * connects anew by itself at the next call. */
enum err pg_open(struct pg **out, const char *url, int64_t statement_timeout_ms, bool read_only,
                 struct env *env, char *why, size_t why_size) MUST_CHECK;
void pg_close(struct pg *p);              /* NULL ok */
bool pg_is_connected(const struct pg *p); /* as far as the last call knows */

/* The contract of sink.h's write(). One transaction: event_ids and events. Sets DUPLICATE and
 * conflict, or ERR_REJECTED and reason, per event. */
enum err pg_write(struct pg *p, struct batch *b) MUST_CHECK;
/* The contract of history.h: fills q's answer. */
enum err pg_answer(struct pg *p, struct question *q) MUST_CHECK;
/* Makes the partitions of the days ahead and drops those that are wholly older than retention_ms (0:
 * none), with their ids. Does nothing until it is time, and a bounded piece of work then: call it
 * between two batches. Safe to run twice at once. */
enum err pg_upkeep(struct pg *p, int64_t retention_ms) MUST_CHECK;
/* Creates or upgrades the schema (weir migrate): versioned, idempotent, safe to run twice at once
 * (advisory lock). Says on `said` what it did. */
struct buf;
enum err pg_migrate(const char *url, struct buf *said, char *why, size_t why_size) MUST_CHECK;

#endif
