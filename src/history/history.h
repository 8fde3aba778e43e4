/* history.h - what became of events: one by its id, or many, newest first (by accept order).
 * Contract: ask() is asynchronous: the answer comes as q->reply in q->reply_to, with result set
 *           and rows filled.
 * Threads:  ask: any, never blocks.
 * Owns:     the question is the history's until it is answered, then the asker's, rows included.
 * Bounds:   at most `limit` rows and HISTORY_ANSWER_BYTES of payload an answer (then there is a
 *           next page).
 * Fails:    ask() not OK (ERR_BUSY): the question is still the caller's. result ERR_NOT_FOUND,
 *           ERR_UNAVAILABLE (gave up in time: q->why). */
#ifndef WEIR_HISTORY_H
#define WEIR_HISTORY_H

#include "event.h"

#define HISTORY_LIMIT_MAX 1000
#define HISTORY_ANSWER_BYTES ((size_t)4 * 1024 * 1024)

enum question_kind { QUESTION_ONE, QUESTION_LIST };

struct found {
    struct event *ev;       /* the question's */
    enum event_state state; /* QUEUED, PROCESSED or DEAD */
    const char *durability; /* where it was durable when it was accepted; static; NULL: not known */
    int64_t settled_ms;     /* when it was processed or dead; 0 while queued */
    char reason[96];        /* DEAD: why */
};

struct question {
    struct reply reply;
    struct mailbox *reply_to;
    enum question_kind kind;
    char id[EVENT_ID_MAX]; /* ONE */
    size_t id_len;
    char type[EVENT_TYPE_MAX]; /* LIST: empty is any */
    size_t type_len;
    int64_t since_ms;    /* LIST: accepted at or after; INT64_MIN: no bound */
    int64_t until_ms;    /* LIST: accepted before; INT64_MAX: no bound */
    uint64_t before_seq; /* LIST: cursor; 0: from the newest */
    size_t limit;        /* LIST: 1 … HISTORY_LIMIT_MAX */
    /* the answer */
    enum err result;
    const char *why;    /* static; ERR_UNAVAILABLE */
    struct found *rows; /* malloc'd */
    size_t n;
    uint64_t next_seq; /* LIST: cursor of the next page; 0 at the end */
};

void question_free(struct question *q); /* with its rows; NULL ok */

struct history;
struct history_ops {
    const char *name;
    enum err (*ask)(struct history *h, struct question *q);
    void (*close)(struct history *h); /* NULL ok; answers what was asked first */
};
struct history {
    const struct history_ops *ops;
};

/* The backends. The store is borrowed. */
struct store;
enum err history_local_open(struct history **out, struct store *store) MUST_CHECK;
struct config;
struct env;
/* One thread and one read-only connection. */
enum err history_postgres_open(struct history **out, const struct config *cfg, struct env *env,
                               char *why, size_t why_size) MUST_CHECK;
/* Where events go that cannot be asked for: every question is answered ERR_UNAVAILABLE, and why. */
enum err history_none_open(struct history **out) MUST_CHECK;

#endif
