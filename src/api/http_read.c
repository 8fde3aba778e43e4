/* http_read.c - the reading side of a connection: bytes become requests, requests go to handlers.
 * Happy path:    bytes come (on_read) -> the parser takes them (take) -> a whole request goes to
 *                its handler (dispatch), whose answer is sent in its turn (exchange.c).
 * Failure modes: what cannot be parsed, is refused before its body, or has no room ends the reading
 *                with one last answer. Bytes of a request that has to wait stay with the connection
 *                (HELD), and nothing more is read.
 * Invariants:    1. A handler sees only whole requests: a body that ends early reaches nobody.
 *                2. Nothing is read while bytes wait in rest: at most READ_BYTES of them. */
#include "api/http_conn.h"

#include "api/problem.h"
#include "api/route.h"

#include <assert.h>

static bool
is_reading(const struct conn *c)
{
    return c->state == CONN_IDLE || c->state == CONN_HEAD || c->state == CONN_BODY;
}

static void
drop_rest(struct conn *c)
{
    atomic_fetch_sub(&c->loop->api->unsent, c->rest.len);
    buf_fini(&c->rest);
    c->rest_at = 0;
}

void
conn_drop_input(struct conn *c)
{
    drop_rest(c);
    atomic_fetch_sub(&c->loop->api->held, c->held);
    c->held = 0;
    http_parser_close(c->parser);
    c->parser = NULL;
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
        problem_reply_retry(&a->x, "too many answers wait to be read; try again",
                            conn_retry_after_s(c));
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
        conn_stop_reading(c);
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
            conn_stop_reading(c);
        }
    } else if (!body_has_room(c, r->body_expected)) {
        conn_refuse_busy(c);
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
        conn_refuse(c, http_parser_status(c->parser), http_parser_error(c->parser));
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
        conn_refuse_busy(c);
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
    conn_drop_input(c);
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

void
conn_start_reading(struct conn *c)
{
    int rc = uv_read_start(&c->io.stream, on_alloc, on_read);
    if (rc != 0 && rc != UV_EALREADY) {
        conn_close(c);
    }
}

void
conn_resume(struct conn *c)
{
    if (!may_begin(c, c->rest.at[c->rest_at])) {
        return;
    }
    struct span in = {c->rest.at + c->rest_at, c->rest.len - c->rest_at};
    conn_go(c, CONN_IDLE);
    take(c, &in);
    if (c->state == CONN_HELD) {
        c->rest_at = c->rest.len - in.len;
    } else if (is_reading(c)) {
        drop_rest(c);
        conn_start_reading(c);
    }
    count_body(c);
    conn_mark(c);
}
