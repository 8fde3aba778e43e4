/* server.c - the loops: listening, accepting, replies, drain.
 * Happy path:    api_open binds -> api_start: a thread per loop -> connections are accepted, the
 *                connections do the rest (http_conn.c); replies of the queue and of history arrive
 *                in the loop's mailbox, which wakes it.
 * Drain:         every loop accepts what is in its backlog, closes its listener, and goes on with
 *                what was received; idle connections are closed at the next sweep. It ends when no
 *                connection and no exchange is left, or when the time is over.
 * Failure modes: no descriptors left: the reserve is given up for as long as it takes to refuse the
 *                next connection, and accepting pauses until the next sweep. */
#include "api/server.h"

#include "api/http_conn.h"
#include "api/listen.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define THREADS_MAX 64 /* as in config_table.h */
#define SWEEP_MS 250
#define SWEEP_DRAINING_MS 25
#define ACCEPTS_PER_TURN 64
#define REPLIES_BYTES ((size_t)256 * 1024 * 1024) /* replies are never refused: see mailbox.h */
#define REPLIES_COUNT ((size_t)1 << 20)
#define LAST_REPLIES_MS 5000 /* api_close waits so long for what others still owe */

void
server_mark_time(struct server_loop *loop)
{
    struct env *env = loop->base.parts->env;
    loop->now_ms = env->mono_ms(env);
}

void
server_run_dirty(struct server_loop *loop)
{
    while (loop->dirty != NULL) {
        struct conn *c = loop->dirty;
        loop->dirty = c->next_dirty;
        c->dirty = false;
        conn_run(c);
    }
}

/* ---- accepting ---- */

static void
take_client(struct server_loop *loop, int fd)
{
    struct api *api = loop->api;
    size_t most = (size_t)api->parts.cfg->http_max_connections;
    if (atomic_fetch_add(&api->n_conns, 1) >= most) {
        atomic_fetch_sub(&api->n_conns, 1);
        close(fd);
        stats_add(&api->parts.stats->connections_refused, 1);
        log_warn(api->parts.env->log, "api.connections.full", "most=%zu", most);
        return;
    }
    conn_open(loop, fd, api->is_unix);
}

/* No descriptor is left: the client at the front is told so by a close, with the one kept for that.
 */
static void
refuse_without_fd(struct server_loop *loop)
{
    struct api *api = loop->api;
    log_warn(api->parts.env->log, "api.accept.no_fds", "open=%zu", atomic_load(&api->n_conns));
    if (loop->reserve_fd >= 0) {
        close(loop->reserve_fd);
        int fd = accept4(loop->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            close(fd);
            stats_add(&api->parts.stats->connections_refused, 1);
        }
    }
    loop->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

enum accepted { ACCEPTED, ACCEPT_NONE, ACCEPT_SHORT };

static enum accepted
accept_one(struct server_loop *loop)
{
    int fd = accept4(loop->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
        take_client(loop, fd);
        return ACCEPTED;
    }
    switch (errno) {
    case EAGAIN:
        return ACCEPT_NONE;
    case EMFILE:
    case ENFILE:
        refuse_without_fd(loop);
        return ACCEPT_SHORT;
    case ENOBUFS:
    case ENOMEM:
        return ACCEPT_SHORT;
    default:
        return ACCEPTED; /* that client is gone again (ECONNABORTED and network errors) */
    }
}

static void on_client(uv_poll_t *poll, int status, int events);

static void
pause_accepting(struct server_loop *loop, bool pause)
{
    if (pause != loop->accept_paused && loop->listen_fd >= 0) {
        loop->accept_paused = pause;
        if (pause) {
            uv_poll_stop(&loop->listener);
        } else {
            uv_poll_start(&loop->listener, UV_READABLE, on_client);
        }
    }
}

static void
accept_some(struct server_loop *loop, int most)
{
    enum accepted got = ACCEPTED;
    for (int i = 0; i < most && got == ACCEPTED; i++) {
        got = accept_one(loop);
    }
    if (got == ACCEPT_SHORT) {
        pause_accepting(loop, true); /* or the loop would spin on the backlog */
    }
}

static void
on_client(uv_poll_t *poll, int status, int events)
{
    struct server_loop *loop = server_loop_of(poll->loop);
    (void)events;
    server_mark_time(loop);
    if (status == 0) {
        accept_some(loop, ACCEPTS_PER_TURN);
    } else {
        log_error(loop->api->parts.env->log, "api.listen.failed", "err=%s", uv_err_name(status));
        pause_accepting(loop, true);
    }
    server_run_dirty(loop);
}

static void
stop_listening(struct server_loop *loop)
{
    if (loop->listen_fd >= 0) {
        uv_poll_stop(&loop->listener);
        close(loop->listen_fd);
        loop->listen_fd = -1;
    }
}

/* ---- the loop's life ---- */

static void
run_replies(struct server_loop *loop, int wait_ms)
{
    struct mail_list list = mailbox_take(loop->base.replies, SIZE_MAX, SIZE_MAX, wait_ms);
    struct mail *mail;
    while ((mail = mail_list_pop(&list)) != NULL) {
        struct reply *reply = (struct reply *)mail; /* first in it */
        reply->on_arrival(reply);
    }
    server_run_dirty(loop);
}

static void on_sweep(uv_timer_t *timer);

static void
begin_drain(struct server_loop *loop)
{
    loop->draining = true;
    loop->drain_until_ms = loop->now_ms + loop->api->drain_timeout_ms;
    if (loop->listen_fd >= 0) {
        accept_some(loop, LISTEN_BACKLOG); /* those that already believe to be connected */
    }
    stop_listening(loop);
    uv_timer_start(&loop->sweep, on_sweep, SWEEP_DRAINING_MS, SWEEP_DRAINING_MS);
}

static void
on_wake(uv_async_t *async)
{
    struct server_loop *loop = server_loop_of(async->loop);
    server_mark_time(loop);
    if (atomic_load(&loop->api->draining) && !loop->draining) {
        begin_drain(loop);
    }
    run_replies(loop, 0);
}

static void
sweep_conns(struct server_loop *loop)
{
    bool cut = loop->draining && loop->now_ms >= loop->drain_until_ms;
    struct conn *c = loop->conns;
    while (c != NULL) {
        struct conn *next = c->next;
        if (cut) {
            conn_cut(c);
        } else {
            conn_check_time(c);
        }
        c = next;
    }
}

static void
on_sweep(uv_timer_t *timer)
{
    struct server_loop *loop = server_loop_of(timer->loop);
    server_mark_time(loop);
    pause_accepting(loop, false);
    sweep_conns(loop);
    server_run_dirty(loop);
    bool late = loop->now_ms >= loop->drain_until_ms;
    if (loop->draining && loop->conns == NULL && (loop->in_flight == 0 || late)) {
        uv_stop(&loop->uv);
    }
}

static void
loop_main(void *data)
{
    struct server_loop *loop = data;
    uv_run(&loop->uv, UV_RUN_DEFAULT); /* until the drain is over */
}

static void
wake_loop(void *data)
{
    struct server_loop *loop = data;
    uv_async_send(&loop->wake);
}

/* ---- opening and closing ---- */

static enum err
open_uv(struct server_loop *loop)
{
    if (uv_loop_init(&loop->uv) != 0) {
        return ERR_NOMEM;
    }
    loop->uv.data = loop;
    bool ok = uv_async_init(&loop->uv, &loop->wake, on_wake) == 0 &&
              uv_timer_init(&loop->uv, &loop->sweep) == 0 &&
              uv_poll_init(&loop->uv, &loop->listener, loop->listen_fd) == 0 &&
              uv_timer_start(&loop->sweep, on_sweep, SWEEP_MS, SWEEP_MS) == 0 &&
              uv_poll_start(&loop->listener, UV_READABLE, on_client) == 0;
    return ok ? OK : ERR_NOMEM;
}

/* The listening socket is the loop's from here. */
static enum err
open_loop(struct server_loop *loop, struct api *api, int listen_fd)
{
    const struct config *cfg = api->parts.cfg;
    loop->api = api;
    loop->listen_fd = listen_fd;
    loop->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    loop->base.parts = &api->parts;
    loop->base.started_ms = api->started_ms;
    loop->base.draining = &api->draining;
    loop->base.replies = mailbox_open(REPLIES_BYTES, REPLIES_COUNT, wake_loop, loop);
    loop->base.parser = event_parser_open((size_t)cfg->event_max_bytes);
    loop->read_buf = calloc(1, READ_BYTES + BUF_SLACK);
    if (loop->reserve_fd < 0 || loop->base.replies == NULL || loop->base.parser == NULL ||
        loop->read_buf == NULL) {
        return ERR_NOMEM;
    }
    server_mark_time(loop);
    return open_uv(loop);
}

static void
close_handle(uv_handle_t *handle, void *data)
{
    (void)data;
    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

static void
close_uv(struct server_loop *loop)
{
    if (loop->uv.data == NULL) {
        return;
    }
    while (loop->conns != NULL) {
        conn_cut(loop->conns);
    }
    uv_walk(&loop->uv, close_handle, NULL);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    uv_loop_close(&loop->uv);
}

static void
closed_status(struct queue *q, struct queue_status *out)
{
    (void)q;
    *out = (struct queue_status){.why = "closed", .retry_after_s = 1};
}

/* Handlers whose reply comes after the end may still ask how the queue does. */
static const struct queue_ops closed_ops = {.name = "closed", .status = closed_status};

/* What handlers still owe to clients that were cut is theirs to free, on arrival. */
static bool
last_replies(struct server_loop *loop)
{
    for (int waited_ms = 0; loop->in_flight > 0 && waited_ms < LAST_REPLIES_MS; waited_ms += 50) {
        run_replies(loop, 50);
    }
    return loop->in_flight == 0;
}

static void
close_loop(struct server_loop *loop)
{
    if (loop->base.replies != NULL) {
        run_replies(loop, 0);
    }
    close_uv(loop);
    if (loop->listen_fd >= 0) {
        close(loop->listen_fd);
    }
    if (loop->reserve_fd >= 0) {
        close(loop->reserve_fd);
    }
    answers_free_kept(loop);
    mailbox_close(loop->base.replies);
    event_parser_close(loop->base.parser);
    free(loop->read_buf);
}

static enum err
open_loops(struct api *api, int *fds)
{
    enum err e = OK;
    for (size_t i = 0; i < api->n_loops; i++) {
        struct server_loop *loop = &api->loops[i];
        loop->listen_fd = loop->reserve_fd = -1;
        if (e == OK) {
            e = open_loop(loop, api, fds[i]);
        } else {
            close(fds[i]);
        }
    }
    return e;
}

static void
set_limits(struct api *api)
{
    const struct config *cfg = api->parts.cfg;
    size_t inflight = (size_t)cfg->http_max_inflight;
    size_t body = (size_t)cfg->http_max_body;
    api->held_max = inflight > body ? inflight : body; /* one alone always fits */
    api->unsent_max = inflight;
    api->unsent_cut =
        UNSENT_CUT * (inflight > HISTORY_ANSWER_BYTES ? inflight : HISTORY_ANSWER_BYTES);
}

static enum err
listen_and_open(struct api *api, struct listen_text why)
{
    int fds[THREADS_MAX];
    size_t n = (size_t)api->parts.cfg->api_threads;
    const char *path = listen_unix_path(api->parts.cfg->listen);
    struct listen_text address = {api->address, sizeof api->address};
    api->loops = calloc(n, sizeof *api->loops);
    if (api->loops == NULL || n > THREADS_MAX) {
        return ERR_NOMEM;
    }
    enum err e = listen_open(fds, n, api->parts.cfg->listen, address, why);
    if (e != OK) {
        return e;
    }
    api->n_loops = n;
    api->is_unix = path != NULL;
    api->unix_path = path == NULL ? NULL : strdup(path);
    e = open_loops(api, fds);
    return path != NULL && api->unix_path == NULL ? ERR_NOMEM : e;
}

enum err
api_open(struct api **out, const struct api_parts *parts, char *why, size_t why_size)
{
    enum err e = ERR_NOMEM;
    struct api *api = calloc(1, sizeof *api);
    if (api != NULL) {
        api->parts = *parts;
        api->started_ms = parts->env->mono_ms(parts->env);
        set_limits(api);
        e = listen_and_open(api, (struct listen_text){why, why_size});
    }
    if (e != OK) {
        if (e == ERR_NOMEM) {
            snprintf(why, why_size, "out of memory");
        }
        api_close(api);
        return e;
    }
    *out = api;
    return OK;
}

enum err
api_start(struct api *a)
{
    for (size_t i = 0; i < a->n_loops; i++) {
        char name[16];
        snprintf(name, sizeof name, "weir-api-%zu", i % 100);
        enum err e = thread_start(&a->loops[i].thread, name, loop_main, &a->loops[i]);
        if (e != OK) {
            return e;
        }
    }
    return OK;
}

const char *
api_address(const struct api *a)
{
    return a->address;
}

void
api_drain(struct api *a, int timeout_ms)
{
    if (a->unix_path != NULL) {
        unlink(a->unix_path); /* while it is surely ours: a successor may bind it from now on */
        free(a->unix_path);
        a->unix_path = NULL;
    }
    a->drain_timeout_ms = timeout_ms;
    atomic_store(&a->draining, true);
    for (size_t i = 0; i < a->n_loops; i++) {
        if (a->loops[i].thread.running) {
            wake_loop(&a->loops[i]);
        }
    }
    for (size_t i = 0; i < a->n_loops; i++) {
        thread_join(&a->loops[i].thread);
    }
}

void
api_close(struct api *a)
{
    if (a == NULL) {
        return;
    }
    api_drain(a, 0);
    a->closed_queue.ops = &closed_ops;
    a->parts.queue = &a->closed_queue;
    bool whole = true;
    for (size_t i = 0; i < a->n_loops; i++) {
        whole = (a->loops[i].base.replies == NULL || last_replies(&a->loops[i])) && whole;
    }
    if (!whole) {
        /* Others still hold exchanges: their memory has to stay. */
        log_error(a->parts.env->log, "api.close.unanswered", "waited_ms=%d", LAST_REPLIES_MS);
        return;
    }
    for (size_t i = 0; i < a->n_loops; i++) {
        close_loop(&a->loops[i]);
    }
    free(a->loops);
    free(a);
}
