/* batch.h - events that travel together: from the api to the queue (publish), and from the queue
 * through the worker (batch). Ownership moves with them, hand to hand; each struct says whose it
 * is when. */
#ifndef WEIR_BATCH_H
#define WEIR_BATCH_H

#include "event.h"

/* The points at which an accepted event is durable, as the API names them. */
#define DURABILITY_MAP(X)                                                                          \
    X(FSYNC, "fsync")                                                                              \
    X(CONFIRMED, "confirmed")                                                                      \
    X(SPOOLED, "spooled")
enum durability {
#define X(name, text) DURABILITY_##name,
    DURABILITY_MAP(X)
#undef X
};
const char *durability_name(enum durability d); /* static */

/* The events of one request on their way into the queue. Made by the api, the queue's from queue
 * publish() until it posts it to reply_to, where reply.on_arrival runs on the api's loop. The
 * events are the queue's for good once published, whatever the result. */
struct publish {
    struct reply reply;       /* mail.bytes: the sum of its events' */
    struct mail_list events;  /* of struct event */
    size_t count;             /* how many there were, kept after events moved on */
    struct mailbox *reply_to; /* of the api's loop */
    enum err result;          /* OK: every event is durable. Otherwise: none is known to be */
    enum durability durability;
    /* The queue's own while it has it. */
    uint32_t parts;       /* messages whose fate is not known yet */
    int64_t published_ms; /* monotonic */
    /* Set by a spool in front, which holds the api's reply_to here and is reply_to itself. Then a
     * queue that fails leaves the events in `events`: the spool keeps them. */
    struct mailbox *then_to;
};

/* One event in the worker's hands. */
struct delivery {
    struct event *ev;       /* the batch's */
    enum event_state state; /* PROCESSING until decided; then PROCESSED, DUPLICATE or DEAD */
    enum err result;        /* of the sink, for this event */
    bool conflict;          /* DUPLICATE, and the payload differs from the one that was kept */
    char reason[96];        /* DEAD: why, for people */
    /* What `state` and `conflict` become if the commit that runs succeeds: the committer's own. */
    enum event_state next_state;
    bool next_conflict;
};

/* Which parts of settling have been staged for the local store's transaction. */
enum batch_stage {
    STAGE_WRITE = 1, /* the effect: the event's row */
    STAGE_MARK = 2,  /* its id */
};

/* What a worker takes from the queue, delivers and settles. One worker thread's. */
struct batch {
    struct delivery *item;
    size_t n;
    size_t cap;
    /* True when the queue is the local store: then a local sink and a local dedup only stage their
     * step here, and settle() commits write, mark and settle as one transaction. */
    bool joined;
    unsigned staged; /* of enum batch_stage */
};

enum err batch_init(struct batch *b, size_t cap) MUST_CHECK;
/* Makes b->cap at least `cap`: a message from outside may hold more events than a worker asks for. */
enum err batch_reserve(struct batch *b, size_t cap) MUST_CHECK;
void batch_fini(struct batch *b);                  /* frees the events it holds */
void batch_reset(struct batch *b);                 /* frees the events, empties, keeps its memory */
void batch_add(struct batch *b, struct event *ev); /* the batch's from here; n < cap */
/* Marks as DUPLICATE each event still PROCESSING whose id stands earlier in the batch. */
enum err batch_mark_repeats(struct batch *b) MUST_CHECK;

#endif
