/* http_conn.c - a connection's life: opening, states, refusing, time, closing.
 * Happy path:    conn_open -> requests are read (http_read.c) and answered (exchange.c) -> the
 *                client closes, or a last answer does: LAST sends what is owed, LINGER closes our
 *                side and throws away what still comes for a while, so that the answer is not lost
 *                to a reset -> CLOSED.
 * Failure modes: who is too slow with a request gets 408 and is closed; who does not read is cut.
 * Invariant:     only conn_go changes the state. */
#include "api/http_conn.h"

#include "api/problem.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define BIT(state) (1u << (state))

/* Every state may also go to CLOSED. */
static const unsigned may_go[] = {
    [CONN_IDLE] = BIT(CONN_HEAD) | BIT(CONN_HELD) | BIT(CONN_LAST) | BIT(CONN_HALF),
    [CONN_HEAD] = BIT(CONN_IDLE) | BIT(CONN_BODY) | BIT(CONN_LAST) | BIT(CONN_HALF),
    [CONN_BODY] = BIT(CONN_IDLE) | BIT(CONN_LAST) | BIT(CONN_HALF),
    [CONN_HELD] = BIT(CONN_IDLE),
    [CONN_LAST] = BIT(CONN_LINGER),
    [CONN_HALF] = 0,
    [CONN_LINGER] = 0,
    [CONN_CLOSED] = 0,
};

void
conn_go(struct conn *c, enum conn_state to)
{
    assert(c->state != CONN_CLOSED && (to == CONN_CLOSED || (may_go[c->state] & BIT(to))));
    c->state = to;
    c->since_ms = c->loop->now_ms;
    if (to == CONN_HELD || to == CONN_LAST || to == CONN_HALF) {
        uv_read_stop(&c->io.stream);
    }
}

void
conn_mark(struct conn *c)
{
    if (!c->dirty) {
        c->dirty = true;
        c->next_dirty = c->loop->dirty;
        c->loop->dirty = c;
    }
}

/* ---- closing ---- */

static void
on_closed(uv_handle_t *handle)
{
    struct conn *c = handle->data;
    assert(c->state == CONN_CLOSED && c->first == NULL);
    c->magic = 0;
    free(c);
}

static void
unlink_conn(struct conn *c)
{
    if (c->prev != NULL) {
        c->prev->next = c->next;
    } else {
        c->loop->conns = c->next;
    }
    if (c->next != NULL) {
        c->next->prev = c->prev;
    }
}

void
conn_close(struct conn *c)
{
    if (c->state == CONN_CLOSED) {
        return;
    }
    conn_go(c, CONN_CLOSED);
    conn_drop_input(c);
    answers_drop(c);
    unlink_conn(c);
    atomic_fetch_sub(&c->loop->api->n_conns, 1);
    stats_add(&c->loop->base.parts->stats->connections_closed, 1);
    uv_close(&c->io.handle, on_closed);
}

void
conn_cut(struct conn *c)
{
    int fd;
    if (c->state != CONN_CLOSED && uv_fileno(&c->io.handle, &fd) == 0) {
        /* a reset: the kernel would go on sending to a client that does not read */
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1},
                   sizeof(struct linger));
    }
    conn_close(c);
}

/* ---- refusing ---- */

void
conn_stop_reading(struct conn *c)
{
    conn_go(c, CONN_LAST);
    conn_drop_input(c);
}

/* An answer to what is no whole request; the last one. */
static struct exchange *
last_exchange(struct conn *c)
{
    conn_stop_reading(c);
    struct answer *a = answer_add(c, ANSWER_CLOSE);
    if (a == NULL) {
        conn_cut(c);
        return NULL;
    }
    return &a->x;
}

void
conn_refuse(struct conn *c, int status, const char *detail)
{
    struct exchange *x = last_exchange(c);
    if (x != NULL) {
        problem_reply(x, status, detail, NULL);
    }
}

unsigned
conn_retry_after_s(const struct conn *c)
{
    struct queue *q = c->loop->base.parts->queue;
    struct queue_status status = {0};
    q->ops->status(q, &status);
    return status.retry_after_s > 0 ? status.retry_after_s : 1;
}

void
conn_refuse_busy(struct conn *c)
{
    unsigned wait_s = conn_retry_after_s(c);
    struct exchange *x = last_exchange(c);
    if (x != NULL) {
        problem_reply_retry(x, "too many request bodies are held in memory; try again", wait_s);
    }
}

/* ---- going on ---- */

static void
on_shutdown(uv_shutdown_t *req, int status)
{
    (void)req;
    (void)status; /* the linger's end closes it in any case */
}

static void
linger(struct conn *c)
{
    conn_go(c, CONN_LINGER);
    if (uv_shutdown(&c->req.shutdown, &c->io.stream, on_shutdown) != 0) {
        conn_close(c);
        return;
    }
    conn_start_reading(c);
}

void
conn_run(struct conn *c)
{
    if (c->state == CONN_CLOSED) {
        return;
    }
    answers_send(c);
    if (c->state == CONN_HELD) {
        conn_resume(c);
    } else if (c->state == CONN_LAST && c->first == NULL) {
        linger(c);
    } else if (c->state == CONN_HALF && c->first == NULL) {
        conn_close(c);
    }
}

/* ---- time ---- */

static int64_t
limit_ms(const struct conn *c)
{
    const struct config *cfg = c->loop->base.parts->cfg;
    bool draining = c->loop->draining;
    switch (c->state) {
    case CONN_IDLE:
        return c->first != NULL ? INT64_MAX : draining ? 0 : cfg->http_idle_timeout;
    case CONN_HEAD:
        return cfg->http_header_timeout;
    case CONN_BODY:
        return BODY_GRACE_MS;
    case CONN_LINGER:
        return draining ? LINGER_DRAINING_MS : LINGER_MS;
    default:
        return INT64_MAX; /* the queue answers, or the client is stuck */
    }
}

static bool
body_is_slow(const struct conn *c, int64_t passed_ms)
{
    int64_t rate = c->loop->base.parts->cfg->http_body_min_rate;
    return (double)c->body_seen * 1000.0 < (double)rate * (double)passed_ms;
}

static void
on_late(struct conn *c, int64_t passed_ms)
{
    if (c->state == CONN_HEAD) {
        conn_refuse(c, 408, "the request's head did not arrive in time");
    } else if (c->state != CONN_BODY) {
        conn_close(c);
    } else if (body_is_slow(c, passed_ms)) {
        conn_refuse(c, 408, "the request's body arrives too slowly");
    }
}

void
conn_check_time(struct conn *c)
{
    int64_t passed_ms = c->loop->now_ms - c->since_ms;
    if (answers_stuck(c)) {
        conn_cut(c);
    } else if (passed_ms >= limit_ms(c)) {
        on_late(c, passed_ms);
    }
}

/* ---- opening ---- */

static int
attach(struct conn *c, int fd, bool is_unix)
{
    if (is_unix) {
        uv_pipe_init(&c->loop->uv, &c->io.pipe, 0);
        return uv_pipe_open(&c->io.pipe, fd);
    }
    uv_tcp_init(&c->loop->uv, &c->io.tcp);
    return uv_tcp_open(&c->io.tcp, fd);
}

static void
link_conn(struct conn *c)
{
    c->next = c->loop->conns;
    if (c->next != NULL) {
        c->next->prev = c;
    }
    c->loop->conns = c;
}

void
conn_open(struct server_loop *loop, int fd, bool is_unix)
{
    struct conn *c = calloc(1, sizeof *c);
    struct http_parser *parser = http_parser_open((size_t)loop->base.parts->cfg->http_max_body);
    if (c == NULL || parser == NULL) {
        free(c);
        http_parser_close(parser);
        close(fd);
        atomic_fetch_sub(&loop->api->n_conns, 1);
        return;
    }
    c->magic = CONN_MAGIC;
    c->loop = loop;
    c->parser = parser;
    c->since_ms = loop->now_ms;
    stats_add(&loop->base.parts->stats->connections_opened, 1);
    link_conn(c);
    int rc = attach(c, fd, is_unix);
    c->io.handle.data = c;
    if (rc != 0) {
        close(fd);
        conn_close(c);
        return;
    }
    conn_start_reading(c);
}
