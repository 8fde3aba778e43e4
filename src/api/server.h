/* server.h - private to the server: the api, its loops, and what they count together.
 * Threads:  struct api: the atomics any, all else read only after api_open (drain_timeout_ms: set
 *           before `draining`). struct server_loop: its own thread, once started.
 * Owns:     the api its loops; a loop its connections, its listening socket and its free answers.
 * Bounds:   connections (http.max_connections), bodies held and answers not yet read by their
 *           clients (http.max_inflight each; far beyond it a client is cut), free answers kept
 *           (ANSWERS_KEPT of at most ANSWER_BYTES_KEPT). */
#ifndef WEIR_SERVER_H
#define WEIR_SERVER_H

#include "api/loop.h"
#include "thread.h"

#include <uv.h>

#define READ_BYTES ((size_t)64 * 1024) /* read at once; one buffer a loop */
#define UNSENT_CUT 4
#define ANSWERS_KEPT 1024
#define ANSWER_BYTES_KEPT 4096

struct answer;
struct conn;

struct server_loop {
    struct api_loop base; /* first: handlers see this */
    struct api *api;
    uv_loop_t uv;
    uv_async_t wake;    /* replies arrived, or a drain began */
    uv_timer_t sweep;   /* looks for what took too long */
    uv_poll_t listener; /* on listen_fd */
    int listen_fd;      /* -1 once it stopped listening */
    int reserve_fd;     /* given up to refuse a connection when there are no more descriptors */
    bool accept_paused; /* until the next sweep: descriptors or memory ran out */
    bool draining;
    int64_t drain_until_ms;
    int64_t now_ms; /* of env's mono_ms, at the start of the callback that runs */
    struct thread thread;
    struct conn *conns;          /* open ones, newest first */
    struct conn *dirty;          /* those that have something to do before the callback ends */
    struct answer *free_answers; /* kept to save allocations */
    unsigned n_free_answers;
    unsigned in_flight; /* exchanges not answered yet, also of connections that are gone */
    char *read_buf;     /* READ_BYTES and BUF_SLACK */
};

struct api {
    struct api_parts parts;
    int64_t started_ms;
    size_t held_max;       /* bytes of bodies */
    size_t unsent_max;     /* bytes of answers not read yet; beyond it no large ones are made */
    size_t unsent_cut;     /* and beyond this the client that does not read is cut */
    atomic_size_t n_conns; /* open */
    atomic_size_t held;    /* bytes of bodies held now */
    atomic_size_t unsent;  /* bytes waiting for slow clients now */
    atomic_bool draining;
    struct queue closed_queue; /* stands for the real one once that is gone */
    int drain_timeout_ms;
    char address[300];
    bool is_unix;
    char *unix_path; /* the composition root's: removed when the drain begins; NULL for TCP */
    size_t n_loops;
    struct server_loop *loops;
};

/* The handles belong to the loop's uv loop. */
static inline struct server_loop *
server_loop_of(uv_loop_t *uv)
{
    return (struct server_loop *)uv->data;
}

/* Does what was left to the end of a callback: sends answers, goes on reading. Every callback ends
 * with it. */
void server_run_dirty(struct server_loop *loop);
void server_mark_time(struct server_loop *loop);

#endif
