/* bench_link.h - one connection of the bench: connects, sends a request, reads its answer.
 * Contract: link_send is called on an idle link only; then comes on_answer (the link is idle again)
 *           or on_lost. A link is opened again only after on_lost or on_refused.
 * Threads:  the load's loop.
 * Owns:     its socket; what it read of an unfinished answer. */
#ifndef WEIR_BENCH_LINK_H
#define WEIR_BENCH_LINK_H

#include "cmd/bench_request.h"

#include <uv.h>

enum link_state {
    LINK_CLOSED,
    LINK_CONNECTING,
    LINK_IDLE,
    LINK_BUSY, /* a request is out */
    LINK_CLOSING,
};

struct link;
struct link_answer {
    int status;
    int64_t due_ns;   /* as given to link_send */
    int64_t accepted; /* as a batch answer says; -1: it does not */
};
struct link_events {
    void (*on_open)(struct link *l);
    void (*on_refused)(struct link *l, int uv_error);
    void (*on_answer)(struct link *l, const struct link_answer *a);
    void (*on_lost)(struct link *l, bool busy); /* closed by the server, or not understood */
};

#define LINK_READ_BYTES 65536

struct link_shared { /* by all links of a load */
    uv_loop_t loop;
    const struct load_target *target;
    const struct link_events *events;
    struct request request;
    char read[LINK_READ_BYTES];
};

struct link {
    struct link_shared *shared;
    void *owner;
    struct link *prev; /* the owner's */
    struct link *next;
    enum link_state state;
    int64_t due_ns;
    struct answer answer;
    int64_t accepted;
    uint64_t body_left; /* of the answer being read */
    struct buf carry;   /* an answer's beginning that came in parts */
    uv_connect_t connect;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } io;
};

void link_init(struct link *l, struct link_shared *shared, void *owner);
void link_fini(struct link *l); /* when it is CLOSED */
void link_open(struct link *l);
/* Sends the shared request with new ids. A failure is an on_lost, perhaps before this returns. */
void link_send(struct link *l, int64_t due_ns);
void link_close(struct link *l); /* quietly: no callback */

#endif
