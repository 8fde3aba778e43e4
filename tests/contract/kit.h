/* kit.h - what the contract, worker and simulation tests share: an env that a test drives, a folder
 * with a real store in it, events, and publishing them.
 * Threads:  the test's, but for the env, which may be called from any.
 * Fails:    by failing the test. */
#ifndef WEIR_TEST_KIT_H
#define WEIR_TEST_KIT_H

#include "batch.h"
#include "env.h"
#include "queue/consumer.h"
#include "queue/queue.h"
#include "stats.h"
#include "store/store.h"

#include <stdatomic.h>

#define KIT_DEADLINE_MS 10000 /* of whatever a test waits for */

enum fault_kind { FAULT_NONE, FAULT_ERROR, FAULT_CRASH };
#define FAULT_CRASH_CODE 137 /* as a shell shows kill -9 */

struct kit {
    struct env env; /* env.data is the kit */
    struct log *log;
    struct stats stats;
    struct store_options options;
    char folder[64];
    struct store *store; /* NULL while closed */
    _Atomic int fault;   /* enum fault_kind; set last by kit_arm */
    enum err fault_error;
    const char *fault_only;
    atomic_int countdown;
    atomic_bool fault_fired;
    char fault_point[64];         /* which one it was */
    _Atomic int64_t wall_jump_ms; /* added to the wall clock */
    atomic_uint fatals;           /* times env->fatal was called */
    bool fatal_exits;             /* then it ends the process as in production */
};

void kit_open(struct kit *k); /* quiet log; no store; its folder is in /tmp */
void kit_open_in(struct kit *k, const char *parent);
void kit_open_store(struct kit *k);
void kit_close_store(struct kit *k);
void kit_close(struct kit *k); /* and removes the folder */
/* WEIR_LOG_TESTS=1 shows the log on standard error. */

/* Fires once, at the countdown-th point from now whose name starts with `only` (NULL: any). */
void kit_arm(struct kit *k, enum fault_kind kind, enum err error, const char *only, int countdown);
void kit_disarm(struct kit *k);
void kit_end_process(int code) __attribute__((noreturn)); /* at once, as a kill does */

struct event *kit_event(const char *id, const char *payload); /* {"n":…}-like payload */
/* Publishes `n` events of these ids in one request, each with its own payload, and waits for the
 * answer. Gives what publish() or the answer said. */
enum err kit_publish(struct queue *q, const char *const *ids, size_t n);
enum err kit_publish_one(struct queue *q, const char *id);
enum err kit_publish_list(struct queue *q, struct mail_list *list); /* the list is emptied */
enum err kit_publish_event(struct queue *q, struct event *ev);      /* ev is gone afterwards */
/* Publishes count events with the ids "<prefix>0", "<prefix>1", … in one request. */
enum err kit_publish_run(struct queue *q, const char *prefix, size_t count);

/* Takes until `n` events are in b (its cap) or the deadline passed; fails the test on an error. */
void kit_take(struct consumer *c, struct batch *b, size_t n);
void kit_decide(struct batch *b, enum event_state state); /* all that are still PROCESSING */
bool kit_id_is(const struct delivery *d, const char *id);
uint64_t kit_depth(struct queue *q);

/* Runs a suite on one backend: `maker` is what each test's set-up finds in *state. Gives the
 * number of failures. */
struct CMUnitTest;
int kit_run(const char *name, const struct CMUnitTest *tests, size_t n, void *maker);

#endif
