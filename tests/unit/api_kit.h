/* api_kit.h - the real server on a port of its own, with a queue and a history that answer when the
 * test says so, a clock that the test moves, and blocking clients.
 * Threads:  the test's, but for the queue and the history, which the loops call.
 * Fails:    by failing the test. */
#ifndef WEIR_TEST_API_KIT_H
#define WEIR_TEST_API_KIT_H

#include "api/api.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define DEADLINE_MS 10000 /* of whatever a test waits for */

/* Publishes and questions that were taken over and not answered yet. */
struct held {
    pthread_mutex_t lock;
    struct mail_list list;
    atomic_bool hold; /* false: answered as they come */
    atomic_uint seen;
    _Atomic(enum err) refuse; /* OK, or what publish() and ask() say */
    _Atomic(enum err) result; /* of the answers to posts */
    void (*answer)(struct held *h, struct mail *mail);
};

struct api_kit {
    struct queue queue;     /* first */
    struct history history; /* its ask() finds the kit by offset */
    struct held posts;
    struct held questions;
    struct queue_status status; /* set before the server starts, or under nobody's eyes */
    size_t row_bytes;           /* payload of the one event that history shows */
    struct config cfg;
    struct env env; /* data is the kit */
    _Atomic int64_t clock_jump_ms;
    struct stats stats;
    struct api_parts parts;
    struct api *api;
    char why[300];
};

/* Ordinary limits; nothing runs yet. */
void api_kit_init(struct api_kit *k);
void api_kit_start(struct api_kit *k);
void api_kit_end(struct api_kit *k); /* drains, closes; NULL api ok */
int api_kit_set_up(void **state);    /* init and start */
int api_kit_tear_down(void **state);
void api_kit_later(struct api_kit *k, int64_t ms); /* moves the clock */

void held_wait(struct held *h, unsigned seen); /* until so many were taken over, ever */
void held_release(struct held *h, size_t most, bool newest_first);

/* Clients. A socket that gives up after DEADLINE_MS. */
int client_open(const struct api_kit *k);
void client_send(int fd, const char *text);
void client_send_bytes(int fd, const void *bytes, size_t len);
void client_post(int fd, const char *id); /* a whole request */
struct got {
    int status;
    char head[4096];
    char body[8192]; /* cut */
    size_t body_len;
};
void client_read(int fd, struct got *got); /* one answer */
void client_expect(int fd, int status);    /* one answer with this status */
void client_expect_end(int fd);            /* the other side has closed in good order */
void client_expect_nothing(int fd);        /* no byte is there now */
bool client_is_cut(int fd);                /* waits for the end of it: true by a reset */
int client_ask(struct api_kit *k, const char *text, struct got *got); /* of its own; the status */
void wait_for(const _Atomic uint64_t *counter, uint64_t least);

#endif
