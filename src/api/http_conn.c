/* http_conn.c - the reading side of a connection.
 * Happy path:    bytes come (on_read) -> the parser takes them (take) -> a whole request goes to
 *                its handler (dispatch) -> exchange_reply, now or later -> the answer is sent
 *                (conn_run, exchange.c).
 * Failure modes: what cannot be parsed, is refused before its body, or comes too slowly is answered
 *                once; then the connection is LAST, sends what it owes, closes its side (LINGER)
 *                and throws away what still comes for a while, so that the answer is not lost to a
 *                reset. Clients that do not read are cut.
 * Invariants:    1. A handler sees only whole requests: a body that ends early reaches nobody.
 *                2. Nothing is read while bytes wait in rest: at most READ_BYTES of them.
 *                3. Only conn_go changes the state. */
#include "api/http_conn.h"

#include "api/problem.h"
#include "api/route.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define BIT(state) (1u << (state))

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

static bool
is_reading(const struct conn *c)
{
    return BIT(c->state) & (BIT(CONN_IDLE) | BIT(CONN_HEAD) | BIT(CONN_BODY));
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
drop_rest(struct conn *c)
{
    atomic_fetch_sub(&c->loop->api->unsent, c->rest.len);
    buf_fini(&c->rest);
    c->rest_at = 0;
}

static void
drop_input(struct conn *c)
{
    drop_rest(c);
    atomic_fetch_sub(&c->loop->api->held, c->held);
    c->held = 0;
    http_parser_close(c->parser);
    c->parser = NULL;
}

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
    drop_input(c);
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

static void
stop_reading(struct conn *c)
{
    conn_go(c, CONN_LAST);
    drop_input(c);
}

/* An answer to what is no whole request; the last one. */
static struct exchange *
last_exchange(struct conn *c)
{
    stop_reading(c);
    struct answer *a = answer_add(c, ANSWER_CLOSE);
    if (a == NULL) {
        conn_cut(c);
        return NULL;
    }
    return &a->x;
}

static void
refuse(struct conn *c, int status, const char *detail)
{
    struct exchange *x = last_exchange(c);
    if (x != NULL) {
        problem_reply(x, status, detail, NULL);
    }
}

static unsigned
retry_after_s(const struct conn *c)
{
    struct queue *q = c->loop->base.parts->queue;
    struct queue_status status = {0};
    q->ops->status(q, &status);
    return status.retry_after_s > 0 ? status.retry_after_s : 1;
}

static void
refuse_busy(struct conn *c)
{
    unsigned wait_s = retry_after_s(c);
    struct exchange *x = last_exchange(c);
    if (x != NULL) {
        problem_reply_retry(x, "too many request bodies are held in memory; try again", wait_s);
    }
}

/* ---- requests ---- */

static bool
answers_are_unread(const struct conn *c)
{
    const struct api *api = c->loop->api;
    return atomic_load_explicit(&api->unsent, memory_order_relaxed) > api->unsent_max;
}

static unsigned
flags_of(const struct conn *c, const struct http_request *r, bool more)
{
    unsigned flags = r->method == HTTP_POST ? 0 : ANSWER_ALONE;
    if (r->method == HTTP_HEAD) {
        flags |= ANSWER_NO_BODY;
    }
    if (!r->keep_alive || (c->loop->draining && !more)) {
        flags |= ANSWER_CLOSE;
    } else if (r->version == 0) {
        flags |= ANSWER_KEEP_ALIVE;
    }
    return flags;
}

/* Hands the request to its handler. False: the connection is closed. */
static bool
handle(struct conn *c, unsigned flags)
{
    struct answer *a = answer_add(c, flags);
    if (a == NULL) {
        conn_cut(c);
        return false;
    }
    a->x.request = http_parser_request(c->parser);
    if (answers_are_unread(c) && route_answers_much(a->x.request)) {
        problem_reply_retry(&a->x, "too many answers wait to be read; try again", retry_after_s(c));
    } else {
        route_dispatch(&a->x);
    }
    if (c->state == CONN_CLOSED) {
        return false;
    }
    a->x.request = NULL; /* answers stay in line until they are sent, at the end of the callback */
    return true;
}

/* A whole request. more: bytes of a next one are there. */
static void
dispatch(struct conn *c, bool more)
{
    unsigned flags = flags_of(c, http_parser_request(c->parser), more);
    if (!handle(c, flags)) {
        return;
    }
    if (flags & ANSWER_CLOSE) {
        stop_reading(c);
    } else {
        http_parser_next(c->parser);
        conn_go(c, CONN_IDLE);
    }
}

/* Whether a body of the length that the head declares has room, as far as can be told now. */
static bool
body_has_room(const struct conn *c, uint64_t expected)
{
    const struct api *api = c->loop->api;
    return atomic_load_explicit(&api->held, memory_order_relaxed) + expected <= api->held_max;
}

static void
on_head(struct conn *c)
{
    const struct http_request *r = http_parser_request(c->parser);
    conn_go(c, CONN_BODY);
    c->body_seen = 0;
    if (route_check_head(r) != 0) {
        if (handle(c, flags_of(c, r, false) | ANSWER_CLOSE)) {
            stop_reading(c);
        }
    } else if (!body_has_room(c, r->body_expected)) {
        refuse_busy(c);
    } else if (r->expect_continue) {
        answer_continue(c);
    }
}

/* ---- bytes ---- */

/* A handler has not replied yet. */
static bool
answer_is_owed(const struct conn *c)
{
    const struct answer *a = c->first;
    while (a != NULL && (a->flags & ANSWER_DONE)) {
        a = a->next;
    }
    return a != NULL;
}

/* Whether a request that begins with this byte may be taken up now. POSTs may overtake nothing and
 * wait for nothing but room; all else waits for the answers before it. */
static bool
may_begin(const struct conn *c, char byte)
{
    if (c->n_writing > 0 || c->n_answers >= PIPELINE_MAX ||
        c->answer_bytes >= ANSWER_BACKLOG_BYTES) {
        return false;
    }
    return c->first == NULL || !answer_is_owed(c) ||
           (byte == 'P' && !(c->last->flags & ANSWER_ALONE));
}

static void
on_parsed(struct conn *c, enum http_parse_result result, bool more)
{
    switch (result) {
    case HTTP_MORE:
        if (c->state == CONN_HEAD && http_parser_idle(c->parser)) {
            conn_go(c, CONN_IDLE);
        }
        break;
    case HTTP_HEADERS:
        on_head(c);
        break;
    case HTTP_REQUEST:
        dispatch(c, more);
        break;
    case HTTP_ERROR:
        refuse(c, http_parser_status(c->parser), http_parser_error(c->parser));
        break;
    }
}

/* False: the request has to wait. */
static bool
begin(struct conn *c, char byte)
{
    bool may = may_begin(c, byte);
    conn_go(c, may ? CONN_HEAD : CONN_HELD);
    return may;
}

static void
take(struct conn *c, struct span *in)
{
    enum http_parse_result result = HTTP_MORE;
    /* after HTTP_HEADERS the parser wants to be asked again, to copy what it still needs */
    while (is_reading(c) && (in->len > 0 || result == HTTP_HEADERS)) {
        if (c->state == CONN_IDLE && !begin(c, *in->at)) {
            return;
        }
        size_t before = in->len;
        result = http_parse(c->parser, in);
        c->body_seen += before - in->len;
        on_parsed(c, result, in->len > 0);
    }
}

/* Counts what the parser holds of a body, and refuses it when there is no room. */
static void
count_body(struct conn *c)
{
    struct api *api = c->loop->api;
    size_t held = c->parser == NULL ? 0 : (size_t)http_parser_body_bytes(c->parser);
    size_t grown = held - c->held; /* wraps when it shrinks */
    if (grown == 0) {
        return;
    }
    bool more = held > c->held;
    c->held = held;
    size_t all = atomic_fetch_add(&api->held, grown) + grown;
    if (more && all > api->held_max && c->state == CONN_BODY) {
        refuse_busy(c);
    }
}

/* Bytes that cannot be taken yet wait with the connection. */
static void
keep_rest(struct conn *c, struct span in)
{
    struct api *api = c->loop->api;
    buf_add_span(&c->rest, in);
    if (!buf_ok(&c->rest) || atomic_fetch_add(&api->unsent, in.len) > api->unsent_max) {
        conn_cut(c);
    }
}

static void
received(struct conn *c, struct span in)
{
    take(c, &in);
    if (c->state == CONN_HELD) {
        keep_rest(c, in);
    }
    count_body(c);
    conn_mark(c);
}

/* The client sends no more. What it sent whole is answered. */
static void
ended(struct conn *c)
{
    if (!is_reading(c) || c->first == NULL) {
        conn_close(c);
        return;
    }
    conn_go(c, CONN_HALF);
    drop_input(c);
}

static void
discard(struct conn *c, size_t n)
{
    c->discarded += n;
    if (c->discarded > LINGER_BYTES) {
        conn_close(c);
    }
}

static void
on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct conn *c = stream->data;
    assert(c->magic == CONN_MAGIC);
    if (n == 0) {
        return;
    }
    server_mark_time(c->loop);
    if (n == UV_EOF) {
        ended(c);
    } else if (n < 0) {
        conn_close(c);
    } else if (c->state == CONN_LINGER) {
        discard(c, (size_t)n);
    } else {
        received(c, (struct span){buf->base, (size_t)n});
    }
    server_run_dirty(c->loop);
}

static void
on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)suggested;
    *buf = uv_buf_init(server_loop_of(handle->loop)->read_buf, READ_BYTES);
}

static void
start_reading(struct conn *c)
{
    int rc = uv_read_start(&c->io.stream, on_alloc, on_read);
    if (rc != 0 && rc != UV_EALREADY) {
        conn_close(c);
    }
}

/* ---- going on ---- */

/* There is room again: takes up what was held back. */
static void
resume(struct conn *c)
{
    struct span in = {c->rest.at + c->rest_at, c->rest.len - c->rest_at};
    conn_go(c, CONN_IDLE);
    take(c, &in);
    if (c->state == CONN_HELD) {
        c->rest_at = c->rest.len - in.len;
    } else if (is_reading(c)) {
        drop_rest(c);
        start_reading(c);
    }
    count_body(c);
    conn_mark(c);
}

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
    start_reading(c);
}

void
conn_run(struct conn *c)
{
    if (c->state == CONN_CLOSED) {
        return;
    }
    answers_send(c);
    if (c->state == CONN_HELD && may_begin(c, c->rest.at[c->rest_at])) {
        resume(c);
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
        refuse(c, 408, "the request's head did not arrive in time");
    } else if (c->state != CONN_BODY) {
        conn_close(c);
    } else if (body_is_slow(c, passed_ms)) {
        refuse(c, 408, "the request's body arrives too slowly");
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
        return;
    }
    c->magic = CONN_MAGIC;
    c->loop = loop;
    c->parser = parser;
    c->since_ms = loop->now_ms;
    atomic_fetch_add(&loop->api->n_conns, 1);
    stats_add(&loop->base.parts->stats->connections_opened, 1);
    link_conn(c);
    int rc = attach(c, fd, is_unix);
    c->io.handle.data = c;
    if (rc != 0) {
        close(fd);
        conn_close(c);
        return;
    }
    start_reading(c);
}
