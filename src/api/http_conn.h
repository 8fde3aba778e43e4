/* http_conn.h - private to the server: one client's connection, and its answers.
 * Contract: requests are answered in the order in which they came. Up to PIPELINE_MAX POSTs of one
 *           connection may be in the queue's hands at once; every other request waits until those
 *           before it are answered, and those after it wait for it.
 * Threads:  the loop's.
 * Owns:     a connection its parser, its held bytes and its answers; closed, it rests until the
 *           uv loop lets go of it. An exchange whose connection is gone belongs to whoever will
 *           answer it. */
#ifndef WEIR_HTTP_CONN_H
#define WEIR_HTTP_CONN_H

#include "api/exchange.h"
#include "api/server.h"

#define PIPELINE_MAX 16                   /* requests of a connection in handling */
#define LINGER_BYTES ((size_t)256 * 1024) /* read and thrown away after a refusal */
#define LINGER_MS 2000                    /* for so long */
#define LINGER_DRAINING_MS 200            /* when the process stops */
#define BODY_GRACE_MS 10000               /* before a body's rate is looked at */
/* Answers of a connection waiting for their turn; beyond it no further request is taken up. */
#define ANSWER_BACKLOG_BYTES ((size_t)16 * 1024)

/* What the reading side is about. */
#define CONN_STATES(X)                                                                             \
    X(IDLE)   /* between requests */                                                               \
    X(HEAD)   /* a request has begun */                                                            \
    X(BODY)   /* its head is complete */                                                           \
    X(HELD)   /* bytes wait until there is room for a request; not reading */                      \
    X(LAST)   /* no request is taken any more; what was taken is answered; not reading */          \
    X(HALF)   /* the same, and the client has closed its side */                                   \
    X(LINGER) /* all is sent and our side closed; what comes is thrown away */                     \
    X(CLOSED) /* waits for the uv loop */

enum conn_state {
#define X(name) CONN_##name,
    CONN_STATES(X)
#undef X
};

enum answer_flag {
    ANSWER_DONE = 1,        /* its bytes are complete */
    ANSWER_NO_BODY = 2,     /* to HEAD */
    ANSWER_CLOSE = 4,       /* the last one of its connection */
    ANSWER_ALONE = 8,       /* nothing after it is taken up before it is answered */
    ANSWER_KEEP_ALIVE = 16, /* HTTP/1.0 wants to be told */
};

struct answer {
    struct exchange x;   /* first: handlers see this */
    struct conn *conn;   /* NULL: the client is gone */
    struct answer *next; /* of the connection, in order; or of the free ones */
    struct buf fields;   /* added by exchange_header */
    struct buf bytes;    /* what goes out */
    size_t sent;
    unsigned flags; /* of enum answer_flag */
};

#define CONN_MAGIC 0x636f6e6eu

struct conn {
    unsigned magic;
    enum conn_state state;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } io;
    union { /* never at once */
        uv_write_t write;
        uv_shutdown_t shutdown;
    } req;
    struct server_loop *loop;
    struct conn *prev, *next;
    struct conn *next_dirty;
    bool dirty;
    struct http_parser *parser; /* NULL when nothing more is taken */
    struct answer *first;
    struct answer *last;
    unsigned n_answers;
    unsigned n_writing;  /* of them, from the first: in uv's hands */
    size_t answer_bytes; /* complete and not sent */
    size_t unsent;       /* counted in api->unsent: what uv writes */
    size_t write_left;   /* when it last moved … */
    int64_t write_ms;    /* … which was then */
    int64_t since_ms;    /* when the state, or the idle time, began */
    size_t body_seen;    /* bytes of the body that came */
    size_t held;         /* counted in api->held */
    struct buf rest;     /* HELD: bytes of later requests, counted in api->unsent */
    size_t rest_at;
    size_t discarded; /* LINGER */
};

void conn_open(struct server_loop *loop, int fd, bool is_unix); /* takes fd, counted in n_conns */
void conn_close(struct conn *c);                                /* at once; once more is fine */
void conn_cut(struct conn *c);  /* at once, what is not sent yet is thrown away */
void conn_run(struct conn *c);  /* what can be done now: send, go on reading */
void conn_mark(struct conn *c); /* conn_run before the callback ends */
void conn_check_time(struct conn *c);
void conn_go(struct conn *c, enum conn_state to);
void conn_stop_reading(struct conn *c); /* LAST */
/* One last answer, to what is no whole request. */
void conn_refuse(struct conn *c, int status, const char *detail);
void conn_refuse_busy(struct conn *c);
unsigned conn_retry_after_s(const struct conn *c);

/* http_read.c: the reading side */
void conn_start_reading(struct conn *c); /* may close c */
void conn_resume(struct conn *c);        /* HELD: takes up what waits, if there is room now */
void conn_drop_input(struct conn *c);    /* frees the parser and what waits */

/* exchange.c: the sending side */
struct answer *answer_add(struct conn *c, unsigned flags); /* last in line; NULL: no memory */
void answer_continue(struct conn *c);                      /* 100 Continue, in its turn */
void answers_drop(struct conn *c);                         /* the connection is closed */
void answers_send(struct conn *c);                         /* what is due; may close c */
void answers_free_kept(struct server_loop *loop);
bool answers_stuck(struct conn *c); /* the client reads nothing for too long */

#endif
