/* store_writer.h - the store's one writing thread, and what it shares with the callers in store.c.
 * Contract: private to store/. Everything marked "writer" is touched by that thread alone once it runs.
 * Threads:  see each field. */
#ifndef WEIR_STORE_WRITER_H
#define WEIR_STORE_WRITER_H

#include "store/store.h"
#include "store/store_db.h"
#include "store/store_ids.h"
#include "store/store_read.h"
#include "thread.h"

#include <stdatomic.h>

/* After a refusal because the queue is full, a tenth of it should be free before the next try. */
#define STORE_DRAIN_SHARE 10

/* Why publishes are refused at the moment. */
enum store_refusal { STORE_OPEN, STORE_DISK_FULL, STORE_DISK_LOW, STORE_BUSY_ELSEWHERE };

/* One blocking call of a worker, waiting for its answer. */
enum store_job_kind { STORE_JOB_COMMIT, STORE_JOB_SETTLE, STORE_JOB_SEEN };
struct store_job {
    struct mail mail;
    enum store_job_kind kind;
    struct batch *batch; /* the worker's, which waits meanwhile */
    enum err result;
    struct mailbox *answer; /* where the worker waits; kept for the next call */
};

struct store {
    struct env *env;
    struct store_options o;
    int lock_fd;

    struct mailbox *publishes; /* any thread → writer */
    struct mailbox *jobs;      /* workers → writer */
    struct mailbox *ready;     /* writer → workers: durable events, in order */
    struct mailbox *idle_jobs; /* store_job that no call uses */

    struct thread thread;
    struct store_db *db;   /* writer */
    struct store_ids *ids; /* writer */
    struct store_read *reader;

    uint64_t next_seq;        /* writer */
    int64_t last_accepted_ms; /* writer: accept times never go back, whatever the clock does */
    uint64_t ready_seq;       /* writer: every queued event up to this seq was put into `ready` */
    int64_t next_upkeep_ms;   /* writer, monotonic */
    uint64_t settled_bytes;   /* writer: since the last upkeep */
    bool failed;              /* writer: after a fatal error, in a test that went on */

    _Atomic bool
        full; /* a publish was refused because of max_bytes, and little has drained since */
    _Atomic bool behind; /* events are on disk that are not in `ready` */
    _Atomic bool stop_taking;
    _Atomic bool closing;
    _Atomic int refusal;            /* enum store_refusal */
    _Atomic uint64_t depth;         /* events durable and not settled */
    _Atomic uint64_t bytes;         /* of those */
    _Atomic int64_t oldest_ms;      /* accepted_ms of the oldest of them */
    _Atomic uint64_t drain_bytes_s; /* smoothed */
};

void store_writer_run(void *store); /* the thread's main */
/* Moves events from disk into `ready` until it is full or caught up. Writer, or before it runs. */
enum err store_writer_refill(struct store *s) MUST_CHECK;

#endif
